"""How far the staging of a job is, written beside its record every two seconds, for `stager status`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from stager.errors import StagerError
from stager.events import Event, Finished, Planned, Progress, Sink
from stager.host.atomic import write_file
from stager.host.record import JobDirectory
from stager.model import Counts
from stager.names import lossless

__all__ = ["PROGRESS", "Noted", "StagingProgress", "noting_progress"]

PROGRESS: Final = "progress.json"
"""In a job's directory."""

_EVERY_S: Final = 2.0


class Noted(Struct, frozen=True, kw_only=True):
    """One source: what moves, and how much of it is there. ``received_bytes`` counts what is in flight too."""

    source: str
    destination: str = ""  # in the view
    move: Counts = Counts()
    done: Counts = Counts()
    received_bytes: int = 0
    finished: bool = False


class StagingProgress(Struct, frozen=True, kw_only=True):
    """All of them, at one time."""

    time_s: float
    sources: tuple[Noted, ...]
    schema: int = 1


@asynccontextmanager
async def noting_progress(job: JobDirectory, sink: Sink) -> AsyncIterator[Sink]:
    """A sink that notes what passes through it, as long as the block is entered. What cannot be written is no matter:
    a full disk is told by what fills it.
    """
    noted: dict[str, Noted] = {}

    def note(event: Event) -> None:
        if isinstance(event, Planned | Progress | Finished):
            noted[event.source] = _after(noted.get(event.source, Noted(source=event.source)), event)
        sink(event)

    writing = asyncio.create_task(_write_again_and_again(job, noted))
    try:
        yield note
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def _after(before: Noted, event: Planned | Progress | Finished) -> Noted:
    if isinstance(event, Planned):
        return replace(before, destination=event.destination, move=event.move)
    if isinstance(event, Progress):
        return replace(before, move=event.move, done=event.done, received_bytes=event.received_bytes)
    return replace(before, destination=event.receipt.destination, done=before.move, finished=True)


async def _write_again_and_again(job: JobDirectory, noted: dict[str, Noted]) -> None:
    written: tuple[Noted, ...] = ()
    while True:
        await asyncio.sleep(_EVERY_S)
        if (now := tuple(noted.values())) != written:
            await asyncio.shield(asyncio.to_thread(_write, job, now))
            written = now


def _write(job: JobDirectory, sources: tuple[Noted, ...]) -> None:
    told = lossless(msgspec.to_builtins(StagingProgress(time_s=time.time(), sources=sources)))
    with suppress(StagerError, OSError):
        write_file(job.fd, PROGRESS, [msgspec.json.encode(told), b"\n"], mode=0o600)
