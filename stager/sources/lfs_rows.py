"""Which files of a tree are Git LFS objects, and how a table of its files says so.

As git-lfs decides: a blob that is a pointer, at a path to which .gitattributes give ``filter=lfs``. A pointer at
another path is a file like any other for git, and so it is here; the user is told. ``lfs_include`` and ``lfs_exclude``
are git-lfs's lfs.fetchinclude and lfs.fetchexclude (git-lfs-config(5), git-lfs-fetch(1)): globs of gitignore, meant
from the commit's root; what is wanted matches one of the first, if there are any, and none of the second. The rest
stays a pointer.
"""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec import Struct

from stager._native import KeyTable
from stager.config import GitOptions
from stager.globs import compile_glob
from stager.sources.lfs_pointer import Pointer

__all__ = ["LfsLeft", "lfs_choice", "lfs_counts", "lfs_identity", "lfs_warnings", "oid_of", "part_lfs"]

_MARK: Final = b" lfs="


class LfsLeft(Struct, kw_only=True):
    """Pointers that stay in a tree as they are: by request, and at paths that no attribute gives to LFS."""

    excluded: int = 0
    undeclared: int = 0


def lfs_identity(blob: bytes, pointer: Pointer) -> bytes:
    """Of a row whose file is an object: the pointer's blob, and the object's SHA-256."""
    return blob + _MARK + pointer.oid.encode("ascii")


def part_lfs(table: KeyTable, rows: array[int]) -> tuple[array[int], array[int]]:
    """Rows whose files git has, and rows whose files are objects."""
    return table.marked_rows(rows, _MARK)


def oid_of(table: KeyTable, row: int) -> str:
    """The object that a row's file is."""
    return table.identity(row).rpartition(_MARK)[2].decode("ascii")


def lfs_choice(options: GitOptions) -> Callable[[bytes], bool]:
    """Whether the object of a path from the commit's root is wanted. ValueError: a pattern that is none."""
    include, exclude = _matcher(options.lfs_include), _matcher(options.lfs_exclude)
    return lambda path: (include is None or bool(include(path))) and not (exclude is not None and exclude(path))


def _matcher(patterns: Iterable[str]) -> Callable[[bytes], object] | None:
    globs = [compile_glob(os.fsencode(pattern)) for pattern in patterns]
    return re.compile(b"|".join(b"(?:" + glob + b")" for glob in globs)).match if globs else None


def lfs_counts(table: KeyTable, left: LfsLeft) -> dict[str, Any]:
    """For the receipt: objects and their bytes, each path counted; pointers that stay. Empty without any."""
    _, rows = part_lfs(table, array("I", range(len(table))))
    counts = {"objects": len(rows), "bytes": table.sum_sizes(rows)} if rows else {}
    stay = {"excluded": left.excluded, "undeclared": left.undeclared}
    return {**counts, **{name: count for name, count in stay.items() if count}}


def lfs_warnings(left: LfsLeft) -> tuple[str, ...]:
    """What the user should know."""
    if not left.undeclared:
        return ()
    count = "1 file is a Git LFS pointer" if left.undeclared == 1 else f"{left.undeclared} files are Git LFS pointers"
    return (f"{count} at paths without filter=lfs in .gitattributes, and stays as it is",)
