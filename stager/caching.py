"""A source into one directory by way of this node's cache: synced there, and from there shared with the destination.

The cache's tree is brought up to date first, as any sync does: that asks the source, with the user's own credentials,
what it has now, and fetches what is new. Of several that want the same tree one does so, the others wait for it and
find it done. Then the destination gets it as from any source, file by file, without its bytes being moved.

Where files cannot share blocks they are copied, and each byte is hashed on the way. The first job writes everything
twice then: 10,000 objects of 200 KB from a server on the same machine took it 3.5-4.0 s, 1.8-2.6 s without the cache,
and the second job 1.4-2.8 s (ext4, 2 cores). That is 0.8 s a GB, of pages that are still in memory, whatever the line;
over 1 Gb/s the fetch takes 8 s a GB, which nobody pays a second time. To keep a tree only once it was wanted twice
would spare the first job that, and let each of many that start together, as of an array, fetch all of it; a site whose
line is as fast as its disks has --no-cache. A copy needs as much room again: where there is less, nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from stager.amounts import about_bytes
from stager.deletion import Delete, Most
from stager.errors import ChangedError, NoSpaceError, StagerError
from stager.events import Event, Finished, Sink, Warned, nowhere
from stager.eviction import keep_to_quota, make_room
from stager.filters import EVERYTHING
from stager.host.cache import About, Cache, Generation, Kept
from stager.host.foreign_files import ForeignFiles
from stager.host.leases import Lease, LeaseLostError
from stager.host.memory import keep_cached_bytes
from stager.host.mounts import is_network
from stager.host.readers import Use
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.workspace import STATE_NAME
from stager.keeping import Amount, Quota
from stager.manifest import FORMER_NAME
from stager.model import Counts, DatasetReceipt, SourceRef
from stager.pipeline import sync
from stager.sources.kept import KeptTree
from stager.stages.pin import Pinning
from stager.stages.publish import publish_receipt
from stager.stages.recall import whole_manifest
from stager.sync_options import SyncOptions
from stager.transfer import Transfer

__all__ = ["CACHED", "Lent", "kept_as", "lend", "nothing_to_check", "open_cache", "sync_through"]

CACHED: Final = frozenset({"s3", "git"})
"""Schemes whose trees are kept; a directory of this host is nearer than any copy of it."""

Result = TypeVar("Result")
Check = Callable[[], Awaitable[None]]

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_TOLD: Final = ("commit", "ref", "asked", "version_id")
_ALL_OF_IT: Final = Delete(everything=True, most=Most(share=100_000))


async def nothing_to_check() -> None:
    """Removing costs nobody anything but time."""


class Lent(Struct, frozen=True, kw_only=True):
    """A kept tree, which nobody changes until the end of ``use``."""

    tree: str
    receipt: DatasetReceipt
    use: Use


def open_cache(
    scratch: str, file_system: str, *, for_view: bool = False, quota: Quota = Quota()  # noqa: B008  (frozen)
) -> Cache | None:
    """The cache of a scratch directory; None where it would cost more than it saves: it lies in memory; or where there
    can be none: what other nodes use too, of which nobody sees here whether they live. ``for_view``: trees are used in
    a job's view alone. Blocks.
    """
    if file_system in _IN_MEMORY or is_network(file_system):
        return None
    with suppress(StagerError):
        cache = Cache(scratch, for_view=for_view, quota=quota)
        cache.sweep()
        return cache
    return None


async def sync_through(
    cache: Cache,
    ref: SourceRef,
    destination: str,
    *,
    transfer: Transfer,
    options: SyncOptions | None = None,
    before_removing: Check = nothing_to_check,
    sink: Sink = nowhere,
) -> DatasetReceipt:
    """As `stager.pipeline.sync`, with what that raises; the receipt says what came out of the cache.

    When the disk is full, kept trees that nobody uses go, those first that were not used for the longest time, unless
    ``before_removing`` raises. Where it has no room for a tree that is kept and a copy of it, nothing is kept: this is
    `stager.pipeline.sync` then.
    """
    try:
        return await _making_room(
            cache, ref, options, lambda one: one.give(destination), transfer, before_removing, sink
        )
    except NoSpaceError as error:
        if cache.clones:
            raise
        await blocking(_give_up, cache, kept_as(ref, options or SyncOptions()))
        sink(Warned(source=ref.text, text=f"there is no room to keep it for the next job as well ({error.what})"))
        return await sync(ref, destination, transfer=transfer, options=options, sink=sink)


async def lend(
    cache: Cache,
    ref: SourceRef,
    *,
    how: str,
    transfer: Transfer,
    options: SyncOptions | None = None,
    before_removing: Check = nothing_to_check,
    sink: Sink = nowhere,
) -> Lent:
    """The kept tree itself, brought up to date, to be mounted; ``how`` goes into the receipt. As `sync_through`."""
    return await _making_room(cache, ref, options, lambda one: one.lend(how), transfer, before_removing, sink)


async def _making_room(
    cache: Cache,
    ref: SourceRef,
    options: SyncOptions | None,
    work: Callable[[_Through], Awaitable[Result]],
    transfer: Transfer,
    before_removing: Check,
    sink: Sink,
) -> Result:
    options = options or SyncOptions()
    options.check()
    entry = await blocking(cache.entry, kept_as(ref, options))
    while True:
        try:
            done = await work(_Through(cache, entry, ref, transfer, options, sink))
            break
        except NoSpaceError as error:
            await before_removing()
            went = await blocking(make_room, cache, entry.name, _missing(error))
            if not went:
                raise
            for item in went:
                text = f"for want of room the cache has no longer {item.source} ({about_bytes(item.bytes)})"
                sink(Warned(source=ref.text, text=text))
    if too_much := await blocking(keep_to_quota, cache, cache.quota, entry.name):
        sink(Warned(source=ref.text, text=f"{too_much}; stager cache unpin lets it go"))
    return done


def _missing(error: NoSpaceError) -> Amount | None:
    """What would do; None: nobody knows, the disk was full in the middle."""
    missing = Amount(error.missing_bytes, error.missing_inodes)
    return missing if any(missing) else None


def _give_up(cache: Cache, name: str) -> None:
    """A tree that takes the room of the copy that was wanted of it goes, unless somebody uses or wants it. Blocks."""
    entry = cache.entry(name)
    about = entry.about()
    if about is None or not about.is_pinned:
        entry.remove()


def kept_as(ref: SourceRef, options: SyncOptions) -> str:
    """The name that a tree of this is kept under: of all that shapes it."""
    shape = [
        ref, options.remote, options.filter.described(), options.git, options.integrity, options.pinning.frozen,
        options.on_archived, options.on_bad_key, options.preserve,
    ]  # fmt: skip
    return hashlib.sha256(msgspec.json.encode(shape)).hexdigest()[:40]


class _Through:
    """One `sync_through` under way."""

    def __init__(
        self, cache: Cache, entry: Kept, ref: SourceRef, transfer: Transfer, options: SyncOptions, sink: Sink
    ) -> None:
        self._clones = cache.clones
        self._copies = False  # whether the tree is going to be copied
        self._entry = entry
        self._ref = ref
        self._transfer = transfer
        self._options = options
        self._sink = sink
        self._started = time.monotonic()
        self._end: Finished | None = None

    async def give(self, destination: str) -> DatasetReceipt:
        self._copies = not self._clones
        try:
            return await self._give(destination, verify=self._options.verify)
        except ChangedError:  # by somebody between two looks: all of it is hashed again, and fetched where it differs
            return await self._give(destination, verify=True)

    async def lend(self, how: str) -> Lent:
        generation, filled, use = await self._take(verify=self._options.verify, exact=True)
        told = self._told(filled, filled.total, how, filled.total.bytes)
        self._end_with(told)
        return Lent(tree=generation.tree, receipt=told, use=use)

    async def _take(self, *, verify: bool, exact: bool = False) -> tuple[Generation, DatasetReceipt, Use]:
        """The generation to use, how that came about, and what holds it. ``exact``: nothing else lies in its tree."""
        while True:
            async with self._entry.alone() as lease:
                with suppress(LeaseLostError):  # to somebody who has begun anew: what there is then is gone on with
                    return await lease.keep(self._take_alone(lease, verify, exact))

    async def _take_alone(self, lease: Lease, verify: bool, exact: bool) -> tuple[Generation, DatasetReceipt, Use]:
        generation, filled = await self._bring_up_to_date(lease, verify, exact)
        held: list[Use] = []
        try:
            await blocking(lambda: held.append(generation.hold(lease)))  # not lost when this is cancelled
            await blocking(self._tell_of, generation, filled)
            await blocking(self._entry.trim, lease, generation)
        except BaseException:
            for use in held:
                use.close()
            raise
        return generation, filled, held[0]

    async def _bring_up_to_date(self, lease: Lease, verify: bool, exact: bool) -> tuple[Generation, DatasetReceipt]:
        """The generation to take, and how that came about."""
        generation = await blocking(self._entry.given, lease)
        if generation is not None and not await blocking(generation.is_free):
            told = await self._fill(generation, dry_run=True)
            if not told.moved.objects and not await stoppable(_has_more, generation, exact):
                return generation, told
            generation = await self._begin_beside(lease, generation, told.pinned)
        if generation is None:
            generation = await self._begin(lease)
        filled = await self._fill(generation, verify=verify)
        if await stoppable(_has_more, generation, exact):
            deleted = (await self._fill(generation, delete=_ALL_OF_IT, prove_access=False)).deleted
            filled = replace(filled, deleted=deleted)
        return generation, filled

    async def _fill(self, generation: Generation, **how: Any) -> DatasetReceipt:
        how = {"prove_access": True, "room_for_two": self._copies, **how}
        options = replace(self._options, state_dir=generation.state, **how)
        return await sync(self._ref, generation.tree, transfer=self._transfer, options=options, sink=self._tell)

    async def _begin(self, lease: Lease) -> Generation:
        """A new generation, with what there is of one that somebody who does not answer may be at work in."""
        new = await blocking(self._entry.begin, lease)
        before = await blocking(self._entry.before, lease)
        if before is not None:
            with suppress(StagerError):
                told = await self._fill(new, dry_run=True)
                await self._share_kept(before, new, told.pinned)
        return new

    async def _begin_beside(self, lease: Lease, used: Generation, pinned: Mapping[str, Any]) -> Generation:
        """A new generation with what the one that somebody reads from has."""
        new = await blocking(self._entry.begin, lease)
        await self._share_kept(used, new, pinned)
        return new

    async def _share_kept(self, used: Generation, new: Generation, pinned: Mapping[str, Any]) -> None:
        if not await blocking(used.is_of_this_boot):
            return
        await self._share(used, new.tree, replace(self._options, state_dir=new.state), pinned, nowhere)

    async def _give(self, destination: str, *, verify: bool) -> DatasetReceipt:
        generation, filled, use = await self._take(verify=verify)
        try:
            receipt, shared = await self._share(
                generation, destination, self._options, filled.pinned, self._tell_warnings
            )
        finally:
            use.close()
        how = "clone" if shared or (self._clones and not receipt.moved.bytes) else "copy"
        told = replace(
            self._told(filled, receipt.total, how, shared),
            destination=receipt.destination, deleted=receipt.deleted, durable=receipt.durable,
        )  # fmt: skip
        await blocking(_publish, self._options.state_dir or os.path.join(destination, STATE_NAME), told)
        self._end_with(told)
        return told

    def _told(self, filled: DatasetReceipt, total: Counts, how: str, shared: int) -> DatasetReceipt:
        here = Counts(objects=total.objects - filled.moved.objects, bytes=total.bytes - filled.moved.bytes)
        return replace(
            filled,
            reused=filled.reused + here,
            cache={"how": how, "shared_bytes": shared, "not_fetched_bytes": here.bytes},
            seconds=round(time.monotonic() - self._started, 3),
        )

    def _end_with(self, receipt: DatasetReceipt) -> None:
        assert self._end is not None
        self._sink(replace(self._end, receipt=receipt, dry_run=False))

    async def _share(
        self, kept: Generation, destination: str, options: SyncOptions, pinned: Mapping[str, Any], sink: Sink
    ) -> tuple[DatasetReceipt, int]:
        cached_bytes = await blocking(keep_cached_bytes, self._transfer.limits.keep_cached_bytes)
        source = KeptTree(
            kept.tree, kept.state, pinned=pinned, shares_blocks=self._clones, keep_cached_bytes=cached_bytes
        )
        options = replace(options, pinning=Pinning(), filter=EVERYTHING, verify=False, dry_run=False)
        receipt = await sync(
            self._ref, destination, transfer=self._transfer, options=options, source=source, sink=sink
        )
        return receipt, source.shared_bytes

    def _tell(self, event: Event) -> None:
        """Of the tree's own sync all but its end, which is not the end."""
        if isinstance(event, Finished):
            self._end = event
        else:
            self._sink(event)

    def _tell_warnings(self, event: Event) -> None:
        if isinstance(event, Warned):
            self._sink(event)

    def _tell_of(self, generation: Generation, filled: DatasetReceipt) -> None:
        """Blocks. Raises `HostError`, `NoSpaceError`."""
        known = self._entry.about()
        is_same = known is not None and known.files == filled.total.objects and not filled.moved.objects
        about = About(
            source=self._ref.text,
            wanted={**filled.filter, **{name: filled.pinned[name] for name in _TOLD if name in filled.pinned}},
            files=filled.total.objects,
            bytes=filled.total.bytes,
            inodes=known.inodes if known is not None and is_same else generation.count_inodes(),
            grades=dict(filled.grades),
            is_pinned=known is not None and known.is_pinned,
        )
        self._entry.tell(about)


def _has_more(checkpoint: Checkpoint, generation: Generation, exact: bool) -> bool:
    """Whether files lie in it that the source has no longer; ``exact``: or files that nobody knows."""
    if os.path.exists(os.path.join(generation.state, FORMER_NAME)):
        return True
    if not exact:
        return False
    with ExitStack() as held:
        fds = []
        for path in (generation.tree, generation.state):
            fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
            held.callback(os.close, fds[-1])
        manifest = whole_manifest(fds[1])
        return manifest is None or bool(ForeignFiles(fds[0], manifest.order).some(checkpoint, 1))


def _publish(state_dir: str, receipt: DatasetReceipt) -> None:
    fd = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        publish_receipt(fd, receipt, durable=receipt.durable)
    finally:
        os.close(fd)
