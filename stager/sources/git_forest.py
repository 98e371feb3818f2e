"""A tree with those of its submodules in it: each fetched at its pinned commit, all as one table.

Every repository is listed and judged by itself (attributes of a superproject say nothing of a submodule's files), level
by level, a few at once; what is wrong with any of a level is told together, before anything is written.
"""

from __future__ import annotations

import asyncio
import functools
import os
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from stager import _native
from stager.errors import BadKeysError, IntegrityError, StagerError
from stager.host.git_reader import TreeRow
from stager.host.git_settings import GitSettings
from stager.host.gitrepo import Pin, PinnedRepository
from stager.names import show
from stager.sources.base import Wanted
from stager.sources.git_lfsconfig import to_record
from stager.sources.git_modules import Module, read_modules
from stager.sources.git_problems import Problems
from stager.sources.git_tree import GitTree, Listed, is_below
from stager.sources.git_urls import submodule_url
from stager.sources.git_version import Submodule
from stager.sources.lfs_choice import LfsChoice
from stager.sources.lfs_rows import LfsLeft
from stager.urls import redacted

__all__ = ["Forest", "Grown", "Member", "believing", "named", "rows_of"]

Result = TypeVar("Result")
Open = Callable[[str, bool], Awaitable[PinnedRepository]]
"""A repository of a URL, of which perhaps only some blobs will be asked for."""

_DEEPEST: Final = 16
_MOST: Final = 256  # a few descriptors each
_AT_ONCE: Final = 4


class Member(Struct, frozen=True, kw_only=True):
    """One repository. ``mount``: what stands in front of its keys; ``root`` and ``paths``: as of a `GitTree`; ``at``:
    the submodule's path from the superproject's root, for people; empty for the superproject. ``lfsconfig``: what the
    commit says of Git LFS, None where that is not known.
    """

    repository: PinnedRepository
    url: str
    pin: Pin
    mount: bytes = b""
    root: bytes = b""
    paths: tuple[bytes, ...] = ()
    at: bytes = b""
    lfsconfig: GitSettings | None = None


class Grown(Struct, frozen=True, kw_only=True):
    """What came of it. ``table``, ``whole`` and ``lfs`` as of a `Listed`; ``members``, the superproject first;
    ``left_out``: paths of submodules that are not in it.
    """

    table: _native.KeyTable
    whole: bool
    lfs: LfsLeft
    members: Sequence[Member]
    left_out: Sequence[bytes]

    def submodules(self) -> tuple[Submodule, ...]:
        """For a version."""
        return tuple(
            Submodule(
                mount=one.mount, root=one.root, commit=one.pin.commit, url=one.url, lfsconfig=to_record(one.lfsconfig)
            )
            for one in self.members[1:]
        )  # fmt: skip


