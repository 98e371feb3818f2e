"""What is copied for a job, each as a sync of its own, all at once; by way of the node's cache where there is one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from stager.caching import CACHED, Lent, lend, open_cache, sync_through
from stager.config import GitOptions, Integrity, Remote
from stager.errors import StagerError
from stager.events import Event, Finished, Planned, Sink, nowhere
from stager.filters import EVERYTHING, Filter
from stager.host.cache import Cache
from stager.model import DatasetReceipt, JobSpec, SourceRef
from stager.pipeline import SyncOptions, sync
from stager.stages.pin import LISTED, Pinning
from stager.stages.place import Placement
from stager.stages.place_candidates import quota_in_force
from stager.transfer import Transfer
from stager.view_paths import TASK

__all__ = [
    "NOWHERE",
    "RESOURCE",
    "Brought",
    "Copy",
    "bring_copies",
    "caches_for",
    "copies_of",
    "is_cached",
    "options_of",
    "sync_copies",
]

NOWHERE: Final = "/nonexistent/stager"
"""For dry runs of copies into a job's tree, which is new: nothing of it is there yet."""

RESOURCE: Final = "resource["
"""What the names of resources begin with."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Copy:
    """One thing to copy into the job's tree."""

    name: str  # OWNER/NAME, "code", or "resource[N]"
    source: SourceRef
    below: str  # in tree/ and in state/
    target: str
    remote: Remote | None
    integrity: Integrity
    pinning: Pinning
    filter: Filter = EVERYTHING
    on_archived: Literal["fail", "skip"] = "fail"
    git: GitOptions = GitOptions()  # noqa: RUF009  (frozen)
    read_only: bool = False
    resource: bool = False  # one of those that are put together in TASK_PATH (`stager.job.resources`)


def caches_for(
    spec: JobSpec, placement: Placement, environ: Mapping[str, str], *, for_view: bool = False
) -> dict[str, Cache]:
    """The node's caches, by the scratch directories that a job lies in, where it has use for them; see
    `stager.caching.open_cache`.

    Raises as `quota_in_force`. Blocks.
    """
    sources = [copied.source for copied in (*spec.datasets, *spec.resources)]
    sources += [spec.code.source] if spec.code is not None else []
    if not any(source.scheme in CACHED for source in sources):
        return {}
    quota = quota_in_force(environ)
    places = {place.scratch: place.file_system for place in (placement, *placement.apart.values())}
    opened = {
        scratch: open_cache(scratch, file_system, for_view=for_view, quota=quota)
        for scratch, file_system in places.items()
    }
    return {scratch: cache for scratch, cache in opened.items() if cache is not None}


def copies_of(spec: JobSpec, remote: Remote | None, save_listing: str | None) -> list[Copy]:
    """All that is copied for a job; ``remote`` and ``save_listing`` as in `stage_job`."""

    def pinning(below: str, source: SourceRef, frozen: str | None) -> Pinning:
        if save_listing is None or frozen is not None or source.scheme not in LISTED:
            return Pinning(frozen=frozen)
        return Pinning(save_listing=os.path.join(save_listing, f"{below}.jsonl"))

    copies = [
        Copy(
            name=dataset.name, source=dataset.source, below=f"data/{dataset.name}", target=f"/data/{dataset.name}",
            remote=dataset.remote or remote, pinning=pinning(f"data/{dataset.name}", dataset.source, dataset.frozen),
            filter=dataset.filter, integrity=dataset.integrity, on_archived=dataset.on_archived, git=dataset.git,
            read_only=dataset.access == "read-only",
        )
        for dataset in spec.datasets
        if not dataset.source.is_mounted
    ]  # fmt: skip
    if spec.code is not None:
        source = spec.code.source
        copies.append(
            Copy(name="code", source=source, below="code", target="/code", remote=remote,
                  pinning=pinning("code", source, None), integrity=Integrity(), git=spec.code.git)
        )  # fmt: skip
    several = len(spec.resources) > 1
    copies += [
        Copy(
            name=resource.name, source=resource.source, below=f"resource/{number}",
            target=f"{TASK} [{number}]" if several else TASK, remote=resource.remote or remote,
            pinning=pinning(f"resource/{number}", resource.source, resource.frozen), filter=resource.filter,
            integrity=resource.integrity, on_archived=resource.on_archived, git=resource.git, resource=True,
        )
        for number, resource in enumerate(spec.resources, 1)
    ]  # fmt: skip
    return copies


