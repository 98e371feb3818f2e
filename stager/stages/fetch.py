"""Move what the plan says, and keep the record of what is in place so that a killed run continues."""

from __future__ import annotations

import asyncio
import contextlib
from array import array
from collections.abc import Callable, Sequence
from typing import Final

from stager.host.journal import Journal
from stager.host.threads import blocking
from stager.manifest import Entry
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
) -> list[Entry]:
    """Fetch the rows; every finished file is in the journal on return, also when this raises.

    ``progress`` is told, on the loop, how much is in place. Raises as `stager.sources.base.Source.fetch`.
    """
    finished: list[Entry] = []
    written = 0
    moved = Counts()

    def done(entries: Sequence[Entry]) -> None:
        nonlocal moved
        finished.extend(entries)
        moved += Counts(objects=len(entries), bytes=sum(entry.size for entry in entries))
        progress(moved)

    async def flush() -> None:
        nonlocal written
        upto = len(finished)
        if upto > written:
            await blocking(journal.append, finished[written:upto])
            written = upto

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
    return finished
