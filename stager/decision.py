"""What a sync is going to do, decided before anything is moved: the source's side of it, then the destination's."""

from __future__ import annotations

import functools
import os
from typing import Final, cast

from msgspec import Struct
from msgspec.structs import replace

from stager._native import Entries, KeyOrder, KeyTable
from stager.errors import ArchivedError, NoSpaceError
from stager.events import Listed, Planned, Sink, Warned
from stager.host.commit import Commit
from stager.host.git_look import GIT_NAME
from stager.host.judge import judge
from stager.host.partial import partial_bytes
from stager.host.reservations import Ahead, Need, Reservation
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.workspace import Workspace, boot_id
from stager.leftovers import Leftovers
from stager.manifest import Header
from stager.model import Counts, Grade, SourceRef
from stager.names import Names, bad_keys_error, to_json
from stager.opening import travels_in_the_open, what_identities_mean
from stager.sources.base import Earlier, Historian, Snapshot, Source
from stager.stages.archived import archived_among, leave_out, not_in_place, told_of
from stager.stages.choose import Chosen, check_filter, choose
from stager.stages.delete_room import Room
from stager.stages.plan import Plan, check_space, plan
from stager.stages.recall import Recalled, Recorded, read_manifest, read_table, recall
from stager.stages.unfinished import Unfinished, find_unfinished
from stager.sync_options import SyncOptions
from stager.telling import tell_deleted, tell_fetched

__all__ = ["Decided", "Decision", "Seen"]

_OPEN_WARNING: Final = "plain http to another host: whoever is on the way can change the data and its ETags"
_HISTORY_STAYS: Final = ".git is of an earlier run and stays as it is: with the history wanted again it is kept up"
_BLOCK_BYTES: Final = 4096  # what a dry run into a directory that is not there yet assumes of its file system


class Seen(Struct, frozen=True, kw_only=True):
    """The source as it was listed: ``whole``, and of that what is wanted."""

    manifest: Recorded  # of an earlier run
    leftovers: Leftovers
    whole: Snapshot
    snapshot: Snapshot
    left_out: Counts  # by the filter
    order: KeyOrder
    names: Names
    header: Header


class Decided(Struct, frozen=True, kw_only=True):
    """What is to be done, decided before anything is moved."""

    entries: Entries
    names: Names  # without what is archived
    planned: Plan
    archived: Counts
    recalled: Recalled
    spared: frozenset[str]  # unfinished files that this or a later run can continue
    ahead: Ahead | None = None  # what is reserved for it


