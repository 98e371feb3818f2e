"""Move what the plan says, and keep the record of what is in place so that a killed run continues."""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections.abc import Callable
from typing import Final

from stager.host.journal import Journal
from stager.host.threads import blocking
from stager.model import Counts
from stager.sources.base import Landing, Snapshot, Source

__all__ = ["fetch"]

_FLUSH_EVERY_S: Final = 0.2


async def fetch(
    source: Source,
    snapshot: Snapshot,
    rows: array[int],
    landing: Landing,
    journal: Journal,
    progress: Callable[[Counts], None],
) -> None:
    """Fetch the rows; on return, also when this raises, every finished file is in ``landing.entries`` and the journal.

    ``progress`` is told, on the loop, how much is in place. Raises as `stager.sources.base.Source.fetch`.
    """
    finished = array("I")  # and not in the journal yet
    moved = Counts()

    def done(landed: array[int]) -> None:
        nonlocal moved
        finished.extend(landed)
        moved += Counts(objects=len(landed), bytes=snapshot.table.sum_sizes(landed))
        progress(moved)

    async def flush() -> None:
        nonlocal finished
        if finished:
            landed, finished = finished, array("I")
            await blocking(journal.append, landed)

    async def keep_journal() -> None:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _FLUSH_EVERY_S)
            await flush()

    ended = asyncio.Event()
    work = asyncio.create_task(source.fetch(snapshot, rows, landing, done))
    keeper = asyncio.create_task(keep_journal())
    try:
        await asyncio.wait({work, keeper}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        ended.set()
        await keeper
    await work
