"""A staged tree against what is recorded of it: the order of the stages, and nothing else.

read manifest and journal -> hash every file -> look for foreign files -> repair (`stager.repair`).
"""

from __future__ import annotations

import asyncio
import time
from array import array
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Struct

from stager.errors import HostError, IntegrityError, UsageError
from stager.events import Found, Sink, Started, Verified, Warned, nowhere
from stager.host.manifest_file import Manifest
from stager.host.threads import blocking, stoppable
from stager.host.workspace import Workspace
from stager.model import Counts
from stager.progress import Teller
from stager.repair import Repair, Repairing, what_finishes
from stager.stages.inspect import Staged, found_foreign, found_odd, inspect_files
from stager.stages.inspect_record import read_record
from stager.stages.publish import ASIDE_NAME, read_receipt

__all__ = ["Repair", "verify"]

_CHANGED_LAST: Final = "what it changed last and could not record is told as a difference"


class _Tally(Struct):
    same: Counts = Counts()
    differs: int = 0
    missing: int = 0
    unreadable: int = 0
    foreign: int = 0

    def take(self, found: Found) -> None:
        setattr(self, found.what, getattr(self, found.what) + 1)


async def verify(
    staged: Staged,
    *,
    strict: bool = False,
    repair: Repair | None = None,
    sink: Sink = nowhere,
) -> Verified:
    """Hash every file of a staged tree again and tell ``sink`` of each that is not what its manifest says.

    Where a sync did not finish, what it recorded counts too. With ``repair`` those are fetched again from the recorded
    source, as they were pinned, each as a whole, and nothing else is touched. Raises `IntegrityError` when files differ
    or are missing afterwards (``strict``: also when there are foreign ones), `HostError` when some cannot be read,
    `UsageError`, `BusyError`, and what `Source.adopt` and `Source.fetch` raise.
    """
    started = time.monotonic()
    workspace = await blocking(Workspace, staged.tree, staged.state, read_only=repair is None)
    try:
        if repair is None:
            await blocking(workspace.share)
        record = await stoppable(
            read_record, workspace.state_fd, workspace.root,
            finish=partial(what_finishes, staged), dates=repair is not None,
        )  # fmt: skip
        manifest = record.manifest
        if workspace.root_fd is None:
            raise UsageError("is not there", where=staged.tree)
        sink(Started(source=workspace.root))
        receipt, aside = await blocking(_receipts, workspace.state_fd)
        finish = what_finishes(staged, record.journal or manifest.header.source)
        if receipt is None:
            text = f"the last sync did not finish: {finish}; {_CHANGED_LAST}"
            sink(Warned(source=workspace.root, text=text if aside is None else "a repair did not finish: run it again"))
        tally, bad = await _inspect(manifest, workspace.state_fd, workspace.root_fd, workspace.root, sink)
        repaired = 0
        if repair is not None and (bad or (receipt is None and aside is not None)):
            repairing = Repairing(
                repair=repair, workspace=workspace, record=record, bad=bad,
                unfinished=receipt is None and aside is None and record.journal is not None, before=receipt or aside,
                staged=staged, sink=sink, started=started,
            )  # fmt: skip
            repaired = len(await repairing.run())
        verified = Verified(
            source=workspace.root,
            total=Counts(objects=len(manifest.table), bytes=manifest.table.total_bytes),
            repaired=repaired,
            seconds=round(time.monotonic() - started, 3),
            **msgspec.structs.asdict(tally),
        )
    finally:
        await blocking(workspace.close)
    sink(verified)
    _judge(verified, finish, strict=strict, repair=repair is not None)
    return verified


def _receipts(state_fd: int | None) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """That of the tree, and the one that a repair which did not finish set aside."""
    return read_receipt(state_fd), read_receipt(state_fd, ASIDE_NAME)


async def _inspect(
    manifest: Manifest, state_fd: int | None, root_fd: int, tree: str, sink: Sink
) -> tuple[_Tally, array[int]]:
    """What was found, and the rows of the files that are not as recorded."""
    tally = _Tally()
    bad = array("I")
    looked = Counts()
    teller = Teller(sink, tree, Counts(objects=len(manifest.table), bytes=manifest.table.total_bytes), None)
    telling = asyncio.create_task(teller.tell_now_and_then())
    try:
        async with aclosing(inspect_files(manifest, root_fd)) as pieces:
            async for rows, odd in pieces:
                size, odd_size = manifest.table.sum_sizes(rows), sum(manifest.table.size(one.row) for one in odd)
                looked += Counts(objects=len(rows), bytes=size)
                tally.same += Counts(objects=len(rows) - len(odd), bytes=size - odd_size)
                teller.moved(looked)
                for one in odd:
                    bad.append(one.row)
                    _tell(found_odd(manifest, one, tree), tally, sink)
    finally:
        telling.cancel()
    async for found in found_foreign(manifest, state_fd, root_fd, tree):
        _tell(found, tally, sink)
    return tally, array("I", sorted(bad))


def _tell(found: Found, tally: _Tally, sink: Sink) -> None:
    tally.take(found)
    sink(found)


def _judge(verified: Verified, finish: str, *, strict: bool, repair: bool) -> None:
    left = {"different": verified.differs, "missing": verified.missing}
    if repair:
        if rest := sum(left.values()) + verified.unreadable - verified.repaired:
            what = f"{rest} files are of a commit that only the sync which brought them knows"
            raise IntegrityError(what, where=verified.source, hint=finish)
    elif any(left.values()):
        what = "files that are not as recorded: " + " and ".join(f"{n} {word}" for word, n in left.items() if n)
        raise IntegrityError(what, where=verified.source, hint="fetch them again with --repair, or sync again")
    elif verified.unreadable:
        raise HostError(f"{verified.unreadable} files cannot be read", where=verified.source)
    if strict and verified.foreign:
        raise IntegrityError(f"{verified.foreign} files are none of the dataset's", where=verified.source)
