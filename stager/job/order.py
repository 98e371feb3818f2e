"""A job from its specification to the end of its command: the order of the stages, and nothing else.

place -> check sources -> all datasets at once -> receipt -> run; `stager.job.end` has collect and remove.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from stager.caching import Lent
from stager.config import Remote
from stager.errors import NotFoundError, StagerError, from_os_error, told_of
from stager.events import Sink, nowhere
from stager.host.cache import Cache
from stager.host.memory import available_bytes
from stager.host.parts import make_part, part_path, sweep_parts
from stager.host.record import JobDirectory, rfc3339
from stager.host.scratch import known_scratches, remember_scratch
from stager.host.site import site_node
from stager.host.trash import sweep_trash
from stager.host.tree_cap import refuse_too_many_trees
from stager.job.command import command_of, context_of
from stager.job.copies import Brought, Copy, bring_copies, copies_of, options_of
from stager.job.end import OVERLAY, RECEIPT, collect_job, read_receipt, remove_copies, remove_data
from stager.job.environment import write_environment
from stager.job.keeps import claim_keeps, places_of
from stager.job.launching import keep_launch
from stager.job.plain import link_mounted, plain_command
from stager.job.progress import noting_progress
from stager.job.rank_wait import wait_for_ranks
from stager.job.resources import put_together, refuse_clashes
from stager.job.settings import Settings, keep_settings
from stager.job.storages import open_storages, release_storage
from stager.job.view import OWN, masked, view_of, workdir_of
from stager.launches import Launch
from stager.model import Counts, DatasetReceipt, ExitInfo, JobSpec, JobState, Mount, MountView
from stager.pipeline import SyncOptions
from stager.scheduler import identity_of, scheduler_facts
from stager.sources.bind import describe_bind
from stager.stages.mount import check_sources
from stager.stages.place import Placement
from stager.stages.ram_disk import ram_disk_of
from stager.stages.run import run_command
from stager.stages.run_plain import run_plain
from stager.stages.unknown import refuse_unknown
from stager.transfer import Transfer

__all__ = ["open_job", "run_job", "stage_job"]

_NONE: Final[Mapping[str, Cache]] = {}


def open_job(
    spec: JobSpec,
    job_id: str,
    placement: Placement,
    environ: Mapping[str, str],
    remote: Remote | None = None,
    *,
    created: bool = False,
    launch: str = "",
) -> JobDirectory:
    """Make the job's directory and record, and the places of logs and results its own, before anything is moved or run.

    ``created``: by `stager.job.creating`, and it is started now. ``launch``: see `stager.host.record.Record`. An id may
    come again, as Slurm's requeue does: what the job that had it left is kept first. ``remote``: how S3 is reached
    where the job file names no remote.
    Raises `UsageError` (taken, bad [logs]), `HostError` (also: too many trees), `NoSpaceError`, `SourceError` of a
    place in S3; and `NotFoundError` and `AccessDeniedError` as `refuse_unknown`. Blocks.
    """
    refuse_unknown(spec)
    refuse_too_many_trees(site_node(), placement.scratch, job_id)
    places_of(spec, job_id=job_id, environ=environ, tops=(placement.scratch, *known_scratches(environ)))
    _keep_logs_of_earlier(placement.scratch, job_id)
    restart = identity_of(job_id, scheduler_facts(environ)).attempt
    job = JobDirectory.create(
        placement.scratch, job_id, spec.name, restart=restart, starts_created=created, launch=launch
    )
    remember_scratch(placement.scratch)  # now: of a long list one without jobs is forgotten
    try:
        claim_keeps(job, spec, remote, environ)
    except BaseException as error:
        with job:
            told, transient = told_of(error)
            job.fail(told, transient=transient)
        raise
    return job


def _keep_logs_of_earlier(scratch: str, job_id: str) -> None:
    try:
        earlier = JobDirectory.open(scratch, job_id)
    except NotFoundError:
        return
    with earlier:
        if earlier.record.state in (JobState.RUNNING, JobState.ENDED):
            collect_job(earlier)


async def stage_job(
    spec: JobSpec,
    job: JobDirectory,
    placement: Placement,
    *,
    transfer: Transfer,
    remote: Remote | None = None,
    save_listing: str | None = None,
    caches: Mapping[str, Cache] = _NONE,
    for_view: bool = False,
    sink: Sink = nowhere,
) -> MountView:
    """Bring every dataset and the code into the job's tree, all at once, and return the view to run in.

    ``remote``: how S3 is reached where the job file names no remote. ``save_listing``: a directory that gets what was
    listed of each S3 and Git source, as data/OWNER/NAME.jsonl and code.jsonl. ``caches``: trees that the user's jobs on
    this node share, by scratch directory; ``for_view``: they may be mounted, for the tree is used in the view alone.
    When one fails the others are cancelled, the record says why, and nothing is presented as ready. The receipt is
    written before the record says "ready".
    Raises what `stager.pipeline.sync` and `check_sources` raise; of several failures a permanent one.
    """
    copies = copies_of(spec, remote, save_listing)
    try:
        if JobState.CREATED not in job.record.times:
            await asyncio.to_thread(keep_settings, job, Settings(spec=spec, remote=remote))
        await asyncio.to_thread(_make_tree, job, placement, copies)
        storages = await asyncio.to_thread(open_storages, job, placement.scratch, os.environ)
        await asyncio.to_thread(write_environment, spec, job, os.environ)
        view = view_of(spec, job, placement.scratch, copies, storages)
        view = await asyncio.to_thread(check_sources, view)
        if not for_view:  # nothing is lent then: it is the view to the end
            await asyncio.to_thread(keep_launch, spec, job, view, workdir=workdir_of(spec))
        resources = [copy for copy in copies if copy.resource]
        await refuse_clashes(resources, transfer=transfer, scratch=placement.scratch)
        async with noting_progress(job, sink) as noted:
            brought = await bring_copies(
                copies,
                lambda copy: job.tree_of(copy.below),
                partial(_how, job, placement),
                transfer=transfer,
                caches=lambda copy: caches.get(placement.apart.get(copy.name, placement).scratch),
                in_view=for_view,
                sink=noted,
            )
        view = await asyncio.to_thread(_with_lent, view, copies, brought)
        await asyncio.to_thread(put_together, job, resources)
    except BaseException as error:
        await asyncio.shield(asyncio.to_thread(_give_up, job, error))
        raise
    told = [(copy, _in_view(copy, one.receipt)) for copy, one in zip(copies, brought, strict=True)]
    receipts = [receipt for copy, receipt in told if not copy.resource] + _mounted(view)
    receipt = {
        "schema": 1,
        "job": job.record.id,
        "name": spec.name,
        "placement": {"path": job.tree, **placement.told()},
        "datasets": receipts,
        "storage": {one.target: {"path": one.path, "told": one.told, "fallback": one.fallback} for one in storages},
        "resources": [receipt for copy, receipt in told if copy.resource],
        "times": {"staging": rfc3339(job.record.times[JobState.STAGING]), "ready": rfc3339(time.time())},
    }
    await asyncio.to_thread(job.write_json, RECEIPT, receipt)
    await asyncio.to_thread(job.advance, JobState.READY)
    return view


async def run_job(
    spec: JobSpec, job: JobDirectory, view: MountView, argv: Sequence[str], *, plain: bool = False,
    launch: Launch | None = None,
) -> ExitInfo:  # fmt: skip
    """Run the command in the view of a staged job; how it ended stands in record and receipt. ``plain``: without one.

    The sources are looked at once more before: a job whose view has gone meanwhile is given up like a failed staging.
    The view stays until the other processes of ``launch`` have ended too.
    Raises `CommandError` (not found, not executable), `UsageError` (a RAM disk larger than the memory), `MountError`,
    `NotFoundError`, `AccessDeniedError`.
    """
    command = await asyncio.to_thread(command_of, spec, job.record, argv, os.environ)
    try:
        checked = await asyncio.to_thread(_as_it_is_now, spec, job, view)
        if plain:
            await asyncio.to_thread(link_mounted, checked, job)
            command = await asyncio.to_thread(
                plain_command, spec, job, os.environ, tuple(argv), workdir=command.workdir
            )
    except BaseException as error:
        await asyncio.shield(asyncio.to_thread(_give_up, job, error))
        raise
    await asyncio.to_thread(job.advance, JobState.RUNNING)
    deadline = spec.limit.after(job.record.times[JobState.RUNNING])
    try:
        ended = await (run_plain(command, deadline=deadline) if plain else run_command(
            checked, command, context=context_of(spec, os.environ), note=job.keep_view, deadline=deadline,
            others=partial(wait_for_ranks, job.path, launch.ranks, deadline=deadline) if launch is not None else None,
        ))  # fmt: skip
    except StagerError as error:
        await asyncio.to_thread(_end, job, None, {"error": type(error).__name__, "message": str(error)})
        raise
    how = {
        "status": ended.status, "signal": ended.signal, "code": ended.code,
        "started": rfc3339(ended.started_s), "ended": rfc3339(ended.ended_s),
        **({"reason": "time limit"} if ended.limited else {}),
    }  # fmt: skip
    await asyncio.to_thread(_end, job, ended.code, how)
    return ended


def _as_it_is_now(spec: JobSpec, job: JobDirectory, view: MountView) -> MountView:
    """The view checked again, for things may have changed since; others' directories may have come into use."""
    disk = ram_disk_of(spec.tmp, available_bytes())
    return check_sources(replace(view, masked=masked(view.masked[0], job), ramdisk=disk))


