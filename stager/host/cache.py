"""Trees that one user's jobs have fetched to this node, for the next job that wants the same.

::

    SCRATCH/cache/2/                0700; the number is the format's: another release works beside it
        NAME/                       NAME: the hash of all that shapes the tree
            about.json              what it is of, for people
            lease.N                 who brings it up to date: of many that want it, one fetches (`stager.host.leases`)
            N.TOKEN/                a generation, by the lease it was begun under; the last lease says which is in use
                tree/ state/        as of any sync
                uses/               who reads from the tree (`stager.host.readers`); its mtime is that of the last use
                given-up/           what uses/ is called from when the tree is on its way out

A tree is whole when the sync that filled it says so, and never taken on trust: whoever uses it syncs it first. That
lists the source with the user's own credentials, fetches what has changed, and finds what was changed here. One that
somebody reads from is not changed: a new generation is begun beside it. Nothing of it is ever linked into a tree that a
job can write, and every job's view masks it.

Nothing is right because of a lock. Who fills a generation holds the lease, and takes what it filled for whole only as a
reader of it, while its lease is in force and the generation not given up (`Generation.hold`). Who removes one gives it
up first and looks for readers then. The flock of a sync's state directory is in nobody's way: where two believe that
they hold the lease, they fill different generations.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
from msgspec import Struct

from stager.errors import HostError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.clones import clones_in
from stager.host.leases import ROOM, STALE_S, Lease, LeaseLostError, Leases
from stager.host.manifest_file import ManifestFile
from stager.host.overlays import can_overlay
from stager.host.readers import Use, begin_use, is_used, sweep_uses
from stager.host.scratch import CACHE, open_own, remember_scratch
from stager.host.threads import blocking
from stager.host.trash import discard, remove_temporary, sweep_trash
from stager.host.workspace import boot_id
from stager.keeping import Quota
from stager.manifest import DamagedManifestError

__all__ = ["FORMAT", "About", "Cache", "Generation", "Kept", "entries_at"]

FORMAT: Final = "2"
"""Of what lies in a cache; another release may have another beside it."""

_ABOUT: Final = "about.json"
_USES: Final = "uses"
_GIVEN_UP: Final = "given-up"
_MOST_BYTES: Final = 1 << 20
_TRIED_WITHIN_S: Final = 3600.0
_LOOK_AGAIN_S: Final = 0.01  # at first
_LOOK_AT_LEAST_S: Final = 0.1
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

    def __init__(
        self, scratch: str, *, for_view: bool = False, quota: Quota = Quota(), stale_s: float = STALE_S  # noqa: B008  (frozen)
    ) -> None:
        """``for_view``: whether kept trees are going to be mounted; ``stale_s``: see `stager.host.leases`.

        Raises `HostError`: no use; `NoSpaceError`.
        """
        self.quota = quota
        self._stale_s = stale_s
        self.scratch = scratch
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
            with suppress(FileNotFoundError):  # removed already, and made when its lease is taken
                os.close(open_own(path))
        except OSError as error:
            raise from_os_error(error, doing="open the cache", where=path) from error
        return Kept(path, stale_s=self._stale_s)

    def entries(self) -> Iterator[Kept]:
        """All there are, in no order. Raises `HostError`."""
        return entries_at(self.path)

    def sweep(self) -> None:
        """Remove what others began to, and what they tried the disk with. Never raises."""
        sweep_trash(self.scratch)
        with suppress(OSError):
            for name in os.listdir(self.path):
                path = os.path.join(self.path, name)
                if name.startswith(".") and time.time() - os.lstat(path).st_mtime > _TRIED_WITHIN_S:
                    _remove_hidden(path)


def entries_at(path: str) -> Iterator[Kept]:
    """All that the directory of a cache has, in no order. Raises `HostError`."""
    try:
        with os.scandir(path) as found:
            names = [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise from_os_error(error, doing="read the cache", where=path) from error
    for name in names:
        if not name.startswith("."):
            yield Kept(os.path.join(path, name))


class Kept:
    """One tree, in its generations. ``stale_s``: see `stager.host.leases`."""

    def __init__(self, path: str, *, stale_s: float = STALE_S) -> None:
        self.path = path
        self.name = os.path.basename(path)
        self._leases = Leases(path, stale_s=stale_s)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Lease]:
        """While nobody else brings it up to date, if the lease is in force. Raises `HostError`, `NoSpaceError`."""
        wait_s = _LOOK_AGAIN_S
        while (lease := await blocking(self._try_take)) is None:
            await asyncio.sleep(wait_s)
            wait_s = min(1.5 * wait_s, _LOOK_AT_LEAST_S)
        try:
            yield lease
        finally:
            lease.release()

    def _try_take(self) -> Lease | None:
        try:
            return self._leases.try_take()
        except OSError as error:
            raise from_os_error(error, doing="take the lease of a kept tree", where=self.path) from error

    def newest(self) -> Generation | None:
        """The generation in use. Raises `HostError`."""
        try:
            name = self._leases.current()
        except OSError as error:
            raise from_os_error(error, doing="read the cache", where=self.path) from error
        return self._in_use(name)

    def given(self, lease: Lease) -> Generation | None:
        """The generation to go on with under a lease."""
        return self._in_use(lease.given)

    def before(self, lease: Lease) -> Generation | None:
        """One to take files from, where there is none to go on with: somebody may be at work in it still."""
        return self._in_use(lease.before) if not lease.given else None

    def _in_use(self, name: str) -> Generation | None:
        generation = Generation(os.path.join(self.path, name))
        return generation if name and not generation.is_given_up() else None

    def begin(self, lease: Lease) -> Generation:
        """A new one, empty; those before it go when nobody reads from them. Raises `HostError`, `NoSpaceError`."""
        new = Generation(os.path.join(self.path, lease.room))
        try:
            for path in (new.path, new.uses, new.tree, new.state):
                os.mkdir(path, 0o700)
        except OSError as error:
            lease.check()
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
        """Write that down, durably where people want it kept. Raises `HostError`, `NoSpaceError`."""
        try:
            fd = os.open(self.path, _DIRECTORY)
        except OSError as error:
            raise from_os_error(error, doing="write to the cache", where=self.path) from error
        try:
            write_file(fd, _ABOUT, [msgspec.json.encode(about)], mode=0o600, durable=about.is_pinned)
        finally:
            os.close(fd)

    def trim(self, lease: Lease, kept: Generation) -> None:
        """Remove the other generations, as far as nobody reads from them, and records of readers that are dead. Never
        raises.
        """
        sweep_uses(kept.uses)
        with suppress(HostError):
            for generation in self._generations():
                if generation.path != kept.path and lease.is_in_force() and generation.give_up():
                    discard(generation.path)

    def remove(self) -> bool:
        """Remove all of it; False: somebody uses it, and it stays. Takes no room on the disk. Raises `HostError`."""
        try:
            generations = self._generations()
            if not all(generation.is_free() for generation in generations) or not self._leases.revoke():
                return False
            if not all(generation.give_up() for generation in generations):
                return False
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self.path, _ABOUT))
            for generation in generations:
                discard(generation.path)
            self._remove_temporaries()
        except OSError as error:
            raise from_os_error(error, doing="remove a kept tree", where=self.path) from error
        with suppress(OSError):  # somebody has begun anew meanwhile
            os.rmdir(self.path)
        return True

    def _remove_temporaries(self) -> None:
        """Files that were to be renamed or linked by who was killed then; who is alive begins again. OSError."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self.path):
                if name.startswith("."):
                    _remove_hidden(os.path.join(self.path, name))

    def last_use_s(self) -> float:
        """When somebody last read from it; 0: never."""
        return max((generation.last_use_s() for generation in self._generations()), default=0.0)

    def is_in_use(self) -> bool:
        """Whether somebody reads from it."""
        return not all(generation.is_free() for generation in self._generations())

    def _generations(self) -> list[Generation]:
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError):  # the kernel says either of one that is being removed
            return []
        except OSError as error:
            raise from_os_error(error, doing="read the cache", where=self.path) from error
        return [Generation(os.path.join(self.path, name)) for name in names if ROOM.fullmatch(name)]


