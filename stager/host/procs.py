"""Processes of this node: found by parentage or by namespace, signalled without the risk of hitting a successor."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = ["Process", "descendants", "end_descendants", "end_namespace", "list_processes", "signal_process"]

_FREEZE_ROUNDS: Final = 16
_WAIT_S: Final = 0.05


class Process(NamedTuple):
    """A process by number and start time (clock ticks since boot): the pair is never reused."""

    pid: int
    parent: int
    started: int


def list_processes() -> Iterator[Process]:
    """Every process that /proc shows, in no order."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := _read_process(int(name))) is not None:
            yield process


def _read_process(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything, a parenthesis too: fields are counted behind the last one.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return Process(pid, int(fields[1]), int(fields[19]))


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
        current = _read_process(process.pid)
        if current is not None and current.started == process.started:
            signal.pidfd_send_signal(descriptor, number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        os.close(descriptor)


def end_descendants() -> None:
    """Kill and reap everything below this process, which must be a subreaper with SIGCHLD blocked.

    Freezing first leaves nobody to fork while the killing goes on. The end is exact: a process without a child
    has no descendant, because an orphan becomes the subreaper's child.
    """
    while _has_children():
        frozen: set[Process] = set()
        for _ in range(_FREEZE_ROUNDS):
            new = set(descendants(os.getpid(), list_processes())) - frozen
            for process in new:
                signal_process(process, signal.SIGSTOP)
            frozen |= new
            if not new:
                break
        for process in frozen:
            signal_process(process, signal.SIGKILL)
        signal.sigtimedwait([signal.SIGCHLD], _WAIT_S)


def _has_children() -> bool:
    """Reap every child that has ended; whether one is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        return False
    return True


def end_namespace(namespace: int) -> None:
    """Kill every process of an open mount namespace, until a look finds none.

    For the case that the keeper of a view was killed by its own job: its descendants are then no one's. The open
    descriptor keeps the namespace's number from being given to another one meanwhile.
    """
    wanted = os.fstat(namespace)
    while members := [process for process in list_processes() if _is_in_namespace(process.pid, wanted)]:
        for process in members:
            signal_process(process, signal.SIGKILL)


def _is_in_namespace(pid: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/ns/mnt"), wanted)
    except OSError:
        return False