class Decision(Struct, frozen=True):
    """Makes one. ``commit``: what is there has to be on the disk to be believed. ``reservation``: takes the room,
    out of what is ``held`` for the whole job there.
    """

    ref: SourceRef
    options: SyncOptions
    sink: Sink
    source: Source
    workspace: Workspace
    commit: Commit | None = None
    reservation: Reservation | None = None
    held: Reservation | None = None

    async def see(self) -> Seen:
        """List, choose and judge: nothing of the destination but its records is looked at."""
        check_filter(self.options.filter, self.source.capabilities, where=self.ref.text)
        manifest = await blocking(read_manifest, self.workspace.state_fd)
        besides = (os.fsencode(GIT_NAME),) if self.options.git.history else ()
        leftovers = Leftovers(
            self.workspace, self.options.filter, self.options.delete, self.commit, besides=besides
        )
        await blocking(leftovers.refuse, manifest)
        wanted = self.options.filter.wants_path()
        whole = await self.options.pinning.snapshot(self.source, self.ref, self._earlier(manifest), wanted)
        total = Counts(objects=len(whole.table), bytes=whole.table.total_bytes)
        self.sink(Listed(source=self.ref.text, total=total))
        await blocking(leftovers.refuse_empty, whole.table)
        chosen = await stoppable(self._choose, whole)
        if travels_in_the_open(whole.pinned.get("endpoint", "")) and self.source.capabilities.grade != Grade.A:
            self.warn(_OPEN_WARNING)
        self.warn(*whole.warnings, *chosen.warnings)
        if manifest.header is not None and manifest.header.history and not self._takes_git():
            self.warn(_HISTORY_STAYS)
        order = await stoppable(self._order, chosen)
        names = await stoppable(self._judge, chosen, order)
        version = "" if chosen.left_out.objects or names.bad else whole.version
        source = what_identities_mean(self.ref, whole)
        known = manifest.header
        preserve = self.options.preserve or (known is not None and known.source == source and known.preserve)
        archived = chosen.table.archived_rows() if whole.archived else whole.archived
        header = Header(
            source=source, folder=to_json(whole.folder), boot=boot_id(), version=version,
            part_of="" if version else whole.version or whole.part_of,
            durable=self.commit is not None, preserve=preserve, history=self.options.git.history,
        )  # fmt: skip
        return Seen(
            manifest=manifest,
            leftovers=leftovers,
            whole=whole,
            snapshot=replace(whole, table=chosen.table, version=version, archived=archived),
            left_out=chosen.left_out,
            order=order,
            names=names,
            header=header,
        )

    async def decide(self, seen: Seen) -> Decided:
        """Compare with what is there: nothing is changed yet."""
        leftovers, names, order = seen.leftovers, seen.names, seen.order
        entries = Entries(seen.snapshot.table)
        recalled = await stoppable(self._recall, seen, entries)
        again, warnings = await stoppable(
            leftovers.gather, seen.manifest, recalled, entries, order, names, seen.header,
            verify=self.options.verify or self.commit is not None,
        )  # fmt: skip
        planned = await stoppable(self._compare, entries, order, names)
        archived = archived_among(seen.snapshot, planned.fetch, where=self.ref.text)
        archived_counts = self.leave_out(archived)
        if archived:
            names = leave_out(seen.snapshot, names, planned.fetch)
            planned = await stoppable(self._compare, entries, order, names)
            keys = not_in_place(entries, seen.snapshot.archived)
            await stoppable(leftovers.leave, seen.manifest, recalled, order, seen.header, keys)
        more = await stoppable(
            leftovers.plan, seen.whole.table, seen.snapshot.table, order, seen.manifest, planned.blocked
        )
        spared: frozenset[str] = frozenset()
        ahead: Ahead | None = None
        if not self.options.dry_run:
            unfinished = await stoppable(self._find_unfinished, seen, names, planned)
            needed = replace(planned, disk_bytes=planned.disk_bytes + await self._history_bytes())
            spared, ahead, unknown = await blocking(
                self._check_space, needed, seen.snapshot.table, leftovers.room, unfinished
            )
            self.warn(*filter(None, [unknown]))
        self.warn(*recalled.warnings, *warnings, *more)
        self.sink(
            Planned(
                source=self.ref.text, destination=self.workspace.root, move=planned.move, keep=planned.keep,
                skipped=len(names.bad), left_out=seen.left_out, delete=leftovers.deletion.counts,
                disk_bytes=planned.disk_bytes, inodes=planned.move.objects + planned.directories,
            )
        )  # fmt: skip
        if self.options.dry_run and self.options.names:
            await tell_fetched(self.sink, self.ref.text, seen.snapshot.table, planned.fetch)
            await tell_deleted(self.sink, self.ref.text, leftovers.deletion.files)
        leftovers.check()
        return Decided(
            entries=entries,
            names=names,
            planned=planned,
            archived=archived_counts,
            recalled=recalled if not again else replace(recalled, manifest_entries=None),
            spared=spared,
            ahead=ahead,
        )

    def warn(self, *texts: str) -> None:
        """Tell the user."""
        for text in texts:
            self.sink(Warned(source=self.ref.text, text=text))

    def leave_out(self, archived: ArchivedError | None) -> Counts:
        """How much that is; raises it unless it was asked to leave such objects out."""
        if archived is None:
            return Counts()
        if self.options.on_archived == "fail":
            raise archived
        left_out, text = told_of(archived)
        self.warn(text)
        return left_out

    def _takes_git(self) -> bool:
        """Whether this run keeps up or deletes a .git directory."""
        delete = self.options.delete
        return self.options.git.history or (delete is not None and delete.everything)

    async def _history_bytes(self) -> int:
        if not self.options.git.history:
            return 0
        return await blocking(cast("Historian", self.source).history_bytes)

    def _earlier(self, manifest: Recorded) -> Earlier | None:
        if manifest.header is None or not manifest.header.version or self.options.delete is not None:
            return None  # and deleting rests on a listing of its own
        return Earlier(
            version=manifest.header.version, read_table=functools.partial(read_table, self.workspace.state_fd)
        )

    def _choose(self, checkpoint: Checkpoint, whole: Snapshot) -> Chosen:
        wanted, where = self.options.filter, self.ref.text
        return choose(whole.table, wanted, self.source.capabilities, where=where, checkpoint=checkpoint)

    def _order(self, checkpoint: Checkpoint, chosen: Chosen) -> KeyOrder:
        return KeyOrder(chosen.table, checkpoint)

    def _judge(self, checkpoint: Checkpoint, chosen: Chosen, order: KeyOrder) -> Names:
        margin = len(os.fsencode(self.workspace.root)) + 1
        fold = self.workspace.folds_names
        names = judge(chosen.table, order, margin=margin, fold=fold, checkpoint=checkpoint)
        if names.bad and self.options.on_bad_key == "fail":
            raise bad_keys_error(names.bad, where=self.ref.text)
        return names

    def _recall(self, checkpoint: Checkpoint, seen: Seen, entries: Entries) -> Recalled:
        return recall(
            self.workspace.state_fd,
            seen.manifest,
            entries,
            seen.order,
            source=seen.header.source,
            boot=seen.header.boot,
            verify=self.options.verify,
            only_durable=self.commit is not None,
            checkpoint=checkpoint,
        )

    def _compare(self, checkpoint: Checkpoint, entries: Entries, order: KeyOrder, names: Names) -> Plan:
        workspace = self.workspace
        if self.commit is not None and not workspace.fresh:
            self.commit.flush()
        block_bytes = _BLOCK_BYTES if self.options.dry_run else workspace.free()[2]
        return plan(
            entries,
            order,
            names,
            workspace.root_fd,
            fresh=workspace.fresh,
            block_bytes=block_bytes,
            required=self.options.integrity.require,
            from_disk=self.commit is not None,
            checkpoint=checkpoint,
        )

    def _find_unfinished(self, checkpoint: Checkpoint, seen: Seen, names: Names, planned: Plan) -> Unfinished:
        _, state_fd, _ = self.workspace.descriptors()
        return find_unfinished(
            state_fd, seen.header.source, seen.whole.table, seen.order, names.good, planned.fetch, checkpoint=checkpoint
        )

    def _check_space(
        self, planned: Plan, table: KeyTable, room: Room, unfinished: Unfinished
    ) -> tuple[frozenset[str], Ahead, str]:
        """What is unfinished stays for a later run only where all of this one fits beside it. What makes room does so
        before that is fetched which it was in the way of, but after the rest. Returns what stays, what is reserved, and
        why others do not know of that, if so.
        """
        _, state_fd, _ = self.workspace.descriptors()
        free_bytes, free_inodes, _ = self.workspace.free()
        if self.source.capabilities.shares_blocks:
            planned = replace(planned, disk_bytes=0)
        elif self.options.room_for_two:
            again = planned.total.bytes + planned.total.objects * self.workspace.free()[2]
            planned = replace(planned, disk_bytes=planned.disk_bytes + again)
        room_bytes = min(room.size, table.sum_sizes(planned.blocked))

        def check(idle: frozenset[str]) -> tuple[Ahead, str]:
            there = partial_bytes(state_fd, besides=idle)
            check_space(planned, free_bytes + there, free_inodes, where=self.workspace.root, room_bytes=room_bytes)
            inodes = planned.move.objects + planned.directories if planned.move.objects else 0
            wanted = Need(max(0, planned.disk_bytes - room_bytes - there), inodes)
            ahead = Ahead(wanted=wanted, moves=planned.move, unfinished_bytes=there, besides=idle)
            return ahead, self.reservation.take(wanted, within=self.held) if self.reservation is not None else ""

        try:
            return unfinished.names, *check(unfinished.idle)
        except NoSpaceError:
            return unfinished.names - unfinished.idle, *check(frozenset())