def _make_tree(job: JobDirectory, placement: Placement, copies: Sequence[Copy]) -> None:
    """An empty tree. What an interrupted staging left is removed: its source may have been another, or have changed.

    What lies apart is a symlink in it, for who uses the tree without a view.
    """
    remove_data(job)
    sweep_trash(placement.scratch)
    scratches = {copy.below: placement.apart[copy.name].scratch for copy in copies if copy.name in placement.apart}
    paths = {scratch: part_path(scratch, job.record.id) for scratch in dict.fromkeys(scratches.values())}
    if scratches or job.record.parts:
        job.lie_in({below: paths[scratch] for below, scratch in scratches.items()})
    for scratch, path in paths.items():
        remember_scratch(scratch)
        sweep_parts(scratch)
        make_part(path, job.path, [below for below, where in scratches.items() if where == scratch])
    try:
        for below in (*OWN, *(copy.below for copy in copies)):
            if below in scratches:
                os.makedirs(os.path.dirname(os.path.join(job.tree, below)), mode=0o755, exist_ok=True)
                os.symlink(job.tree_of(below), os.path.join(job.tree, below))
            else:
                os.makedirs(os.path.join(job.tree, below), mode=0o755, exist_ok=True)
        for copy in copies:
            os.makedirs(job.state_of(copy.below), mode=0o700, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, doing="make the job's tree", where=error.filename or job.tree) from error


