"""The tree of a commit as a table of files: listed and judged before anything is written."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from stager import _native
from stager.errors import BadKeysError
from stager.host.git_reader import FILE, LINK, PROGRAM, SUBMODULE, CommitReader, TreeRow
from stager.names import show
from stager.sources.base import Wanted

__all__ = ["GitTree"]

_MODES: Final = {FILE: 0o644, PROGRAM: 0o755, LINK: stat.S_IFLNK | 0o777, b"100664": 0o644}
_LINK_MAX: Final = 4095
_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*oid sha256:[0-9a-f]{64}\nsize \d+\n"
)
_POINTER_SIZES: Final = range(100, 1025)  # git-lfs: a pointer file is under 1,024 bytes
_SHOWN: Final = 20


class GitTree(Struct, frozen=True):
    """A commit's tree below ``subdir``. ``private``: a directory for what git converts on the way; ``where``: for
    errors.
    """

    reader: CommitReader
    subdir: str | None
    private: str
    where: str

    @property
    def prefix(self) -> bytes:
        """What stands in front of a listed path to make it one from the commit's root."""
        return os.fsencode(f"{self.subdir}/") if self.subdir else b""

    async def table(self, wanted: Wanted) -> tuple[_native.KeyTable, bool]:
        """Every file, and whether all of them are as they would be if all were wanted.

        Identity: the blob id, and what git changes in it on the way. Raises `BadKeysError`: submodules, LFS pointers,
        filters, damaged links among what is wanted; `NotFoundError`: no such ``subdir``; `IntegrityError`.
        """
        rows = [row async for row in self.reader.list_tree(self.subdir)]
        chosen = [row for row in rows if wanted(row.path)]
        await self._refuse_what_is_not_whole(chosen)
        converted = await self._converted(rows, chosen)
        table = _native.KeyTable()
        for row in rows:
            if row.mode in _MODES:
                size, identity = converted.get(row.path, (row.size, row.blob))
                table.append(row.path, size, identity, 0, _MODES[row.mode])
        return table, len(chosen) == len(rows)

    async def _refuse_what_is_not_whole(self, rows: Sequence[TreeRow]) -> None:
        submodules = [show(row.path) for row in rows if row.mode == SUBMODULE]
        if submodules:
            raise self._refusal(
                "submodules are not available in this version", submodules,
                "stage each submodule's repository as a dataset of its own",
            )
        strange = [show(row.path) for row in rows if row.mode not in _MODES]
        if strange:
            raise self._refusal("the tree holds entries of an unknown mode", strange, "")
        links = [row for row in rows if row.mode == LINK]
        long = [show(row.path) for row in links if not 0 < row.size <= _LINK_MAX]
        small = [row for row in rows if row.mode != LINK and row.size in _POINTER_SIZES]
        contents: dict[bytes, bytes] = {}
        if not long:
            contents = await self.reader.read_blobs(row.blob for row in (*links, *small))
        bad = long or [show(row.path) for row in links if b"\0" in contents[row.blob]]
        if bad:
            raise self._refusal("the tree holds symlinks without a usable target", bad, "")
        pointers = [show(row.path) for row in _pointers(small, contents)]
        if pointers:
            raise self._refusal(
                "the tree holds Git LFS pointers, and LFS is not available in this version", pointers,
                "stage the objects from S3, or clone with git lfs and stage the directory",
            )

    async def _converted(
        self, rows: Sequence[TreeRow], chosen: Sequence[TreeRow]
    ) -> dict[bytes, tuple[int, bytes]]:
        """Chosen files whose bytes git changes on the way out: path to (size then, identity that says how)."""
        prefix = self.prefix
        if not prefix and not any(row.path.split(b"/")[-1] == b".gitattributes" for row in rows):
            return {}
        files = {prefix + row.path: row for row in chosen if row.mode != LINK}
        attributes = await self.reader.attributes(list(files))
        filtered = [f"{show(path)} (filter={show(found[b'filter'])})" for path, found in attributes.items()
                    if found.get(b"filter", b"lfs") != b"lfs"]
        if filtered:
            raise self._refusal("the tree needs git filters, which are never run", filtered, "")
        changing = {
            path: found for path, found in attributes.items()
            if found.get(b"eol") == b"crlf" or b"ident" in found or b"working-tree-encoding" in found
        }  # fmt: skip
        if not changing:
            return {}
        await self.reader.check_blobs(files[path].blob for path in changing)
        scratch = await asyncio.to_thread(tempfile.mkdtemp, dir=self.private)
        await self.reader.check_out(list(changing), scratch)
        below = os.fsencode(scratch)

        def measure() -> dict[bytes, tuple[int, bytes]]:
            sizes: dict[bytes, tuple[int, bytes]] = {}
            for path, found in changing.items():
                how = b",".join(b"%s=%s" % item for item in sorted(found.items()) if item[0] != b"filter")
                size = os.lstat(os.path.join(below, path)).st_size
                sizes[files[path].path] = (size, files[path].blob + b" " + how)
            shutil.rmtree(scratch, ignore_errors=True)
            return sizes

        return await asyncio.to_thread(measure)

    def _refusal(self, what: str, names: Iterable[str], hint: str) -> BadKeysError:
        names = list(names)
        rest = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
        return BadKeysError(what, [*names[:_SHOWN], *rest], where=self.where, hint=hint)


def _pointers(rows: Iterable[TreeRow], contents: Mapping[bytes, bytes]) -> list[TreeRow]:
    """Those of ``rows`` whose blob is a pointer to a Git LFS object; ``contents``: blob id to bytes."""
    return [row for row in rows if row.size in _POINTER_SIZES and _POINTER.fullmatch(contents[row.blob])]
