"""Which processes are keepers that root started for users: noted where only root can, for root to find them by number.

A number that a user says could be any process of root's; one that is noted here, and has run since then, is a keeper.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

import msgspec

from stager.errors import HostError
from stager.host.atomic import read_regular, write_file
from stager.host.procs import read_process

__all__ = ["DIRECTORY", "Noted", "find_keeper", "forget_keeper", "note_keeper"]

DIRECTORY: Final = "/run/stager-keepers"
_MOST_BYTES: Final = 1 << 12
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS: Final = 0o077


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """``started``: clock ticks since boot; ``namespace``: the keeper's descriptor of its job's user namespace."""

    uid: int
    started: int
    namespace: int | None


def note_keeper(pid: int, *, uid: int, namespace: int | None) -> None:
    """Note a keeper that this process has started and not waited for. Never raises: then nobody joins its view."""
    with suppress(OSError, HostError):
        with suppress(FileExistsError):
            os.mkdir(DIRECTORY, 0o700)
        fd = _open()
        try:
            _sweep(fd)
            process = read_process(str(pid))
            if process is not None:
                noted = Noted(uid=uid, started=process.started, namespace=namespace)
                write_file(fd, str(pid), [msgspec.json.encode(noted)], mode=0o600)
        finally:
            os.close(fd)


def find_keeper(pid: int, *, uid: int) -> Noted | None:
    """The note of a keeper that runs for this user. Never raises."""
    with suppress(OSError, HostError, msgspec.MsgspecError):
        fd = _open()
        try:
            noted = msgspec.json.decode(read_regular(str(pid), dir_fd=fd, most=_MOST_BYTES), type=Noted)
        finally:
            os.close(fd)
        if noted.uid == uid and _is_running(pid, noted.started):
            return noted
    return None


def forget_keeper(pid: int) -> None:
    """It has ended. Never raises."""
    with suppress(OSError, HostError):
        fd = _open()
        try:
            os.unlink(str(pid), dir_fd=fd)
        finally:
            os.close(fd)


def _open() -> int:
    """OSError; `HostError`: somebody else's hands were on it."""
    fd = os.open(DIRECTORY, _FLAGS)
    found = os.fstat(fd)
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & _OTHERS:
        os.close(fd)
        raise HostError("is not a directory of root's alone", where=DIRECTORY)
    return fd


def _is_running(pid: int, started: int) -> bool:
    process = read_process(str(pid))
    return process is not None and process.started == started and not process.ended


def _sweep(fd: int) -> None:
    """Notes of keepers whose broker was killed."""
    for name in os.listdir(fd):
        with suppress(OSError, HostError, ValueError, msgspec.MsgspecError):
            noted = msgspec.json.decode(read_regular(name, dir_fd=fd, most=_MOST_BYTES), type=Noted)
            if not _is_running(int(name), noted.started):
                os.unlink(name, dir_fd=fd)
