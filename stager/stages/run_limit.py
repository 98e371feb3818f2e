"""The end of a command whose time is over: SIGTERM to all of its processes, and after a grace SIGKILL."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from stager.time_limits import Deadline

__all__ = ["Enforced", "enforced"]


class Enforced:
    """``reached``: whether the time was over before the command had ended."""

    def __init__(self) -> None:
        self.reached = False


@asynccontextmanager
async def enforced(deadline: Deadline | None, send: Callable[[int], None]) -> AsyncIterator[Enforced]:
    """While the command runs. ``send`` gets a signal's number below zero: for every process of it
    (`stager.host.watch.forward`).
    """
    state = Enforced()
    if deadline is None:
        yield state
        return
    ending = asyncio.ensure_future(_end(deadline, send, state))
    try:
        yield state
    finally:
        ending.cancel()
        with suppress(asyncio.CancelledError):
            await ending


async def _end(deadline: Deadline, send: Callable[[int], None], state: Enforced) -> None:
    await asyncio.sleep(max(0.0, deadline.at_s - time.time()))
    state.reached = True
    send(-signal.SIGTERM)
    await asyncio.sleep(deadline.grace_s)
    send(-signal.SIGKILL)
