"""Who holds something on this node: one process, named so that no other is ever taken for it, and whether it lives.

A process id is given again, in this PID namespace or in another, and after a reboot. So a holder is a boot, a PID
namespace, an id in it and the time the process started. What cannot be seen from here (another PID namespace, a hidden
/proc) is unknown: neither alive nor dead, and who asks has to be right in both cases.
"""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Final, Self

import msgspec

from stager.host.mounts import read_mountinfo
from stager.host.procs import Process, list_processes, read_process
from stager.host.workspace import boot_id

__all__ = ["Holder", "Life"]

_FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO of include/linux/proc_ns.h: who lives there sees all
_HIDES: Final = ("hidepid=", "subset=")
_SHOWS: Final = frozenset({"hidepid=0", "hidepid=off"})
_MOST_PID: Final = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h


class Life(StrEnum):
    """What is known of a holder."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A process of this node. ``pid_ns``, ``time_ns``: inodes of the namespaces in which ``pid`` and ``start`` were
    read; 0: not noted, and taken for the reader's own.
    """

    boot: str
    pid: int
    start: int  # clock ticks since boot, field 22 of proc_pid_stat(5); 0: it could not be seen
    uid: int
    pid_ns: int = 0
    time_ns: int = 0

    @classmethod
    def of_self(cls) -> Self:
        """This process."""
        return cls._named(os.getpid(), "self", os.geteuid())

    @classmethod
    def of(cls, pid: int) -> Self:
        """Another process of this user's, by its id in this process's namespace."""
        return cls._named(pid, str(pid) if _proc_is_ours() else "", os.geteuid())

    @classmethod
    def _named(cls, pid: int, shown: str, uid: int) -> Self:
        found = read_process(shown) if shown else None
        return cls(
            boot=boot_id(), pid=pid, start=found.started if found is not None else 0, uid=uid,
            pid_ns=_namespace("self", "pid"), time_ns=_namespace("self", "time"),
        )  # fmt: skip

    def state(self) -> Life:
        """Whether exactly this process still runs; a zombie does not. Never raises."""
        boot = boot_id()
        if not boot or not self.boot:
            return Life.UNKNOWN
        if self.boot != boot or not 0 < self.pid <= _MOST_PID:
            return Life.DEAD
        return self._state_here() if self.is_near() else self._state_elsewhere()

    def is_near(self) -> bool:
        """Whether it is of this process's PID namespace, where a look costs nothing."""
        return self.pid_ns in (0, _namespace("self", "pid"))

    def _state_here(self) -> Life:
        """The kernel says whether the id is somebody's, whatever /proc hides; /proc says whose."""
        if not _is_somebodys(self.pid):
            return Life.DEAD
        found = read_process(str(self.pid)) if _proc_is_ours() else None
        if found is None:  # hidden, or gone since it was asked for
            return Life.UNKNOWN if _is_somebodys(self.pid) else Life.DEAD
        if found.ended:
            return Life.DEAD
        if not self._has_comparable_start():
            return Life.UNKNOWN
        return Life.ALIVE if found.started == self.start else Life.DEAD

    def _state_elsewhere(self) -> Life:
        """Of another PID namespace one sees those below one's own, with other ids; of the first one everything."""
        if not self._has_comparable_start():
            return Life.UNKNOWN
        try:
            if any(self._is(process) for process in list_processes()):
                return Life.ALIVE
        except OSError:
            return Life.UNKNOWN
        return Life.DEAD if _sees_all() else Life.UNKNOWN

    def _is(self, process: Process) -> bool:
        if process.ended or process.started != self.start or _ids(str(process.pid))[-1:] != [self.pid]:
            return False
        return _namespace(str(process.pid), "pid") in (0, self.pid_ns)

    def _has_comparable_start(self) -> bool:
        """A time namespace moves the start of what is seen in it (time_namespaces(7))."""
        return self.start != 0 and self.time_ns in (0, _namespace("self", "time"))


def _is_somebodys(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        pass
    return True


def _namespace(process: str, kind: str) -> int:
    """The inode of a namespace of a process; 0: it cannot be seen, or the kernel has none of this kind."""
    try:
        return os.stat(f"/proc/{process}/ns/{kind}").st_ino
    except OSError:
        return 0


def _ids(process: str) -> list[int]:
    """A process's ids from the namespace that /proc shows down to its own (NSpid of proc_pid_status(5))."""
    try:
        with open(f"/proc/{process}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return [int(number) for number in line.split()[1:]]
    except OSError:
        pass
    return []


def _proc_is_ours() -> bool:
    """Whether /proc shows this process's own PID namespace, not one above it."""
    return len(_ids("self")) == 1


def _sees_all() -> bool:
    """Whether /proc shows every process of the node."""
    if _namespace("self", "pid") != _FIRST_PID_NAMESPACE or not _proc_is_ours():
        return False
    try:
        shown = [row for row in read_mountinfo() if row.mountpoint == "/proc" and row.fstype == "proc"][-1:]
    except OSError:
        return False
    options = {option for row in shown for option in row.super_options.split(",")}
    return bool(shown) and not any(option.startswith(_HIDES) for option in options - _SHOWS)
