"""While a job runs: its logs are drained, and copies of its results made, as often as the job file says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from stager.errors import StagerError
from stager.host.leaves import Identity
from stager.host.record import JobDirectory
from stager.host.threads import until_stopped
from stager.job.keeps import Keep, drain_logs, keeps_of, snapshot_results

__all__ = ["keeping_up"]


@asynccontextmanager
async def keeping_up(job: JobDirectory, warn: Callable[[str], None]) -> AsyncIterator[None]:
    """Do so until the end of the block, which waits for what is under way and stops it.

    What cannot be kept meanwhile is told to ``warn``, once for each reason, and tried again the next time: the end of
    the job brings all of it.
    """
    keeps = [keep for keep in await asyncio.to_thread(keeps_of, job) if keep.every_s]
    tasks = [asyncio.create_task(_keep_up(job, keep, warn)) for keep in keeps]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_up(job: JobDirectory, keep: Keep, warn: Callable[[str], None]) -> None:
    known: dict[bytes, Identity] = {}
    told = set[str]()
    stop = threading.Event()

    def work() -> None:
        if keep.what == "logs":
            drain_logs(job, keep, known, stopped=stop.is_set)
        else:
            snapshot_results(job, keep, stopped=stop.is_set)

    while True:
        await asyncio.sleep(keep.every_s)
        try:
            await until_stopped(work, stop.set)
        except StagerError as error:
            if str(error) not in told:
                told.add(str(error))
                warn(f"the {keep.what} are not kept meanwhile: {error}")
