"""A job made now and started later: what can change until then is pinned, as `stager create` finds it.

::

    SCRATCH/jobs/ID/
        settings.json           as it was asked for
        created/settings.json   as it was found: written last, and believed only then
        created/code/           the directory of [code], copied
        created/listings/       data/OWNER/NAME.jsonl: what was listed of S3

Git refs, of the code too, become the commits they are at. What a directory or a bind holds is read when the job starts:
nothing of this host can be pinned without a copy.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from stager.config import Remote
from stager.errors import HostError, NotFoundError, UsageError, from_os_error
from stager.events import Sink, nowhere
from stager.host.forgetting import forget_job
from stager.host.record import JobDirectory, record_at
from stager.host.scratch import is_private
from stager.host.trash import remove_tree
from stager.job.copies import NOWHERE, Copy, copies_of, options_of, sync_copies
from stager.job.end import CREATED, remove_creation
from stager.job.look import look_at_job
from stager.job.settings import SETTINGS, Settings, keep_settings, read_settings
from stager.job.view import live_mounts
from stager.model import JOB_ID, DatasetReceipt, DatasetSpec, JobSpec, JobState, MountView, SourceRef
from stager.stages.mount import check_sources
from stager.stages.pin import Pinning
from stager.stages.place import Placement
from stager.sync_options import SyncOptions
from stager.transfer import Transfer

__all__ = ["Created", "create_job", "find_created", "live_view", "settings_of"]

_UNFINISHED: Final = "its creation was not finished"


class Created(Struct, frozen=True, kw_only=True):
    """A job that was created, as it was found then."""

    job_id: str
    settings: Settings


async def create_job(
    spec: JobSpec,
    job_id: str,
    placement: Placement,
    *,
    transfer: Transfer,
    remote: Remote | None = None,
    sink: Sink = nowhere,
) -> list[DatasetReceipt]:
    """Make the job's directory in ``placement`` and pin everything. Returns what was found of each copy.

    Raises what `stager.pipeline.sync` and `check_sources` raise; nothing of the job is left then. `UsageError`: the id
    is taken.
    """
    create = JobDirectory.create
    job = await asyncio.to_thread(create, placement.scratch, job_id, spec.name, state=JobState.CREATED)
    try:
        with job:
            await asyncio.to_thread(job.fail, _UNFINISHED)
            return await _create(spec, job, transfer, remote, sink)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(_give_up, placement.scratch, job_id))
        raise


async def _create(
    spec: JobSpec, job: JobDirectory, transfer: Transfer, remote: Remote | None, sink: Sink
) -> list[DatasetReceipt]:
    made, scratch = os.path.join(job.path, CREATED), os.path.dirname(os.path.dirname(job.path))
    await asyncio.to_thread(_make_anew, made)
    await asyncio.to_thread(keep_settings, job, Settings(spec=spec, remote=remote))
    copies = [_listed(copy, os.path.join(made, "listings")) for copy in copies_of(spec, remote, None)]
    here = tuple(mount for mount in live_view(spec).mounts if mount.kind != "nfs")  # those are mounted where it runs
    await asyncio.to_thread(check_sources, MountView(mounts=here))

    def where(copy: Copy) -> str:
        return os.path.join(made, "code", "tree") if _is_taken(copy) else os.path.join(NOWHERE, copy.below)

    def how(copy: Copy) -> SyncOptions:
        options = options_of(copy)
        if _is_taken(copy):
            return replace(options, state_dir=os.path.join(made, "code", "state"))
        return replace(options, dry_run=True, scratch=scratch)

    receipts = await sync_copies(copies, where, how, transfer=transfer, sink=sink)
    found = {copy.name: (copy, receipt) for copy, receipt in zip(copies, receipts, strict=True)}
    pinned = Settings(spec=_pinned(spec, found, os.path.join(made, "code", "tree")), remote=remote)
    await asyncio.to_thread(keep_settings, job, pinned, f"{CREATED}/{SETTINGS}")
    await asyncio.to_thread(job.advance, JobState.CREATED)
    return receipts


def _make_anew(made: str) -> None:
    """What an earlier job of the id left goes."""
    remove_tree(made)
    try:
        for below in ("code/tree", "code/state", "listings"):
            os.makedirs(os.path.join(made, below), mode=0o700)
    except OSError as error:
        raise from_os_error(error, doing="make the job's directory", where=made) from error


def _give_up(scratch: str, job_id: str) -> None:
    with JobDirectory.open(scratch, job_id) as job:
        remove_creation(job)
        forget_job(job)


def _is_taken(copy: Copy) -> bool:
    """Whether it is copied now."""
    return copy.name == "code" and copy.source.scheme == "file"


def _listed(copy: Copy, listings: str) -> Copy:
    """Of what neither an id nor a listing of the user's pins, the listing is saved."""
    if copy.source.scheme != "s3" or copy.pinning.frozen is not None:
        return copy
    return dataclasses.replace(copy, pinning=Pinning(save_listing=os.path.join(listings, f"{copy.below}.jsonl")))


