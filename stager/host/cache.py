"""Trees that one user's jobs have fetched to this node, for the next job that wants the same.

::

    SCRATCH/cache/1/                0700; the number is the format's: another release works beside it
        NAME/                       NAME: the hash of all that shapes the tree
            about.json              what it is of, for people
            lock                    held by who brings it up to date: of many that want it, one fetches
            N/                      a generation, of which the highest is in use
                tree/ state/        as of any sync
                use                 held, shared, by who reads from the tree; its mtime is that of the last use
        gone-*                      on its way out

A tree is whole when the sync that filled it says so, and never taken on trust: whoever uses it syncs it first. That
lists the source with the user's own credentials, fetches what has changed, and finds what was changed here. One that
somebody reads from is not changed: a new generation is begun beside it. Nothing of it is ever linked into a tree that a
job can write, and every job's view masks it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
from msgspec import Struct

from stager.errors import HostError, from_os_error
from stager.host.atomic import open_regular, read_regular, write_file
from stager.host.clones import clones_in
from stager.host.overlays import can_overlay
from stager.host.scratch import CACHE, open_own, remember_scratch
from stager.host.trees import remove_private
from stager.keeping import Quota

__all__ = ["FORMAT", "About", "Cache", "Generation", "Kept", "entries_at"]

FORMAT: Final = "1"
"""Of what lies in a cache; another release may have another beside it."""

_ABOUT: Final = "about.json"
_GONE: Final = "gone-"
_MOST_BYTES: Final = 1 << 20
_LOOK_AGAIN_S: Final = 0.02
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class About(Struct, frozen=True, kw_only=True):
    """What a kept tree is of. ``wanted``: what of that, and what it was pinned to; ``is_pinned``: it stays until it is
    removed by name.
    """

    source: str
    wanted: dict[str, object] = {}
    bytes: int = 0
    files: int = 0
    inodes: int = 0  # with directories, and what is recorded of it
    grades: dict[str, int] = {}
    is_pinned: bool = False


_decoder: Final = msgspec.json.Decoder(About)


class Cache:
    """See the module. Everything here blocks. ``clones``: trees beside it can share blocks with the kept ones;
    ``overlays``: kept trees can be mounted below what a job writes.
    """

    def __init__(self, scratch: str, *, for_view: bool = False, quota: Quota = Quota()) -> None:  # noqa: B008  (frozen)
        """``for_view``: whether kept trees are going to be mounted. Raises `HostError`: no use; `NoSpaceError`."""
        self.quota = quota
        self.path = os.path.join(scratch, CACHE, FORMAT)
        try:
            for path in (os.path.dirname(self.path), self.path):
                os.close(open_own(path))
        except OSError as error:
            raise from_os_error(error, doing="open the cache", where=self.path) from error
        remember_scratch(scratch)
        self.clones = bool(clones_in(self.path))
        self.overlays = for_view and not self.clones and can_overlay(self.path)

    @property
    def shares(self) -> bool:
        """Whether a job gets what is kept without its bytes being written again."""
        return self.clones or self.overlays

    def entry(self, name: str) -> Kept:
        """The kept tree of a name, or room for it. Raises `HostError`, `NoSpaceError`."""
        path = os.path.join(self.path, name)
        try:
            os.close(open_own(path))
        except OSError as error:
            raise from_os_error(error, doing="open the cache", where=path) from error
        return Kept(path)

    def entries(self) -> Iterator[Kept]:
        """All there are, in no order. Raises `HostError`."""
        return entries_at(self.path)

    def sweep(self) -> None:
        """Remove what others began to. Never raises."""
        with suppress(OSError):
            for name in os.listdir(self.path):
                if name.startswith(_GONE):
                    remove_private(os.path.join(self.path, name))


def entries_at(path: str) -> Iterator[Kept]:
    """All that the directory of a cache has, in no order. Raises `HostError`."""
    try:
        names = os.listdir(path)
    except OSError as error:
        raise from_os_error(error, doing="read the cache", where=path) from error
    for name in names:
        if not name.startswith((_GONE, ".")):
            yield Kept(os.path.join(path, name))


class Kept:
    """One tree, in its generations."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = os.path.basename(path)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """While nobody else brings it up to date, or removes it. Raises `HostError`."""
        fd = await self._lock()
        try:
            yield
        finally:
            os.close(fd)

    async def _lock(self) -> int:
        while True:
            try:
                fd = self._try_lock()
            except OSError as error:
                raise from_os_error(error, doing="lock the cache", where=self.path) from error
            if fd is not None:
                return fd
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _try_lock(self) -> int | None:
        """A descriptor that holds the lock; None: somebody else does."""
        with suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        directory = os.open(self.path, _DIRECTORY)
        try:
            fd = open_regular("lock", os.O_RDWR | os.O_CREAT, dir_fd=directory)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.lstat("lock", dir_fd=directory)) and _is_at(directory, self.path):
                    return fd
            except (BlockingIOError, FileNotFoundError):
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            return None
        finally:
            os.close(directory)

    def newest(self) -> Generation | None:
        """The generation in use. Raises `HostError`."""
        numbers = self._numbers()
        return Generation(os.path.join(self.path, str(max(numbers)))) if numbers else None

    def begin(self) -> Generation:
        """A new one, empty; those before it go when nobody reads from them. Raises `HostError`, `NoSpaceError`."""
        new = Generation(os.path.join(self.path, str(max(self._numbers(), default=0) + 1)))
        try:
            for path in (new.path, new.tree, new.state):
                os.mkdir(path, 0o700)
        except OSError as error:
            raise from_os_error(error, doing="make room in the cache", where=new.path) from error
        return new

    def about(self) -> About | None:
        """What it is of; None: nobody knows."""
        with suppress(OSError, HostError, msgspec.MsgspecError, RecursionError):
            fd = os.open(self.path, _DIRECTORY)
            try:
                return _decoder.decode(read_regular(_ABOUT, dir_fd=fd, most=_MOST_BYTES))
            finally:
                os.close(fd)
        return None

    def tell(self, about: About) -> None:
        """Write that down. Raises `HostError`, `NoSpaceError`."""
        try:
            fd = os.open(self.path, _DIRECTORY)
        except OSError as error:
            raise from_os_error(error, doing="write to the cache", where=self.path) from error
        try:
            write_file(fd, _ABOUT, [msgspec.json.encode(about)], mode=0o600)
        finally:
            os.close(fd)

    def trim(self) -> None:
        """Remove older generations that nobody reads from. The lock is held. Never raises."""
        with suppress(HostError):
            newest = self.newest()
            for number in self._numbers():
                generation = Generation(os.path.join(self.path, str(number)))
                if newest is not None and generation.path != newest.path and generation.is_free():
                    _remove(generation.path, os.path.dirname(self.path))

    def remove(self) -> bool:
        """Remove all of it; False: somebody uses it, and it stays. Raises `HostError`."""
        try:
            fd = self._try_lock()
        except FileNotFoundError:
            return True
        except OSError as error:
            raise from_os_error(error, doing="lock the cache", where=self.path) from error
        if fd is None:
            return False
        try:
            if not all(Generation(os.path.join(self.path, str(number))).is_free() for number in self._numbers()):
                return False
            _remove(self.path, os.path.dirname(self.path))
            return True
        finally:
            os.close(fd)

    def last_use_s(self) -> float:
        """When somebody last read from it; 0: never."""
        newest = self.newest()
        return newest.last_use_s() if newest is not None else 0.0

    def is_in_use(self) -> bool:
        """Whether somebody reads from it."""
        return not all(Generation(os.path.join(self.path, str(number))).is_free() for number in self._numbers())

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, doing="read the cache", where=self.path) from error
        return [int(name) for name in names if name.isascii() and name.isdigit() and len(name) < 16]


class Generation:
    """One state of a tree: ``tree`` and ``state`` are a sync's destination and its state directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.tree = os.path.join(path, "tree")
        self.state = os.path.join(path, "state")

    def hold(self) -> int:
        """A descriptor that keeps it from being changed or removed, until it and its copies are closed.

        The entry's lock is held. Raises `HostError`.
        """
        try:
            fd = self._open_use()
            try:
                fcntl.flock(fd, fcntl.LOCK_SH)  # others hold it alone for a moment only, to look
                os.utime(fd)
            except BaseException:
                os.close(fd)
                raise
        except OSError as error:
            raise from_os_error(error, doing="use the cache", where=self.path) from error
        return fd

    def is_free(self) -> bool:
        """Whether nobody reads from it; what cannot be asked is taken for used."""
        try:
            fd = self._open_use()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return True
        except (OSError, HostError):
            return False
        return True

    def count_inodes(self) -> int:
        """Of all that lies in it. Blocks. Raises `HostError`."""
        try:
            return 1 + sum(len(names) + len(below) for _, below, names in os.walk(self.path, onerror=_raise))
        except OSError as error:
            raise from_os_error(error, doing="read the cache", where=self.path) from error

    def last_use_s(self) -> float:
        """When somebody last began to read from it; 0: never."""
        try:
            return os.lstat(os.path.join(self.path, "use")).st_mtime
        except OSError:
            return 0.0

    def _open_use(self) -> int:
        """OSError, `HostError`."""
        directory = os.open(self.path, _DIRECTORY)
        try:
            return open_regular("use", os.O_RDWR | os.O_CREAT, dir_fd=directory)
        finally:
            os.close(directory)


def _raise(error: OSError) -> None:
    raise error


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _remove(path: str, top: str) -> None:
    """By a rename first, so that nobody meets a part of it."""
    aside = os.path.join(top, f"{_GONE}{int(time.time())}-{secrets.token_hex(8)}")
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        remove_private(aside)
