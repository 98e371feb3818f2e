"""Rank 0 of a launch, as the others see it: at work or failed before it has a job, and the last to leave the view."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from stager.errors import told_of
from stager.host.launch_notes import forget_note, leave_note
from stager.host.ranks import Presence, rank_presence
from stager.host.signals import receive
from stager.launches import Launch
from stager.stages.run import FORWARDED
from stager.time_limits import Deadline

__all__ = ["leading", "wait_for_ranks"]

_LOOK_S: Final = 0.05
_COME_WITHIN_S: Final = 60.0
"""After the end of rank 0's own command: all are started at the same time, and what is staged is there at once."""

_ENDS_WITHIN_S: Final = 10.0


@asynccontextmanager
async def leading(job_id: str, launch: Launch | None) -> AsyncIterator[None]:
    """While rank 0 is at work: what it fails with before its job has a record, the others fail with. Nothing without a
    ``launch``.
    """
    if launch is None:
        yield
        return
    await asyncio.to_thread(leave_note, job_id, launch.token)
    try:
        yield
    except BaseException as error:
        told, transient = told_of(error)
        leave_note(job_id, launch.token, error=told, transient=transient)  # at once: this task may be cancelled
        raise
    await asyncio.to_thread(forget_note, job_id)


async def wait_for_ranks(
    job: str, ranks: int, *, deadline: Deadline | None = None, come_within_s: float = _COME_WITHIN_S
) -> None:
    """Return when ranks 1 to ``ranks`` - 1 have come and ended. ``job``: the job's directory.

    One that has not come in time is not waited for: its stager may have died before it could say anything. When it
    does come, it is told that the job has ended. Each ends its own command at ``deadline``; one that does not, as its
    stager is stopped, is ended with the view. A launcher sends its signals to all of them: those that are here get
    theirs, and end as they like; those that are not do not come any more.
    """
    look, told = partial(rank_presence, job, range(1, ranks)), asyncio.Event()
    come_until_s = time.monotonic() + come_within_s
    with receive(dict.fromkeys(FORWARDED, told.set)):
        while True:
            found = (await asyncio.to_thread(look)).values()
            late = told.is_set() or time.monotonic() > come_until_s
            if Presence.HERE not in found and (late or Presence.ABSENT not in found):
                return
            if deadline is not None and time.time() > deadline.at_s + deadline.grace_s + _ENDS_WITHIN_S:
                return
            await asyncio.sleep(_LOOK_S)
