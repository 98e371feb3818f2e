"""Fetch into a workspace: one `fetch`, with the workspace's journal and unfinished files, its progress told."""

from __future__ import annotations

import asyncio
from array import array

from stager._native import Entries, KeyOrder
from stager.host.journal import JOURNAL_NAME, Journal
from stager.host.partial import open_partials
from stager.host.threads import blocking
from stager.host.workspace import Workspace
from stager.manifest import Header
from stager.progress import Teller
from stager.sources.base import Landing, Snapshot, Source, Tally
from stager.stages.fetch import fetch

__all__ = ["move"]


async def move(
    workspace: Workspace,
    source: Source,
    snapshot: Snapshot,
    rows: array[int],
    entries: Entries,
    order: KeyOrder,
    *,
    header: Header,
    teller: Teller,
    tally: Tally,
    preserve: bool = False,
    keep_partials: bool = False,
) -> None:
    """Fetch ``rows`` of the snapshot; what is counted for the receipt goes to ``tally``, also when this raises.
    ``keep_partials``: unfinished files of others stay, for a run that continues them.

    ``header`` says for which source and boot files are recorded. Raises as `stager.sources.base.Source.fetch`.
    """
    root_fd, state_fd, tmp_fd = workspace.descriptors()
    journal = await blocking(Journal, state_fd, JOURNAL_NAME, entries, order, source=header.source, boot=header.boot)
    partials = await blocking(
        open_partials, state_fd, header.source, from_disk=header.durable, keep_all=keep_partials
    )
    landing = Landing(
        root_fd=root_fd,
        tmp_fd=tmp_fd,
        entries=entries,
        partials=partials,
        root=workspace.root,
        preserve=preserve,
        tally=tally,
    )
    telling = asyncio.create_task(teller.tell_now_and_then())
    try:
        await fetch(source, snapshot, rows, landing, journal, teller.moved)
    finally:
        telling.cancel()
        teller.tell()
        journal.close()
        await blocking(partials.close)
