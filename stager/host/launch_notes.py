"""What rank 0 of a launch (`stager.launches`) says to the others before its job has a directory: that it is at work, or
why there will be no job.

The notes lie in the default scratch, which all processes of a user on a node know, and no job sees. Each names its
process, so that one that was killed is told from one at work.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

import msgspec

from stager.errors import HostError
from stager.host.atomic import read_regular, write_file
from stager.host.holders import Holder, Life
from stager.host.names_in import names_in
from stager.host.scratch import DEFAULT_TOP, open_own, open_scratch

__all__ = ["Note", "forget_note", "leave_note", "read_note"]

_DIRECTORY: Final = "launches"
_MOST_BYTES: Final = 1 << 16
_KEPT_S: Final = 86400.0


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """``error`` "": it is at work, or was killed. ``at_s``: Unix time."""

    token: str
    who: Holder
    at_s: float
    error: str = ""
    transient: bool = False

    def is_failure(self) -> bool:
        """Whether there will be no job."""
        return bool(self.error) or self.who.state() is Life.DEAD


_decoder: Final = msgspec.json.Decoder(Note)


def leave_note(job_id: str, token: str, *, error: str = "", transient: bool = False) -> None:
    """Of this process, in place of an earlier one. Without a place for it nothing is said: the others wait then.
    Blocks. Never raises.
    """
    note = Note(token=token, who=Holder.of_self(), at_s=time.time(), error=error, transient=transient)
    with suppress(HostError, OSError):
        fd = _open()
        try:
            _sweep(fd)
            write_file(fd, job_id, [msgspec.json.encode(note)], mode=0o600)
        finally:
            os.close(fd)


def forget_note(job_id: str) -> None:
    """There is a job, whose record says the rest. Blocks. Never raises."""
    with suppress(HostError, OSError):
        fd = _open()
        try:
            os.unlink(job_id, dir_fd=fd)
        finally:
            os.close(fd)


def read_note(job_id: str) -> Note | None:
    """None: there is none. Blocks. Never raises."""
    with suppress(HostError, OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        fd = _open()
        try:
            return _decoder.decode(read_regular(job_id, dir_fd=fd, most=_MOST_BYTES))
        finally:
            os.close(fd)
    return None


def _open() -> int:
    return open_own(os.path.join(open_scratch(DEFAULT_TOP, {}), _DIRECTORY))


def _sweep(fd: int) -> None:
    before_s = time.time() - _KEPT_S
    for name in names_in(fd):
        with suppress(OSError):
            if os.lstat(name, dir_fd=fd).st_mtime < before_s:
                os.unlink(name, dir_fd=fd)
