"""One source into one directory: the order of the stages, and nothing else.

list -> choose -> judge names -> recall and compare -> check space -> fetch -> manifest -> delete -> receipt.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from msgspec import Struct, field
from msgspec.structs import replace

from stager._native import Entries
from stager.bottleneck import Phases, Usage, find_bottleneck
from stager.config import Remote
from stager.decision import Decided, Decision, Seen
from stager.errors import ArchivedError, ChangedError, UsageError
from stager.events import Finished, Sink, Started, Warned, nowhere
from stager.history import History
from stager.host.commit import Commit
from stager.host.mounts import lies_within
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.workspace import STATE_NAME, Workspace, boot_id
from stager.leftovers import Leftovers, check_delete
from stager.manifest import Header
from stager.model import Counts, DatasetReceipt, SourceRef
from stager.moving import move
from stager.opening import open_source
from stager.progress import Teller
from stager.reserving import going_down, open_reservation
from stager.sources.base import Beside, Source, Tally
from stager.stages.archived import not_in_place
from stager.stages.delete import Deleted
from stager.stages.plan import Plan
from stager.stages.publish import commit_tree, publish_manifest, publish_receipt, withdraw
from stager.stages.require import refuse_too_low, require_grade
from stager.sync_options import SyncOptions
from stager.telling import tell_deleted
from stager.transfer import Transfer

__all__ = ["SyncOptions", "sync"]

_LISTED_AGAIN: Final = 2


async def sync(
    ref: SourceRef,
    destination: str,
    *,
    transfer: Transfer,
    options: SyncOptions | None = None,
    source: Source | None = None,
    sink: Sink = nowhere,
) -> DatasetReceipt:
    """Make ``destination`` hold what the source holds and the filter wants; foreign files stay, unless ``delete`` says
    otherwise. Returns the receipt that was written. ``source``: what to copy from in place of what ``ref`` names, with
    what that would have.

    Several may run at once, on one ``transfer``. Raises the errors of `Source.snapshot` and `Source.fetch`,
    `BadKeysError`, `GradeError`, `NoSpaceError`, `HostError`, `UsageError`. Whatever it raises, no file is half
    visible, and running it again continues.
    """
    options = options or SyncOptions()
    options.check()
    started = time.monotonic()
    state_dir = None if options.dry_run else _state_of(destination, options)
    await blocking(check_delete, options.delete, options.filter, destination)
    await blocking(_refuse_state_in_source, ref, options.state_dir)
    opened = source or open_source(
        ref,
        remote=_remote(options),
        transfer=transfer,
        state_dir=state_dir,
        integrity=options.integrity,
        git=replace(options.git, history=options.git.history and not options.dry_run),
        scratch=options.scratch,
    )
    refuse_too_low(opened.capabilities.best, options.integrity.require, where=ref.text)
    async with AsyncExitStack() as closing:
        workspace = await blocking(Workspace, destination, options.state_dir, read_only=options.dry_run)
        closing.push_async_callback(blocking, workspace.close)
        commit = reservation = None
        if not options.dry_run:
            node, root_fd = await transfer.shared.node(), workspace.descriptors()[0]
            reservation = await blocking(open_reservation, node, root_fd, workspace.root)
            closing.push_async_callback(blocking, reservation.close)
        if options.fsync and not options.dry_run:
            commit = await blocking(Commit, workspace.root, workspace.descriptors()[0])
            closing.callback(commit.close)
        async with opened as entered:
            held = transfer.shared.held.get(reservation.device) if reservation is not None else None
            decision = Decision(ref, options, sink, entered, workspace, commit, reservation, held)
            history = History(workspace, ref) if options.git.history else None
            one = _Sync(decision, transfer, started, history)
            for _ in range(_LISTED_AGAIN if options.on_change == "retry" else 0):
                try:
                    return await one.run()
                except ChangedError as error:
                    sink(Warned(source=ref.text, text=f"the source changed, and is listed again ({error})"))
            return await one.run()


class _Done(Struct, frozen=True, kw_only=True):
    """What has been done."""

    planned: Plan
    archived: Counts
    tally: Tally = field(default_factory=Tally)
    deleted: Counts = Counts()
    durable: bool = False
    history: Mapping[str, Any] = {}  # what the receipt says of it


class _Sync(Struct, frozen=True):
    """One `sync` under way."""

    decision: Decision
    transfer: Transfer
    started: float
    history: History | None = None

    async def run(self) -> DatasetReceipt:
        ref, options, sink = self.decision.ref, self.decision.options, self.decision.sink
        sink(Started(source=ref.text))
        seen = await self.decision.see()
        listed = time.monotonic()
        decided = await self.decision.decide(seen)
        if self.history is not None:
            moves = bool(decided.planned.fetch or seen.leftovers.deletion.files)
            await blocking(self.history.judge, self.decision.source, seen.snapshot, moves=moves)
        seen = replace(seen, whole=seen.snapshot)  # what was left out takes no memory while the rest moves
        if options.prove_access and decided.planned.keep.objects and not decided.planned.fetch:
            await self.decision.source.prove_access(seen.snapshot)
        compared, used = time.monotonic(), self.transfer.stats()
        if options.dry_run:
            deleted = seen.leftovers.deletion.counts
            done = _Done(planned=decided.planned, archived=decided.archived, deleted=deleted)
        else:
            done = await self._do(seen, decided)
        receipt = self._receipt(seen, decided, done)
        if not options.dry_run:
            _, state_fd, _ = self.decision.workspace.descriptors()
            await blocking(publish_receipt, state_fd, receipt, spared=decided.spared, durable=done.durable)
        phases = Phases(
            listing_s=listed - self.started, comparing_s=compared - listed, moving_s=time.monotonic() - compared
        )
        bottleneck = find_bottleneck(phases, Usage.between(used, self.transfer.stats()))
        sink(Finished(source=ref.text, receipt=receipt, dry_run=options.dry_run, bottleneck=bottleneck))
        return receipt

    async def _do(self, seen: Seen, decided: Decided) -> _Done:
        """Fetch, make it official, delete. A kill between any two steps leaves what the next run puts right."""
        planned, archived, leftovers, header = decided.planned, decided.archived, seen.leftovers, seen.header
        _, state_fd, _ = self.decision.workspace.descriptors()
        await stoppable(leftovers.keep, planned.unknown)
        if planned.fetch or leftovers.deletion.files or (self.history is not None and self.history.changes):
            was_durable = seen.manifest.header is not None and seen.manifest.header.durable
            await blocking(withdraw, state_fd, durable=was_durable)
        tally = Tally()
        self.decision.workspace.fresh = False  # from here on, also when the source is listed again
        made_room = Counts()
        if planned.fetch:
            teller = Teller(self.decision.sink, self.decision.ref.text, planned.move, self.transfer)
            async with going_down(self.decision.reservation, decided.ahead, teller.done, state_fd):
                met, made_room = await self._fetch(seen, decided, teller, tally)
            if met.objects:
                keys = await blocking(not_in_place, decided.entries, planned.fetch)
                await stoppable(leftovers.leave, seen.manifest, decided.recalled, seen.order, header, keys)
                await stoppable(leftovers.keep, ())
            archived += met
            planned = replace(planned, total=planned.total - met, move=planned.move - met)
        require_grade(decided.entries, self.decision.options.integrity.require, where=self.decision.ref.text)
        known = seen.manifest.header
        if known is not None and self._still_holds(known, header, decided):
            header = known
        else:
            if self.decision.commit is not None:
                await stoppable(commit_tree, self.decision.commit, decided.entries, state_fd)
            await stoppable(self._publish, header, decided.entries)
        deleted = made_room + await self._delete(leftovers)
        return _Done(
            planned=planned,
            archived=archived,
            tally=tally,
            deleted=deleted,
            durable=header.durable,
            history=await self._publish_history(seen, decided),
        )

    async def _publish_history(self, seen: Seen, decided: Decided) -> Mapping[str, Any]:
        if self.history is None:
            return {}
        workspace = self.decision.workspace
        root_fd, _, _ = workspace.descriptors()
        beside = Beside(root_fd=root_fd, entries=decided.entries, order=seen.order, folds=workspace.folds_names)
        return await self.history.publish(self.decision.source, beside, self.decision.commit)

    def _still_holds(self, known: Header, header: Header, decided: Decided) -> bool:
        """Whether the manifest that is there says what a new one would."""
        alike = replace(known, boot=header.boot, durable=header.durable) == header
        planned = decided.planned
        return alike and not planned.fetch and decided.recalled.manifest_entries == planned.keep.objects

    async def _fetch(self, seen: Seen, decided: Decided, teller: Teller, tally: Tally) -> tuple[Counts, Counts]:
        """What stands in the way goes when all else is in place, so that it is missed for as long as what follows it
        takes, and stays when there is none. Returns what could not be read, and what went.
        """
        planned = decided.planned
        met, went = Counts(), Counts()
        if planned.free:
            met += self.decision.leave_out(await self._fetch_rows(seen, decided, planned.free, teller, tally))
        if planned.blocked:
            made = await stoppable(seen.leftovers.make_room)
            await self._tell(made)
            went = made.counts
            teller.go_on()
            met += self.decision.leave_out(await self._fetch_rows(seen, decided, planned.blocked, teller, tally))
        return met, went

    async def _fetch_rows(
        self, seen: Seen, decided: Decided, rows: array[int], teller: Teller, tally: Tally
    ) -> ArchivedError | None:
        """Returns what could not be read; all the rest is in place then."""
        try:
            await move(
                self.decision.workspace,
                self.decision.source,
                seen.snapshot,
                rows,
                decided.entries,
                seen.order,
                header=seen.header,
                teller=teller,
                tally=tally,
                spared=decided.spared,
                preserve=self.decision.options.preserve,
            )
        except ArchivedError as error:  # told by the objects' own answers
            return error
        except ChangedError as error:
            raise self.decision.options.pinning.explained(error) from error
        return None

    def _publish(self, checkpoint: Checkpoint, header: Header, entries: Entries) -> None:
        _, state_fd, _ = self.decision.workspace.descriptors()
        publish_manifest(state_fd, header, entries, checkpoint=checkpoint)

    async def _delete(self, leftovers: Leftovers) -> Counts:
        deleted = await stoppable(leftovers.remove)
        await self._tell(deleted)
        self.decision.warn(*leftovers.what_stayed(deleted))
        return deleted.counts

    async def _tell(self, deleted: Deleted) -> None:
        if self.decision.options.names:
            await tell_deleted(self.decision.sink, self.decision.ref.text, deleted.files)

    def _receipt(self, seen: Seen, decided: Decided, done: _Done) -> DatasetReceipt:
        return DatasetReceipt(
            source=self.decision.ref.text,
            destination=self.decision.workspace.root,
            how="copy",
            pinned={**seen.snapshot.pinned, **done.history},
            total=done.planned.total,
            moved=done.planned.move,
            continued_bytes=done.tally.continued_bytes,
            reused=done.tally.reused,
            read_back_bytes=done.tally.read_back_bytes,
            grades=decided.entries.grades(),
            unverified=decided.entries.whys(),
            seconds=round(time.monotonic() - self.started, 3),
            skipped=len(decided.names.bad),
            archived=done.archived,
            filter=self.decision.options.filter.described(),
            left_out=seen.left_out,
            deleted=done.deleted,
            boot="" if self.decision.options.dry_run else boot_id(),
            durable=done.durable,
        )


def _state_of(destination: str, options: SyncOptions) -> str:
    return os.path.abspath(options.state_dir or os.path.join(destination, STATE_NAME))


def _remote(options: SyncOptions) -> Remote | None:
    """Deleting never rests on a listing in parts, which believes a server's order."""
    if options.delete is None:
        return options.remote
    return replace(options.remote or Remote(), listing_order="unordered")


def _refuse_state_in_source(ref: SourceRef, state_dir: str | None) -> None:
    """It would be copied, and the source written to."""
    if ref.scheme != "file" or state_dir is None:
        return
    if lies_within(os.path.realpath(state_dir), os.path.realpath(ref.location)):
        raise UsageError("the state directory lies in the source", where=state_dir, hint="choose one outside of it")
