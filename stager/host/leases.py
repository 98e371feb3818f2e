"""Of all that want to change what lies in a directory, one at a time does, and who was stopped meanwhile finds it out.

A lease is a file, ``lease.N``, made whole by link(2), which gives each number to one alone; the highest is in force.
Its contents never change. Its mtime is the heartbeat: CLOCK_BOOTTIME, not a date; 0: it was given back. Nothing here
rests on flock, and nothing on anybody being on time:

- A holder that is dead is followed at once, and what it was at work on is gone on with.
- One that is alive, or of which nothing can be seen, and whose heart has not beaten for ``stale_s``, is followed too;
  but it may wake up, so its follower begins anew, in a directory that has its own lease's name.
- Whoever is about to take its work for done asks whether its lease is in force still (`Lease.check`).

So two that both believe they hold it never write to one directory, and only one of them has its work believed.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from stager.errors import HostError, from_os_error
from stager.host.atomic import read_regular, write_all
from stager.host.holders import Holder, Life
from stager.host.names_in import names_in

__all__ = ["BEAT_EVERY_S", "ROOM", "STALE_S", "Lease", "LeaseLostError", "Leases"]

Result = TypeVar("Result")

BEAT_EVERY_S: Final = 1.0
STALE_S: Final = 15.0
ROOM: Final = re.compile(r"[1-9][0-9]{0,14}\.[0-9a-f]{16}")
"""The name of a directory that was begun under a lease: the number, and what no other lease of this number has."""

_FILE: Final = re.compile(r"lease\.([1-9][0-9]{0,14})")
_TEMPORARY: Final = ".lease."
_TOKEN: Final = re.compile(r"[0-9a-f]{16}")
_GIVEN_BACK_NS: Final = 0
_MOST_BYTES: Final = 1 << 12
_MOST_LEASES: Final = 10**14
_SEEN_OFTEN_S: Final = 2.5  # who lives elsewhere is looked for in all of /proc, but not while its heart beats
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LeaseLostError(Exception):
    """Somebody else holds it now. Nothing of what was done under it is to be believed; start over."""


class _Record(Struct, frozen=True, kw_only=True):
    """``given``: the directory to go on with; empty: none can be."""

    token: str
    holder: Holder
    given: str = ""


class _Standing(Enum):
    FREE = 1
    STALE = 2
    HELD = 3


class _Last(NamedTuple):
    """The lease in force, or the last that was."""

    name: str
    number: int
    record: _Record


_decoder: Final = msgspec.json.Decoder(_Record)


class Leases:
    """Those of one directory, and how soon one is stale. Everything here blocks, and raises OSError."""

    def __init__(self, path: str, *, stale_s: float = STALE_S) -> None:
        self.path = path
        self._stale_s = stale_s

    def try_take(self) -> Lease | None:
        """The lease of the directory, which is made when missing; None: somebody else holds it, or took it just now."""
        with suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        if (fd := _open(self.path)) is None:
            return None
        try:
            lease = self._try_take(fd)
        except FileNotFoundError:  # the directory, or what this one was about to link, was removed meanwhile
            lease = None
        except BaseException:
            os.close(fd)
            raise
        if lease is None:
            os.close(fd)
        return lease

    def _try_take(self, fd: int) -> Lease | None:
        last = _last(fd, discard=True)
        standing = self._standing(fd, last)
        if standing is _Standing.HELD:
            return None
        before = _room(fd, last)
        given = before if standing is _Standing.FREE else ""
        record = _Record(token=secrets.token_hex(8), holder=Holder.of_self(), given=given)
        number = last.number + 1 if last is not None else 1
        own = _link(fd, f"lease.{number}", record)
        if own is None:
            return None
        lease = Lease(self.path, (fd, own), number, record, before)
        # What it followed may have been another's past already, or have been revoked: who revokes looks for this one.
        if lease.is_in_force() and (last is None or last.name in names_in(fd)):
            _clean(fd, number)
            return lease
        os.close(own)
        _unlink(f"lease.{number}", fd)
        return None

    def current(self) -> str:
        """The name of the directory that the last holder made or went on with; empty: none."""
        if (fd := _open(self.path)) is None:
            return ""
        try:
            return _room(fd, _last(fd))
        finally:
            os.close(fd)

    def revoke(self) -> bool:
        """Have whoever takes one meanwhile, or holds a stale one, lose it, and the next begin anew; False: one is held.

        Takes no room on the disk.
        """
        if (fd := _open(self.path)) is None:
            return True
        try:
            if self._standing(fd, _last(fd)) is _Standing.HELD:
                return False
            while names := [name for name in names_in(fd) if _FILE.fullmatch(name)]:  # one may have come meanwhile
                for name in names:
                    _discard(fd, name)
            return True
        finally:
            os.close(fd)

    def _standing(self, fd: int, last: _Last | None) -> _Standing:
        if last is None:
            return _Standing.FREE
        try:
            beat_ns = os.lstat(last.name, dir_fd=fd).st_mtime_ns
        except FileNotFoundError:  # followed just now
            return _Standing.HELD
        if beat_ns == _GIVEN_BACK_NS:
            return _Standing.FREE
        quiet_s = (_now_ns() - beat_ns) / 1e9
        beats = 0 <= quiet_s <= self._stale_s
        holder = last.record.holder
        if beats and quiet_s < _SEEN_OFTEN_S and not holder.is_near():
            return _Standing.HELD
        if holder.state() is Life.DEAD:
            return _Standing.FREE
        return _Standing.HELD if beats else _Standing.STALE


class Lease:
    """One that was taken. ``given``: the name of the directory to go on with, empty when there is none; ``before``: of
    the one that was in use, in which somebody else may be at work still; ``room``: of one that it may make.
    """

    def __init__(self, path: str, fds: tuple[int, int], number: int, record: _Record, before: str) -> None:
        """``fds``: of the directory, and of the lease's file in it; closed by `release`."""
        self.given = record.given
        self.before = before
        self.room = f"{number}.{record.token}"
        self._path = path
        self._fd, self._own = fds

    async def keep(self, work: Coroutine[Any, Any, Result], *, every_s: float = BEAT_EVERY_S) -> Result:
        """The result of ``work``, while the heart beats; it is cancelled when the lease is lost.

        Raises `LeaseLostError` for whatever came of it then, else what ``work`` raises.
        """
        doing, own = asyncio.ensure_future(work), asyncio.current_task()
        assert own is not None
        heart = _Heart(self, every_s, asyncio.get_running_loop(), doing)
        try:
            return await doing
        except asyncio.CancelledError:
            if own.cancelling() or not heart.has_stopped:
                raise
            raise LeaseLostError from None
        except LeaseLostError:
            raise
        except Exception as error:
            if self.is_lost():
                raise LeaseLostError from error
            raise
        finally:
            heart.stop()

    def is_in_force(self) -> bool:
        """Whether certainly nobody followed. Never raises."""
        try:
            return self._is_in_force()
        except OSError:
            return False

    def is_lost(self) -> bool:
        """Whether certainly somebody followed. Never raises."""
        try:
            return not self._is_in_force()
        except OSError:
            return False

    def check(self) -> None:
        """Raise `LeaseLostError` when somebody followed; `HostError`: nobody can tell."""
        try:
            in_force = self._is_in_force()
        except OSError as error:
            raise from_os_error(error, doing="look at the lease", where=self._path) from error
        if not in_force:
            raise LeaseLostError

    def _is_in_force(self) -> bool:
        last = _last(self._fd)
        try:
            return last is not None and _is_at(self._own, last.name, self._fd) and _is_at(self._fd, self._path)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def beat(self) -> bool:
        """False: it is lost. Never raises."""
        _beat(self._own, _now_ns())
        return not self.is_lost()

    def release(self) -> None:
        """Give it back; the next may have it. Never raises."""
        _beat(self._own, _GIVEN_BACK_NS)
        os.close(self._own)
        os.close(self._fd)


