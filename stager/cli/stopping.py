"""Work in a thread that a signal asks to stop, instead of leaving it behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

__all__ = ["stoppable"]

T = TypeVar("T")


async def stoppable(work: Callable[[Callable[[], bool]], T]) -> T:
    """Run ``work(stopped)`` in a thread; when cancelled, ``stopped()`` turns true and the thread's end is waited for.

    What it had finished by then is finished: its result is returned all the same.
    """
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop.is_set))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        with suppress(Exception):
            result = await running
            if (me := asyncio.current_task()) is not None:
                me.uncancel()
            return result
        raise