class Forest(Struct, frozen=True, kw_only=True):
    """``where``: the source as the user named it; ``lfs``, ``environ`` and ``known`` as of a `GitTree`."""

    open: Open
    with_submodules: bool
    lfs: LfsChoice | None
    environ: Mapping[str, str]
    allow_plain_http: bool
    where: str
    known: Mapping[tuple[bool, bytes], int] = {}

    async def grow(self, root: Member, wanted: Wanted) -> Grown:
        """List everything. Raises what `GitTree.read` and `PinnedRepository.fetch` raise, with the submodule's name."""
        table, whole, lfs = _native.KeyTable(), True, LfsLeft()
        members, left_out, level = list[Member](), list[bytes](), [root]
        for _ in range(_DEEPEST):
            grown = list(zip(level, await self._each(level, wanted), strict=True))
            level = []
            for member, (listed, inner) in grown:
                members.append(replace(member, lfsconfig=listed.lfsconfig))
                whole = whole and listed.whole
                lfs.excluded += listed.lfs.excluded
                lfs.undeclared += listed.lfs.undeclared
                table = _with(table, member.mount, listed.table)
                level += inner
                present = {one.at for one in inner}
                left_out += [at for row in listed.submodules if (at := _join(member.at, row.path)) not in present]
            if not level:
                return Grown(table=table, whole=whole, lfs=lfs, members=members, left_out=sorted(left_out))
            if len(members) + len(level) > _MOST:
                raise BadKeysError("the tree cannot be staged", [f"over {_MOST - 1} submodules"], where=self.where)
        names = [f"{show(one.at)}: is a submodule {_DEEPEST} deep" for one in level]
        raise BadKeysError("the tree cannot be staged", names, where=self.where)

    async def _each(self, level: Sequence[Member], wanted: Wanted) -> list[tuple[Listed, list[Member]]]:
        """What each lists, and its submodules. What is wrong with several is one error."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(member: Member) -> tuple[Listed, list[Member]] | StagerError:
            async with gate:
                try:
                    await member.repository.fetch(member.pin)
                    return await believing(member.repository, functools.partial(self._one, member, wanted))
                except StagerError as error:
                    return named(error, member)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(member)) for member in level]
        outcomes = [task.result() for task in tasks]
        failures = [outcome for outcome in outcomes if isinstance(outcome, StagerError)]
        if failures:
            raise _as_one(failures)
        return [outcome for outcome in outcomes if not isinstance(outcome, StagerError)]

    async def _one(self, member: Member, wanted: Wanted) -> tuple[Listed, list[Member]]:
        reader = member.repository.reader(member.pin.commit)
        tree = GitTree(
            repository=member.repository, reader=reader, paths=member.paths, root=member.root, at=member.at,
            with_submodules=self.with_submodules, lfs=self.lfs, environ=self.environ,
            private=member.repository.directory, where=self.where, known=self.known,
        )  # fmt: skip
        listed = await tree.read(lambda key: wanted(member.mount + key))
        if not self.with_submodules or not listed.submodules:
            return listed, []
        modules = await read_modules(member.repository, reader, where=self.where)
        return listed, await self._submodules(member, listed.submodules, modules)

    async def _submodules(
        self, member: Member, rows: Sequence[TreeRow], modules: Mapping[bytes, Module]
    ) -> list[Member]:
        problems, found = Problems(member.at), list[tuple[TreeRow, str]]()
        for row in rows:
            module = modules.get(row.path)
            if module is None:
                problems.add(row.path, "is a submodule of which .gitmodules says nothing")
            elif module.wanted:
                try:
                    url = submodule_url(member.url, module.url, allow_plain_http=self.allow_plain_http)
                    found.append((row, url))
                except ValueError as error:
                    shown = show(os.fsencode(redacted(module.url)))
                    problems.add(row.path, f"is a submodule whose URL {error} ({shown})")
        problems.refuse(self.where)
        return [await self._open(member, row, url) for row, url in found]

    async def _open(self, member: Member, row: TreeRow, url: str) -> Member:
        """The submodule at ``row``: all of it, or what of the member's paths lies in it."""
        inside = row.path + b"/"
        paths = tuple(path.removeprefix(inside) for path in member.paths if path.startswith(inside))
        if any(is_below(row.path, path) for path in member.paths):
            paths = ()
        within = member.root.startswith(inside)
        root = member.root.removeprefix(inside) if within else b""
        return Member(
            repository=await self.open(url, bool(paths)), url=url, pin=Pin(commit=row.blob.decode(), ref=None),
            mount=member.mount + (b"" if within else inside[len(member.root) :]), root=root, paths=paths,
            at=_join(member.at, row.path),
        )  # fmt: skip


async def believing(repository: PinnedRepository, work: Callable[[], Awaitable[Result]]) -> Result:
    """What comes of ``work``; once more, with the commit fetched anew, when what the mirror lent is damaged."""
    try:
        return await work()
    except IntegrityError:
        if not repository.borrows:
            raise
        await repository.fetch_anew()
        return await work()


def rows_of(members: Sequence[Member], table: _native.KeyTable, rows: array[int]) -> list[tuple[Member, array[int]]]:
    """The rows of each member's files, by what their keys begin with."""
    if len(members) == 1:
        return [(members[0], rows)]
    mounts = {member.mount: place for place, member in enumerate(members)}  # of equal ones, the inner member's
    parts = [array("I") for _ in members]
    for row, key in zip(rows, table.keys(rows), strict=True):
        while key := key[: key.rfind(b"/", 0, -1) + 1]:
            if key in mounts:
                break
        parts[mounts.get(key, 0)].append(row)
    return [(member, part) for member, part in zip(members, parts, strict=True) if part]


def named(error: StagerError, member: Member) -> StagerError:
    """The error, with the submodule that it is of."""
    if member.at and not isinstance(error, BadKeysError):  # whose names are whole paths
        error.what = f"in the submodule {show(member.at)}: {error.what}"
    return error


def _as_one(failures: Sequence[StagerError]) -> StagerError:
    """The first that trying again does not help, and of the others that they are."""
    bad = [failure for failure in failures if isinstance(failure, BadKeysError)]
    if len(bad) == len(failures):
        problems = [problem for failure in bad for problem in failure.problems]
        return BadKeysError(bad[0].what if len(bad) == 1 else "the tree cannot be staged", problems, where=bad[0].where)
    first = next((failure for failure in failures if not failure.retryable), failures[0])
    rest = [failure.what for failure in failures if failure is not first]
    if rest:
        first.what = "; ".join([first.what, *rest])
    return first


def _with(table: _native.KeyTable, mount: bytes, more: _native.KeyTable) -> _native.KeyTable:
    if not len(table) and not mount:
        return more
    for key, size, identity, mtime_ns, mode in more.rows():
        table.append(mount + key, size, identity, mtime_ns, mode)
    return table


def _join(above: bytes, path: bytes) -> bytes:
    return above + b"/" + path if above else path