class _Heart:
    """Beats in a thread of its own, so that nothing else that stager is busy with holds it up."""

    def __init__(
        self, lease: Lease, every_s: float, loop: asyncio.AbstractEventLoop, doing: asyncio.Future[Any]
    ) -> None:
        self.has_stopped = False
        self._lease = lease
        self._every_s = every_s
        self._loop = loop
        self._doing = doing
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._first = loop.call_later(every_s, self._start)  # work that is shorter needs no thread

    def stop(self) -> None:
        self._first.cancel()
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._beat, name="stager lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while self._lease.beat():
            if self._ended.wait(self._every_s):
                return
        self.has_stopped = True
        self._loop.call_soon_threadsafe(self._doing.cancel)


def _open(path: str) -> int | None:
    """A descriptor of the directory; None: it is not there, or no more. OSError."""
    try:
        return os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return None
    except NotADirectoryError:  # while one is removed the kernel may say that too
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise
        return None


def _is_at(fd: int, path: str, at: int | None = None) -> bool:
    return os.path.samestat(os.fstat(fd), os.lstat(path, dir_fd=at))


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _last(fd: int, *, discard: bool = False) -> _Last | None:
    """The one with the highest number; None: there is none. What nobody can have written, for link(2) makes them whole,
    is none, and in the way of the next: it is removed where that is asked for. OSError.
    """
    while True:
        try:
            return _find_last(fd, discard=discard)
        except FileNotFoundError:  # followed, or given back, between two looks
            continue


