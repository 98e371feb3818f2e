"""What is in a destination beside the tree of one sync: remembered from run to run, and deleted when asked for.

The order, which a kill at any moment leaves right: what leaves the manifest is remembered (`keep`), then files are
fetched, those last in whose way something stood that makes room for them (`make_room`), and the manifest is written,
then files go, then what went is forgotten (`remove`), then the receipt is written.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterable
from typing import Final

from msgspec.structs import replace

from stager._native import Entries, KeyOrder, KeyTable
from stager.deletion import Delete
from stager.errors import UsageError, from_os_error
from stager.filters import Filter
from stager.host.atomic import is_there
from stager.host.commit import Commit
from stager.host.deletable import refuse_to_delete_in
from stager.host.foreign_directories import DamagedForeignError, find_foreign, read_foreign, save_foreign
from stager.host.journal import JOURNAL_NAME
from stager.host.threads import Checkpoint
from stager.host.workspace import STATE_NAME, Workspace
from stager.manifest import Header
from stager.names import Names, directories_above, directories_below
from stager.stages.choose import has_files
from stager.stages.delete import Deleted, Deletion, Kept, check_amount, delete, first_of, plan_deletion
from stager.stages.delete_room import NO_ROOM, make_room, plan_room
from stager.stages.recall import Recalled, Recorded
from stager.stages.recall_former import Former, gather_former, recall_former, save_former

__all__ = ["Leftovers", "check_delete"]

_ONCE: Final = "run once without --delete, which compares everything; what the damaged record named is foreign then"


def check_delete(asked: Delete | None, wanted: Filter, destination: str) -> None:
    """Before anything is asked or made: raises `UsageError` where nobody can tell what is to go, and in places in which
    nothing may. Blocks. `HostError`.
    """
    if asked is None:
        return
    try:
        refuse_to_delete_in(destination, os.environ)
    except OSError as error:
        raise from_os_error(error, doing="look at the destination", where=destination) from error
    for option, given in (("--files-from", wanted.paths), ("--newer", wanted.since_ns)):
        if given is not None:
            raise UsageError(
                f"{option} and --delete exclude each other: what the source no longer has, it neither lists nor dates",
                hint="delete in a run with --include and --exclude, which say it by name",
            )  # fmt: skip


class Leftovers:
    """Of one sync; its methods are called in the order in which they stand here. They block."""

    def __init__(
        self,
        workspace: Workspace,
        wanted: Filter,
        asked: Delete | None,
        commit: Commit | None = None,
        *,
        besides: Collection[bytes] = (),
    ) -> None:
        """``commit``: what is written is to be on the disk; ``besides``: directories that are none of its business."""
        self._besides = besides
        self._commit = commit
        self._workspace = workspace
        self._wanted = wanted
        self._asked = asked
        self._where = workspace.root
        self._former = Former(entries=Entries(KeyTable()), rows=array("I"), again=array("I"), stored=0)
        self._unusable: frozenset[bytes] = frozenset()
        self._foreign: frozenset[bytes] = frozenset()
        self._damaged_foreign = False
        self.deletion = Deletion()
        self.room = NO_ROOM

    def refuse(self, manifest: Recorded) -> None:
        """Before the source is asked: raises `UsageError` where too little is known to delete anything. `HostError`."""
        asked, workspace = self._asked, self._workspace
        if asked is None or workspace.root_fd is None:
            return
        if manifest.damage:
            raise self._refusal(f"the manifest is damaged ({manifest.damage}): nothing is deleted", _ONCE)
        if workspace.folds_names:  # a name that went may be another spelling of one that came
            raise self._refusal("this file system takes several names for one: deleting is not safe in it", "")
        state_fd = workspace.state_fd
        begun = not asked.everything and state_fd is not None and is_there(state_fd, JOURNAL_NAME)
        if manifest.header is None and not workspace.fresh and not begun:
            raise self._refusal(
                "no sync has finished here, and there are files: nothing is deleted", "sync once without --delete"
            )

    def refuse_empty(self, whole: KeyTable) -> None:
        """Raises `UsageError` when a source after which is deleted has no files."""
        if self._asked is not None and not has_files(whole):
            raise self._refusal("the source is empty: nothing is deleted", "check it; rm removes a whole tree")

    def gather(
        self,
        checkpoint: Checkpoint,
        manifest: Recorded,
        recalled: Recalled,
        entries: Entries,
        order: KeyOrder,
        names: Names,
        header: Header,
        *,
        verify: bool,
    ) -> tuple[int, tuple[str, ...]]:
        """Find what earlier syncs left, and note in ``entries`` what is wanted again. Returns how many of them had been
        left, and warnings. Raises `UsageError` for records that no deletion may rest on; `HostError`.
        """
        self._unusable = frozenset(problem.key for problem in names.bad)
        former = self._gather(checkpoint, manifest, recalled, order, header)
        warnings = []
        damaged = former.damaged
        try:
            self._foreign = read_foreign(self._workspace.state_fd)
        except DamagedForeignError:
            damaged = self._damaged_foreign = True
        if damaged:
            warnings.append("the record of what earlier syncs left is damaged: it counts as foreign now")
        if self._asked is not None and (damaged or recalled.damaged):
            raise self._refusal("the records of earlier syncs are damaged: nothing is deleted", _ONCE)
        self._former = former
        again = recall_former(
            former, entries, order, source=header.source, boot=header.boot, verify=verify
        )
        return again, tuple(warnings)

    def leave(
        self,
        checkpoint: Checkpoint,
        manifest: Recorded,
        recalled: Recalled,
        order: KeyOrder,
        header: Header,
        keys: Iterable[bytes],
    ) -> None:
        """These cannot be had now: what earlier syncs brought of them is left beside the tree. Raises `HostError`."""
        self._unusable |= frozenset(keys)
        self._former = self._gather(checkpoint, manifest, recalled, order, header)

    def plan(
        self,
        checkpoint: Checkpoint,
        whole: KeyTable,
        chosen: KeyTable,
        order: KeyOrder,
        manifest: Recorded,
        blocked: array[int],
    ) -> tuple[str, ...]:
        """Decide what goes; ``order`` is of the chosen table, which may be the whole one. Returns warnings. Raises
        `BadKeysError` for whatever is in the way of ``blocked`` rows and does not go; `HostError`.
        """
        root_fd, asked, former = self._workspace.root_fd, self._asked, self._former
        if root_fd is None or (asked is None and not blocked):
            return ()
        everything = KeyOrder(whole, checkpoint) if self._wanted else order
        deletion = plan_deletion(
            asked or Delete(),
            Kept(order=everything, wanted=self._wanted),
            former.entries,
            former.rows,
            root_fd,
            state_name=STATE_NAME,
            state_fd=self._workspace.state_fd,
            known=manifest.entries + former.stored,
            besides=self._besides,
            checkpoint=checkpoint,
        )
        if blocked:
            self.room = plan_room(
                chosen,
                blocked,
                deletion,
                map(former.entries.table.key, former.rows),
                self._foreign,
                root_fd,
                asked=asked is not None,
                checkpoint=checkpoint,
            )
        if asked is None:
            return ()
        self.deletion = deletion
        if not deletion.changed:
            return ()
        return (f"stays, for it was changed here: {first_of(deletion.changed)} (--delete=all removes it)",)

    def check(self) -> None:
        """Raises `UsageError` when more would go than may."""
        if self._asked is not None:
            check_amount(self.deletion, self._asked, where=self._where)

    def keep(self, checkpoint: Checkpoint, unknown: tuple[bytes, ...]) -> None:
        """Before anything changes, and before the manifest is written, remember what leaves it; and which of the
        directories in which something will be put for the first time are there already. `NoSpaceError`, `HostError`.
        """
        root_fd, state_fd, _ = self._workspace.descriptors()
        former = self._former
        table = former.entries.table
        if former.unsaved:
            rows = array("I", range(len(table)))
            save_former(state_fd, former, rows, durable=self._durable, checkpoint=checkpoint)
        if self._damaged_foreign:
            save_foreign(state_fd, (), durable=self._durable)
        if not unknown:
            return
        files = frozenset(map(table.key, former.rows))
        made = directories_below(files, unknown)  # by a killed run, after the file had made room
        ours = directories_above(files) | made
        found = find_foreign(root_fd, set(unknown) - ours)
        gone = directories_below((found.path for found in self.room.files), self._foreign)
        foreign = found | (self._foreign - gone)
        if foreign != self._foreign:
            self._foreign = foreign
            save_foreign(state_fd, foreign, durable=self._durable)

    def make_room(self, checkpoint: Checkpoint) -> Deleted:
        """Delete what is in the way of what is fetched next. Raises as `stager.stages.delete_room.make_room`."""
        root_fd, _, _ = self._workspace.descriptors()
        room, deletion = self.room, self.deletion
        make_room(room, root_fd, checkpoint=checkpoint)
        went = frozenset(found.path for found in room.files)
        rest = tuple(found for found in deletion.files if found.path not in went)
        self.deletion = replace(deletion, files=rest, gone=(*deletion.gone, *went))
        return Deleted(files=room.files, directories=len(room.directories), gone=went)

    def remove(self, checkpoint: Checkpoint) -> Deleted:
        """Delete what was planned, then forget it and what the manifest has again. Raises `HostError` for files that
        cannot be removed, after all others are; `NoSpaceError`.
        """
        root_fd, state_fd, _ = self._workspace.descriptors()
        former, deleted = self._former, Deleted()
        if self.deletion.files or self.deletion.gone:
            try:
                deleted = delete(self.deletion, self._foreign, root_fd, checkpoint=checkpoint)
            except OSError as error:
                raise from_os_error(error, doing="delete", where=self._where) from error
        if deleted.gone or former.unsaved or former.again or former.damaged:
            if deleted.gone and self._commit is not None:  # what is forgotten must not be there again after a crash
                self._commit.flush()
            key = former.entries.table.key
            rows = array("I", (row for row in former.rows if key(row) not in deleted.gone))
            save_former(state_fd, former, rows, durable=self._durable, checkpoint=checkpoint)
        if deleted.failure is not None:
            raise deleted.failure
        return deleted

    def what_stayed(self, deleted: Deleted) -> tuple[str, ...]:
        """A warning of files that changed before they could go."""
        return (f"stays, for it changed while this ran: {first_of(deleted.kept)}",) if deleted.kept else ()

    @property
    def _durable(self) -> bool:
        return self._commit is not None

    def _gather(
        self, checkpoint: Checkpoint, manifest: Recorded, recalled: Recalled, order: KeyOrder, header: Header
    ) -> Former:
        return gather_former(
            self._workspace.state_fd, manifest, recalled, order, self._unusable, source=header.source,
            checkpoint=checkpoint,
        )  # fmt: skip

    def _refusal(self, what: str, hint: str) -> UsageError:
        return UsageError(what, where=self._where, hint=hint)
