"""A listing kept as a file: what a source held at one moment, so that others copy exactly that.

JSON lines: a header, then an object a row: ``key`` (below the source, in the form of `stager.names.to_json`), ``size``
in bytes, ``etag`` (S3: the ETag without quotes, its bytes as Latin-1; git: the blob id), and where they are known
``version_id``, ``mtime_ns`` (Unix) and ``mode``. The header names the source and, with ``listing``, the digest over all
rows, so that a file that was cut or edited is never taken for what was listed.

It is read as hostile input, in pieces of about 1 MiB; whoever takes its rows judges their names.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import msgspec

from stager._native import KeyTable
from stager.errors import BadListingError, UsageError, from_os_error
from stager.host.atomic import open_regular, write_file
from stager.host.threads import Checkpoint
from stager.model import SourceRef
from stager.names import from_json, lossless, show, to_json

__all__ = ["LISTED", "Listing", "listing_digest", "read_listing", "save_listing"]

_SCHEMA: Final = 1
_FILE_MAX: Final = (32 << 20) * 256  # as of a manifest
_LINE_MAX: Final = 512 << 10
_READ_AT_ONCE: Final = 1 << 20
_ROWS_AT_ONCE: Final = 4096
_PROBLEMS_MAX: Final = 5
_SIZE_MAX: Final = 2**63 - 1
_VERSION_BEGINS: Final = "\0"  # csrc/identity.h
_NO_VERSION: Final = "null"  # what is stored under it is replaced in place
_ETAG: Final = re.compile(r"[^\x00-\x1f\x7f]*")
_VERSION_ID: Final = re.compile(r"[!-~]{0,1024}")
_ANYWHERE: Final = -100  # AT_FDCWD: the path is absolute
LISTED: Final = ("s3", "git")
"""Schemes of sources whose listings outlast a run."""

_MODES: Final = {  # permission bits, or a link; S3 has none but may mark a row as archived (csrc/listxml.h)
    "s3": lambda mode: mode in (0, 0x80000000),
    "git": lambda mode: mode & ~0o777 in (0, stat.S_IFLNK),
}


class _Base64(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    base64: str


class _Row(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    key: str | _Base64
    size: int
    etag: str = ""
    version_id: str = ""
    mtime_ns: int = 0
    mode: int = 0


class _Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line. ``home`` (a bucket, a git URL), ``folder`` below it and ``version`` say what was listed; what
    stands in ``source``, ``pinned``, ``filter``, ``objects`` and ``bytes`` is for people.
    """

    stager_listing: int
    scheme: str
    home: str
    source: str = ""
    folder: str | dict[str, str] = ""
    version: str = ""
    pinned: dict[str, Any] = {}
    filter: str = ""
    listing: str = ""
    objects: int | None = None
    bytes: int | None = None
    time: str = ""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A listing that was read. ``digest`` is of ``table``, ``time`` when it was made, as the file says."""

    table: KeyTable
    folder: bytes
    version: str
    digest: str
    time: str


_encoder: Final = msgspec.json.Encoder()
_header_decoder: Final = msgspec.json.Decoder(_Header)
_decoder: Final = msgspec.json.Decoder(_Row)


def listing_digest(table: KeyTable) -> str:
    """BLAKE2b-128 over key, size and identity of every row, in the table's order."""
    digest = hashlib.blake2b(digest_size=16)
    lines, row = table.lines(0)
    while lines:
        digest.update(lines)
        lines, row = table.lines(row)
    return digest.hexdigest()


def save_listing(
    checkpoint: Checkpoint,
    path: str,
    ref: SourceRef,
    table: KeyTable,
    *,
    folder: bytes = b"",
    version: str = "",
    pinned: Mapping[str, Any],
    filters: str = "",
) -> None:
    """Make the file ``path`` hold what was listed of ``ref``, or leave it untouched. ``filters``: what made the table
    less than the source, for people. Blocks.

    Raises `UsageError` (the source pins nothing that outlasts a run), `NoSpaceError`, `HostError`.
    """
    if ref.scheme not in LISTED:
        raise UsageError("only listings of s3 and git sources can be kept", where=ref.text)
    header = _Header(
        stager_listing=_SCHEMA, scheme=ref.scheme, home=_home_of(ref), source=ref.text, folder=to_json(folder),
        version=version, pinned=dict(pinned), filter=filters, listing=listing_digest(table), objects=len(table),
        bytes=table.total_bytes, time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )  # fmt: skip
    directory, name = os.path.split(os.path.abspath(path))
    try:
        os.makedirs(directory, exist_ok=True)
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, doing="keep the listing", where=path) from error
    try:
        write_file(directory_fd, name, _pieces(header, table, checkpoint))
    finally:
        os.close(directory_fd)


def read_listing(checkpoint: Checkpoint, path: str, ref: SourceRef) -> Listing:
    """What `save_listing` kept, or another program wrote in that form. Blocks.

    Raises `BadListingError` naming the first lines that are wrong; also when the file is of another source than
    ``ref``, or its rows are not those of its digest. `UsageError`, `HostError`.
    """
    if ref.scheme not in LISTED:
        raise UsageError("only s3 and git sources can be copied as a listing says", where=ref.text)
    try:
        fd = open_regular(os.path.realpath(path), os.O_RDONLY, dir_fd=_ANYWHERE)
    except OSError as error:
        raise from_os_error(error, doing="read the listing", where=path) from error
    try:
        return _read(fd, path, ref, checkpoint)
    except OSError as error:
        raise from_os_error(error, doing="read the listing", where=path) from error
    finally:
        os.close(fd)


