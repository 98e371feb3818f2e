"""Who reads from a directory tree: a record of each, so that what is read is neither changed nor removed.

The records lie in one directory beside the tree, written whole by a rename. Each names a process that lives as long as
the reading does, and, of a job's, the mount namespace that the tree is mounted in: the mounts live until the last
process in there has ended, though the one that made them was killed. A reader counts until it is certainly dead; one of
which nothing can be seen from here counts too, for a mounted tree must never lose its files. The readers share a flock
of the directory as well: where that holds, it says the same at once, and of processes that nobody noted.

Who wants to remove a tree closes the directory first, which is giving it another name, and looks who is in it then. Who
wants to read writes its record first, and looks whether it is open then. So one of both sees the other.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from stager.errors import HostError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.holders import Holder, Life
from stager.host.names_in import names_in
from stager.host.procs import Mounts, lives_in_mounts
from stager.host.workspace import boot_id

__all__ = ["Use", "begin_use", "end_uses", "hand_over", "is_used", "sweep_uses"]

_MOST_BYTES: Final = 1 << 12
_LOOKS: Final = 100
_LOOK_S: Final = 0.001  # who looks has the flock alone for less
_STALE_AFTER_S: Final = 600.0  # of a record that was not finished
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Record(Struct, frozen=True, kw_only=True):
    """``mounts``: the inode of a mount namespace; 0: it mounts nothing. ``number``: see `stager.host.procs.Mounts`."""

    holder: Holder
    mounts: int = 0
    number: int = 0


_decoder: Final = msgspec.json.Decoder(_Record)


class Use:
    """One reader's. ``fd``: the directory of records; while it or a copy of it is open, so is the flock."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self._name = name

    def close(self) -> None:
        """It is over. Never raises."""
        _unlink(self.fd, self._name)
        os.close(self.fd)


def begin_use(path: str) -> Use:
    """Write down, in the directory ``path``, that this process reads. Whether that is open is to be asked afterwards.

    Raises `HostError`, `NoSpaceError`.
    """
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        fd = os.open(path, _DIRECTORY)
    except OSError as error:
        raise from_os_error(error, doing="use the cache", where=path) from error
    try:
        _share_lock(fd)
        return Use(fd, _add(fd, _Record(holder=Holder.of_self())))
    except BaseException:
        os.close(fd)
        raise


def hand_over(uses: Iterable[int], pid: int, mounts: Mounts) -> None:
    """What this process reads, another reads from now on, which has it in that mount namespace; ``uses`` are
    directories of records.

    Raises `HostError`, `NoSpaceError`.
    """
    record = _Record(holder=Holder.of(pid), mounts=mounts.inode, number=mounts.number)
    for fd in uses:
        _add(fd, record)


def end_uses(uses: Iterable[int]) -> None:
    """Remove the records of this process, and of all that are dead, and close the directories. Never raises."""
    own = Holder.of_self()
    for fd in uses:
        _sweep(fd, own)
        with suppress(OSError):
            os.close(fd)


def sweep_uses(path: str) -> None:
    """Remove the records of the dead. Never raises."""
    with suppress(OSError):
        fd = os.open(path, _DIRECTORY)
        try:
            _sweep(fd, None)
        finally:
            os.close(fd)


def _sweep(fd: int, own: Holder | None) -> None:
    with suppress(OSError):
        for name in names_in(fd):
            record = _read(fd, name)
            is_over = record is None or record.holder == own or not _reads(record)
            if is_over and not _is_being_written(fd, name):
                _unlink(fd, name)


def is_used(path: str) -> bool:
    """Whether anybody reads; what cannot be asked is taken for used. Never raises."""
    try:
        fd = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        records = (_read(fd, name) for name in names_in(fd) if not name.startswith("."))
        return any(record is not None and _reads(record) for record in records) or _is_locked(fd)
    except OSError:
        return True
    finally:
        os.close(fd)


def _reads(record: _Record) -> bool:
    if record.holder.state() is not Life.DEAD:
        return True
    if record.holder.boot != boot_id():  # the number of its mount namespace is another's now
        return False
    namespace = Mounts(record.mounts, record.number)
    return bool(record.mounts) and lives_in_mounts(namespace, since=record.holder.start)


def _add(fd: int, record: _Record) -> str:
    name = secrets.token_hex(8)
    write_file(fd, name, [msgspec.json.encode(record)], mode=0o600)
    return name


def _read(fd: int, name: str) -> _Record | None:
    """None: nobody can have written that, or it has gone. OSError: nobody knows."""
    try:
        return _decoder.decode(read_regular(name, dir_fd=fd, most=_MOST_BYTES))
    except (FileNotFoundError, HostError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _is_being_written(fd: int, name: str) -> bool:
    return name.startswith(".") and time.time() - os.lstat(name, dir_fd=fd).st_mtime < _STALE_AFTER_S


def _share_lock(fd: int) -> None:
    """Best effort: the record counts."""
    for _ in range(_LOOKS):
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK_S)
        except OSError:
            return
        else:
            return


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    return False


def _unlink(fd: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=fd)
