"""What one user has of one remote repository on this node, for all of that user's jobs: packs, and nothing else.

::

    SCRATCH/mirrors/NAME/        NAME: of the URL's hash
        commits.N/ history.N/    generations, without history and with it: the highest N is the one in use
            pack-*.pack .idx     as git's index-pack wrote them
            COMMIT.json          a commit that is whole here, and the packs that hold it
        run-*/                   one run's own repository
        lock                         held by who fetches
        about.json uses/         see `stager.host.mirrors`

Git is never pointed at this directory. A run has a repository of its own, in which symlinks stand for the packs that a
record names: no configuration, ref, hook, attribute or alternate that lies here is ever read. A record is written, by
rename, after its packs have their names; nothing is changed afterwards, so two that fetch at once, or a kill at any
moment, leave what is whole and what nobody believes. What a pack holds is believed by nobody either: who reads from it
hashes what is read (`stager.host.git_objects`), and throws the generation away when that is not what its id says.
Locks save work, and keep a generation while somebody reads from it; nothing wrong comes of a lock that does not hold.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal

import msgspec
from msgspec import Struct

from stager.errors import HostError, StagerError, from_os_error
from stager.host.atomic import open_regular, read_regular, write_file
from stager.host.mirrors import begin_mirror_use, mirror_path, tell_of
from stager.host.names_in import names_in
from stager.host.private import PrivateDirectory
from stager.host.scratch import remember_scratch
from stager.host.trash import discard

__all__ = ["Kind", "Loan", "Mirror"]

Kind = Literal["commits", "history"]

_PACK: Final = re.compile(r"pack-(?:[0-9a-f]{40}|[0-9a-f]{64})\.(?:pack|idx|rev)")
_ID: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_RECORD: Final = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\.json")
_SCHEMA: Final = 1
_RECORD_MAX_BYTES: Final = 8 << 20
_PACKS_MAX: Final = 24  # each costs every look-up in a repository with it; packing anew costs reading it all
_GROWTH_MAX: Final = 3  # times the largest pack
_SMALL_BYTES: Final = 64 << 20
_STALE_AFTER_S: Final = 600.0  # what no record names may be of a run that is about to write one
_WAIT_MAX_S: Final = 600.0  # for another's fetch; then both fetch
_LOOK_AGAIN_S: Final = 0.02
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Record(Struct, frozen=True, kw_only=True):
    """One commit. ``packs``: file name to size. ``shallow``: commits whose parents are not here. ``tips``: whatever
    else is whole here, ids of a remote's refs.
    """

    schema: int
    commit: str
    packs: dict[str, int]
    shallow: list[str] = []
    tips: list[str] = []


_decoder: Final = msgspec.json.Decoder(_Record)


class Loan(Struct, frozen=True, kw_only=True):
    """What the mirror lends. ``tips``: ids of what is whole in it. ``packs``: file name to path."""

    tips: frozenset[str] = frozenset()
    shallow: frozenset[str] = frozenset()
    packs: Mapping[str, str] = {}

    def link(self, directory: str) -> None:
        """Make the packs visible in the pack directory of a run's own repository. Blocks. OSError."""
        for name, path in self.packs.items():
            os.symlink(path, os.path.join(directory, name))


