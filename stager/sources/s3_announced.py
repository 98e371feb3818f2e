"""What a server tells of an object that is fetched in parts, asked with a HEAD: its digest, and when it was changed.

An answer to a range announces nothing of the whole object that could be relied on: S3 sends a checksum with it only
where the range is a stored part, others send the whole object's with any range. So one HEAD is due per object. It comes
before the parts, for what is to be computed must be known while their bytes are in cache; to begin with the parts and
read the first of them back costs a pass over as many parts as there are connections. Asked one object ahead, it is
waited for once, and then for no longer than what is left of the round trip when the file has been made.

The same answer tells the time of change, for ``--preserve``: rclone and s3fs keep a file's own in the metadata
``mtime``, in seconds with or without a fraction; else it is the object's LastModified, as its listing has it.

A digest of stored parts needs to know where they end: a HEAD of a part tells its length and how many there are. The
first one alone is asked where all may be as long as it is, and the others when that turns out to be wrong.
Source: Amazon S3 API reference, HeadObject (partNumber, x-amz-mp-parts-count, x-amz-meta-); rclone's documentation,
"S3: Modification times".
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from stager._native import Batch, KeyTable, Template
from stager.sources.s3_head import ask_head
from stager.transfer import Lane, Work

__all__ = ["NOTHING", "Announced", "Told", "all_ends", "ask_all_ends", "ask_told", "asked_ahead"]

_Part = tuple[int, int, int]  # offset, length and count of a stored part; -1: not told


class Announced(Struct, frozen=True, kw_only=True):
    """A digest of an object: ``kind`` and ``value`` as of `stager._native.Batch.announced`; kind "" is none, for the
    reason ``why`` (a key of `stager.model.UNVERIFIED`).

    ``parts``: 0, or of how many stored parts' digests it is the digest. They end at ``ends``, which ``told`` says
    whether the server told or the first part's length suggests.
    """

    kind: str = ""
    value: bytes = b""
    parts: int = 0
    why: str = "no-checksum"
    ends: tuple[int, ...] = ()
    told: bool = True


NOTHING: Final = Announced()


class Told(Struct, frozen=True, kw_only=True):
    """What one HEAD told. ``mtime_ns``: the time of change, in ns since 1970; None when nothing says one."""

    announced: Announced = NOTHING
    mtime_ns: int | None = None


async def ask_told(
    lane: Lane, template: Template, table: KeyTable, row: int, *, name: str, compares: bool = True
) -> Told:
    """What the server tells of one object as it is pinned; ``compares``: its digest is of use.

    A refusal is nothing, too: an answer without a body does not say why, the object's parts will. Raises
    `TransientError` and `IntegrityError` for what is no answer at all.
    """
    told = await ask_head(lane, template, table, row, _read, name=name)
    if told is None:
        return Told(mtime_ns=table.mtime_ns(row) or None)
    if not compares:
        return Told(mtime_ns=told.mtime_ns)
    if not told.announced.parts:
        return told
    return replace(told, announced=await _with_ends(lane, template, table, row, told.announced, name))


def _read(batch: Batch, index: int) -> Told:
    kind, value, parts, why = batch.announced(index)
    announced = Announced(kind=kind, value=value, parts=parts, why=why)
    return Told(announced=announced, mtime_ns=batch.mtime_ns(index))


async def _with_ends(
    lane: Lane, template: Template, table: KeyTable, row: int, announced: Announced, name: str
) -> Announced:
    """Where its parts end, if they may all be as long as the first; else as `ask_all_ends`."""
    size, count = table.size(row), announced.parts
    if count == 1:
        return replace(announced, ends=(size,))
    first = (await _ask_parts(lane, template, table, row, [1], name)).get(1, (-1, -1, -1))
    length = first[1]
    if not _is_told(first, count) or first[0] > 0 or not 0 < length < size:
        return Announced(why="parts-unknown")
    if (count - 1) * length < size <= count * length:
        ends = (*range(length, size, length), size)
        return replace(announced, ends=ends, told=count == 2)
    return await ask_all_ends(lane, template, table, row, announced, name=name)


async def ask_all_ends(
    lane: Lane, template: Template, table: KeyTable, row: int, announced: Announced, *, name: str
) -> Announced:
    """The same digest with the ends of its parts as the server tells them; nothing, when they contradict each other."""
    numbers = range(1, announced.parts + 1)
    told = await _ask_parts(lane, template, table, row, numbers, name)
    ends = all_ends([told.get(number, (-1, -1, -1)) for number in numbers], table.size(row))
    return replace(announced, ends=ends, told=True) if ends else Announced(why="parts-unknown")


def all_ends(parts: Sequence[_Part], size: int) -> tuple[int, ...]:
    """Where stored parts end; () unless each has a length, fits its neighbours and all of them are the object."""
    ends: list[int] = []
    at = 0
    for part in parts:
        offset, length, _ = part
        if not _is_told(part, len(parts)) or offset not in (-1, at) or length <= 0:
            return ()
        at += length
        ends.append(at)
    return tuple(ends) if at == size else ()


def _is_told(part: _Part, count: int) -> bool:
    return part[2] == count and part[1] >= 0


async def _ask_parts(
    lane: Lane, template: Template, table: KeyTable, row: int, numbers: Sequence[int], name: str
) -> dict[int, _Part]:
    """What is told of each stored part."""
    told: dict[int, _Part] = {}

    def landed(batch: Batch, items: Sequence[int], finished: array[int]) -> None:
        told.update((items[index], batch.part(index)) for index in finished)

    await lane.run(
        Work(
            items=numbers,
            submit=lambda items: lane.transfer.engine.fetch_parts(template, table, [row] * len(items), items),
            landed=landed,
            name=lambda _: name,
            one_object=True,
        )
    )
    return told


async def asked_ahead(
    rows: Iterable[int], ask: Callable[[int], Coroutine[Any, Any, Told]]
) -> AsyncGenerator[tuple[int, asyncio.Task[Told]], None]:
    """Each row with the answer to it under way, and the next one's too. Close it: that ends what was not awaited."""
    asked: deque[tuple[int, asyncio.Task[Told]]] = deque()
    try:
        for row in rows:
            asked.append((row, asyncio.create_task(ask(row))))
            if len(asked) > 1:
                yield asked[0]
                asked.popleft()
        while asked:
            yield asked[0]
            asked.popleft()
    finally:
        for _, task in asked:
            task.cancel()
        await asyncio.gather(*(task for _, task in asked), return_exceptions=True)
