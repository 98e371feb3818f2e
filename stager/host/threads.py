"""The bounded bridge from the loop to threads, for work in pieces that releases the GIL; and several tasks as one."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Concatenate, ParamSpec, TypeVar

__all__ = ["Checkpoint", "blocking", "go_on", "in_threads", "stoppable", "together", "until_stopped"]

Arguments = ParamSpec("Arguments")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

Checkpoint = Callable[[], None]
"""Called by work in a thread between two steps, none much longer than a tenth of a second; ends it by raising."""


def go_on() -> None:
    """The checkpoint of work that nobody stops."""


class _StoppedError(Exception):
    """Work in a thread ends because who waits for it was cancelled. Never leaves this module."""


async def blocking(
    work: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """The result of ``work(...)``, called in a thread.

    Cancel policy: a call cannot be interrupted, so a cancellation waits for its end before it goes on; nothing touches
    the caller's descriptors afterwards.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
    await _outlast_cancellation(task)
    return task.result()


async def stoppable(
    work: Callable[Concatenate[Checkpoint, Arguments], Result], *arguments: Arguments.args, **named: Arguments.kwargs
) -> Result:
    """The result of ``work(checkpoint, ...)``, called in a thread.

    Cancel policy: a cancellation ends the work at its next checkpoint and waits for that.
    """
    stop = threading.Event()

    def checkpoint() -> None:
        if stop.is_set():
            raise _StoppedError

    task = asyncio.ensure_future(asyncio.to_thread(work, checkpoint, *arguments, **named))
    await _outlast_cancellation(task, stop.set)
    return task.result()


async def until_stopped(work: Callable[[], Result], stop: Callable[[], None]) -> Result:
    """The result of ``work()``, called in a thread.

    Cancel policy: a cancellation calls ``stop``, by which the work ends soon, and waits for that.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    await _outlast_cancellation(task, stop)
    return task.result()


async def in_threads(
    work: Callable[[Piece], Result], pieces: Iterable[Piece], *, threads: int = 0
) -> AsyncGenerator[Result, None]:
    """Results of ``work(piece)`` as they finish, in any order. Use it inside `contextlib.aclosing`.

    At most ``threads`` (0: the usable cores, at most 4) pieces run and as many wait. Cancel policy: a piece that runs
    cannot be interrupted, so leaving early (an error, a cancellation) starts no more, waits for those that run, and
    only then returns; nothing touches the caller's descriptors afterwards.
    """
    count = threads or min(4, len(os.sched_getaffinity(0)))
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(count, thread_name_prefix="stager")
    waiting = iter(pieces)
    running: set[asyncio.Future[Result]] = set()
    try:
        while True:
            for piece in islice(waiting, 2 * count - len(running)):
                running.add(loop.run_in_executor(pool, work, piece))
            if not running:
                return
            finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    finally:
        for future in running:
            future.cancel()
        ended = loop.create_task(asyncio.to_thread(pool.shutdown, cancel_futures=True))
        await _outlast_cancellation(ended)
        await asyncio.gather(*running, return_exceptions=True)


async def together(*work: Coroutine[Any, Any, None]) -> None:
    """Do all at once; the first error cancels the rest, waits for it, and is raised alone."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _outlast_cancellation(task: asyncio.Future[Any], stop: Callable[[], None] = go_on) -> None:
    """Wait for the end of ``task``, however it ends; then go on with a cancellation that came meanwhile.

    ``stop`` is called at once when one comes.
    """
    cancelled = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
            stop()
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen: the cancellation is what is raised
        raise cancelled
