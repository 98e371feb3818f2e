"""Processes of this node: found by parentage or by user namespace, signalled without risk of hitting a successor."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from stager.host.mounts import lies_within, place_of, read_mountinfo
from stager.host.syscalls import NS_GET_PARENT

__all__ = [
    "Mounts",
    "Process",
    "descendants",
    "end_descendants",
    "end_user_namespace",
    "find_viewer",
    "list_processes",
    "lives_in_mounts",
    "mounts_of",
    "read_process",
    "signal_process",
]

_FREEZE_ROUNDS: Final = 16
_WAIT_S: Final = 0.05
_NS_GET_MNTNS_ID: Final = 0x8008B705
_END_LIMIT_S: Final = 10.0


class Process(NamedTuple):
    """A process by number and start time (clock ticks since boot): the pair is never reused."""

    pid: int
    parent: int
    started: int
    ended: bool = False  # no thread of it runs any more; its parent has not taken notice


class Mounts(NamedTuple):
    """A mount namespace. ``number`` is never given again (NS_GET_MNTNS_ID of linux/nsfs.h); 0: before Linux 6.11."""

    inode: int
    number: int = 0


def list_processes() -> Iterator[Process]:
    """Every process that /proc shows, in no order."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := read_process(name)) is not None:
            yield process


def read_process(name: str) -> Process | None:
    """The process that /proc shows under this number, or as "self"; None: it shows none."""
    try:
        with open(f"/proc/{name}/stat", "rb") as file:
            # The name in parentheses may hold anything, a parenthesis too: fields are counted behind the last one.
            first, _, rest = file.read().rpartition(b")")
            number, fields = first.partition(b" ")[0], rest.split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # A first thread that has ended is told as a zombie while others run on: their number is field 20.
    return Process(int(number), int(fields[1]), int(fields[19]), fields[0] in b"ZX" and int(fields[17]) <= 1)


def descendants(ancestor: int, processes: Iterable[Process]) -> list[Process]:
    """Every process below ``ancestor``, parents before their children."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    waiting = [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += [process.pid for process in below]
    return found


def signal_process(process: Process, number: int) -> None:
    """Send a signal to exactly this process; nothing when it has ended or may not be signalled."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return
    try:
        current = read_process(str(process.pid))
        if current is not None and current.started == process.started:
            signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.close(descriptor)


def end_descendants() -> None:
    """Kill and reap everything below this process, which must be a subreaper with SIGCHLD blocked.

    The end is exact: a process without a child has no descendant, because an orphan becomes the subreaper's child.
    """
    while _has_children():
        _freeze_and_kill(lambda: descendants(os.getpid(), list_processes()))
        signal.sigtimedwait([signal.SIGCHLD], _WAIT_S)


def _freeze_and_kill(find: Callable[[], Iterable[Process]]) -> set[Process]:
    """Kill what ``find`` finds, and return it. Freezing first leaves nobody to fork while the killing goes on."""
    frozen: set[Process] = set()
    for _ in range(_FREEZE_ROUNDS):
        new = set(find()) - frozen
        for process in new:
            signal_process(process, signal.SIGSTOP)
        frozen |= new
        if not new:
            break
    for process in frozen:
        signal_process(process, signal.SIGKILL)
    return frozen


def _has_children() -> bool:
    """Reap every child that has ended; whether one is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        return False
    return True


def end_user_namespace(namespace: int, *, limit_s: float = _END_LIMIT_S) -> list[int]:
    """Kill every process in an open user namespace or in one below it, but this one, until a look finds none.

    No process can leave the user namespace it was born in but for one below; so nothing a job does about parents,
    sessions or mount namespaces hides a process of it. The descriptor keeps the namespace's number from being
    given to another meanwhile. Returns who still lives after ``limit_s``: a process that sleeps in a dead mount.
    Not found is what runs a program that this user may not read, which hides its namespaces too.
    """
    deadline_s = time.monotonic() + limit_s
    find = partial(_list_inside, os.fstat(namespace))
    while left := _freeze_and_kill(find):
        if time.monotonic() > deadline_s:
            return sorted(process.pid for process in left)
        time.sleep(_WAIT_S)
    return []


def _list_inside(wanted: os.stat_result) -> list[Process]:
    return [
        process
        for process in list_processes()
        if not process.ended and process.pid != os.getpid() and _is_inside(process.pid, wanted)
    ]


def find_viewer(path: str) -> int | None:
    """A process that has ``path`` or something below it among the mounts of a namespace other than this one's.

    ``path`` is a directory. OSError when it cannot be opened. Found by what is mounted, not by a number that was
    noted: the kernel gives a namespace's number to another as soon as it is free.
    """
    handle = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        wanted = place_of(handle, read_mountinfo())
    except LookupError:
        return None
    finally:
        os.close(handle)
    seen = {os.readlink("/proc/self/ns/mnt")}
    for process in list_processes():
        with suppress(OSError):
            if (namespace := os.readlink(f"/proc/{process.pid}/ns/mnt")) in seen:
                continue
            seen.add(namespace)
        with suppress(OSError):
            rows = read_mountinfo(process.pid)
            if any(row.device == wanted.device and lies_within(row.root, wanted.root) for row in rows):
                return process.pid
    return None


def mounts_of(pid: int | str = "self") -> Mounts:
    """The mount namespace of a process. OSError: it has gone, or may not be looked at."""
    fd = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        number = bytearray(8)
        with suppress(OSError):
            fcntl.ioctl(fd, _NS_GET_MNTNS_ID, number)
        return Mounts(os.fstat(fd).st_ino, int.from_bytes(number, sys.byteorder))
    finally:
        os.close(fd)


def lives_in_mounts(namespace: Mounts, *, since: int) -> bool:
    """Whether a process is left in a mount namespace of which the first started at ``since``.

    True as well when it cannot be told: of a process of this user's that is younger, shows nothing of its namespaces,
    and may gain no privileges, as none of a job's may. The kernel gives an inode to another namespace when it is free:
    where it has no other number for them, it may be true of a stranger's. Never raises.
    """
    try:
        return any(_may_be_in(process, namespace) for process in list_processes() if process.started >= since)
    except OSError:
        return True


def _may_be_in(process: Process, namespace: Mounts) -> bool:
    if process.ended:
        return False
    try:
        if os.stat(f"/proc/{process.pid}/ns/mnt").st_ino != namespace.inode:
            return False
        return not namespace.number or mounts_of(process.pid).number == namespace.number
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return _is_confined(process.pid)


def _is_confined(pid: int) -> bool:
    """Whether a process is this user's and may gain no privileges (proc_pid_status(5))."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = dict(line.split(b":", 1) for line in file if b":" in line)
    except OSError:
        return False
    is_own = int(fields[b"Uid"].split()[0]) == os.getuid()
    return is_own and fields.get(b"NoNewPrivs", b"1").strip() == b"1"


def _is_inside(pid: int, wanted: os.stat_result) -> bool:
    try:
        here = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    try:
        while not os.path.samestat(os.fstat(here), wanted):
            above = fcntl.ioctl(here, NS_GET_PARENT)
            os.close(here)
            here = above
    except PermissionError:  # what lies above the caller's own namespace is not shown
        return False
    finally:
        os.close(here)
    return True
