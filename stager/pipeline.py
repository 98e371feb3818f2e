"""One source into one directory: the order of the stages, and nothing else.

list -> choose -> judge names -> recall and compare -> check space -> fetch -> manifest -> delete -> receipt.
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
from stager.deletion import Delete
from stager.errors import UsageError
from stager.events import Finished, Listed, Planned, Progress, Sink, Started, Warned, nowhere
from stager.filters import EVERYTHING, Filter
from stager.host.journal import JOURNAL_NAME, Journal
from stager.host.judge import judge
from stager.host.mounts import lies_within
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.workspace import STATE_NAME, Workspace, boot_id
from stager.leftovers import Leftovers, check_delete
from stager.manifest import Header
from stager.model import Counts, DatasetReceipt, Grade, SourceRef
from stager.names import Names, bad_keys_error
from stager.sources.base import Earlier, Landing, Snapshot, Source
from stager.stages.choose import Chosen, check_filter, choose
from stager.stages.fetch import fetch
from stager.stages.plan import Plan, check_space, plan
from stager.stages.publish import publish_manifest, publish_receipt, withdraw
from stager.stages.recall import Recalled, Recorded, read_manifest, read_table, recall
from stager.telling import tell_deleted, tell_fetched
from stager.transfer import Transfer

__all__ = ["SyncOptions", "open_source", "sync", "travels_in_the_open"]

_PROGRESS_EVERY_S: Final = 0.2
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

    ``verify``: hash what is there again instead of believing size, mtime and ctime. ``filter``: which files are wanted.
    ``delete``: what the source no longer has goes; None: it stays. ``names``: the sink is told each name of a dry run's
    plan, and of what was deleted.
    """

    remote: Remote | None = None
    state_dir: str | None = None
    on_bad_key: Literal["fail", "skip"] = "fail"
    dry_run: bool = False
    verify: bool = False
    filter: Filter = EVERYTHING
    delete: Delete | None = None
    names: bool = False


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
    """Make ``destination`` hold what the source holds and the filter wants; foreign files stay, unless ``delete`` says
    otherwise. Returns the receipt that was written.

    Several may run at once, on one ``transfer``. Raises the errors of `Source.snapshot` and `Source.fetch`,
    `BadKeysError`, `NoSpaceError`, `HostError`, `UsageError`. Whatever it raises, no file is half visible, and
    running it again continues.
    """
    options = options or SyncOptions()
    started = time.monotonic()
    state_dir = None if options.dry_run else options.state_dir or os.path.join(destination, STATE_NAME)
    await blocking(check_delete, options.delete, options.filter, destination)
    await blocking(_refuse_state_in_source, ref, options.state_dir)
    opened = open_source(ref, remote=_remote(options), transfer=transfer, state_dir=state_dir)
    workspace = await blocking(Workspace, destination, options.state_dir, read_only=options.dry_run)
    try:
        async with opened as source:
            return await _Sync(ref, options, transfer, sink, source, workspace, started).run()
    finally:
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

    async def run(self) -> DatasetReceipt:
        self.sink(Started(source=self.ref.text))
        check_filter(self.options.filter, self.source.capabilities, where=self.ref.text)
        manifest = await blocking(read_manifest, self.workspace.state_fd)
        leftovers = Leftovers(self.workspace, self.options.filter, self.options.delete)
        await blocking(leftovers.refuse, manifest)
        whole = await self.source.snapshot(self._earlier(manifest), self.options.filter.wants_path())
        listed = time.monotonic()
        total = Counts(objects=len(whole.table), bytes=whole.table.total_bytes)
        self.sink(Listed(source=self.ref.text, total=total))
        await blocking(leftovers.refuse_empty, whole.table)
        chosen = await stoppable(self._choose, whole)
        version = "" if chosen.left_out.objects else whole.version
        snapshot = replace(whole, table=chosen.table, version=version)
        if travels_in_the_open(snapshot.pinned.get("endpoint", "")) and self.source.capabilities.grade != Grade.A:
            self.sink(Warned(source=self.ref.text, text=_OPEN_WARNING))
        for text in (*snapshot.warnings, *chosen.warnings):
            self.sink(Warned(source=self.ref.text, text=text))
        order = await stoppable(self._order, snapshot)
        names = await stoppable(self._judge, snapshot, order)
        version = "" if names.bad else snapshot.version
        header = Header(source=self._what_identities_mean(snapshot), boot=boot_id(), version=version)
        entries = Entries(snapshot.table)
        recalled = await stoppable(self._recall, manifest, entries, order, header)
        again, warnings = await stoppable(
            leftovers.gather, manifest, recalled, entries, order, names, header, verify=self.options.verify
        )
        for text in (*recalled.warnings, *warnings):
            self.sink(Warned(source=self.ref.text, text=text))
        planned = await stoppable(self._compare, entries, order, names)
        for text in await stoppable(leftovers.plan, whole.table, order, manifest):
            self.sink(Warned(source=self.ref.text, text=text))
        del whole  # what was left out takes no memory while the rest moves
        self.sink(
            Planned(
                source=self.ref.text, move=planned.move, keep=planned.keep, skipped=len(names.bad),
                left_out=chosen.left_out, delete=leftovers.deletion.counts,
            )
        )  # fmt: skip
        if self.options.dry_run and self.options.names:
            await tell_fetched(self.sink, self.ref.text, snapshot.table, planned.fetch)
            await tell_deleted(self.sink, self.ref.text, leftovers.deletion.files)
        leftovers.check()
        compared, used = time.monotonic(), self.transfer.stats()
        deleted = leftovers.deletion.counts
        if not self.options.dry_run:
            await stoppable(leftovers.keep, planned.unknown)
            if planned.fetch or leftovers.deletion.files:
                await blocking(withdraw, self.workspace.descriptors()[1])
            if planned.fetch:
                await self._fetch(snapshot, planned, entries, order, header)
            holds = manifest.header == header and recalled.manifest_entries == planned.keep.objects and not again
            if planned.fetch or not holds:
                await stoppable(self._publish, header, entries)
            deleted = await self._delete(leftovers)
        receipt = self._receipt(snapshot, names, planned, entries, header)
        receipt = replace(
            receipt, filter=self.options.filter.described(), left_out=chosen.left_out, deleted=deleted
        )
        if not self.options.dry_run:
            await blocking(publish_receipt, self.workspace.descriptors()[1], receipt)
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
        if manifest.header is None or not manifest.header.version or self.options.delete is not None:
            return None  # and deleting rests on a listing of its own
        return Earlier(
            version=manifest.header.version, read_table=functools.partial(read_table, self.workspace.state_fd)
        )

    def _what_identities_mean(self, snapshot: Snapshot) -> str:
        """Recorded identities say something only under the same text. The commit is not in it: blob ids are its own."""
        where = [self.ref.scheme, self.ref.location, self.ref.subdir or "", snapshot.pinned.get("endpoint", "")]
        return json.dumps(where)

    def _choose(self, checkpoint: Checkpoint, whole: Snapshot) -> Chosen:
        wanted, where = self.options.filter, self.ref.text
        return choose(whole.table, wanted, self.source.capabilities, where=where, checkpoint=checkpoint)

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
            checkpoint=checkpoint,
        )

    def _compare(self, checkpoint: Checkpoint, entries: Entries, order: KeyOrder, names: Names) -> Plan:
        workspace, dry = self.workspace, self.options.dry_run
        free_bytes, free_inodes, block_bytes = (0, None, _BLOCK_BYTES) if dry else workspace.free()
        planned = plan(
            entries,
            order,
            names,
            workspace.root_fd,
            fresh=workspace.fresh,
            block_bytes=block_bytes,
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
        progress = _Progress(self.sink, self.ref.text, planned.move, self.transfer)
        teller = asyncio.create_task(progress.tell_now_and_then())
        try:
            await fetch(self.source, snapshot, planned.fetch, landing, journal, progress.moved)
        finally:
            teller.cancel()
            progress.tell()
            journal.close()

    def _publish(self, checkpoint: Checkpoint, header: Header, entries: Entries) -> None:
        _, state_fd, _ = self.workspace.descriptors()
        publish_manifest(state_fd, header, entries, checkpoint=checkpoint)

    async def _delete(self, leftovers: Leftovers) -> Counts:
        deleted = await stoppable(leftovers.remove)
        if self.options.names:
            await tell_deleted(self.sink, self.ref.text, deleted.files)
        for text in leftovers.what_stayed(deleted):
            self.sink(Warned(source=self.ref.text, text=text))
        return deleted.counts

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
            boot="" if self.options.dry_run else header.boot,
        )


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


def travels_in_the_open(endpoint: str) -> bool:
    """Whether data of an endpoint crosses a network as plain http, where anyone on the way may change it."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http" or parts.hostname is None or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return True


class _Progress:
    """Tells the sink how far a fetch is."""

    def __init__(self, sink: Sink, source: str, move: Counts, transfer: Transfer) -> None:
        self._sink = sink
        self._source = source
        self._move = move
        self._transfer = transfer
        self._started = time.monotonic()
        self._received_before = self._received()
        self._done = Counts()

    def moved(self, done: Counts) -> None:
        self._done = done

    async def tell_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_EVERY_S)
            self.tell()

    def tell(self) -> None:
        received = self._received() - self._received_before
        self._sink(
            Progress(
                source=self._source,
                done=self._done,
                move=self._move,
                received_bytes=min(self._move.bytes, max(received, self._done.bytes)),
                seconds=time.monotonic() - self._started,
            )
        )

    def _received(self) -> int:
        return self._transfer.stats().get("bytes_received", 0)
