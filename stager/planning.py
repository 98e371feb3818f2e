"""What a job would fetch, found out without making or changing anything of it: its copies as dry runs, all at once."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from stager.config import Remote
from stager.copies import Copy, copies_of, options_of, sync_copies
from stager.events import Sink
from stager.model import DatasetReceipt, JobSpec
from stager.sync_options import SyncOptions
from stager.transfer import Transfer

__all__ = ["plan_job"]

_NOWHERE: Final = "/nonexistent/stager"  # a job's tree is new: nothing of it is there yet


async def plan_job(
    spec: JobSpec, *, transfer: Transfer, remote: Remote | None = None, names: bool = False, sink: Sink
) -> list[DatasetReceipt]:
    """The receipts that staging would write, nothing moved; ``names``: ``sink`` is told each file.

    ``remote`` as in `stager.jobs.stage_job`. Raises as `stager.copies.sync_copies`.
    """

    def how(copy: Copy) -> SyncOptions:
        return replace(options_of(copy), dry_run=True, names=names)

    copies = copies_of(spec, remote, None)
    receipts = await sync_copies(copies, _NOWHERE, how, transfer=transfer, sink=sink)
    return [replace(receipt, destination=copy.target) for copy, receipt in zip(copies, receipts, strict=True)]
