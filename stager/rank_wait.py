"""Rank 0 of a launch waits for the others before the view that all are in ends."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Final

from stager.host.ranks import Presence, rank_presence
from stager.time_limits import Deadline

__all__ = ["wait_for_ranks"]

_LOOK_S: Final = 0.05
_COME_WITHIN_S: Final = 60.0
"""After the end of rank 0's own command: all are started at the same time, and what is staged is there at once."""

_ENDS_WITHIN_S: Final = 10.0


async def wait_for_ranks(
    job: str, ranks: int, *, deadline: Deadline | None = None, come_within_s: float = _COME_WITHIN_S
) -> None:
    """Return when ranks 1 to ``ranks`` - 1 have come and ended. ``job``: the job's directory.

    One that has not come in time is not waited for: its stager may have died before it could say anything. When it
    does come, it is told that the job has ended. Each ends its own command at ``deadline``; one that does not, as its
    stager is stopped, is ended with the view.
    """
    look = partial(rank_presence, job, range(1, ranks))
    deadline_s = time.monotonic() + come_within_s
    while True:
        found = (await asyncio.to_thread(look)).values()
        if Presence.HERE not in found and (Presence.ABSENT not in found or time.monotonic() > deadline_s):
            return
        if deadline is not None and time.time() > deadline.at_s + deadline.grace_s + _ENDS_WITHIN_S:
            return
        await asyncio.sleep(_LOOK_S)
