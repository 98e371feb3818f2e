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

from stager._native import BLOCK_BYTES, Batch, KeyTable, Template, combine_blocks
from stager.errors import from_os_error
from stager.host.partial import Block, Partial
from stager.host.threads import blocking, stoppable
from stager.model import UNVERIFIED
from stager.retry import damaged, too_low
from stager.sources.base import Landing
from stager.sources.s3_announced import NOTHING, Announced, Told, ask_all_ends
from stager.sources.s3_verify import Verifier, is_available
from stager.transfer import Lane, Work

__all__ = ["fetch_large"]

_PARTS_AT_ONCE: Final = 32
_TRIES: Final = 2  # of an object whose bytes are not the announced ones


class _Part(Struct, frozen=True):
    length: int
    blocks: bytes


async def fetch_large(
    lane: Lane,
    template: Template,
    table: KeyTable,
    row: int,
    landing: Landing,
    *,
    name: str,
    asked: Awaitable[Told],
    required: str | None = None,
) -> bool:
    """Fetch one object in parts, publish it, and note its entry; false when it alone is denied or archived, or cannot
    reach the ``required`` grade.

    ``name`` is for errors. Blocks that an earlier run fetched are read again instead. The digest that is announced is
    compared; which part is wrong does not show, so all are fetched once more before that is final. Raises as
    `stager.sources.base.Source.fetch`; what can be continued stays in ``landing.partials``.
    """
    partial = landing.partials.of(table.key(row), table.size(row), table.identity(row))
    try:
        await blocking(_open, partial, landing)
        large = _Large(lane, template, table, row, partial, name)
        told = await asked
        announced = told.announced if is_available(told.announced) else NOTHING
        fetched = await large.fetch_checked(announced, required)
        landing.tally.continued_bytes += large.continued_bytes
        landing.tally.read_back_bytes += large.read_back_bytes
        if fetched is None:
            return False
        mtime_ns = told.mtime_ns if landing.preserve else None
        await blocking(_publish, landing, partial, table, row, *fetched, mtime_ns)
    except OSError as error:
        raise from_os_error(error, doing="put the file in place", where=landing.root) from error
    finally:
        await blocking(partial.close)
    return True


def _open(partial: Partial, landing: Landing) -> None:
    try:
        partial.open()
    except OSError as error:
        raise from_os_error(error, doing="make room for the file", where=landing.root) from error


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
        self._may_continue = bool(partial.recorded)
        self.continued_bytes = 0
        self.read_back_bytes = 0

    async def fetch_checked(
        self, announced: Announced, required: str | None
    ) -> tuple[list[_Part], Announced] | None:
        """The parts in order and the digest that their bytes have; None when the object is left out."""
        difference = ""
        for _ in range(_TRIES):
            if not announced.kind and required == "A":
                self._lane.skip(too_low(UNVERIFIED[announced.why], where=self._name))
                return None
            async with self._verifier(announced) as verifier:
                if not await self._continue(verifier):
                    return None
                if not await self._fetch(_missing(self._size, self._part_bytes, self._present()), verifier):
                    return None
                difference = await verifier.difference()
            if difference and not announced.told:
                announced, difference = await self._compare_as_told(announced)
            if not difference and (announced.kind or required != "A"):
                return [self._parts[offset] for offset in sorted(self._parts)], announced
            if difference:
                self._parts.clear()
                self.continued_bytes = 0
                await blocking(self._partial.forget)
        raise damaged(difference, where=self._name)

    @contextlib.asynccontextmanager
    async def _verifier(self, announced: Announced) -> AsyncGenerator[Verifier, None]:
        async with Verifier(announced, size=self._size, fd=self._partial.fd) as verifier:
            yield verifier
            self.read_back_bytes += verifier.read_back_bytes

    async def _compare_as_told(self, guessed: Announced) -> tuple[Announced, str]:
        """The same digest with the ends of the parts as the server tells them, and what is different from it."""
        announced = await ask_all_ends(
            self._lane, self._template, self._table, self._row, guessed, name=self._name
        )
        async with self._verifier(announced) as verifier:
            verifier.part_done(0, self._size)
            return announced, await verifier.difference()

    @property
    def _part_bytes(self) -> int:
        return self._lane.transfer.limits.part_bytes

    def _present(self) -> set[int]:
        return {
            number
            for offset, part in self._parts.items()
            for number in range(offset // BLOCK_BYTES, -(-(offset + part.length) // BLOCK_BYTES))
        }

    async def _continue(self, verifier: Verifier) -> bool:
        """Once: read again what an earlier run recorded while the rest is fetched; false: the object is left out."""
        if not self._may_continue:
            return True
        self._may_continue = False
        reading = asyncio.create_task(stoppable(self._partial.recall, verifier.crc))
        try:
            if not await self._fetch(_missing(self._size, self._part_bytes, self._partial.recorded), verifier):
                return False
            self._take_recalled(await reading, verifier)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        return True

    def _take_recalled(self, blocks: Iterable[Block], verifier: Verifier) -> None:
        for block in blocks:
            offset = block.number * BLOCK_BYTES
            part = _Part(min(BLOCK_BYTES, self._size - offset), block.digest)
            self._parts[offset] = part
            verifier.part_done(offset, part.length, block.crc)
            self.continued_bytes += part.length

    async def _fetch(self, ranges: list[tuple[int, int]], verifier: Verifier) -> bool:
        """Fetch these; false when the object was skipped."""
        lane, engine = self._lane, self._lane.transfer.engine
        arrived = 0

        def landed(batch: Batch, items: Sequence[tuple[int, int]], finished: array[int]) -> None:
            nonlocal arrived
            arrived += len(finished)
            for index in finished:
                offset, length = items[index]
                part = _Part(length, batch.blocks(index))
                self._parts[offset] = part
                verifier.part_done(offset, length, batch.crc(index) if verifier.crc else 0)
                self._partial.note(offset // BLOCK_BYTES, part.blocks)
            noted()

        async with _recording(self._partial) as noted:
            await lane.run(
                Work(
                    items=ranges,
                    submit=lambda items: engine.fetch_ranges(
                        self._template, self._table, self._row, items, self._partial.fd, verifier.crc
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
    announced: Announced,
    set_mtime_ns: int | None,
) -> None:
    digest = combine_blocks(b"".join(part.blocks for part in parts))
    mode, mtime_ns, ctime_ns = partial.publish(landing.root_fd, table.key(row), set_mtime_ns)
    grade, why = ("A", None) if announced.kind else ("B", announced.why)
    landing.entries.put(row, digest, mtime_ns, ctime_ns, mode, grade, why)
