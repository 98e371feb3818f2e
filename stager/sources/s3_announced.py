"""What checksum a server announces of an object that is fetched in parts, asked with a HEAD.

An answer to a range announces nothing of the whole object that could be relied on: S3 sends a checksum with it only
where the range is a stored part, others send the whole object's with any range. So one HEAD is due per object. It comes
before the parts, for what is to be computed must be known while their bytes are in cache; to begin with the parts and
read the first of them back costs a pass over as many parts as there are connections. Asked one object ahead, it is
waited for once, and then for no longer than what is left of the round trip when the file has been made.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from typing import Any

from stager._native import Batch, KeyTable, Template
from stager.transfer import Lane, Work

__all__ = ["Announced", "ask_announced", "asked_ahead"]

Announced = tuple[str, int]
"""Kind ("crc32", "crc32c", "crc64nvme") and value of the CRC of a whole object."""


async def ask_announced(lane: Lane, template: Template, table: KeyTable, row: int, *, name: str) -> Announced | None:
    """The CRC that the server announces of one object as it is pinned; None when there is none.

    A refusal is none, too: an answer without a body does not say why, the object's parts will. Raises
    `TransientError` and `IntegrityError` for what is no answer at all.
    """
    answers: list[Announced | None] = []

    def landed(batch: Batch, _rows: Sequence[int], finished: array[int]) -> None:
        answers.extend(batch.announced(index) for index in finished)

    await lane.run(
        Work(
            items=[row],
            submit=lambda rows: lane.transfer.engine.fetch_heads(template, table, rows),
            landed=landed,
            name=lambda _: name,
        )
    )
    return answers[0]


async def asked_ahead(
    rows: Iterable[int], ask: Callable[[int], Coroutine[Any, Any, Announced | None]]
) -> AsyncGenerator[tuple[int, asyncio.Task[Announced | None]], None]:
    """Each row with the answer to it under way, and the next one's too. Close it: that ends what was not awaited."""
    asked: deque[tuple[int, asyncio.Task[Announced | None]]] = deque()
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
