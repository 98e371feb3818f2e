"""The names of a plan, told one by one without holding up the loop."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterable
from typing import Final

from stager._native import KeyTable
from stager.events import Named, Sink
from stager.host.removal import Found

__all__ = ["tell_deleted", "tell_fetched"]

_NAMES_A_TURN: Final = 1000


async def tell_fetched(sink: Sink, source: str, table: KeyTable, rows: array[int]) -> None:
    """Tell of each row that it would be fetched."""
    for start in range(0, len(rows), _NAMES_A_TURN):
        await asyncio.sleep(0)
        for row in rows[start : start + _NAMES_A_TURN]:
            sink(Named(source=source, action="fetch", path=table.key(row), bytes=table.size(row)))


async def tell_deleted(sink: Sink, source: str, files: Iterable[Found]) -> None:
    """Tell of each file that it went, or would go."""
    for number, found in enumerate(files):
        if number % _NAMES_A_TURN == 0:
            await asyncio.sleep(0)
        sink(Named(source=source, action="delete", path=found.path, bytes=found.size))
