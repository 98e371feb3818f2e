"""What a finished tree is, file by file: the entries, and the manifest that keeps them.

A manifest is JSON lines: a header object, one array per entry ``[path, size, identity, digest, mtime_ns, ctime_ns,
mode, grade]``, and a trailer with the count and the BLAKE2b-128 of every byte before it, so that a torn or damaged
manifest is never mistaken for a whole one. Who meets a damaged manifest compares everything and deletes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from stager.config import BLOCK_BYTES
from stager.names import check_paths, from_json, to_json

__all__ = [
    "DIGEST",
    "MANIFEST_MAX_BYTES",
    "MANIFEST_NAME",
    "SCHEMA",
    "DamagedManifestError",
    "Entry",
    "Header",
    "decode",
    "encode",
    "sum_grades",
]

SCHEMA: Final = 1
MANIFEST_NAME: Final = "manifest.jsonl"
MANIFEST_MAX_BYTES: Final = (32 << 20) * 256
"""No larger manifest is read: 32 Mi entries of 256 bytes (one has about 100 beside its path)."""
DIGEST: Final = "xxh3-128t"
_DIGEST_BYTES: Final = 16
_MAX_IDENTITY_BYTES: Final = 1024
_BATCH: Final = 4096
_DECODED_AT_ONCE_BYTES: Final = 256 << 10  # all at once would take five times the entries' own memory


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
    so files are re-hashed before they are believed. ``version``: the snapshot's, when every file of it is here.
    """

    stager_manifest: int = SCHEMA
    digest: str = DIGEST
    block_bytes: int = BLOCK_BYTES
    source: str
    boot: str
    version: str = ""


class _Trailer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    entries: int
    blake2b: str


_encoder: Final = msgspec.json.Encoder()
_Row = tuple[str | dict[str, str], int, str, str, int, int, int, str]
_entry_decoder: Final = msgspec.json.Decoder(_Row)
_header_decoder: Final = msgspec.json.Decoder(Header)
_trailer_decoder: Final = msgspec.json.Decoder(_Trailer)


def encode(header: Header, entries: Iterable[Entry]) -> Iterator[bytes]:
    """The manifest's bytes, in pieces of some hundred KiB."""
    checksum = hashlib.blake2b(digest_size=16)
    count = 0
    lines = [_encoder.encode(header)]
    for entry in entries:
        lines.append(_encoder.encode(_row(entry)))
        count += 1
        if len(lines) >= _BATCH:
            piece = b"\n".join(lines) + b"\n"
            checksum.update(piece)
            yield piece
            lines.clear()
    piece = b"".join(line + b"\n" for line in lines)
    checksum.update(piece)
    yield piece + _encoder.encode(_Trailer(entries=count, blake2b=checksum.hexdigest())) + b"\n"


def decode(data: bytes) -> tuple[Header, dict[bytes, Entry]]:
    """Header and entries by path of a whole manifest.

    Raises `DamagedManifestError` for anything else: torn, changed, another version, another grid or digest, values
    out of bounds, a path that no key compiles to.
    """
    body, end, tail = data.rpartition(b"\n")
    if not end or tail:
        raise DamagedManifestError("the last line is cut")
    text, _, last = body.rpartition(b"\n")
    try:
        trailer = _trailer_decoder.decode(last)
        if hashlib.blake2b(text + b"\n", digest_size=16).hexdigest() != trailer.blake2b:
            raise DamagedManifestError("the checksum does not match")
        first, _, lines = text.partition(b"\n")
        header = _header_decoder.decode(first)
        if (header.stager_manifest, header.digest, header.block_bytes) != (SCHEMA, DIGEST, BLOCK_BYTES):
            raise DamagedManifestError("another version, digest or grid")
        entries = {entry.path: entry for entry in _entries(lines)}
        check_paths(list(entries))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedManifestError(str(error)) from error
    if len(entries) != trailer.entries:
        raise DamagedManifestError("entries are missing or there twice")
    return header, entries


def sum_grades(entries: Iterable[Entry]) -> dict[str, int]:
    """Grade -> entries, grades in order."""
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.grade] = counts.get(entry.grade, 0) + 1
    return dict(sorted(counts.items()))


def _entries(lines: bytes) -> Iterator[Entry]:
    start = 0
    while start < len(lines):
        end = lines.find(b"\n", start + _DECODED_AT_ONCE_BYTES) + 1 or len(lines)
        yield from map(_entry, _entry_decoder.decode_lines(lines[start:end]))
        start = end


def _row(entry: Entry) -> tuple[object, ...]:
    return (
        to_json(entry.path),
        entry.size,
        entry.identity.decode("latin-1"),
        entry.digest.hex(),
        entry.mtime_ns,
        entry.ctime_ns,
        entry.mode,
        entry.grade,
    )


def _entry(row: _Row) -> Entry:
    name, size, identity_text, digest_hex, mtime_ns, ctime_ns, mode, grade = row
    path = name.encode("utf-8") if isinstance(name, str) else from_json(name)
    identity, digest = identity_text.encode("latin-1"), bytes.fromhex(digest_hex)
    if size < 0 or len(digest) != _DIGEST_BYTES or len(identity) > _MAX_IDENTITY_BYTES:
        raise ValueError("a value is out of bounds")
    if not 0 <= mode <= 0o177777 or grade not in ("A", "B", "C"):
        raise ValueError("mode or grade is out of bounds")
    return Entry(path, size, identity, digest, mtime_ns, ctime_ns, mode, grade)
