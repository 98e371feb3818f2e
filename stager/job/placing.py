"""Where a job goes: its data is sized by a dry run where there is a choice to make, and only then."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from msgspec.structs import replace as changed

from stager.caching import kept_as, open_cache
from stager.config import Remote
from stager.errors import HostError, NoRoomError, NoSpaceError
from stager.events import Event, Planned, Sink, nowhere
from stager.host.cache import Generation, Kept
from stager.host.cache_items import items_in
from stager.host.record import JobDirectory, find_scratch
from stager.host.reservations import Need
from stager.host.scratch import used_scratches
from stager.job.copies import RESOURCE, Copy, copies_of, is_cached, options_of
from stager.job.planning import plan_job
from stager.model import JobSpec
from stager.placement import ANYWHERE, DeviceClass, Placed, Root, Wanted
from stager.reserving import hold
from stager.stages.place import Placement, place
from stager.stages.place_candidates import Candidates, asked_scratch, candidates, scratch_in
from stager.stages.place_policy import are_equal, best_for_all, choose_places, to_reserve, usable_for
from stager.transfer import Transfer

__all__ = [
    "find_candidates",
    "job_scratches",
    "kept_in",
    "look_into_job",
    "main_place",
    "must_be_sized",
    "must_be_spread",
    "names_in_cache",
    "open_known_job",
    "place_job",
    "place_sized",
    "size_job",
    "wishes",
    "with_kept",
]

_CHOICES: Final = 3  # of places, when others reserve them first


async def place_job(
    spec: JobSpec,
    job_id: str,
    asked: str | None,
    environ: Mapping[str, str],
    *,
    transfer: Transfer,
    remote: Remote | None = None,
    for_view: bool = False,
    cache: bool = True,
) -> Placement:
    """Choose and open the scratch for all of a job's data: the one that was asked for; the one where this job lies
    already, after a crash or when it is started again; else as `stager.stages.place_policy` says. ``for_view``: what is
    kept may be mounted; without ``cache`` it is no matter.

    Raises `NoRoomError`, `NoRootError`, and what `open_scratch`, the configuration and planning raise.
    """
    forced = wishes(spec)
    if asked_scratch(asked, environ) is not None and not forced:
        return await asyncio.to_thread(place, asked, environ)
    lies = await asyncio.to_thread(_lies_in, job_id, asked, environ)
    if lies is not None and not forced:
        return await asyncio.to_thread(place, lies, environ)
    names = names_in_cache(spec, remote) if cache else ()
    sized: list[Wanted] | None = None
    for attempt in range(_CHOICES):
        found = await asyncio.to_thread(find_candidates, spec, asked, environ)
        found = await asyncio.to_thread(with_kept, found, names, for_view=for_view)
        spread = for_view and must_be_spread(spec, found)
        sure = spread or must_be_sized(found, forced, names)
        wanted = [Wanted(name="", bytes=0, files=0, kept_as=names)]
        if sure:
            sized = sized or await size_job(spec, transfer=transfer, remote=remote)
            wanted = sized if cache else [changed(one, kept_as=()) for one in sized]
        placed = place_sized(found, wanted, sure=sure, spread=spread)
        if not placed:
            break
        opened = await asyncio.to_thread(_open_places, placed, lies, environ)
        try:
            await hold(transfer, [(scratch_in(one.root), Need(*to_reserve(one))) for one in placed])
        except NoSpaceError:  # somebody else has reserved it since
            if attempt == _CHOICES - 1:
                raise
            continue
        return opened
    return await asyncio.to_thread(place, asked, environ)


def main_place(placed: Sequence[Placed]) -> Placed:
    """Where the job itself lies: with most of its data, and in memory only when all of that lies there."""
    return max(placed, key=lambda one: (one.root.device_class is not DeviceClass.RAM, one.wanted.bytes))


def _open_places(placed: Sequence[Placed], lies: str | None, environ: Mapping[str, str]) -> Placement:
    """``lies``: where the job's directory is already."""
    opened = [(one, _open_place(one, environ)) for one in placed]
    main = next(where for one, where in opened if one is main_place(placed))
    if lies is not None:
        main = next((where for _, where in opened if where.scratch == lies), place(lies, environ))
    apart = {name: where for one, where in opened if where.scratch != main.scratch for name in one.names}
    apart = {name: where for name, where in apart.items() if not name.startswith(RESOURCE)}  # they lie where results do
    return replace(main, apart=apart)


def _open_place(placed: Placed, environ: Mapping[str, str]) -> Placement:
    opened = place(scratch_in(placed.root), environ)
    return replace(opened, device_class=str(placed.root.device_class), why=placed.why)


def must_be_spread(spec: JobSpec, found: Candidates) -> bool:
    """Whether its datasets could share several disks."""
    copied = [dataset for dataset in spec.datasets if not dataset.source.is_mounted]
    return len(copied) + (spec.code is not None) > 1 and are_equal(found.roots)


def wishes(spec: JobSpec) -> list[str]:
    """The places that datasets insist on."""
    return [dataset.place for dataset in spec.datasets if dataset.place != ANYWHERE]


def find_candidates(spec: JobSpec, asked: str | None, environ: Mapping[str, str]) -> Candidates:
    """The places that this job's data could lie in. Blocks. Raises as `candidates`."""
    return candidates(asked, environ, wished=[wish for wish in wishes(spec) if wish.startswith("/")])


