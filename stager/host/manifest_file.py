"""The manifest as it lies on the disk.

JSON lines: a header object, one array per entry ``[path, size, identity, digest, mtime_ns, ctime_ns, mode, grade]``
(csrc/record.h has its exact form), and a trailer with the count and the BLAKE2b-128 of every byte before it, so that a
torn or damaged manifest is never mistaken for a whole one. Who meets a damaged manifest compares everything and deletes
nothing. It is read and written in pieces of about 1 MiB; no entry becomes a Python object on the way.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterator
from typing import Final, Self

import msgspec

from stager._native import Entries, KeyOrder, KeyTable, Recall
from stager.config import BLOCK_BYTES
from stager.errors import from_os_error
from stager.host.atomic import open_regular
from stager.host.judge import judge
from stager.host.threads import Checkpoint, go_on
from stager.manifest import DIGEST, MANIFEST_MAX_BYTES, MANIFEST_NAME, SCHEMA, DamagedManifestError, Entry, Header
from stager.names import DIRECTORY_TOO, show

__all__ = ["Manifest", "ManifestFile", "copy_entries", "load_manifest", "manifest_pieces"]

_READ_AT_ONCE: Final = 1 << 20
_LINE_MAX: Final = 512 << 10  # STG_LINE_MAX_BYTES
_LINE_MIN: Final = len('["a",0,"","",0,0,0,"A"]\n') + 32
_TRAILER_MAX: Final = 256
_ROWS_AT_ONCE: Final = 4096


class _Trailer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    entries: int
    blake2b: str


_encoder: Final = msgspec.json.Encoder()
_header_decoder: Final = msgspec.json.Decoder(Header)
_trailer_decoder: Final = msgspec.json.Decoder(_Trailer)


class ManifestFile:
    """An open manifest whose header and trailer are of this version; what lies between is read by `recall`."""

    def __init__(self, state_fd: int, name: str = MANIFEST_NAME) -> None:
        """Open it. Blocks. `FileNotFoundError`: there is none; `DamagedManifestError`, `HostError`."""
        try:
            self._fd = open_regular(name, os.O_RDONLY, dir_fd=state_fd)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _host_error(error) from error
        try:
            self._read_ends()
        except BaseException as error:
            os.close(self._fd)
            if isinstance(error, OSError):
                raise _host_error(error) from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    @property
    def count(self) -> int:
        """Entries, as the trailer says; no more than the file has room for."""
        return self._trailer.entries

    def recall(self, recall: Recall, *, checkpoint: Checkpoint = go_on) -> None:
        """Read every entry. Blocks. When this raises, what was recalled until then must not be believed.

        Raises `DamagedManifestError`: changed, values out of bounds, a path that no key compiles to, an entry twice;
        `HostError`.
        """
        checksum = hashlib.blake2b(os.pread(self._fd, self._begin, 0), digest_size=16)
        try:
            for lines in self._pieces():
                checkpoint()
                checksum.update(lines)
                recall.lines(lines)
        except ValueError as error:
            raise DamagedManifestError(str(error)) from error
        except OSError as error:
            raise _host_error(error) from error
        if checksum.hexdigest() != self._trailer.blake2b:
            raise DamagedManifestError("the checksum does not match")
        if len(recall) != self.count:
            raise DamagedManifestError("entries are missing or there twice")

    def _read_ends(self) -> None:
        size = os.fstat(self._fd).st_size
        if size > MANIFEST_MAX_BYTES:
            raise DamagedManifestError("larger than any manifest")
        tail = os.pread(self._fd, _TRAILER_MAX, max(0, size - _TRAILER_MAX))
        if not tail.endswith(b"\n"):
            raise DamagedManifestError("the last line is cut")
        trailer = tail[tail.rfind(b"\n", 0, -1) + 1 :]
        head = os.pread(self._fd, _LINE_MAX, 0)
        self._begin = head.find(b"\n") + 1
        self._end = size - len(trailer)
        try:
            self._trailer = _trailer_decoder.decode(trailer)
            self.header = _header_decoder.decode(head[: self._begin])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise DamagedManifestError(show(str(error).encode("utf-8", "backslashreplace"))) from error
        if (self.header.stager_manifest, self.header.digest, self.header.block_bytes) != (SCHEMA, DIGEST, BLOCK_BYTES):
            raise DamagedManifestError("another version, digest or grid")
        if not 0 <= self.count * _LINE_MIN <= self._end - self._begin:
            raise DamagedManifestError("entries are missing or there twice")

    def _pieces(self) -> Iterator[bytes]:
        """Whole lines. ValueError: one that is longer than any."""
        at, rest = self._begin, b""
        while at < self._end:
            piece = os.pread(self._fd, min(_READ_AT_ONCE, self._end - at), at)
            if not piece:
                raise ValueError("the file became shorter")
            at += len(piece)
            cut = piece.rfind(b"\n") + 1
            if cut:
                yield rest + piece[:cut]
                rest = b""
            rest += piece[cut:]
            if len(rest) > _LINE_MAX:
                raise ValueError("a line is longer than any")
        if rest:
            raise ValueError("a line is cut")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole manifest in memory: a table of its files, and what was recorded of each row."""

    header: Header
    table: KeyTable
    entries: Entries
    order: KeyOrder

    def get(self, path: bytes) -> Entry | None:
        """What was recorded of a file."""
        row = self.order.find(path)
        found = self.entries.recorded(row) if row >= 0 else None
        return Entry(*found) if found is not None else None


def load_manifest(
    state_fd: int, name: str = MANIFEST_NAME, *, one_tree: bool = True, checkpoint: Checkpoint = go_on
) -> Manifest:
    """The whole manifest. Blocks. `FileNotFoundError`: there is none; `DamagedManifestError`, `HostError`.

    ``one_tree``: its files have been there together, so none of them can also be a directory.
    """
    with ManifestFile(state_fd, name) as file:
        table = KeyTable()
        entries = Entries(table, file.count)
        file.recall(Recall(entries, None, trusted=True), checkpoint=checkpoint)
        order = KeyOrder(table, checkpoint)
        names = judge(table, order, checkpoint=checkpoint)
        bad = [problem for problem in names.bad if one_tree or problem.why != DIRECTORY_TOO]
        if bad or names.markers:
            raise DamagedManifestError(str(bad[0]) if bad else "a path is none")
        return Manifest(header=file.header, table=table, entries=entries, order=order)


def manifest_pieces(header: Header, entries: Entries, *, checkpoint: Checkpoint = go_on) -> Iterator[bytes]:
    """A manifest's bytes: of every row that stands, in the table's order."""
    checksum = hashlib.blake2b(digest_size=16)
    piece = _encoder.encode(header) + b"\n"
    row = count = 0
    while piece:
        checkpoint()
        checksum.update(piece)
        yield piece
        piece, row, more = entries.lines(row)
        count += more
    yield _encoder.encode(_Trailer(entries=count, blake2b=checksum.hexdigest())) + b"\n"


def copy_entries(
    into: Entries,
    entries: Entries,
    rows: array[int],
    order: KeyOrder | None = None,
    *,
    checkpoint: Checkpoint = go_on,
) -> None:
    """Recall in one table's entries what is recorded of these rows of another's; see `Recall` for ``order``."""
    recall = Recall(into, order, trusted=True)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        checkpoint()
        recall.journal(entries.journal(rows[start : start + _ROWS_AT_ONCE]))


def _host_error(error: OSError) -> Exception:
    return from_os_error(error, doing="read the manifest", where=MANIFEST_NAME)