def _home_of(ref: SourceRef) -> str:
    return ref.location.partition("/")[0] if ref.scheme == "s3" else ref.location


def _pieces(header: _Header, table: KeyTable, checkpoint: Checkpoint) -> Iterator[bytes]:
    yield _encoder.encode(lossless(msgspec.to_builtins(header))) + b"\n"
    rows = table.rows()
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        checkpoint()
        yield _encoder.encode_lines([_row(*row) for row in some])


def _row(key: bytes, size: int, identity: bytes, mtime_ns: int, mode: int) -> _Row:
    etag, _, version_id = identity.decode("latin-1").partition(_VERSION_BEGINS)
    name = to_json(key)
    return _Row(_Base64(name["base64"]) if isinstance(name, dict) else name, size, etag, version_id, mtime_ns, mode)


def _read(fd: int, path: str, ref: SourceRef, checkpoint: Checkpoint) -> Listing:
    size = os.fstat(fd).st_size
    if size > _FILE_MAX:
        raise _bad(path, "it is larger than any listing")
    head = os.pread(fd, _LINE_MAX, 0)
    start = head.find(b"\n") + 1
    header = _read_header(head[:start], path, ref)
    table = KeyTable()
    _Rows(table, path, _MODES[ref.scheme]).read(fd, start, checkpoint)
    digest = listing_digest(table)
    if header.listing and header.listing != digest:
        raise _bad(path, "its rows are not those it was written with: it was cut or changed")
    return Listing(
        table=table, folder=from_json(header.folder), version=header.version, digest=digest, time=header.time[:64]
    )


def _read_header(line: bytes, path: str, ref: SourceRef) -> _Header:
    try:
        header = _header_decoder.decode(line)
        from_json(header.folder)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _bad(path, f"line 1: no listing's first line ({error})") from error
    if header.stager_listing != _SCHEMA:
        raise _bad(path, f"line 1: form {header.stager_listing} is not known here")
    if (header.scheme, header.home) != (ref.scheme, _home_of(ref)):
        whose = show(os.fsencode(header.source or f"{header.scheme}://{header.home}"))
        raise _bad(path, f"it is of another source, {whose}", hint=f"it cannot stand for {ref.text}")
    return header


class _Rows:
    """The rows of one file, on their way into a table."""

    def __init__(self, table: KeyTable, path: str, is_mode: Callable[[int], bool]) -> None:
        self._table = table
        self._path = path
        self._is_mode = is_mode
        self._line = 2  # the next one

    def read(self, fd: int, at: int, checkpoint: Checkpoint) -> None:
        rest = b""
        while piece := os.pread(fd, _READ_AT_ONCE, at):
            checkpoint()
            at += len(piece)
            cut = piece.rfind(b"\n") + 1
            if cut:
                self._take(rest + piece[:cut])
                rest = b""
            rest += piece[cut:]
            if len(rest) > _LINE_MAX:
                raise _bad(self._path, f"line {self._line}: longer than any")
        if rest:
            raise _bad(self._path, f"line {self._line}: cut short")

    def _take(self, lines: bytes) -> None:
        try:
            rows = _decoder.decode_lines(lines)
            for row in rows:
                self._append(row)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._what_is_wrong(lines) from error
        self._line += lines.count(b"\n")

    def _append(self, row: _Row) -> None:
        key = row.key.encode() if isinstance(row.key, str) else from_json({"base64": row.key.base64})
        if not 0 <= row.size <= _SIZE_MAX:
            raise ValueError("a size out of range")
        if not _ETAG.fullmatch(row.etag) or not _VERSION_ID.fullmatch(row.version_id):
            raise ValueError("an ETag or a version id with characters that none has")
        if not self._is_mode(row.mode) or not -_SIZE_MAX <= row.mtime_ns <= _SIZE_MAX:
            raise ValueError("a mode or a time that is none")
        if not row.etag and row.version_id in ("", _NO_VERSION):
            raise ValueError("neither ETag nor version: nothing pins this object")
        identity = row.etag + _VERSION_BEGINS + row.version_id if row.version_id else row.etag
        self._table.append(key, row.size, identity.encode("latin-1"), row.mtime_ns, row.mode)

    def _what_is_wrong(self, lines: bytes) -> BadListingError:
        """The first lines of a piece that cannot be taken, one by one."""
        problems: list[str] = []
        for number, line in enumerate(lines.split(b"\n")[:-1], self._line):
            try:
                self._append(_decoder.decode(line))
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                problems.append(f"line {number}: {show(str(error).encode())}")
                if len(problems) == _PROBLEMS_MAX:
                    break
        return BadListingError("cannot be taken for a listing", problems, where=self._path)


def _bad(path: str, why: str, hint: str = "") -> BadListingError:
    return BadListingError("cannot be taken for a listing", [why], where=path, hint=hint)
