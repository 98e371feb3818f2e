"""One object that is larger than a part: parallel ranges on the block grid into one file of the whole size.

The file and a record of its blocks stay when a run ends before it is complete: the next one continues inside the
object (`stager.host.partial`).
"""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct

from stager._native import BLOCK_BYTES, Batch, KeyTable, Template, combine_blocks, crc_combine
from stager.errors import from_os_error
from stager.host.partial import Block, Partial
from stager.host.threads import blocking, stoppable
from stager.retry import damaged
from stager.sources.base import Landing
from stager.sources.s3_announced import Announced
from stager.sources.s3_mtime import ask_mtime
from stager.transfer import Lane, Work

__all__ = ["fetch_large"]

_PARTS_AT_ONCE: Final = 32
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

    ``name`` is for errors. Blocks that an earlier run fetched are read again instead. Where a CRC is announced each
    part's is computed and all are combined and compared; which part is wrong does not show, so all are fetched once
    more before that is final. Raises as `stager.sources.base.Source.fetch`; what can be continued stays in
    ``landing.partials``.
    """
    try:
        partial = await blocking(landing.partials.open, table.key(row), table.size(row), table.identity(row))
    except OSError as error:
        raise from_os_error(error, doing="make room for the file", where=landing.root) from error
    try:
        large = _Large(lane, template, table, row, partial, name)
        announced = await asked
        parts = await large.fetch_checked(announced)
        landing.partials.continued_bytes += large.continued_bytes
        if parts is None:
            return False
        mtime_ns = await ask_mtime(lane, template, table, row, name=name) if landing.preserve else None
        await blocking(_publish, landing, partial, table, row, parts, "A" if announced else "B", mtime_ns)
    except OSError as error:
        raise from_os_error(error, doing="put the file in place", where=landing.root) from error
    finally:
        await blocking(partial.close)
    return True


class _Large:
    """One object under way."""

    def __init__(
        self, lane: Lane, template: Template, table: KeyTable, row: int, partial: Partial, name: str
    ) -> None:
        self._lane = lane
        self._template = template
        self._table = table
        self._row = row
        self._partial = partial
        self._name = name
        self._size = table.size(row)
        self._parts: dict[int, _Part] = {}  # by offset
        self.continued_bytes = 0

    async def fetch_checked(self, announced: Announced | None) -> list[_Part] | None:
        """The parts in order, whose bytes have the CRC that was announced; None when the object is left out."""
        kind, wanted = announced or (None, 0)
        value = 0
        if not await self._continue(kind):
            return None
        for _ in range(_TRIES):
            if not await self._fetch(_missing(self._size, self._part_bytes, self._present()), kind):
                return None
            in_order = [self._parts[offset] for offset in sorted(self._parts)]
            if kind is None or (value := _combined(kind, in_order)) == wanted:
                return in_order
            self._parts.clear()
            self.continued_bytes = 0
            await blocking(self._partial.forget)
        raise damaged(f"{str(kind).upper()} is {value:x}, and {wanted:x} was announced", where=self._name)

    @property
    def _part_bytes(self) -> int:
        return self._lane.transfer.limits.part_bytes

    def _present(self) -> set[int]:
        return {
            number
            for offset, part in self._parts.items()
            for number in range(offset // BLOCK_BYTES, -(-(offset + part.length) // BLOCK_BYTES))
        }

    async def _continue(self, kind: str | None) -> bool:
        """Read again what an earlier run recorded while the rest is fetched; false when the object is left out."""
        if not self._partial.recorded:
            return True
        reading = asyncio.create_task(stoppable(self._partial.recall, kind))
        try:
            if not await self._fetch(_missing(self._size, self._part_bytes, self._partial.recorded), kind):
                return False
            self._take_recalled(await reading)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return True

    def _take_recalled(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            offset = block.number * BLOCK_BYTES
            part = _Part(min(BLOCK_BYTES, self._size - offset), block.digest, block.crc)
            self._parts[offset] = part
            self.continued_bytes += part.length

    async def _fetch(self, ranges: list[tuple[int, int]], kind: str | None) -> bool:
        """Fetch these; false when the object was skipped."""
        lane, engine = self._lane, self._lane.transfer.engine
        arrived = 0

        def landed(batch: Batch, items: Sequence[tuple[int, int]], finished: array[int]) -> None:
            nonlocal arrived
            arrived += len(finished)
            for index in finished:
                offset, length = items[index]
                part = _Part(length, batch.blocks(index), batch.crc(index) if kind else 0)
                self._parts[offset] = part
                self._partial.note(offset // BLOCK_BYTES, part.blocks)
            noted()

        async with _recording(self._partial) as noted:
            await lane.run(
                Work(
                    items=ranges,
                    submit=lambda items: engine.fetch_ranges(
                        self._template, self._table, self._row, items, self._partial.fd, kind
                    ),
                    landed=landed,
                    name=lambda _: self._name,
                    batch_items=_PARTS_AT_ONCE,
                    window=_PARTS_AT_ONCE,
                    one_object=True,
                )
            )
        return arrived == len(ranges)


@contextlib.asynccontextmanager
async def _recording(partial: Partial) -> AsyncGenerator[Callable[[], None], None]:
    """Gives what to call after `Partial.note`; what was noted is recorded soon after, and all of it in the end.

    A record that cannot be written costs only that its blocks are fetched again, so that ends nothing.
    """
    changed = asyncio.Event()

    async def append() -> None:
        with contextlib.suppress(OSError):
            await blocking(partial.append, partial.take_notes())

    async def keep() -> None:
        while True:
            await changed.wait()
            changed.clear()
            await append()

    keeper = asyncio.create_task(keep())
    try:
        yield changed.set
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await append()


def _combined(kind: str, parts: list[_Part]) -> int:
    value = 0
    for part in parts:
        value = crc_combine(kind, value, part.crc, part.length)
    return value


def _missing(size: int, part_bytes: int, present: Iterable[int]) -> list[tuple[int, int]]:
    """Ranges of at most ``part_bytes`` (offset, length) over all blocks but those present."""
    present = frozenset(present)
    ranges: list[tuple[int, int]] = []
    for offset in range(0, size, BLOCK_BYTES):
        if offset // BLOCK_BYTES in present:
            continue
        length = min(BLOCK_BYTES, size - offset)
        if ranges and sum(ranges[-1]) == offset and ranges[-1][1] < part_bytes:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
        else:
            ranges.append((offset, length))
    return ranges


def _publish(
    landing: Landing,
    partial: Partial,
    table: KeyTable,
    row: int,
    parts: list[_Part],
    grade: str,
    set_mtime_ns: int | None,
) -> None:
    digest = combine_blocks(b"".join(part.blocks for part in parts))
    mode, mtime_ns, ctime_ns = partial.publish(landing.root_fd, table.key(row), set_mtime_ns)
    landing.entries.put(row, digest, mtime_ns, ctime_ns, mode, grade)