class Generation:
    """One state of a tree: ``tree`` and ``state`` are a sync's destination and its state directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.tree = os.path.join(path, "tree")
        self.state = os.path.join(path, "state")
        self.uses = os.path.join(path, _USES)
        self._given_up = os.path.join(path, _GIVEN_UP)

    def hold(self, lease: Lease) -> Use:
        """Read from it, when all is done there under the lease: it is neither changed nor removed until the end.

        Raises `LeaseLostError`: it may not be whole, or goes; `HostError`, `NoSpaceError`.
        """
        use = begin_use(self.uses)
        try:
            lease.check()
            self._check_open(use)
        except BaseException:
            use.close()
            raise
        return use

    def _check_open(self, use: Use) -> None:
        if self.is_given_up() or not _is_at(use.fd, self.uses):
            raise LeaseLostError

    def is_free(self) -> bool:
        """Whether nobody reads from it; what cannot be asked is taken for used."""
        return not (is_used(self.uses) or is_used(self._given_up))

    def is_given_up(self) -> bool:
        """Whether nobody is to use it any more."""
        return os.path.lexists(self._given_up)

    def give_up(self) -> bool:
        """Have nobody use it any more; False: somebody does. Never raises."""
        if not self.is_free():
            return False
        with suppress(OSError):
            try:
                os.rename(self.uses, self._given_up)
            except FileNotFoundError:  # who began it got no further
                os.mkdir(self._given_up, 0o700)
        return self.is_given_up() and self.is_free()

    def is_of_this_boot(self) -> bool:
        """Whether its files were looked at since the node was started; before that, contents may have been lost with
        the power that sizes and times do not tell of. Blocks. Never raises.
        """
        with suppress(OSError, HostError, DamagedManifestError):
            fd = os.open(self.state, _DIRECTORY)
            try:
                with ManifestFile(fd) as file:
                    return bool(file.header.boot) and file.header.boot == boot_id()
            finally:
                os.close(fd)
        return False

    def count_inodes(self) -> int:
        """Of all that lies in it. Blocks. Raises `HostError`."""
        try:
            return 1 + sum(len(names) + len(below) for _, below, names in os.walk(self.path, onerror=_raise))
        except OSError as error:
            raise from_os_error(error, doing="read the cache", where=self.path) from error

    def last_use_s(self) -> float:
        """When somebody last began or ended to read from it; 0: never."""
        for path in (self.uses, self._given_up):
            with suppress(OSError):
                return os.lstat(path).st_mtime
        return 0.0


def _raise(error: OSError) -> None:
    raise error


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _remove_hidden(path: str) -> None:
    """A file, or a directory that nobody needs. OSError."""
    with suppress(FileNotFoundError):
        try:
            os.unlink(path)
        except IsADirectoryError:
            with suppress(HostError):  # it has no name of ours
                remove_temporary(path)
