"""The record of finished files of a run that has not finished: what a killed run need not fetch again.

One file, append-only: a header (length and CRC-32, little-endian, 32 bits each, and a MessagePack body), then one
record per file (csrc/record.h). A torn or damaged tail is cut at the last whole record. Presence of a file is never
inferred from its size: who reads the journal still compares size, mtime and ctime with the disk.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from typing import Final

import msgspec

from stager._native import Entries, KeyOrder, KeyTable, Recall
from stager.errors import from_os_error
from stager.host.atomic import open_regular, write_all, write_file
from stager.host.threads import Checkpoint, go_on

__all__ = ["JOURNAL_NAME", "Journal", "Journaled", "load_journal", "recall_journal", "remove_journal"]

JOURNAL_NAME: Final = "journal"

_FRAME: Final = struct.Struct("<II")
_HEADER_MAX: Final = 64 << 10
_RECORD_MIN: Final = 56 + 1  # STG_JOURNAL_HEAD_BYTES and a path
_RECORDS_MAX: Final = 32 << 20
_RECORD_MAX: Final = 256 << 10  # above two texts of 64 KiB and what stands before them
_MAGIC: Final = "stager-journal-2"
_OPEN: Final = os.O_RDWR | os.O_APPEND
_READ_AT_ONCE: Final = 1 << 20
_ROWS_AT_ONCE: Final = 4096

_Header = tuple[str, str, str]  # magic, source, boot
_encoder: Final = msgspec.msgpack.Encoder()
_header_decoder: Final = msgspec.msgpack.Decoder(_Header)


class Journal:
    """The journal of this run, open for appending. Its methods block: call them from a thread."""

    def __init__(
        self, dir_fd: int, name: str, entries: Entries, order: KeyOrder, *, source: str, boot: str
    ) -> None:
        """Continue the journal when it is of the same source and boot, else begin a new one.

        A new journal takes over those records of the old one whose files stand, as ``entries`` say: they have been
        looked at in this boot. Raises `NoSpaceError`, `HostError`.
        """
        self._name = name
        self._entries = entries
        try:
            fd = open_regular(name, _OPEN | os.O_CREAT, dir_fd=dir_fd)
            with contextlib.ExitStack() as held:
                held.callback(os.close, fd)
                recorded = Entries(entries.table)
                header, end = _read_header(fd)
                if header is not None and header[:2] == (_MAGIC, source):
                    end = _recall(fd, end, Recall(recorded, order, trusted=False), go_on)
                if header == (_MAGIC, source, boot):
                    os.ftruncate(fd, end)
                    held.pop_all()
                    self._fd = fd
                    return
            write_file(dir_fd, name, _new_journal(source, boot, entries, entries.agreeing(recorded)), mode=0o600)
            self._fd = open_regular(name, _OPEN, dir_fd=dir_fd)
        except OSError as error:
            raise from_os_error(error, doing="open the journal", where=name) from error

    def append(self, rows: array[int]) -> None:
        """Record these rows of the entries; on return they survive the end of this process.

        Raises `NoSpaceError`, `HostError`.
        """
        try:
            write_all(self._fd, self._entries.journal(rows))
        except OSError as error:
            raise from_os_error(error, doing="write the journal", where=self._name) from error

    def close(self) -> None:
        """Keep the journal for a later run. Raises `NoSpaceError`, `HostError`."""
        try:
            os.close(self._fd)
        except OSError as error:
            raise from_os_error(error, doing="write the journal", where=self._name) from error


def remove_journal(dir_fd: int, name: str) -> None:
    """The manifest has everything: drop the journal, if there is one. Raises `HostError`."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="remove the journal", where=name) from error


def recall_journal(
    dir_fd: int,
    name: str,
    entries: Entries,
    order: KeyOrder,
    *,
    source: str,
    trusted_boot: str,
    checkpoint: Checkpoint = go_on,
) -> int:
    """Note in ``entries`` what an unfinished run recorded, and return how many records there were.

    Nothing when there is no journal or it is another source's. What was recorded in the boot ``trusted_boot`` (empty:
    none) is trusted. Raises `HostError` when the file is there and cannot be read.
    """
    with _open_to_read(dir_fd, name) as fd:
        header, end = _read_header(fd) if fd is not None else (None, 0)
        if fd is None or header is None or header[:2] != (_MAGIC, source):
            return 0
        recall = Recall(entries, order, trusted=bool(trusted_boot) and header[2] == trusted_boot)
        _recall(fd, end, recall, checkpoint)
        return len(recall)


class Journaled(msgspec.Struct, frozen=True, kw_only=True):
    """A journal in memory, as far as it is whole and of at most 32 Mi records. A file that was recorded twice has two
    rows, of which the later one counts.
    """

    source: str
    boot: str
    entries: Entries


def load_journal(dir_fd: int, name: str, *, checkpoint: Checkpoint = go_on) -> Journaled | None:
    """What an unfinished run of any source recorded; None when there is no journal. Blocks. Raises `HostError`."""
    with _open_to_read(dir_fd, name) as fd:
        header, end = _read_header(fd) if fd is not None else (None, 0)
        if fd is None or header is None or header[0] != _MAGIC:
            return None
        entries = Entries(KeyTable(), min(os.fstat(fd).st_size // _RECORD_MIN, _RECORDS_MAX))
        _recall(fd, end, Recall(entries, None, trusted=False), checkpoint)
        return Journaled(source=header[1], boot=header[2], entries=entries)


@contextlib.contextmanager
def _open_to_read(dir_fd: int, name: str) -> Iterator[int | None]:
    """The journal; None when there is none. `HostError`, also for what OSError is raised inside."""
    try:
        fd = open_regular(name, os.O_RDONLY, dir_fd=dir_fd)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise from_os_error(error, doing="read the journal", where=name) from error
    try:
        yield fd
    except OSError as error:
        raise from_os_error(error, doing="read the journal", where=name) from error
    finally:
        os.close(fd)


def _read_header(fd: int) -> tuple[_Header | None, int]:
    """The header and where it ends; None and 0: there is none, or it is damaged."""
    start = os.pread(fd, _FRAME.size + _HEADER_MAX, 0)
    if len(start) < _FRAME.size:
        return None, 0
    length, crc = _FRAME.unpack_from(start)
    body = start[_FRAME.size : _FRAME.size + length]
    if len(body) != length or zlib.crc32(body) != crc:
        return None, 0
    try:
        return _header_decoder.decode(body), _FRAME.size + length
    except (msgspec.MsgspecError, ValueError):
        return None, 0


def _recall(fd: int, start: int, recall: Recall, checkpoint: Checkpoint) -> int:
    """Read records from ``start``; where the last whole and right one ends. Nothing behind it is read."""
    at, rest = start, b""
    while len(rest) < _RECORD_MAX and (piece := os.pread(fd, _READ_AT_ONCE, at + len(rest))):
        checkpoint()
        data = rest + piece
        taken = recall.journal(data)
        at += taken
        rest = data[taken:]
    return at


def _new_journal(source: str, boot: str, entries: Entries, rows: array[int]) -> Iterator[bytes]:
    body = _encoder.encode((_MAGIC, source, boot))
    yield _FRAME.pack(len(body), zlib.crc32(body)) + body
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        yield entries.journal(rows[start : start + _ROWS_AT_ONCE])
