"""Mounts of a view asked whether they are alive, where the job will see them: a bind of a dead mount succeeds.

Seen: with its FUSE daemon killed, ``stat`` of a bound subdirectory still answers from the cache, and so does the bind
itself; listing it does not. A server that is gone lets it sleep, but the sleeper can be killed.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from stager.errors import MountError

__all__ = ["confirm_alive"]

_LIMIT_S: Final = 10.0
_ENDS_WITHIN_S: Final = 0.2
_GONE: Final = "the server behind this mount may be gone"


def confirm_alive(targets: Sequence[str], *, limit_s: float = _LIMIT_S) -> None:
    """Read one entry of each directory, in a child that is killed after ``limit_s`` seconds without an answer.

    For a process of one thread, which forks. `MountError` names the one that gave none, or an error. A directory that
    may be passed through and not listed is alive.
    """
    if not targets:
        return
    answers, answer = os.pipe()
    child = os.fork()
    if child == 0:
        _read_all(targets, answer)
    os.close(answer)
    try:
        for target in targets:
            if not select.select([answers], [], [], limit_s)[0]:
                raise MountError("no answer where it was mounted", where=target, hint=_GONE)
            told = os.read(answers, 1)
            number = told[0] if told else errno.EIO  # the child is gone
            if number:
                raise MountError(f"is dead where it was mounted: {os.strerror(number)}", where=target, hint=_GONE)
    finally:
        os.close(answers)
        os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child, 0 if _can_end(child) else os.WNOHANG)


def _read_all(targets: Sequence[str], answer: int) -> None:
    """The child: an errno for each, a byte; it ends here. One that sleeps may outlive all: it holds nothing open."""
    try:
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        answer = os.dup2(answer, 3)
        os.closerange(4, 1 << 16)
        for target in targets:
            os.write(answer, bytes([_read_one(target)]))
    finally:
        os._exit(0)


def _read_one(target: str) -> int:
    try:
        with os.scandir(target) as entries:
            next(entries, None)
    except PermissionError:
        return 0
    except OSError as error:
        return min(error.errno or 255, 255)
    return 0


def _can_end(child: int) -> bool:
    """Whether the killed child has gone by now; one that sleeps on is reaped by whoever comes after."""
    pidfd = os.pidfd_open(child)
    try:
        return bool(select.select([pidfd], [], [], _ENDS_WITHIN_S)[0])
    finally:
        os.close(pidfd)