class Brought(Struct, frozen=True, kw_only=True):
    """A copy that is there. ``lent``: the kept tree that is to be mounted in its place, or below what a job writes."""

    receipt: DatasetReceipt
    lent: Lent | None = None


async def bring_copies(
    copies: Sequence[Copy],
    where: Callable[[Copy], str],
    how: Callable[[Copy], SyncOptions],
    *,
    transfer: Transfer,
    caches: Callable[[Copy], Cache | None] = lambda _: None,
    in_view: bool = False,
    sink: Sink,
) -> list[Brought]:
    """As `sync_copies`, each by way of its cache, of ``caches``; ``in_view``: what is kept may be mounted. A tree with
    its history is the job's alone: what is kept of that are the packs in the mirror.
    """
    answered: list[asyncio.Task[object]] = []

    async def all_answer() -> None:
        """Nothing goes from the cache for a job that cannot go ahead: every source is asked before, once for all."""
        if not answered:
            answered.append(asyncio.create_task(_ask_all(copies, how, transfer)))
        await asyncio.shield(answered[0])

    async def bring(copy: Copy, sink: Sink) -> Brought:
        options, destination, cache = how(copy), where(copy), caches(copy)
        if cache is not None and is_cached(copy):
            if in_view and not copy.resource and (copy.read_only or cache.overlays):
                way = "read-only" if copy.read_only else "overlay"
                lent = await lend(
                    cache, copy.source, how=way, transfer=transfer, options=options, before_removing=all_answer,
                    sink=sink,
                )  # fmt: skip
                return Brought(receipt=replace(lent.receipt, destination=destination), lent=lent)
            receipt = await sync_through(
                cache, copy.source, destination, transfer=transfer, options=options, before_removing=all_answer,
                sink=sink,
            )  # fmt: skip
            return Brought(receipt=receipt)
        return Brought(receipt=await sync(copy.source, destination, transfer=transfer, options=options, sink=sink))

    try:
        return await _all_at_once(copies, bring, sink)
    finally:
        for task in answered:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _ask_all(copies: Sequence[Copy], how: Callable[[Copy], SyncOptions], transfer: Transfer) -> None:
    await sync_copies(
        copies,
        lambda copy: os.path.join(NOWHERE, copy.below),
        lambda copy: replace(how(copy), dry_run=True, state_dir=None),
        transfer=transfer,
        sink=nowhere,
    )


async def sync_copies(
    copies: Sequence[Copy],
    where: Callable[[Copy], str],
    how: Callable[[Copy], SyncOptions],
    *,
    transfer: Transfer,
    sink: Sink,
) -> list[DatasetReceipt]:
    """Sync all at once, each to the directory ``where`` and in the way ``how``, and return their receipts in order.

    Raises what `stager.pipeline.sync` raises, the copy's name in front; of several failures a permanent one.
    """

    async def bring(copy: Copy, sink: Sink) -> DatasetReceipt:
        return await sync(copy.source, where(copy), transfer=transfer, options=how(copy), sink=sink)

    return await _all_at_once(copies, bring, sink)


async def _all_at_once(
    copies: Sequence[Copy], bring: Callable[[Copy, Sink], Awaitable[Result]], sink: Sink
) -> list[Result]:
    async def bring_one(copy: Copy) -> Result:
        def tell(event: Event) -> None:
            """People know the place by its path in the view."""
            if isinstance(event, Finished):
                event = replace(event, receipt=replace(event.receipt, destination=copy.target))
            elif isinstance(event, Planned):
                event = replace(event, destination=copy.target)
            sink(event)

        try:
            return await bring(copy, tell)
        except StagerError as error:
            if not any(error.where == one.name or error.where.startswith(f"{one.name}: ") for one in copies):
                error.where = f"{copy.name}: {error.where}" if error.where else copy.name
            raise

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(bring_one(copy)) for copy in copies]
    except BaseExceptionGroup as several:
        raise _most_telling(several) from None
    return [task.result() for task in tasks]


def is_cached(copy: Copy) -> bool:
    """Whether a cache keeps it."""
    return copy.source.scheme in CACHED and not copy.git.history


def options_of(copy: Copy) -> SyncOptions:
    """How it is synced."""
    return SyncOptions(
        remote=copy.remote, pinning=copy.pinning, filter=copy.filter,
        integrity=copy.integrity, on_archived=copy.on_archived, git=copy.git,
    )  # fmt: skip


def _most_telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Our own bugs first, then what is permanent, then what may pass."""
    errors = list(_leaves(group))
    return min(errors, key=lambda error: (isinstance(error, StagerError), getattr(error, "retryable", False)))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Sequence[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
