"""A staged tree against its manifest, and what differs fetched again: the order of the stages, and nothing else.

read manifest -> hash every file -> look for foreign files; to repair: adopt what was recorded -> fetch -> publish.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from array import array
from contextlib import aclosing
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from stager.config import Integrity, Remote
from stager.errors import ChangedError, HostError, IntegrityError, UsageError
from stager.events import Found, Sink, Started, Verified, Warned, nowhere
from stager.host.atomic import is_there
from stager.host.commit import Commit
from stager.host.journal import JOURNAL_NAME
from stager.host.manifest_file import Manifest
from stager.host.partial import partial_names
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.workspace import Workspace, boot_id
from stager.model import Counts, SourceRef
from stager.moving import move
from stager.names import from_json, show
from stager.opening import open_source, what_identities_mean
from stager.progress import Teller
from stager.sources.base import Snapshot, Source, Tally
from stager.stages.inspect import Staged, found_foreign, found_odd, inspect_files, read_whole_manifest
from stager.stages.plan import Plan, check_space
from stager.stages.publish import commit_tree, publish_manifest, publish_receipt, read_receipt, withdraw
from stager.transfer import Transfer

__all__ = ["Repair", "verify"]

_UNFINISHED: Final = "there is no receipt: the last sync did not finish, and what it changed is told as a difference"


class Repair(Struct, frozen=True, kw_only=True):
    """Fetch again what is not as it was recorded, by way of ``transfer``, the recorded source reached as ``remote``."""

    transfer: Transfer
    remote: Remote | None = None
    integrity: Integrity = Integrity()


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

    With ``repair`` those are fetched again from the recorded source, as they were pinned, each as a whole, and nothing
    else is touched. Raises `IntegrityError` when files differ or are missing afterwards (``strict``: also when there
    are foreign ones), `HostError` when some cannot be read, `UsageError`, `BusyError`, and what `Source.adopt` and
    `Source.fetch` raise.
    """
    started = time.monotonic()
    workspace = await blocking(Workspace, staged.tree, staged.state, read_only=repair is None)
    try:
        if repair is None:
            await blocking(workspace.share)
        manifest = await stoppable(read_whole_manifest, workspace.state_fd, workspace.root)
        if workspace.root_fd is None:
            raise UsageError("is not there", where=staged.tree)
        sink(Started(source=workspace.root))
        if await blocking(read_receipt, workspace.state_fd) is None:
            sink(Warned(source=workspace.root, text=_UNFINISHED))
        tally, bad = await _inspect(manifest, workspace.state_fd, workspace.root_fd, workspace.root, sink)
        repaired = 0
        if repair is not None and bad:
            await _Repairing(repair, workspace, manifest, bad, sink, started).run()
            repaired = len(bad)
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
    _judge(verified, strict=strict)
    return verified


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


def _judge(verified: Verified, *, strict: bool) -> None:
    left = {"differ": verified.differs, "are missing": verified.missing}
    if not verified.repaired and any(left.values()):
        what = " and ".join(f"{number} files {word}" for word, number in left.items() if number)
        raise IntegrityError(what, where=verified.source, hint="fetch them again with --repair, or sync again")
    if not verified.repaired and verified.unreadable:
        raise HostError(f"{verified.unreadable} files cannot be read", where=verified.source)
    if strict and verified.foreign:
        raise IntegrityError(f"{verified.foreign} files are none of the dataset's", where=verified.source)


class _Repairing(Struct, frozen=True):
    """One repair under way; ``bad``: the rows to fetch, ascending."""

    repair: Repair
    workspace: Workspace
    manifest: Manifest
    bad: array[int]
    sink: Sink
    started: float

    async def run(self) -> None:
        root_fd, state_fd, _ = self.workspace.descriptors()
        _refuse_anothers(state_fd, self.workspace.root)
        if await blocking(is_there, state_fd, JOURNAL_NAME):
            raise UsageError("a run that changed this tree did not finish", where=self.workspace.root,
                             hint="`stager sync` finishes it, and puts right what differs")
        ref = _recorded_source(self.manifest, self.workspace.root)
        remote, transfer = self.repair.remote, self.repair.transfer
        commit = None
        if self.manifest.header.durable:
            commit = await blocking(Commit, self.workspace.root, root_fd)
        try:
            state_dir = os.readlink(f"/proc/self/fd/{state_fd}")
            opened = open_source(
                ref, remote=remote, transfer=transfer, state_dir=state_dir, integrity=self.repair.integrity
            )
            async with opened as source:
                header = self.manifest.header
                if ref.scheme == "git" and not header.version:
                    raise UsageError("the manifest does not say of which commit it is", where=self.workspace.root,
                                     hint="some files of it were left out: `stager sync` it again")
                recorded = Snapshot(
                    table=self.manifest.table, pinned={}, version=header.version, folder=from_json(header.folder)
                )
                snapshot = await source.adopt(recorded)
                self._refuse_another_way(ref, snapshot)
                before = await blocking(read_receipt, state_fd)
                await blocking(self._check_space)
                await self._fetch(source, snapshot)
            if commit is not None:
                await stoppable(commit_tree, commit, self.manifest.entries, state_fd)
            await stoppable(self._publish, before)
        finally:
            if commit is not None:
                commit.close()

    def _refuse_another_way(self, ref: SourceRef, snapshot: Snapshot) -> None:
        if what_identities_mean(ref, snapshot) == self.manifest.header.source:
            return
        *_, endpoint = json.loads(self.manifest.header.source)
        raise UsageError(
            f"it was staged from {show(str(endpoint).encode())}, which is not where the source is reached now",
            where=ref.text, hint="name the endpoint with --endpoint-url",
        )  # fmt: skip

    def _check_space(self) -> None:
        free_bytes, free_inodes, block_bytes = self.workspace.free()
        table = self.manifest.table
        move = Counts(objects=len(self.bad), bytes=table.sum_sizes(self.bad))
        total = Counts(objects=len(table), bytes=table.total_bytes)
        planned = Plan(
            fetch=self.bad, keep=Counts(), total=total, move=move, directories=0,
            disk_bytes=move.bytes + len(self.bad) * block_bytes,
        )  # fmt: skip
        check_space(planned, free_bytes, free_inodes, where=self.workspace.root)

    async def _fetch(self, source: Source, snapshot: Snapshot) -> None:
        _, state_fd, _ = self.workspace.descriptors()
        manifest = self.manifest
        spared = await blocking(partial_names, state_fd)  # what of it is of use, the next sync knows
        await blocking(withdraw, state_fd, durable=manifest.header.durable)
        counts = Counts(objects=len(self.bad), bytes=manifest.table.sum_sizes(self.bad))
        teller = Teller(self.sink, self.workspace.root, counts, self.repair.transfer)
        try:
            await move(
                self.workspace, source, snapshot, self.bad, manifest.entries, manifest.order,
                header=replace(manifest.header, boot=boot_id()), teller=teller, tally=Tally(), spared=spared,
            )  # fmt: skip
        except ChangedError as error:
            hint = "the source has moved on: `stager sync` brings its new state"
            raise ChangedError("is not what was staged", where=error.where, hint=hint) from error
        for row in self.bad:
            path = os.fsdecode(manifest.table.key(row))
            self.sink(Found(source=self.workspace.root, path=path, what="repaired"))

    def _publish(self, checkpoint: Checkpoint, before: dict[str, Any] | None) -> None:
        """The receipt comes back when there was one: without it the tree was not whole before either."""
        _, state_fd, _ = self.workspace.descriptors()
        header = replace(self.manifest.header, boot=boot_id())
        receipt = before and {
            **before, "moved": {"objects": len(self.bad), "bytes": self.manifest.table.sum_sizes(self.bad)},
            "grades": self.manifest.entries.grades(), "seconds": round(time.monotonic() - self.started, 3),
            "boot": header.boot, "durable": header.durable,
        }  # fmt: skip
        publish_manifest(state_fd, header, self.manifest.entries, checkpoint=checkpoint)
        if receipt is not None:
            spared = partial_names(state_fd)
            publish_receipt(state_fd, receipt, spared=spared, durable=header.durable)


def _recorded_source(manifest: Manifest, where: str) -> SourceRef:
    """The source a tree was staged from. Raises `UsageError` when the manifest does not name one."""
    scheme: Literal["s3", "git", "file"]
    try:
        scheme, location, subdir, _ = msgspec.json.decode(
            manifest.header.source, type=tuple[Literal["s3", "git", "file"], str, str, str]
        )
    except msgspec.MsgspecError as error:
        raise UsageError("the manifest names no source", where=where, hint="`stager sync` it again") from error
    text = {"s3": "s3://", "git": "git+", "file": "file://"}[scheme] + location
    return SourceRef(scheme=scheme, location=location, subdir=subdir or None, text=text)


def _refuse_anothers(state_fd: int, where: str) -> None:
    """Whoever wrote the manifest says what is fetched with this user's rights."""
    if os.fstat(state_fd).st_uid != os.geteuid():
        raise HostError("was staged by another user", where=where, hint="let that user repair it, or sync it yourself")