class Mirror:
    """See the module. Its methods block where they are not coroutines."""

    def __init__(self, scratch: str, url: str, kind: Kind) -> None:
        """Raises `HostError` when it cannot be used, `NoSpaceError`."""
        self._kind = kind
        self._held: dict[str, int] = {}  # generation to a descriptor that keeps it
        self._lent = ""  # the generation that was lent from last
        self._path = mirror_path(scratch, url)
        self._fd, self._use = begin_mirror_use(self._path)
        try:
            tell_of(self._path, url)
            self.run = PrivateDirectory(self._path, "run-")
        except BaseException:
            self._use.close()
            os.close(self._fd)
            raise
        remember_scratch(scratch)

    def close(self) -> None:
        """Give back what is held, and remove what nobody uses any more. Never raises."""
        self.run.close()
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()
        with suppress(OSError, StagerError):
            self._sweep()
        self._use.close()
        os.close(self._fd)

    def lend(self, commit: str) -> Loan | None:
        """A commit that is whole here; None when it is not. Raises `HostError`."""
        generation = self._newest() if _ID.fullmatch(commit) else ""
        record = self._read(generation, f"{commit}.json") if generation else None
        return self._loan(generation, [record]) if record else None

    def lend_all(self) -> Loan:
        """Every commit that is here, so that only what is new has to come. Raises `HostError`."""
        generation = self._newest()
        names = names_in(self._held[generation]) if generation else []
        records = [self._read(generation, name) for name in names if _RECORD.fullmatch(name)]
        return self._loan(generation, [record for record in records if record])

    def is_full(self, loan: Loan) -> bool:
        """Whether what is here should be packed anew before more is added to it."""
        sizes = [os.stat(path).st_size for name, path in loan.packs.items() if name.endswith(".pack")]
        growth = sum(sizes) > max(_GROWTH_MAX * max(sizes, default=0), _SMALL_BYTES)
        return len(sizes) >= _PACKS_MAX or growth

    def keep(self, packs: str, loan: Loan, *, commit: str, anew: bool = False) -> None:
        """Note that a commit, and the other ``tips`` of ``loan``, are whole in its packs and in those that were written
        to the directory ``packs``, which get a name here too. ``anew``: begin a generation with it.

        Raises `NoSpaceError`, `HostError`.
        """
        try:
            generation = self._begin() if anew else self._newest() or self._begin()
            directory = self._held[generation]
            sizes = {name: os.stat(path).st_size for name, path in loan.packs.items()}
            for name in _packs_in(packs):
                sizes[name] = _link(packs, name, directory)
        except OSError as error:
            raise from_os_error(error, doing="keep the pack", where=self._path) from error
        record = _Record(
            schema=_SCHEMA, commit=commit, packs=sizes, shallow=sorted(loan.shallow), tips=sorted(loan.tips)
        )
        write_file(directory, f"{commit}.json", [msgspec.json.encode(record)], mode=0o600)

    def discard(self) -> None:
        """What was lent is not what it should be: the next to come begins anew. Raises `NoSpaceError`, `HostError`."""
        try:
            if self._newest() == self._lent:
                self._begin()
        except OSError as error:
            raise from_os_error(error, doing="begin anew", where=self._path) from error

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Fetch here while nobody else does, as far as locks hold: who waited may find it all done."""
        fd = -1
        with suppress(OSError, HostError):
            fd = open_regular("lock", os.O_RDWR | os.O_CREAT, dir_fd=self._fd)
        try:
            deadline_s = time.monotonic() + _WAIT_MAX_S
            while fd >= 0 and time.monotonic() < deadline_s:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(_LOOK_AGAIN_S)
                except OSError:  # a file system without locks
                    break
            yield
        finally:
            if fd >= 0:
                os.close(fd)

    def _newest(self) -> str:
        """The generation in use, held from now on; empty when there is none. `HostError`."""
        try:
            numbers = self._generations()
            if not numbers:
                return ""
            name = f"{self._kind}.{max(numbers)}"
            if name not in self._held:
                self._held[name] = os.open(name, _DIRECTORY, dir_fd=self._fd)
                with suppress(OSError):
                    fcntl.flock(self._held[name], fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:  # removed meanwhile
            return ""
        except OSError as error:
            raise from_os_error(error, doing="open the mirror", where=self._path) from error
        return name

    def _begin(self) -> str:
        number = max(self._generations(), default=0) + 1
        with suppress(FileExistsError):  # somebody else has begun it
            os.mkdir(f"{self._kind}.{number}", 0o700, dir_fd=self._fd)
        return self._newest()

    def _generations(self) -> list[int]:
        kind, found = f"{self._kind}.", names_in(self._fd)
        numbers = [name.removeprefix(kind) for name in found if name.startswith(kind)]
        return [int(number) for number in numbers if number.isascii() and number.isdigit() and len(number) < 16]

    def _read(self, generation: str, name: str) -> _Record | None:
        """A record whose packs are all there, with the sizes they had; anything else is none."""
        directory = self._held[generation]
        try:
            record = _decoder.decode(read_regular(name, dir_fd=directory, most=_RECORD_MAX_BYTES))
            if record.schema != _SCHEMA or f"{record.commit}.json" != name or not record.packs:
                return None
            if not all(map(_PACK.fullmatch, record.packs)) or not all(map(_ID.fullmatch, record.shallow + record.tips)):
                return None
            found = {pack: os.lstat(pack, dir_fd=directory) for pack in record.packs}
        except (OSError, HostError, msgspec.MsgspecError, RecursionError, ValueError):
            return None
        whole = all(
            stat.S_ISREG(one.st_mode) and one.st_uid == os.geteuid() and one.st_size == record.packs[pack]
            for pack, one in found.items()
        )
        return record if whole else None

    def _loan(self, generation: str, records: Sequence[_Record]) -> Loan:
        self._lent = generation
        packs = {name for record in records for name in record.packs}
        return Loan(
            tips=frozenset(tip for record in records for tip in (record.commit, *record.tips)),
            shallow=frozenset(commit for record in records for commit in record.shallow),
            packs={name: os.path.join(self._path, generation, name) for name in packs},
        )

    def _sweep(self) -> None:
        """Remove generations that are not in use, and packs that no record came to name."""
        numbers = self._generations()
        for number in numbers:
            name = f"{self._kind}.{number}"
            with suppress(OSError):
                fd = os.open(name, _DIRECTORY, dir_fd=self._fd)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if number != max(numbers):
                        discard(os.path.join(self._path, name))
                    else:
                        _remove_orphans(fd)
                finally:
                    os.close(fd)


def _packs_in(directory: str) -> list[str]:
    """Packs that a fetch has written there, not those that were lent; an index follows its pack."""
    with os.scandir(directory) as entries:
        own = [entry.name for entry in entries if _PACK.fullmatch(entry.name) and not entry.is_symlink()]
    return sorted(own, key=lambda name: not name.endswith(".pack"))


def _link(source: str, name: str, directory: int) -> int:
    """Give a file of a run's a name in a generation too, and return its size; one that is there may be damaged."""
    temporary = f".{name}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    os.link(os.path.join(source, name), temporary, dst_dir_fd=directory, follow_symlinks=False)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    return os.lstat(name, dir_fd=directory).st_size


def _remove_orphans(directory: int) -> None:
    names = names_in(directory)
    named: set[str] = set()
    for name in names:
        if _RECORD.fullmatch(name):
            with suppress(OSError, HostError, msgspec.MsgspecError, RecursionError, ValueError):
                named.update(_decoder.decode(read_regular(name, dir_fd=directory, most=_RECORD_MAX_BYTES)).packs)
    for name in names:
        if name not in named and not _RECORD.fullmatch(name):
            with suppress(OSError):
                if time.time() - os.lstat(name, dir_fd=directory).st_ctime > _STALE_AFTER_S:
                    os.unlink(name, dir_fd=directory)