def names_in_cache(spec: JobSpec, remote: Remote | None) -> tuple[str, ...]:
    """What a cache would call the copies of a job that it keeps."""
    return tuple(name for copy in copies_of(spec, remote, None) for name in _names_of(copy))


def with_kept(found: Candidates, names: Sequence[str], *, for_view: bool) -> Candidates:
    """The same, and what the caches there have; ``names``: of what is wanted. Blocks."""
    return changed(found, roots=tuple(_with_kept(root, names, for_view=for_view) for root in found.roots))


def kept_in(root: Root, spec: JobSpec, remote: Remote | None) -> dict[str, Generation]:
    """What that root's cache has of a job's copies, by their targets. Blocks. Raises `HostError`."""
    lying = {item.name: item.path for item in root.kept}
    found = {
        copy.target: Kept(lying[name]).newest()
        for copy in copies_of(spec, remote, None)
        for name in _names_of(copy)
        if name in lying
    }
    return {target: generation for target, generation in found.items() if generation is not None}


def must_be_sized(found: Candidates, forced: Sequence[str], names: Sequence[str] = ()) -> bool:
    """Whether it depends on how much there is where it goes, or whether it may go there at all."""
    if forced or found.chosen.floor_from:
        return True
    return bool(usable_for(ANYWHERE, found.roots)) and best_for_all(found.roots, found.rules, names) is None


def place_sized(
    found: Candidates, wanted: Sequence[Wanted], *, sure: bool, spread: bool = False
) -> list[Placed]:
    """The places for ``wanted``, as `choose_places`; none: there is only the default, which says itself why it cannot
    be used.

    A floor that nobody configured decides between places and refuses none; without ``sure`` (see `must_be_sized`) there
    is nothing to decide.
    """
    if [root.origin for root in found.roots] == ["default"] and found.roots[0].problem:
        return []
    to_the_end = changed(found.rules, floor_share=0.0, floor_bytes=0)
    if not sure:
        return choose_places(found.roots, wanted, to_the_end, spread=spread)
    try:
        return choose_places(found.roots, wanted, found.rules, spread=spread)
    except NoRoomError:
        if found.chosen.floor_from:
            raise
    return choose_places(found.roots, wanted, to_the_end, spread=spread)


async def size_job(
    spec: JobSpec, *, transfer: Transfer, remote: Remote | None = None, names: bool = False, sink: Sink = nowhere
) -> list[Wanted]:
    """What each copy of a job takes on a disk, by a dry run that ``sink`` is told of; a job without any takes nothing.

    ``names`` and what is raised as in `stager.job.planning.plan_job`.
    """
    planned: dict[str, Planned] = {}

    def note(event: Event) -> None:
        if isinstance(event, Planned):
            planned[event.destination] = event
        sink(event)

    places = {f"/data/{dataset.name}": dataset.place for dataset in spec.datasets}
    await plan_job(spec, transfer=transfer, remote=remote, names=names, sink=note)
    return [
        Wanted(
            name=copy.name,
            bytes=planned[copy.target].disk_bytes,
            files=planned[copy.target].inodes,
            place=places.get(copy.target, ANYWHERE),
            kept_as=_names_of(copy),
        )
        for copy in copies_of(spec, remote, None)
    ] or [Wanted(name="a job without copies", bytes=0, files=0)]


def job_scratches(asked: str | None, environ: Mapping[str, str]) -> list[str]:
    """Where jobs of this user are looked for: in the scratch that was asked for, else in all that are known. Blocks.

    Raises what `open_scratch` raises for the one that was asked for.
    """
    if asked_scratch(asked, environ) is not None:
        return [place(asked, environ).scratch]
    return [os.path.realpath(path) for path in used_scratches()]


def open_known_job(job_id: str, asked: str | None, environ: Mapping[str, str]) -> JobDirectory:
    """A job that exists, wherever it lies. Raises as `JobDirectory.open`, and `UsageError`: in several. Blocks."""
    return JobDirectory.open(_scratch_of(job_id, asked, environ), job_id)


def look_into_job(job_id: str, asked: str | None, environ: Mapping[str, str]) -> JobDirectory:
    """The same to look at, while another stager is at work on it perhaps: nothing may be written to it."""
    return JobDirectory.look(_scratch_of(job_id, asked, environ), job_id)


def _scratch_of(job_id: str, asked: str | None, environ: Mapping[str, str]) -> str:
    scratches = job_scratches(asked, environ)
    return find_scratch(scratches, job_id) or (scratches[0] if scratches else place(asked, environ).scratch)


def _names_of(copy: Copy) -> tuple[str, ...]:
    return (kept_as(copy.source, options_of(copy)),) if is_cached(copy) else ()


def _with_kept(root: Root, names: Sequence[str], *, for_view: bool) -> Root:
    if root.problem:
        return root
    for scratch in dict.fromkeys((scratch_in(root), os.path.join(root.path, f"stager-{os.geteuid()}"))):
        with suppress(HostError):
            if kept := items_in(scratch):
                wanted = any(item.name in names for item in kept)
                cache = open_cache(scratch, root.file_system, for_view=for_view) if wanted else None
                return changed(root, kept=tuple(kept), shares=cache is not None and cache.shares)
    return root


def _lies_in(job_id: str, asked: str | None, environ: Mapping[str, str]) -> str | None:
    return find_scratch(job_scratches(asked, environ), job_id, removed=False)
