"""One object that is larger than a part: parallel ranges on the block grid into one temporary of the whole size."""

from __future__ import annotations

import os
from array import array
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from io import FileIO
from typing import Final

from msgspec import Struct

from stager._native import Batch, KeyTable, Template, combine_blocks, crc_combine, publish, reserve
from stager.errors import HostError, from_os_error
from stager.host.threads import blocking
from stager.retry import damaged
from stager.sources.base import Landing
from stager.sources.s3_announced import Announced
from stager.sources.s3_mtime import ask_mtime
from stager.transfer import Lane, Work

__all__ = ["fetch_large"]

_PARTS_AT_ONCE: Final = 32
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_TRIES: Final = 2  # of an object whose bytes are not the announced ones


class _Part(Struct, frozen=True):
    length: int
    blocks: bytes
    crc: int


async def fetch_large(
    lane: Lane,
    template: Template,
    table: KeyTable,
    row: int,
    landing: Landing,
    *,
    name: str,
    asked: Awaitable[Announced | None],
) -> bool:
    """Fetch one object in parts, publish it, and note its entry; false when it alone is denied or archived.

    ``name`` is for errors. Where a CRC is announced each part's is computed and all are combined and compared; which
    part is wrong does not show, so all are fetched once more before that is final. Raises as
    `stager.sources.base.Source.fetch`; leaves no temporary behind.
    """
    temporary = b"large-%d" % row
    try:
        file = await blocking(_create, landing.tmp_fd, temporary, table.size(row))
    except OSError as error:
        raise from_os_error(error, doing="make room for the file", where=landing.root) from error
    try:
        announced = await asked
        parts = await _fetch_checked(lane, template, table, row, file.fileno(), name, announced)
        if parts is None:
            return False
        mtime_ns = await ask_mtime(lane, template, table, row, name=name) if landing.preserve else None
        await blocking(_publish, landing, temporary, file, table, row, parts, "A" if announced else "B", mtime_ns)
    except OSError as error:
        raise from_os_error(error, doing="put the file in place", where=landing.root) from error
    finally:
        with suppress(OSError):  # what it says of a file that is given up changes nothing
            file.close()
        await blocking(_remove, landing.tmp_fd, temporary)
    return True


async def _fetch_checked(
    lane: Lane, template: Template, table: KeyTable, row: int, fd: int, name: str, announced: Announced | None
) -> list[_Part] | None:
    """The parts in order, whose bytes have the CRC that was announced; None when the object is left out."""
    kind, wanted = announced or (None, 0)
    value = 0
    for _ in range(_TRIES):
        parts = await _fetch_parts(lane, template, table, row, fd, name, kind)
        if len(parts) < _count_parts(table.size(row), lane.transfer.limits.part_bytes):
            return None
        in_order = [parts[offset] for offset in sorted(parts)]
        if kind is None or (value := _combined(kind, in_order)) == wanted:
            return in_order
    raise damaged(f"{str(kind).upper()} is {value:x}, and {wanted:x} was announced", where=name)


def _combined(kind: str, parts: list[_Part]) -> int:
    value = 0
    for part in parts:
        value = crc_combine(kind, value, part.crc, part.length)
    return value


async def _fetch_parts(
    lane: Lane, template: Template, table: KeyTable, row: int, fd: int, name: str, kind: str | None
) -> dict[int, _Part]:
    """Parts by their offset; not all of them when the object was skipped."""
    engine = lane.transfer.engine
    parts: dict[int, _Part] = {}

    def landed(batch: Batch, items: Sequence[tuple[int, int]], finished: array[int]) -> None:
        for index in finished:
            offset, length = items[index]
            parts[offset] = _Part(length, batch.blocks(index), batch.crc(index) if kind else 0)

    await lane.run(
        Work(
            items=_parts(table.size(row), lane.transfer.limits.part_bytes),
            submit=lambda items: engine.fetch_ranges(template, table, row, items, fd, kind),
            landed=landed,
            name=lambda _: name,
            batch_items=_PARTS_AT_ONCE,
            window=_PARTS_AT_ONCE,
            one_object=True,
        )
    )
    return parts


def _parts(size: int, part_bytes: int) -> list[tuple[int, int]]:
    return [(offset, min(part_bytes, size - offset)) for offset in range(0, size, part_bytes)]


def _count_parts(size: int, part_bytes: int) -> int:
    return -(-size // part_bytes)


def _create(tmp_fd: int, temporary: bytes, size: int) -> FileIO:
    file = FileIO(os.open(temporary, _CREATE, 0o666, dir_fd=tmp_fd), "r+")
    try:
        reserve(file.fileno(), size)
    except BaseException:
        with suppress(OSError):
            file.close()
        os.unlink(temporary, dir_fd=tmp_fd)
        raise
    return file


def _publish(
    landing: Landing,
    temporary: bytes,
    file: FileIO,
    table: KeyTable,
    row: int,
    parts: list[_Part],
    grade: str,
    set_mtime_ns: int | None,
) -> None:
    key, size = table.key(row), table.size(row)
    status = os.fstat(file.fileno())
    file.close()  # before it is visible: over a network this may be what says that bytes were not written
    if status.st_size != size:
        raise HostError("the file is not as long as the object; something else wrote to it", where=landing.root)
    digest = combine_blocks(b"".join(part.blocks for part in parts))
    mtime_ns, ctime_ns = publish(landing.tmp_fd, temporary, landing.root_fd, key, mtime_ns=set_mtime_ns)
    landing.entries.put(row, digest, mtime_ns, ctime_ns, status.st_mode & 0o7777, grade)


def _remove(tmp_fd: int, temporary: bytes) -> None:
    try:
        os.unlink(temporary, dir_fd=tmp_fd)
    except FileNotFoundError:
        return
