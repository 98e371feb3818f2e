"""What a finished tree is, file by file: the entries, and the header of the manifest that keeps them.

How a manifest lies on the disk: `stager.host.manifest_file`. Many entries are never Python objects but rows of
`stager._native.Entries`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from stager.config import BLOCK_BYTES

__all__ = [
    "DIGEST",
    "FORMER_NAME",
    "MANIFEST_MAX_BYTES",
    "MANIFEST_NAME",
    "SCHEMA",
    "DamagedManifestError",
    "Entry",
    "Header",
]

SCHEMA: Final = 1
MANIFEST_NAME: Final = "manifest.jsonl"
FORMER_NAME: Final = "former.jsonl"
"""Of the same form: files that earlier syncs put there and that are no part of the tree now."""
MANIFEST_MAX_BYTES: Final = (32 << 20) * 256
"""No larger manifest is read: 32 Mi entries of 256 bytes (one has about 100 beside its path)."""
DIGEST: Final = "xxh3-128t"


class DamagedManifestError(Exception):
    """The bytes are no whole manifest of this version. Never leaves the pipeline: it means a full compare."""


class Entry(msgspec.Struct, frozen=True, gc=False):
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


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line: what the entries mean and which source and boot they belong to.

    ``source`` says where identities come from: those of another source mean nothing here. ``boot`` is the kernel's
    boot id: after another boot, content that had not reached the disk may be missing behind a right-looking inode,
    so files are re-hashed before they are believed, unless the manifest is ``durable``: then they had reached it before
    it was written. ``version`` and ``folder``: the snapshot's, the version only when every file of it is here;
    ``part_of``: the version when some are left out. ``preserve``: files, of this sync or of earlier ones, have the
    source's times. ``history``: beside them there is a ``.git`` directory that is the sync's.
    """

    stager_manifest: int = SCHEMA
    digest: str = DIGEST
    block_bytes: int = BLOCK_BYTES
    source: str
    boot: str
    version: str = ""
    part_of: str = ""
    folder: str | dict[str, str] = ""
    durable: bool = False
    preserve: bool = False
    history: bool = False
