"""Git's index: one that git has made is given what lstat says of the files, and one that somebody left is compared.

gitformat-index(5). Git believes a file to be what the index names while its times, size, inode and owner are those
that stand there; where they are all zero it reads the file. So the files of a tree that was just staged need not be
read once more, nor does a filter run for those that are no longer their blobs.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

__all__ = ["INDEX_MAX_BYTES", "SUBMODULE_MODE", "IndexRow", "fill_index", "index_rows", "index_summary"]

SUBMODULE_MODE: Final = 0o160000
INDEX_MAX_BYTES: Final = 1 << 30
"""Of one that is read: 4 million files of 250 bytes."""

_HEAD: Final = struct.Struct(">4sII")
_STAT: Final = struct.Struct(">10I")
_EXTENDED: Final = 0x4000
_FLAGS: Final = 0xB000  # assume-valid and the stage
_WORD: Final = 0xFFFFFFFF
_SECOND_NS: Final = 1_000_000_000
_HASHES: Final = {20: "sha1", 32: "sha256"}


class IndexRow(NamedTuple):
    """``at``: where it begins; ``flags``: the stage and what else is set of it, both words."""

    at: int
    mode: int
    blob: bytes
    flags: int
    name: bytes


def index_rows(data: bytes | bytearray, id_bytes: int) -> Iterator[IndexRow]:
    """The entries, in their order. ValueError: it is no index of version 2, 3 or 4 with ids of so many bytes."""
    try:
        yield from _rows(data, id_bytes)
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"no index ({error})") from error


def _rows(data: bytes | bytearray, id_bytes: int) -> Iterator[IndexRow]:
    kind, version, count = _HEAD.unpack_from(data)
    if kind != b"DIRC" or version not in (2, 3, 4):
        raise ValueError("of no known version")
    at, name, fixed = _HEAD.size, b"", _STAT.size + id_bytes + 2
    for _ in range(count):
        (mode,) = struct.unpack_from(">I", data, at + 24)
        (flags,) = struct.unpack_from(">H", data, at + fixed - 2)
        begin, more = at + fixed, 0
        if flags & _EXTENDED:
            (more,) = struct.unpack_from(">H", data, begin)
            begin += 2
        if version == 4:
            dropped, begin = _variable(data, begin)
            end = data.index(b"\0", begin)
            name = name[: len(name) - dropped] + bytes(data[begin:end])
            following = end + 1
        else:
            end = data.index(b"\0", begin)
            name = bytes(data[begin:end])
            following = at + (end - at + 8) // 8 * 8
        blob = bytes(data[at + _STAT.size : at + _STAT.size + id_bytes])
        yield IndexRow(at, mode, blob, (flags & _FLAGS) | more << 16, name)
        at = following


def index_summary(data: bytes, id_bytes: int) -> str:
    """A digest of what is staged: names, modes, ids and flags, but not of when files were looked at. ValueError."""
    digest = hashlib.sha256()
    for row in index_rows(data, id_bytes):
        digest.update(b"%o %d %b %b\0" % (row.mode, row.flags, row.blob.hex().encode(), row.name))
    return digest.hexdigest()


def fill_index(data: bytes, id_bytes: int, status_of: Callable[[IndexRow], os.stat_result | None]) -> bytes:
    """The index of version 2 or 3 with what lstat says of each file; None: git has to look for itself. ValueError."""
    filled = bytearray(data)
    for row in index_rows(data, id_bytes):
        status = None if row.mode == SUBMODULE_MODE else status_of(row)
        words = (0,) * 10
        if status is not None:
            ctime_s, ctime_ns = divmod(status.st_ctime_ns, _SECOND_NS)
            mtime_s, mtime_ns = divmod(status.st_mtime_ns, _SECOND_NS)
            words = (
                ctime_s & _WORD, ctime_ns, mtime_s & _WORD, mtime_ns, status.st_dev & _WORD, status.st_ino & _WORD,
                0, status.st_uid & _WORD, status.st_gid & _WORD, status.st_size & _WORD,
            )  # fmt: skip
        _STAT.pack_into(filled, row.at, *words[:6], row.mode, *words[7:])
    body = memoryview(filled)[:-id_bytes]
    filled[-id_bytes:] = hashlib.new(_HASHES[id_bytes], body, usedforsecurity=False).digest()
    return bytes(filled)


def _variable(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """A number as offsets of packs have it (git's varint.c), and what follows it."""
    value = data[at] & 0x7F
    while data[at] & 0x80:
        at += 1
        value = (value + 1 << 7) + (data[at] & 0x7F)
    return value, at + 1