def _find_last(fd: int, *, discard: bool) -> _Last | None:
    found = [(int(match[1]), match[0]) for name in names_in(fd) if (match := _FILE.fullmatch(name))]
    for number, name in sorted(found, reverse=True):
        record = _read(fd, name) if number < _MOST_LEASES else None
        if record is not None:
            return _Last(name, number, record)
        if discard:
            _discard(fd, name)
    return None


def _read(fd: int, name: str) -> _Record | None:
    try:
        record = _decoder.decode(read_regular(name, dir_fd=fd, most=_MOST_BYTES))
    except (HostError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    is_ours = _TOKEN.fullmatch(record.token) and (not record.given or ROOM.fullmatch(record.given))
    return record if is_ours else None


def _room(fd: int, last: _Last | None) -> str:
    """Where the holder of a lease was or is at work: in the directory that it made, else in the one it was given."""
    if last is None:
        return ""
    for name in (f"{last.number}.{last.record.token}", last.record.given):
        with suppress(FileNotFoundError):
            if name and stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
                return name
    return ""


def _discard(fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except FileNotFoundError:
        pass
    except OSError:  # a directory
        os.rename(name, f".{name}.{secrets.token_hex(8)}", src_dir_fd=fd, dst_dir_fd=fd)


def _link(fd: int, name: str, record: _Record) -> int | None:
    """A descriptor of the file, made whole; None: it is there. OSError."""
    temporary = f"{_TEMPORARY}{record.token}"
    own = os.open(temporary, _CREATE, 0o600, dir_fd=fd)
    try:
        write_all(own, msgspec.json.encode(record))
        with suppress(OSError):  # one that lost its contents with the power would have what was kept begun anew
            os.fsync(own)
        _beat(own, _now_ns())
        os.link(temporary, name, src_dir_fd=fd, dst_dir_fd=fd, follow_symlinks=False)
    except BaseException as error:
        os.close(own)
        if isinstance(error, FileExistsError):
            return None
        raise
    finally:
        _unlink(temporary, fd)
    return own


def _beat(own: int, ns: int) -> None:
    """By descriptor: it is this lease's, whatever has its name now."""
    with suppress(OSError):
        os.utime(own, ns=(ns, ns))


def _clean(fd: int, number: int) -> None:
    """Remove what came before. Of two that link at once the slower finds its file gone, and looks again."""
    for name in names_in(fd):
        match = _FILE.fullmatch(name)
        if name.startswith(_TEMPORARY) or (match and int(match[1]) < number):
            _unlink(name, fd)


def _unlink(name: str, fd: int) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=fd)
