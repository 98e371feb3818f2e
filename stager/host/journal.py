"""The record of finished files of a run that has not finished: what a killed run need not fetch again.

One file, append-only. A header record, then one record per file; each is ``length, crc32`` (little-endian, 32 bits
each) and a MessagePack body. A torn or damaged tail is cut at the last whole record. Presence of a file is never
inferred from its size: who reads the journal still compares size, mtime and ctime with the disk.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from stager.errors import from_os_error
from stager.host.atomic import open_regular, write_all, write_file
from stager.manifest import Entry
from stager.names import check_path

__all__ = ["JOURNAL_NAME", "Journal", "read_journal", "remove_journal"]

JOURNAL_NAME: Final = "journal"

_FRAME: Final = struct.Struct("<II")
_MAX_RECORD: Final = 64 << 10
_MAGIC: Final = "stager-journal-1"
_OPEN: Final = os.O_RDWR | os.O_APPEND
_READ_AT_ONCE: Final = 1 << 20

Record = tuple[bytes, int, bytes, bytes, int, int, int, str]
_encoder: Final = msgspec.msgpack.Encoder()
_record_decoder: Final = msgspec.msgpack.Decoder(Record)
_header_decoder: Final = msgspec.msgpack.Decoder(tuple[str, str, str])


class Journal:
    """The journal of this run, open for appending. Its methods block: call them from a thread."""

    def __init__(
        self, dir_fd: int, name: str, *, source: str, boot: str, verified: Iterable[Entry] = ()
    ) -> None:
        """Continue the journal when it is of the same source and boot, else begin a new one.

        ``verified``: what has been hashed again in this boot. A new journal takes over those of them that the old one
        had, before it takes its place. Raises `NoSpaceError`, `HostError`.
        """
        self._name = name
        try:
            self._fd = open_regular(name, _OPEN | os.O_CREAT, dir_fd=dir_fd)
            header, recorded, end = _scan(self._fd)
            if header == (_MAGIC, source, boot):
                os.ftruncate(self._fd, end)
                return
            os.close(self._fd)
            believed = recorded if header is not None and header[:2] == (_MAGIC, source) else {}
            taken_over = [entry for entry in verified if believed.get(entry.path) == entry]
            write_file(dir_fd, name, _new_journal(source, boot, taken_over), mode=0o600)
            self._fd = open_regular(name, _OPEN, dir_fd=dir_fd)
        except OSError as error:
            raise from_os_error(error, doing="open the journal", where=name) from error

    def append(self, entries: Iterable[Entry]) -> None:
        """Record finished files; on return they survive the end of this process. Raises `NoSpaceError`, `HostError`."""
        data = b"".join(map(_framed, entries))
        try:
            write_all(self._fd, data)
        except OSError as error:
            raise from_os_error(error, doing="write the journal", where=self._name) from error

    def close(self) -> None:
        """Keep the journal for a later run."""
        os.close(self._fd)


def remove_journal(dir_fd: int, name: str) -> None:
    """The manifest has everything: drop the journal, if there is one. Raises `HostError`."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="remove the journal", where=name) from error


def read_journal(dir_fd: int, name: str, *, source: str) -> tuple[str, dict[bytes, Entry]]:
    """Boot id and finished files by path of an unfinished run; nothing when there is none or it is another source's.

    Raises `HostError` when the file is there and cannot be read.
    """
    try:
        fd = open_regular(name, os.O_RDONLY, dir_fd=dir_fd)
    except FileNotFoundError:
        return "", {}
    except OSError as error:
        raise from_os_error(error, doing="read the journal", where=name) from error
    try:
        header, entries, _ = _scan(fd)
    except OSError as error:
        raise from_os_error(error, doing="read the journal", where=name) from error
    finally:
        os.close(fd)
    if header is None or header[:2] != (_MAGIC, source):
        return "", {}
    return header[2], entries


def _scan(fd: int) -> tuple[tuple[str, str, str] | None, dict[bytes, Entry], int]:
    """Header, entries and where the last whole record ends; nothing behind it is read."""
    header: tuple[str, str, str] | None = None
    entries: dict[bytes, Entry] = {}
    position = 0
    for body in _bodies(fd):
        try:
            if header is None:
                header = _header_decoder.decode(body)
            else:
                entry = Entry(*_record_decoder.decode(body))
                check_path(entry.path)
                entries[entry.path] = entry
        except (msgspec.MsgspecError, ValueError):
            break
        position += _FRAME.size + len(body)
    return header, entries, position


def _bodies(fd: int) -> Iterator[bytes]:
    """The records' bodies up to the first that is not whole."""
    with open(fd, "rb", buffering=_READ_AT_ONCE, closefd=False) as file:
        file.seek(0)
        while len(frame := file.read(_FRAME.size)) == _FRAME.size:
            length, crc = _FRAME.unpack(frame)
            if length > _MAX_RECORD:
                return
            body = file.read(length)
            if len(body) != length or zlib.crc32(body) != crc:
                return
            yield body


def _record(entry: Entry) -> Record:
    return (
        entry.path,
        entry.size,
        entry.identity,
        entry.digest,
        entry.mtime_ns,
        entry.ctime_ns,
        entry.mode,
        entry.grade,
    )


def _new_journal(source: str, boot: str, entries: Iterable[Entry]) -> Iterator[bytes]:
    yield _frame(_encoder.encode((_MAGIC, source, boot)))
    yield b"".join(map(_framed, entries))


def _framed(entry: Entry) -> bytes:
    return _frame(_encoder.encode(_record(entry)))


def _frame(body: bytes) -> bytes:
    return _FRAME.pack(len(body), zlib.crc32(body)) + body
