"""What is not as it was recorded of a staged tree, fetched again: the order of the stages, and nothing else.

adopt what was recorded -> check space -> fetch -> publish. A tree that a sync has begun to change and not finished is
repaired by what that sync recorded too, and stays as unfinished as it was: no manifest, no receipt.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from array import array
from typing import Any, Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from stager.config import Integrity, Remote
from stager.errors import ChangedError, HostError, UsageError
from stager.events import Found, Sink
from stager.history import refresh_index
from stager.host.commit import Commit
from stager.host.partial import partial_names
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.workspace import Workspace, boot_id
from stager.model import Counts, SourceRef
from stager.moving import move
from stager.names import from_json, show
from stager.opening import open_source, what_identities_mean
from stager.progress import Teller
from stager.sources.base import Beside, Snapshot, Source, Tally
from stager.stages.inspect import Staged
from stager.stages.inspect_record import Record
from stager.stages.plan import Plan, check_space
from stager.stages.publish import commit_tree, publish_manifest, publish_receipt, set_aside
from stager.transfer import Transfer

__all__ = ["Repair", "Repairing", "what_finishes"]


class Repair(Struct, frozen=True, kw_only=True):
    """Fetch again what is not as it was recorded, by way of ``transfer``, the recorded source reached as ``remote``."""

    transfer: Transfer
    remote: Remote | None = None
    integrity: Integrity = Integrity()


def what_finishes(staged: Staged, source: str, *options: str, does: str = "finishes it") -> str:
    """What to run with the source (as `stager.manifest.Header` has it) of the last sync of this tree, and what that
    ``does``.
    """
    if staged.of_job:
        return f"staging the job again {does}"
    try:
        ref = _source_of(source)
    except msgspec.MsgspecError:
        return f"`stager sync` {does}"
    words = ["stager", "sync", *options, ref.text, staged.tree]
    if staged.state is not None:
        words += ["--state-dir", staged.state]
    command = shlex.join(show(os.fsencode(word)) for word in words)
    other = "the ref and the options" if ref.scheme == "git" else "the options"
    return f"`{command}`, with {other} that it had, {does}"


class Repairing(Struct, frozen=True, kw_only=True):
    """One repair under way; ``bad``: the rows of the record that are not so, ascending; ``before``: the receipt that
    holds again in the end, None when there was none.
    """

    repair: Repair
    workspace: Workspace
    record: Record
    bad: array[int]
    unfinished: bool
    before: dict[str, Any] | None
    staged: Staged
    sink: Sink
    started: float
    tally: Tally = field(default_factory=Tally)

    async def run(self) -> array[int]:
        """Returns the rows that were repaired: all, but for what an unfinished sync brought of a Git commit that nobody
        knows. Raises `UsageError`, and what `Source.adopt` and `Source.fetch` raise.
        """
        root_fd, state_fd, _ = self.workspace.descriptors()
        where, header = self.workspace.root, self.record.manifest.header
        _refuse_anothers(state_fd, where)
        ref = self._source()
        rows = self.bad
        if ref.scheme == "git":
            rows = array("I", (row for row in rows if row not in self.record.newer))
        commit = None
        if header.durable and not self.unfinished:
            commit = await blocking(Commit, where, root_fd)
        try:
            if rows:
                await self._repair(ref, rows)
            if self.unfinished:
                return rows
            if commit is not None:
                await stoppable(commit_tree, commit, self.record.manifest.entries, state_fd)
            await stoppable(self._publish, rows)
            if header.history:
                await stoppable(refresh_index, root_fd, self._beside(root_fd))
        finally:
            if commit is not None:
                commit.close()
        return rows

    def _beside(self, root_fd: int) -> Beside:
        manifest = self.record.manifest
        return Beside(
            root_fd=root_fd, entries=manifest.entries, order=manifest.order, folds=self.workspace.folds_names
        )

    def _source(self) -> SourceRef:
        where, header = self.workspace.root, self.record.manifest.header
        if self.record.journal is not None and self.record.journal != header.source:
            hint = what_finishes(self.staged, self.record.journal)
            raise UsageError("a sync of another source has begun to change it", where=where, hint=hint)
        try:
            ref = _source_of(header.source)
        except msgspec.MsgspecError as error:
            raise UsageError("the manifest names no source", where=where, hint="`stager sync` it again") from error
        hint = what_finishes(self.staged, header.source, "--verify", does="puts it right")
        if ref.scheme == "file":
            raise UsageError("what a directory held when it was copied cannot be asked for", where=where, hint=hint)
        if ref.scheme == "git" and not (header.version or header.part_of):
            raise UsageError("the manifest does not say of which commit it is", where=where, hint=hint)
        return ref

    async def _repair(self, ref: SourceRef, rows: array[int]) -> None:
        manifest = self.record.manifest
        header = manifest.header
        _, state_fd, _ = self.workspace.descriptors()
        state_dir = os.readlink(f"/proc/self/fd/{state_fd}")
        opened = open_source(
            ref, remote=self.repair.remote, transfer=self.repair.transfer, state_dir=state_dir,
            integrity=self.repair.integrity,
        )  # fmt: skip
        async with opened as source:
            recorded = Snapshot(
                table=manifest.table, pinned={}, version=header.version or header.part_of,
                folder=from_json(header.folder),
            )  # fmt: skip
            snapshot = await source.adopt(recorded)
            self._refuse_another_way(ref, snapshot)
            await blocking(self._check_space, rows)
            await self._fetch(source, snapshot, rows)

    def _refuse_another_way(self, ref: SourceRef, snapshot: Snapshot) -> None:
        header = self.record.manifest.header
        if what_identities_mean(ref, snapshot) == header.source:
            return
        *_, endpoint = json.loads(header.source)
        raise UsageError(
            f"it was staged from {show(str(endpoint).encode())}, which is not where the source is reached now",
            where=ref.text, hint="name the endpoint with --endpoint-url",
        )  # fmt: skip

    def _check_space(self, rows: array[int]) -> None:
        free_bytes, free_inodes, block_bytes = self.workspace.free()
        table = self.record.manifest.table
        move = Counts(objects=len(rows), bytes=table.sum_sizes(rows))
        total = Counts(objects=len(table), bytes=table.total_bytes)
        planned = Plan(
            fetch=rows, keep=Counts(), total=total, move=move, directories=0,
            disk_bytes=move.bytes + len(rows) * block_bytes,
        )  # fmt: skip
        check_space(planned, free_bytes, free_inodes, where=self.workspace.root)

    async def _fetch(self, source: Source, snapshot: Snapshot, rows: array[int]) -> None:
        _, state_fd, _ = self.workspace.descriptors()
        manifest = self.record.manifest
        if not self.unfinished:
            await blocking(set_aside, state_fd, durable=manifest.header.durable)
        counts = Counts(objects=len(rows), bytes=manifest.table.sum_sizes(rows))
        teller = Teller(self.sink, self.workspace.root, counts, self.repair.transfer)
        spared = await blocking(partial_names, state_fd)  # which of them are of use, the next sync knows
        try:
            await move(
                self.workspace, source, snapshot, rows, manifest.entries, manifest.order,
                header=replace(manifest.header, boot=boot_id()), teller=teller, tally=self.tally,
                preserve=manifest.header.preserve, spared=spared,
            )  # fmt: skip
        except ChangedError as error:
            hint = "the source has moved on: `stager sync` brings its new state"
            if self.unfinished:
                hint = what_finishes(self.staged, manifest.header.source)
            raise ChangedError("is not what was staged", where=error.where, hint=hint) from error
        for row in rows:
            path = os.fsdecode(manifest.table.key(row))
            self.sink(Found(source=self.workspace.root, path=path, what="repaired"))

    def _publish(self, checkpoint: Checkpoint, rows: array[int]) -> None:
        """The receipt comes back when there was one: without it the tree was not whole before either. What it says of
        the source and of what was wanted holds as before; what was moved and graded is as it is now.
        """
        _, state_fd, _ = self.workspace.descriptors()
        entries = self.record.manifest.entries
        header = replace(self.record.manifest.header, boot=boot_id())
        publish_manifest(state_fd, header, entries, checkpoint=checkpoint)
        if self.before is None:
            return
        told = {
            "moved": Counts(objects=len(rows), bytes=entries.table.sum_sizes(rows)),
            "continued_bytes": self.tally.continued_bytes,
            "read_back_bytes": self.tally.read_back_bytes,
            "grades": entries.grades(),
            "unverified": entries.whys(),
            "deleted": Counts(),
            "seconds": round(time.monotonic() - self.started, 3),
            "boot": header.boot,
            "durable": header.durable,
        }
        receipt = {**self.before, **msgspec.to_builtins(told)}
        publish_receipt(state_fd, receipt, spared=partial_names(state_fd), durable=header.durable)


def _source_of(header_source: str) -> SourceRef:
    """The source that a manifest or journal names. MsgspecError: none."""
    scheme: Literal["s3", "git", "file"]
    scheme, location, subdir, _ = msgspec.json.decode(
        header_source, type=tuple[Literal["s3", "git", "file"], str, str, str]
    )
    below = f"#subdir={subdir}" if subdir else ""
    text = {"s3": "s3://", "git": "git+", "file": "file://"}[scheme] + location + below
    return SourceRef(scheme=scheme, location=location, subdir=subdir or None, text=text)


def _refuse_anothers(state_fd: int, where: str) -> None:
    """Whoever wrote the manifest says what is fetched with this user's rights."""
    if os.fstat(state_fd).st_uid != os.geteuid():
        raise HostError("was staged by another user", where=where, hint="let that user repair it, or sync it yourself")
