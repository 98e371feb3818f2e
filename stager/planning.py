"""What a job would fetch, found out without making or changing anything of it: its copies as dry runs, all at once."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from msgspec.structs import replace

from stager.config import Remote
from stager.errors import StagerError
from stager.events import Event, Finished, Sink
from stager.jobs import Copy, copies_of, most_telling, options_of
from stager.model import DatasetReceipt, JobSpec
from stager.pipeline import sync
from stager.transfer import Transfer

__all__ = ["plan_job"]

_NOWHERE: Final = "/nonexistent/stager"  # a job's tree is new: nothing of it is there yet


async def plan_job(
    spec: JobSpec,
    *,
    transfer: Transfer,
    remote: Remote | None = None,
    save_listing: str | None = None,
    names: bool = False,
    sink: Sink,
) -> list[DatasetReceipt]:
    """The receipts that staging would write, nothing moved; ``names``: ``sink`` is told each file.

    ``remote`` and ``save_listing`` as in `stager.jobs.stage_job`. Raises what `stager.pipeline.sync` raises; of several
    failures a permanent one.
    """

    async def plan_one(copy: Copy) -> DatasetReceipt:
        def tell(event: Event) -> None:
            if isinstance(event, Finished):
                event = replace(event, receipt=replace(event.receipt, destination=copy.target))
            sink(event)

        options = replace(options_of(copy, None), dry_run=True, names=names)
        try:
            where = os.path.join(_NOWHERE, copy.below)
            receipt = await sync(copy.source, where, transfer=transfer, options=options, sink=tell)
        except StagerError as error:
            error.where = f"{copy.name}: {error.where}" if error.where else copy.name
            raise
        return replace(receipt, destination=copy.target)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(plan_one(copy)) for copy in copies_of(spec, remote, save_listing)]
    except BaseExceptionGroup as several:
        raise most_telling(several) from None
    return [task.result() for task in tasks]