def _give_up(job: JobDirectory, error: BaseException) -> None:
    """The record says why; what was copied so far is no dataset and frees its space."""
    told, transient = told_of(error)
    job.fail(told, transient=transient)
    remove_copies(job)


def _how(job: JobDirectory, placement: Placement, copy: Copy) -> SyncOptions:
    scratch = placement.apart.get(copy.name, placement).scratch
    return replace(options_of(copy), state_dir=job.state_of(copy.below), scratch=scratch)


def _with_lent(view: MountView, copies: Sequence[Copy], brought: Sequence[Brought]) -> MountView:
    """What is kept in the place of copies that were not made. Blocks. Raises `HostError`, `NoSpaceError`."""
    lent = {copy.target: one.lent for copy, one in zip(copies, brought, strict=True) if one.lent is not None}
    mounts = [_mount_of(mount, lent[mount.target]) if mount.target in lent else mount for mount in view.mounts]
    return replace(view, mounts=tuple(mounts), uses=tuple(one.use.fd for one in lent.values()))


def _mount_of(mount: Mount, lent: Lent) -> Mount:
    if mount.read_only:
        return replace(mount, source=lent.tree, pinned=None)
    try:
        for name in OVERLAY:
            os.mkdir(os.path.join(mount.source, name), 0o755)
    except OSError as error:
        raise from_os_error(error, doing="make the job's tree", where=mount.source) from error
    return replace(mount, lower=lent.tree)


def _in_view(copy: Copy, receipt: DatasetReceipt) -> dict[str, Any]:
    told = msgspec.to_builtins(replace(receipt, destination=copy.target))
    return {"name": copy.name, **told, "placement": receipt.destination}


def _mounted(view: MountView) -> list[dict[str, Any]]:
    """Receipts of what is mounted, not copied."""
    receipts = []
    for mount in view.mounts:
        if mount.kind in ("bind", "nfs", "public"):
            pinned = {"address": mount.address} if mount.kind == "nfs" else describe_bind(mount.source)
            receipt = DatasetReceipt(
                source=mount.source, destination=mount.target, how=mount.kind, pinned=pinned,
                total=Counts(), moved=Counts(), grades={}, seconds=0.0,
            )  # fmt: skip
            name = mount.target.removeprefix("/data/").removeprefix("/public/")
            receipts.append({"name": name, **msgspec.to_builtins(receipt), "placement": mount.source})
    return receipts


def _end(job: JobDirectory, code: int | None, how: dict[str, Any]) -> None:
    job.advance(JobState.ENDED, exit_code=code)
    release_storage(job)
    receipt = read_receipt(job)
    receipt["exit"] = how
    receipt["times"] = {state: rfc3339(seconds) for state, seconds in job.record.times.items()}
    job.write_json(RECEIPT, receipt)
