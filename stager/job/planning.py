"""What a job would fetch, found out without making or changing anything of it: its copies as dry runs, all at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from msgspec.structs import replace

from stager.config import Remote
from stager.errors import StagerError
from stager.events import Sink
from stager.host.cache import Generation
from stager.host.scratch import open_scratch
from stager.host.threads import blocking
from stager.job.copies import NOWHERE, Copy, copies_of, options_of, sync_copies
from stager.model import DatasetReceipt, JobSpec
from stager.sync_options import SyncOptions
from stager.transfer import Transfer

__all__ = ["plan_job"]

_NONE: Final[Mapping[str, Generation]] = {}


async def plan_job(
    spec: JobSpec,
    *,
    transfer: Transfer,
    remote: Remote | None = None,
    names: bool = False,
    kept: Mapping[str, Generation] = _NONE,
    sink: Sink,
) -> list[DatasetReceipt]:
    """The receipts that staging would write, nothing moved; ``names``: ``sink`` is told each file.

    ``remote`` as in `stager.job.order.stage_job`. ``kept``: what a cache has of each copy, by its target; of these only
    the difference is planned. Raises as `stager.job.copies.sync_copies`.
    """

    def where(copy: Copy) -> str:
        return kept[copy.target].tree if copy.target in kept else os.path.join(NOWHERE, copy.below)

    def how(copy: Copy) -> SyncOptions:
        state_dir = kept[copy.target].state if copy.target in kept else None
        return replace(options_of(copy), dry_run=True, names=names, state_dir=state_dir, scratch=scratch)

    scratch = await blocking(_default_scratch)
    copies = copies_of(spec, remote, None)
    receipts = await sync_copies(copies, where, how, transfer=transfer, sink=sink)
    return [replace(receipt, destination=copy.target) for copy, receipt in zip(copies, receipts, strict=True)]


def _default_scratch() -> str | None:
    """Where a source keeps what it has to fetch only to be listed, unless this node has it somewhere else."""
    with suppress(StagerError):
        return open_scratch(None, os.environ)
    return None