def live_view(spec: JobSpec) -> MountView:
    """What of this host and of servers will be mounted: for a look whether it is there now, and what is in it."""
    return MountView(mounts=tuple(live_mounts(spec)))


def _pinned(spec: JobSpec, found: Mapping[str, tuple[Copy, DatasetReceipt]], code: str) -> JobSpec:
    def pin(dataset: DatasetSpec) -> DatasetSpec:
        if dataset.name not in found:  # it is mounted
            return dataset
        copy, receipt = found[dataset.name]
        listing = copy.pinning.save_listing or dataset.frozen
        return replace(dataset, source=_at_commit(dataset.source, receipt), frozen=listing)

    datasets, resources = tuple(map(pin, spec.datasets)), tuple(map(pin, spec.resources))
    pinned = replace(spec, datasets=datasets, resources=resources)
    if spec.code is None:
        return pinned
    copy, receipt = found["code"]
    source = replace(copy.source, location=code) if _is_taken(copy) else _at_commit(copy.source, receipt)
    return replace(pinned, code=replace(spec.code, source=source))


def _at_commit(source: SourceRef, receipt: DatasetReceipt) -> SourceRef:
    if source.scheme != "git":
        return source
    return replace(source, ref=str(receipt.pinned["commit"]))


def find_created(named: str, asked: str | None, environ: Mapping[str, str]) -> Created | None:
    """The job that was created under this id, in the scratch that was asked for, else wherever; or, as on another node,
    in this directory, SCRATCH/jobs/ID. None: there is none, or the job was not created. Blocks.

    Raises `UsageError`: its creation was not finished, or has been removed; `HostError`: its record, or what was found,
    is damaged; the directory could be another user's.
    """
    directory = os.path.abspath(named) if os.path.isdir(named) else ""
    if directory:
        _refuse_foreign(directory)
        record = record_at(directory)
    elif JOB_ID.fullmatch(named):
        try:
            look = look_at_job(named, asked, environ)
        except NotFoundError:
            return None
        directory, record = look.directory, look.record
    else:
        return None
    if record is None or JobState.CREATED not in record.times:
        return None
    if record.state is JobState.CREATED and record.error is not None:
        raise UsageError(record.error, where=f"job {record.id}", hint="create it again")
    try:
        return Created(job_id=record.id, settings=read_settings(directory, f"{CREATED}/{SETTINGS}"))
    except NotFoundError:
        hint = f"`stager create --from {record.id}` makes another like it"
        raise UsageError("what it was created with has been removed", where=f"job {record.id}", hint=hint) from None


def _refuse_foreign(directory: str) -> None:
    """What lies in it is run. Raises `HostError`."""
    try:
        if is_private(os.lstat(directory)):
            return
    except OSError as error:
        raise from_os_error(error, doing="look at the job's directory", where=directory) from error
    what = "is not a directory that only you can write"
    raise HostError(what, where=directory, hint="name a job file, or the id of a job of your own")


def settings_of(job_id: str, asked: str | None, environ: Mapping[str, str]) -> Settings:
    """What a job was asked for, whatever became of it. Blocks.

    Raises `NotFoundError`: no such job, or its settings are not kept; `UsageError`, `HostError`.
    """
    return read_settings(look_at_job(job_id, asked, environ).directory)
