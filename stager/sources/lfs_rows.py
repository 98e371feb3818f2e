"""Which files of a tree are Git LFS objects, and how a table of its files says so.

As git-lfs decides: a blob that is a pointer, at a path to which .gitattributes give ``filter=lfs``. A pointer at
another path is a file like any other for git, and so it is here; the user is told. What is not wanted
(`stager.sources.lfs_choice`) stays a pointer, is counted, and told where no option asked for it.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

from msgspec import Struct

from stager._native import KeyTable
from stager.sources.lfs_pointer import Pointer

__all__ = ["LfsLeft", "lfs_counts", "lfs_identity", "lfs_warnings", "oid_of", "part_lfs"]

_MARK: Final = b" lfs="


class LfsLeft(Struct, kw_only=True):
    """Pointers that stay in a tree as they are: not wanted, and at paths that no attribute gives to LFS."""

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


def lfs_counts(table: KeyTable, left: LfsLeft) -> dict[str, Any]:
    """For the receipt: objects and their bytes, each path counted; pointers that stay. Empty without any."""
    _, rows = part_lfs(table, array("I", range(len(table))))
    counts = {"objects": len(rows), "bytes": table.sum_sizes(rows)} if rows else {}
    stay = {"excluded": left.excluded, "undeclared": left.undeclared}
    return {**counts, **{name: count for name, count in stay.items() if count}}


def lfs_warnings(left: LfsLeft, *, by_option: bool) -> tuple[str, ...]:
    """What the user should know. ``by_option``: what is excluded was asked for so."""
    told = []
    if left.excluded and not by_option:
        stay = "1 file stays a pointer" if left.excluded == 1 else f"{left.excluded} files stay pointers"
        told.append(
            f"of Git LFS {stay} because lfs.fetchinclude or lfs.fetchexclude says so, in your git configuration or in"
            " .lfsconfig; --lfs-include '*' brings all"
        )
    if left.undeclared:
        are = "1 file is a Git LFS pointer" if left.undeclared == 1 else f"{left.undeclared} files are Git LFS pointers"
        told.append(f"{are} at paths without filter=lfs in .gitattributes, and stays as it is")
    return tuple(told)
