"""The tree of a commit as a table of files: listed and judged before anything is written."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from array import array
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from io import BufferedReader
from typing import Final

from msgspec import Struct

from stager import _native
from stager.errors import BadKeysError, NotFoundError
from stager.host.git_reader import FILE, LINK, PROGRAM, SUBMODULE, CommitReader, TreeRow, is_blob
from stager.host.git_settings import GitSettings
from stager.host.trash import remove_temporary
from stager.names import PATH_MAX, show, steps_above
from stager.sources.base import Wanted, everything
from stager.sources.git_lfsconfig import LFSCONFIG, read_lfsconfig
from stager.sources.git_names import what_git_refuses
from stager.sources.git_problems import Problems
from stager.sources.git_repository import Repository
from stager.sources.lfs_choice import LfsChoice
from stager.sources.lfs_pointer import POINTER_BYTES, Pointer, parse_pointer
from stager.sources.lfs_rows import LfsLeft, lfs_identity

__all__ = ["GitTree", "Listed", "is_attributes", "is_below"]

_MODES: Final = {FILE: 0o644, PROGRAM: 0o755, LINK: stat.S_IFLNK | 0o777, b"100664": 0o644}
_FILES_MAX: Final = 1 << 22  # the largest repositories have 3.5 million; a few hostile trees name any number
_POINTER_SIZES: Final = range(1, POINTER_BYTES)
_ATTRIBUTES: Final = b".gitattributes"
_PIECE_BYTES: Final = 1 << 20
_KEY_MAX: Final = 65_535  # of a row in a table


class Listed(Struct, frozen=True, kw_only=True):
    """``table``: the files, keys below ``GitTree.root``. ``whole``: each is as it would be if all were wanted.
    ``submodules``: their paths from the commit's root, and commits. ``lfs``: pointers that stay in it. ``lfsconfig``:
    what the commit says of Git LFS; None where it has nothing to say it of.
    """

    table: _native.KeyTable
    whole: bool
    submodules: Sequence[TreeRow]
    lfs: LfsLeft
    lfsconfig: GitSettings | None


class GitTree(Struct, frozen=True, kw_only=True):
    """What lies at or below ``paths`` (none: everything) in a commit.

    ``root``: what stands in front of each of them and is left out of keys; empty, or ends with a slash. ``lfs``: which
    pointers stand for objects, and not for themselves; None: none. ``at``: where a submodule's tree is mounted;
    ``with_submodules``: whether paths may lead into some. ``private``: a directory to work in. ``known``: sizes of
    blobs that need not come to be listed, by whether they are links, and id.
    """

    repository: Repository
    reader: CommitReader
    paths: tuple[bytes, ...] = ()
    root: bytes = b""
    at: bytes = b""
    with_submodules: bool = True
    lfs: LfsChoice | None
    environ: Mapping[str, str]
    private: str
    where: str
    known: Mapping[tuple[bool, bytes], int] = {}

    async def read(self, wanted: Wanted) -> Listed:
        """Every file, of which ``wanted`` says by its key whether anybody will ask for it.

        Identity: the blob id, and what git changes in it on the way. A size is 0 where the blob is not here and nobody
        will ask for it. Raises `BadKeysError`: what is wanted cannot be had (names, links, pointers, filters);
        `NotFoundError`: nothing lies at a path; `IntegrityError`.
        """
        problems, table = Problems(self.at), _native.KeyTable()
        chosen, submodules, found = array("I"), [], set[bytes]()
        async with aclosing(self._rows(wanted)) as pieces:
            async for rows in pieces:
                for row in rows:
                    if self.paths:
                        found.update(path for path in self.paths if is_below(row.path, path))
                    key = row.path[len(self.root) :]
                    if row.mode == SUBMODULE:
                        submodules.append(row)
                    elif not key:
                        found.discard(row.path)  # a file, where a directory is asked for
                    elif not wanted(key):
                        table.append(key[:_KEY_MAX], row.size, row.blob, 0, _MODES.get(row.mode, 0))
                    elif why := _what_is_wrong(row):
                        problems.add(row.path, why)
                    else:
                        chosen.append(table.append(key, row.size, row.blob, 0, _MODES[row.mode]))
                if len(table) > _FILES_MAX:
                    many = f"it has over {_FILES_MAX:,} files"
                    raise BadKeysError("the tree cannot be staged", [many], where=self.where)
        missing = [path for path in self.paths if path not in found]
        above = await self._submodules_above(missing)
        self._refuse_missing(missing, above)
        submodules += above
        self._refuse_left_out([*above, *(row for row in submodules if row.path + b"/" == self.root)])
        pointers = await self._judge_contents(table, chosen, problems)
        left = LfsLeft()
        converted, config = await self._converted(table, chosen, pointers, left, problems)
        problems.refuse(self.where)
        whole = len(chosen) == len(table)
        return Listed(table=_replaced(table, converted), whole=whole, submodules=submodules, lfs=left, lfsconfig=config)

    async def _rows(self, wanted: Wanted) -> AsyncGenerator[Sequence[TreeRow], None]:
        """The entries with their sizes; blobs that somebody will ask for are here then, or known."""
        if not self.repository.partial:
            async with aclosing(self.reader.list_tree(self.paths)) as pieces:
                async for rows in pieces:
                    yield rows
            return
        listed = [row async for rows in self.reader.list_tree(self.paths, sizes=False) for row in rows]
        files = [row for row in listed if row.mode != SUBMODULE]
        needed = [
            row.blob for row in files
            if is_attributes(row.path)
            or ((row.mode == LINK, row.blob) not in self.known and wanted(row.path[len(self.root) :]))
        ]  # fmt: skip
        above = await self.reader.entries([*_attributes_above(self.paths), *([LFSCONFIG] if self.lfs else ())])
        await self.repository.bring([*needed, *(row.blob for row in above.values())])
        sizes = await self.reader.sizes(row.blob for row in files)
        yield [
            row._replace(size=sizes.get(row.blob, self.known.get((row.mode == LINK, row.blob), 0))) for row in listed
        ]

    async def _submodules_above(self, paths: Iterable[bytes]) -> list[TreeRow]:
        """Those that ``paths`` lead into."""
        found = await self.reader.entries(sorted({above for path in paths for above in steps_above(path)}))
        return [row for row in found.values() if row.mode == SUBMODULE]

    def _refuse_missing(self, paths: Iterable[bytes], submodules: Sequence[TreeRow]) -> None:
        missing = [path for path in paths if not any(is_below(path, row.path) for row in submodules)]
        if not missing:
            return
        if len(self.paths) == 1 and missing[0] + b"/" == self.root:
            what, hint = f"the commit has no directory {show(missing[0])}", "check subdir"
        else:
            what = f"the commit has nothing at {', '.join(map(show, missing))}"
            hint = "check --path (paths in a job file)"
            if any(character in path for path in missing for character in (b"*", b"?", b"[")):
                hint += "; it takes no patterns, --include does"
        raise NotFoundError(what, where=self.where, hint=hint)

    def _refuse_left_out(self, submodules: Iterable[TreeRow]) -> None:
        if names := sorted({show(row.path) for row in submodules}) if not self.with_submodules else []:
            what = f"what is asked for lies in the submodule {', '.join(names)}"
            raise NotFoundError(what, where=self.where, hint="submodules are brought with --submodules")

    async def _judge_contents(
        self, table: _native.KeyTable, chosen: Iterable[int], problems: Problems
    ) -> dict[int, Pointer]:
        """Of small blobs: targets of links that no link can have; and, by row, pointers to LFS objects."""
        with_lfs = self.lfs is not None
        judged = [
            (row, is_link, table.identity(row)) for row in chosen
            if (is_link := stat.S_ISLNK(table.mode(row))) or (with_lfs and table.size(row) in _POINTER_SIZES)
        ]  # fmt: skip
        here = {blob for _, is_link, blob in judged if (is_link, blob) not in self.known}
        targets, pointers = set[bytes](), dict[bytes, Pointer]()
        async for blob, content in self.reader.read_blobs(sorted(here)):
            if b"\0" in content:
                targets.add(blob)
            elif pointer := parse_pointer(content):
                pointers[blob] = pointer
        for row, is_link, blob in judged:
            if is_link and blob in targets:
                problems.add(self.root + table.key(row), "is a symlink without a usable target")
        return {row: pointers[blob] for row, is_link, blob in judged if not is_link and blob in pointers}

    async def _converted(
        self,
        table: _native.KeyTable,
        chosen: Iterable[int],
        pointers: Mapping[int, Pointer],
        left: LfsLeft,
        problems: Problems,
    ) -> tuple[dict[int, tuple[int, bytes]], GitSettings | None]:
        """Chosen files whose bytes are not their blobs', which git changes on the way out or LFS keeps elsewhere: row
        to (size then, identity that says how). And what .lfsconfig says, where that matters.
        """
        objects: dict[int, tuple[int, bytes]] = {}
        if not await self._has_attributes(table):
            left.undeclared = len(pointers)
            return objects, None
        files = {self.root + table.key(row): row for row in chosen if not stat.S_ISLNK(table.mode(row))}
        changing: dict[bytes, bytes] = {}
        attributes = await self.reader.attributes(list(files))
        config: GitSettings | None = None
        if any(said.get(b"filter") == b"lfs" and files[path] in pointers for path, said in attributes.items()):
            config = await read_lfsconfig(self.repository, self.reader, self.environ, where=self.where)
        is_wanted = self.lfs.wanted(config, self.at) if self.lfs is not None and config is not None else everything
        for path, said in attributes.items():
            driver = said.get(b"filter", b"unset")
            if driver not in (b"unset", b"lfs"):
                problems.add(path, f"needs a git filter, which is never run (filter={show(driver)})")
            if driver == b"lfs" and (pointer := pointers.get(files[path])) is not None:
                if is_wanted(path):
                    objects[files[path]] = self._object_of(path, table.identity(files[path]), pointer, problems)
                    continue
                left.excluded += 1
            if how := _how_git_changes(said):
                changing[path] = how
        left.undeclared = len(pointers) - len(objects) - left.excluded
        if not changing:
            return objects, config
        await self.reader.check_blobs(table.identity(files[path]) for path in changing)
        scratch = await asyncio.to_thread(tempfile.mkdtemp, dir=self.private)
        await self.reader.check_out(list(changing), scratch)

        def measure() -> dict[int, tuple[int, bytes]]:
            found: dict[int, tuple[int, bytes]] = {}
            for path, how in changing.items():
                row = files[path]
                with open(os.path.join(os.fsencode(scratch), path), "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    if not is_blob(table.identity(row), size, _pieces_of(file)):
                        found[row] = (size, table.identity(row) + b" " + how)
            remove_temporary(scratch)
            return found

        return {**objects, **await asyncio.to_thread(measure)}, config

    def _object_of(self, path: bytes, blob: bytes, pointer: Pointer, problems: Problems) -> tuple[int, bytes]:
        if pointer.extensions:
            made_by = ", ".join(pointer.extensions)
            problems.add(path, f"is made by a Git LFS extension, and none is run ({made_by})")
        return pointer.size, lfs_identity(blob, pointer)

    async def _has_attributes(self, table: _native.KeyTable) -> bool:
        if await self.reader.entries(_attributes_above(self.paths)):
            return True
        return any(is_attributes(key) for key, *_ in table.rows())


def _what_is_wrong(row: TreeRow) -> str:
    """Why the entry can be no file or link anywhere; what `stager.names` judges is left to it."""
    if row.mode not in _MODES:
        return f"has a mode that is none ({show(row.mode)})"
    if row.mode == LINK and not 0 < row.size <= PATH_MAX:
        return "is a symlink without a usable target"
    if len(row.path) > _KEY_MAX:
        return f"is a path of {len(row.path):,} bytes"
    return what_git_refuses(row.path)


def _how_git_changes(said: Mapping[bytes, bytes]) -> bytes:
    """The attributes by which git may write other bytes than the blob's; empty when it will not (its convert.c)."""
    text = said.get(b"text", said.get(b"crlf", b""))
    how = [b"eol=crlf"] if said.get(b"eol") == b"crlf" and text != b"unset" else []
    how += [
        name + b"=" + said[name] for name in (b"ident", b"working-tree-encoding")
        if said.get(name, b"unset") != b"unset"
    ]  # fmt: skip
    return b",".join(how)


def _replaced(table: _native.KeyTable, changes: Mapping[int, tuple[int, bytes]]) -> _native.KeyTable:
    if not changes:
        return table
    changed = _native.KeyTable()
    for row, (key, size, identity, _, mode) in enumerate(table.rows()):
        size, identity = changes.get(row, (size, identity))
        changed.append(key, size, identity, 0, mode)
    return changed


def is_below(path: bytes, top: bytes) -> bool:
    """Whether one path is another, or lies below it."""
    return path == top or path.startswith(top + b"/")


def is_attributes(path: bytes) -> bool:
    """Whether git reads attributes from it."""
    return path.rpartition(b"/")[2] == _ATTRIBUTES


def _attributes_above(paths: Iterable[bytes]) -> list[bytes]:
    """Files of attributes that have a say in what lies at or below these and are not listed with it."""
    directories = {above for path in paths for above in steps_above(path)} | ({b""} if paths else set())
    return sorted(directory + b"/" + _ATTRIBUTES if directory else _ATTRIBUTES for directory in directories)


def _pieces_of(file: BufferedReader) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece
