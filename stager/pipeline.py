"""One source into one directory: the order of the stages, and nothing else.

list -> judge names -> recall and compare -> check space -> fetch -> manifest -> receipt.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import ipaddress
import json
import os
import time
from collections.abc import Callable
from typing import Final, Literal, cast
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from stager._native import Entries, KeyOrder
from stager.bottleneck import Phases, Usage, find_bottleneck
from stager.config import Remote
from stager.errors import ChangedError, UsageError
from stager.events import Finished, Listed, Planned, Sink, Started, Warned, nowhere
from stager.host.commit import Commit
from stager.host.journal import JOURNAL_NAME, Journal
from stager.host.judge import judge
from stager.host.mounts import lies_within
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.workspace import STATE_NAME, Workspace, boot_id
from stager.manifest import Header
from stager.model import Counts, DatasetReceipt, Grade, SourceRef
from stager.names import Names, bad_keys_error, to_json
from stager.progress import Teller
from stager.sources.base import Earlier, Landing, Snapshot, Source
from stager.stages.fetch import fetch
from stager.stages.pin import Pinning
from stager.stages.plan import Plan, check_space, plan
from stager.stages.publish import commit_tree, publish_tree, withdraw
from stager.stages.recall import Recalled, Recorded, read_manifest, read_table, recall
from stager.transfer import Transfer

__all__ = ["SyncOptions", "open_source", "sync", "travels_in_the_open", "what_identities_mean"]

_LISTED_AGAIN: Final = 2
_OPEN_WARNING: Final = "plain http to another host: whoever is on the way can change the data and its ETags"
_BLOCK_BYTES: Final = 4096  # what a dry run into a directory that is not there yet assumes of its file system

# A scheme's module is imported when a source of it is opened.
# Each class is made with (ref, *, remote: Remote | None, transfer: Transfer) and is a `sources.base.Source`; those of
# _WORKING also with state_dir, a private directory on the destination's disk that is there when they are entered.
_SOURCES: Final = {
    "s3": ("stager.sources.s3", "S3Source"),
    "git": ("stager.sources.git", "GitSource"),
    "file": ("stager.sources.local", "LocalSource"),
}
_WORKING: Final = frozenset({"git"})


class SyncOptions(Struct, frozen=True, kw_only=True):
    """How to sync. ``state_dir``: where manifest, journal and receipt live, None for DST/.stager.

    ``verify``: hash what is there again instead of believing size, mtime and ctime. ``on_change``: "retry"
    lists the source again, at most twice, when something changed while it was copied. ``fsync``: all has reached the
    disk before the receipt is written.
    """

    remote: Remote | None = None
    state_dir: str | None = None
    on_bad_key: Literal["fail", "skip"] = "fail"
    dry_run: bool = False
    verify: bool = False
    pinning: Pinning = Pinning()
    on_change: Literal["fail", "retry"] = "fail"
    fsync: bool = False


def open_source(
    ref: SourceRef, *, remote: Remote | None, transfer: Transfer, state_dir: str | None = None
) -> Source:
    """The source of a reference that is copied. Raises `UsageError` for one that is not (``bind:``).

    ``state_dir``: where a source may work that needs disk space of its own; None: in the user's scratch.
    """
    if ref.scheme not in _SOURCES:
        raise UsageError("this kind of source is not copied", where=ref.text, hint="use it in a job, as a bind")
    module, name = _SOURCES[ref.scheme]
    make = cast("Callable[..., Source]", getattr(importlib.import_module(module), name))
    if ref.scheme in _WORKING:
        return make(ref, remote=remote, transfer=transfer, state_dir=state_dir)
    return make(ref, remote=remote, transfer=transfer)


async def sync(
    ref: SourceRef,
    destination: str,
    *,
    transfer: Transfer,
    options: SyncOptions | None = None,
    sink: Sink = nowhere,
) -> DatasetReceipt:
    """Make ``destination`` hold what the source holds; foreign files stay. Returns the receipt that was written.

    Several may run at once, on one ``transfer``. Raises the errors of `Source.snapshot` and `Source.fetch`,
    `BadKeysError`, `NoSpaceError`, `HostError`, `UsageError`. Whatever it raises, no file is half visible, and
    running it again continues.
    """
    options = options or SyncOptions()
    options.pinning.check(list_again=options.on_change == "retry")
    started = time.monotonic()
    state_dir = None if options.dry_run else _state_of(destination, options)
    await blocking(_refuse_state_in_source, ref, options.state_dir)
    opened = open_source(ref, remote=options.remote, transfer=transfer, state_dir=state_dir)
    workspace = await blocking(Workspace, destination, options.state_dir, read_only=options.dry_run)
    commit = None
    try:
        if options.fsync and not options.dry_run:
            commit = await blocking(Commit, workspace.root, workspace.descriptors()[0])
        async with opened as source:
            one = _Sync(ref, options, transfer, sink, source, workspace, started, commit)
            for _ in range(_LISTED_AGAIN if options.on_change == "retry" else 0):
                try:
                    return await one.run()
                except ChangedError as error:
                    sink(Warned(source=ref.text, text=f"the source changed, and is listed again ({error})"))
            return await one.run()
    finally:
        if commit is not None:
            commit.close()
        await blocking(workspace.close)


class _Sync(Struct, frozen=True):
    """One `sync` under way."""

    ref: SourceRef
    options: SyncOptions
    transfer: Transfer
    sink: Sink
    source: Source
    workspace: Workspace
    started: float
    commit: Commit | None = None

    async def run(self) -> DatasetReceipt:
        self.sink(Started(source=self.ref.text))
        manifest = await blocking(read_manifest, self.workspace.state_fd)
        snapshot = await self.options.pinning.snapshot(self.source, self.ref, self._earlier(manifest))
        listed = time.monotonic()
        total = Counts(objects=len(snapshot.table), bytes=snapshot.table.total_bytes)
        self.sink(Listed(source=self.ref.text, total=total))
        if travels_in_the_open(snapshot.pinned.get("endpoint", "")) and self.source.capabilities.grade != Grade.A:
            self.sink(Warned(source=self.ref.text, text=_OPEN_WARNING))
        for text in snapshot.warnings:
            self.sink(Warned(source=self.ref.text, text=text))
        order = await stoppable(self._order, snapshot)
        names = await stoppable(self._judge, snapshot, order)
        version = "" if names.bad else snapshot.version
        header = Header(
            source=what_identities_mean(self.ref, snapshot), folder=to_json(snapshot.folder), boot=boot_id(),
            version=version, durable=self.commit is not None,
        )  # fmt: skip
        entries = Entries(snapshot.table)
        recalled = await stoppable(self._recall, manifest, entries, order, header)
        for text in recalled.warnings:
            self.sink(Warned(source=self.ref.text, text=text))
        planned = await stoppable(self._compare, entries, order, names)
        self.sink(Planned(source=self.ref.text, move=planned.move, keep=planned.keep, skipped=len(names.bad)))
        compared, used = time.monotonic(), self.transfer.stats()
        if not self.options.dry_run and planned.fetch:
            was_durable = manifest.header is not None and manifest.header.durable
            await blocking(withdraw, self.workspace.descriptors()[1], durable=was_durable)
            await self._fetch(snapshot, planned, entries, order, header)
        known = manifest.header
        holds = known is not None and replace(known, boot=header.boot, durable=header.durable) == header
        holds = holds and recalled.manifest_entries == planned.keep.objects and not planned.fetch
        if known is not None and holds:
            header = known
        elif self.commit is not None:
            await stoppable(commit_tree, self.commit, entries, self.workspace.descriptors()[1])
        receipt = self._receipt(snapshot, names, planned, entries, header)
        if not self.options.dry_run:
            await stoppable(self._publish, header, None if holds else entries, receipt)
        phases = Phases(
            listing_s=listed - self.started, comparing_s=compared - listed, moving_s=time.monotonic() - compared
        )
        bottleneck = find_bottleneck(phases, Usage.between(used, self.transfer.stats()))
        self.sink(
            Finished(
                source=self.ref.text, receipt=receipt, dry_run=self.options.dry_run, bottleneck=bottleneck
            )
        )
        return receipt

    def _earlier(self, manifest: Recorded) -> Earlier | None:
        if manifest.header is None or not manifest.header.version:
            return None
        return Earlier(
            version=manifest.header.version, read_table=functools.partial(read_table, self.workspace.state_fd)
        )

    def _order(self, checkpoint: Checkpoint, snapshot: Snapshot) -> KeyOrder:
        return KeyOrder(snapshot.table, checkpoint)

    def _judge(self, checkpoint: Checkpoint, snapshot: Snapshot, order: KeyOrder) -> Names:
        margin = len(os.fsencode(self.workspace.root)) + 1
        fold = self.workspace.folds_names
        names = judge(snapshot.table, order, margin=margin, fold=fold, checkpoint=checkpoint)
        if names.bad and self.options.on_bad_key == "fail":
            raise bad_keys_error(names.bad, where=self.ref.text)
        return names

    def _recall(
        self, checkpoint: Checkpoint, manifest: Recorded, entries: Entries, order: KeyOrder, header: Header
    ) -> Recalled:
        return recall(
            self.workspace.state_fd,
            manifest,
            entries,
            order,
            source=header.source,
            boot=header.boot,
            verify=self.options.verify,
            only_durable=self.commit is not None,
            checkpoint=checkpoint,
        )

    def _compare(self, checkpoint: Checkpoint, entries: Entries, order: KeyOrder, names: Names) -> Plan:
        workspace, dry = self.workspace, self.options.dry_run
        if self.commit is not None and not workspace.fresh:
            self.commit.flush()
        free_bytes, free_inodes, block_bytes = (0, None, _BLOCK_BYTES) if dry else workspace.free()
        planned = plan(
            entries,
            order,
            names,
            workspace.root_fd,
            fresh=workspace.fresh,
            block_bytes=block_bytes,
            from_disk=self.commit is not None,
            checkpoint=checkpoint,
        )
        if not dry:
            check_space(planned, free_bytes, free_inodes, where=workspace.root)
        return planned

    async def _fetch(
        self, snapshot: Snapshot, planned: Plan, entries: Entries, order: KeyOrder, header: Header
    ) -> None:
        root_fd, state_fd, tmp_fd = self.workspace.descriptors()
        journal = await blocking(
            Journal, state_fd, JOURNAL_NAME, entries, order, source=header.source, boot=header.boot
        )
        landing = Landing(root_fd=root_fd, tmp_fd=tmp_fd, entries=entries, root=self.workspace.root)
        progress = Teller(self.sink, self.ref.text, planned.move, self.transfer)
        teller = asyncio.create_task(progress.tell_now_and_then())
        try:
            await fetch(self.source, snapshot, planned.fetch, landing, journal, progress.moved)
        except ChangedError as error:
            raise self.options.pinning.explained(error) from error
        finally:
            teller.cancel()
            progress.tell()
            journal.close()

    def _publish(
        self, checkpoint: Checkpoint, header: Header, entries: Entries | None, receipt: DatasetReceipt
    ) -> None:
        _, state_fd, _ = self.workspace.descriptors()
        publish_tree(state_fd, header, entries, receipt, durable=header.durable, checkpoint=checkpoint)

    def _receipt(
        self, snapshot: Snapshot, names: Names, planned: Plan, entries: Entries, header: Header
    ) -> DatasetReceipt:
        return DatasetReceipt(
            source=self.ref.text,
            destination=self.workspace.root,
            how="copy",
            pinned=snapshot.pinned,
            total=planned.total,
            moved=planned.move,
            grades=entries.grades(),
            seconds=round(time.monotonic() - self.started, 3),
            skipped=len(names.bad),
            boot="" if self.options.dry_run else boot_id(),
            durable=header.durable,
        )


def _state_of(destination: str, options: SyncOptions) -> str:
    return os.path.abspath(options.state_dir or os.path.join(destination, STATE_NAME))


def what_identities_mean(ref: SourceRef, snapshot: Snapshot) -> str:
    """Recorded identities say something only under the same text. The commit is not in it: blob ids are its own."""
    return json.dumps([ref.scheme, ref.location, ref.subdir or "", snapshot.pinned.get("endpoint", "")])


def _refuse_state_in_source(ref: SourceRef, state_dir: str | None) -> None:
    """It would be copied, and the source written to."""
    if ref.scheme != "file" or state_dir is None:
        return
    if lies_within(os.path.realpath(state_dir), os.path.realpath(ref.location)):
        raise UsageError("the state directory lies in the source", where=state_dir, hint="choose one outside of it")


def travels_in_the_open(endpoint: str) -> bool:
    """Whether data of an endpoint crosses a network as plain http, where anyone on the way may change it."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http" or parts.hostname is None or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return True
