"""Manifest, entries: what a finished tree is, file by file.  (Format and codec: written with the sync pipeline.)"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a staged tree.

    ``path``: below the destination, raw bytes. ``identity``: the source's (ETag, blob id).
    ``digest``: xxh3-128t, 16 canonical bytes. ``mode``: permission bits as set, with S_IFLNK for a symlink
    (then size and digest are of the link's target text). Times in nanoseconds, of the local file.
    """

    path: bytes
    size: int
    identity: bytes
    digest: bytes
    mtime_ns: int
    ctime_ns: int
    mode: int
    grade: str
