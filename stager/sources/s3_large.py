"""One object that is larger than a part: parallel ranges on the block grid into one preallocated temporary."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from typing import Final

from stager._native import Batch, KeyTable, Template, combine_blocks, publish
from stager.errors import HostError, from_os_error
from stager.host.atomic import preallocate
from stager.host.threads import blocking
from stager.manifest import Entry
from stager.sources.base import Landing
from stager.transfer import Lane, Work

__all__ = ["fetch_large"]

_PARTS_AT_ONCE: Final = 32
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


async def fetch_large(
    lane: Lane, template: Template, table: KeyTable, row: int, landing: Landing, *, name: str, grade: str
) -> Entry | None:
    """Fetch one object in parts, publish it, and return its entry; None when it alone is denied or archived.

    ``name`` is for errors. Raises as `stager.sources.base.Source.fetch`; leaves no temporary behind.
    """
    temporary = b"large-%d" % row
    try:
        fd = await blocking(_create, landing.tmp_fd, temporary, table.size(row))
    except OSError as error:
        raise from_os_error(error, doing="make room for the file", where=landing.root) from error
    try:
        blocks = await _fetch_parts(lane, template, table, row, fd, name)
        if len(blocks) < _count_parts(table.size(row), lane.transfer.limits.part_bytes):
            return None
        return await blocking(_publish, landing, temporary, fd, table, row, blocks, grade)
    except OSError as error:
        raise from_os_error(error, doing="put the file in place", where=landing.root) from error
    finally:
        os.close(fd)
        await blocking(_remove, landing.tmp_fd, temporary)


async def _fetch_parts(
    lane: Lane, template: Template, table: KeyTable, row: int, fd: int, name: str
) -> dict[int, bytes]:
    engine = lane.transfer.engine
    blocks: dict[int, bytes] = {}

    def landed(batch: Batch, items: list[tuple[int, int]], finished: array[int]) -> None:
        for index in finished:
            blocks[items[index][0]] = batch.blocks(index)

    await lane.run(
        Work(
            items=_parts(table.size(row), lane.transfer.limits.part_bytes),
            submit=lambda parts: engine.fetch_ranges(template, table, row, parts, fd),
            landed=landed,
            name=lambda _: name,
            batch_items=_PARTS_AT_ONCE,
            window=_PARTS_AT_ONCE,
            one_object=True,
        )
    )
    return blocks


def _parts(size: int, part_bytes: int) -> Iterator[tuple[int, int]]:
    return ((offset, min(part_bytes, size - offset)) for offset in range(0, size, part_bytes))


def _count_parts(size: int, part_bytes: int) -> int:
    return -(-size // part_bytes)


def _create(tmp_fd: int, temporary: bytes, size: int) -> int:
    fd = os.open(temporary, _CREATE, 0o666, dir_fd=tmp_fd)
    try:
        preallocate(fd, size)
    except BaseException:
        os.close(fd)
        os.unlink(temporary, dir_fd=tmp_fd)
        raise
    return fd


def _publish(
    landing: Landing, temporary: bytes, fd: int, table: KeyTable, row: int, blocks: dict[int, bytes], grade: str
) -> Entry:
    key, size = table.key(row), table.size(row)
    status = os.fstat(fd)
    if status.st_size != size:
        raise HostError("the file is not as long as the object; something else wrote to it", where=landing.root)
    digest = combine_blocks(b"".join(blocks[offset] for offset in sorted(blocks)))
    mtime_ns, ctime_ns = publish(landing.tmp_fd, temporary, landing.root_fd, key)
    return Entry(key, size, table.identity(row), digest, mtime_ns, ctime_ns, status.st_mode & 0o7777, grade)


def _remove(tmp_fd: int, temporary: bytes) -> None:
    try:
        os.unlink(temporary, dir_fd=tmp_fd)
    except FileNotFoundError:
        return
