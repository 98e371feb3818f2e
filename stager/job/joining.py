"""Further processes in the view of a job that runs on this node: ``stager exec``, and the ranks of one launch.

One process makes the view, and others enter its namespaces: there is no server to ask, and the kernel decides who may.
The job's record names the keeper of the view (`stager.host.record.Keeper`), by more than its number: whoever comes
opens that process first, looks then whether it is the one that is meant, and takes its namespaces and no other's.

Of several processes that a launcher starts at once under one job id (`stager.launches`), rank 0 stages, makes the view
and removes everything at the end. The others need not agree on anything: they wait for its record, enter the view, and
note that they came and went (`stager.host.ranks`). Rank 0 waits for them before the view ends (`stager.job.rank_wait`).
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from stager.errors import AccessDeniedError, BusyError, HostError, NotFoundError, StagerError, UsageError
from stager.host import brokered
from stager.host.holders import Life
from stager.host.launch_notes import read_note
from stager.host.namespaces import KINDS
from stager.host.ranks import Presence, note_rank, rank_presence
from stager.host.record import RECORD, KeptBy, Record, find_scratch, record_at
from stager.job.command import joining_command
from stager.job.placing import job_scratches
from stager.launches import Launch
from stager.model import Command, ExitInfo, JobState
from stager.stages.run import Joined, join_command
from stager.time_limits import TimeLimit

__all__ = ["exec_in_job", "join_launch"]

_LOOK_S: Final = 0.02
_LOOK_AT_MOST_S: Final = 0.5
_LEADER_COMES_WITHIN_S: Final = 600.0
_COMES_AGAIN_WITHIN_S: Final = 10.0
_MOST_CONTEXT_BYTES: Final = 16 << 20
_HINT: Final = "`stager ls` names the jobs of this node"


async def exec_in_job(job_id: str, argv: Sequence[str], asked: str | None, environ: Mapping[str, str]) -> ExitInfo:
    """Run a command in the view of a job that runs on this node, as the same principal; see `join_command`.

    It has the job's environment, with the terminal and the rank of whoever asks. ``asked``: the scratch directory.
    Raises `NotFoundError` (no such job here), `UsageError` (it does not run here now), `AccessDeniedError` (another
    user's), `CommandError`, `MountError`.
    """
    found = await asyncio.to_thread(_find, job_id, asked, environ)
    if found is None:
        raise NotFoundError(f"no job {job_id} on this node", hint=_HINT)
    _, record = found
    with _open_view(record) as (joined, context):
        command = await asyncio.to_thread(joining_command, context, record, argv, environ)
        return await join_command(joined, command)


async def join_launch(
    job_id: str, launch: Launch, command: Callable[[Record], Command], limit: TimeLimit, asked: str | None,
    environ: Mapping[str, str],
) -> ExitInfo:  # fmt: skip
    """Run a rank's ``command`` in the view that rank 0 of its launch makes, as soon as it stands. ``limit`` counts from
    when the job ran, so all ranks are told to end at the same time.

    Raises `BusyError` (rank 0 has not come), `HostError` (it has failed, or its job has ended), and what
    `join_command` raises.
    """
    path, record = await _until_view_stands(job_id, launch, asked, environ)
    await asyncio.to_thread(note_rank, path, launch.rank, ended=False)
    try:
        with _open_view(record) as (joined, _):
            deadline = limit.after(record.times[JobState.RUNNING])
            return await join_command(joined, await asyncio.to_thread(command, record), deadline=deadline)
    finally:
        await asyncio.shield(asyncio.to_thread(note_rank, path, launch.rank, ended=True))


async def _until_view_stands(
    job_id: str, launch: Launch, asked: str | None, environ: Mapping[str, str]
) -> tuple[str, Record]:
    """The job's directory and record. A launch may follow another of the same name (two lines of one script under one
    ``srun``): one that this rank has been at already is over, or about to be.
    """
    came_s, wait_s = time.time(), _LOOK_S
    while True:
        found = await asyncio.to_thread(_find, job_id, asked, environ)
        if found is not None and not _is_new(*found, launch):
            found = None
        if found is not None and found[1].state is JobState.RUNNING and found[1].keeper is not None:
            return found
        hopeless = await asyncio.to_thread(_why_hopeless, job_id, launch, found, came_s)
        if hopeless is not None and time.time() >= hopeless[1]:
            raise hopeless[0]
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 1.5, _LOOK_AT_MOST_S)


def _is_new(path: str, record: Record, launch: Launch) -> bool:
    return record.launch == launch.token and rank_presence(path, [launch.rank])[launch.rank] is Presence.ABSENT


def _why_hopeless(
    job_id: str, launch: Launch, found: tuple[str, Record] | None, came_s: float
) -> tuple[StagerError, float] | None:
    """What to fail with, and from when on (Unix time); None: rank 0 is at work.

    What had failed before this rank came may be an earlier launch of the same name, of a script that tries again: rank
    0 comes soon then.
    """
    note = read_note(job_id)
    if note is not None and note.token == launch.token and not note.is_failure():
        return None
    where = f"job {job_id}, rank 0 of this launch"
    if found is not None:
        path, record = found
        error = _why_over(record, where)
        return (error, _from(_changed_s(path), came_s)) if error is not None else None
    if note is not None and note.token == launch.token:
        kind = BusyError if note.transient else HostError
        return kind(f"failed: {note.error or 'it was killed'}", where=where), _from(note.at_s, came_s)
    hint = "it is the one that stages: look what became of it"
    return BusyError("has not come", where=where, hint=hint), came_s + _LEADER_COMES_WITHIN_S


def _from(failed_s: float, came_s: float) -> float:
    return failed_s if failed_s >= came_s else came_s + _COMES_AGAIN_WITHIN_S


def _changed_s(path: str) -> float:
    try:
        return os.stat(os.path.join(path, RECORD)).st_mtime
    except OSError:
        return 0.0


def _why_over(record: Record, where: str) -> StagerError | None:
    """Rank 0 has failed or gone, or has waited in vain; None: it has not."""
    if record.error is not None:
        return (BusyError if record.transient else HostError)(f"failed: {record.error}", where=where)
    if record.owner.state() is Life.DEAD:
        return HostError("was killed", where=where, hint="run the job again")
    if record.state not in (JobState.STAGING, JobState.READY, JobState.RUNNING):
        return HostError("has ended already", where=where, hint="start all ranks at the same time")
    return None


def _find(job_id: str, asked: str | None, environ: Mapping[str, str]) -> tuple[str, Record] | None:
    scratch = find_scratch(job_scratches(asked, environ), job_id)
    path = os.path.join(scratch, "jobs", job_id) if scratch is not None else ""
    record = record_at(path) if path else None
    return (path, record) if record is not None else None


@contextmanager
def _open_view(record: Record) -> Iterator[tuple[Joined, bytes]]:
    """The view of a job, and its context. Raises `UsageError`: the job has none here; `AccessDeniedError`."""
    where = f"job {record.id}"
    keeper = record.keeper
    if keeper is None and record.is_active() and record.state is JobState.RUNNING:
        hint = "with `--view none` and `stager mount` there is none"
        raise UsageError("has no view, or none yet", where=where, hint=hint)
    if keeper is None or record.state is not JobState.RUNNING:
        raise UsageError(f"does not run, it is {record.shown_state()}", where=where, hint=_HINT)
    if keeper.holder.uid != os.geteuid():
        raise AccessDeniedError(f"is of user {keeper.holder.uid}", where=where, hint="only that user can join it")
    if keeper.holder.state() is Life.UNKNOWN:
        raise UsageError(
            "runs in another container of this node", where=where, hint="join it from there"
        )  # fmt: skip
    with ExitStack() as held:
        try:
            found = _open_keeper(keeper, held)
        except (FileNotFoundError, ProcessLookupError):
            found = None
        except PermissionError as error:
            raise AccessDeniedError(
                "its view cannot be opened", where=where, hint="only whoever started the job can join it"
            ) from error
        if found is None:
            raise UsageError("its view has ended", where=where, hint=_HINT)
        yield found


def _open_keeper(keeper: KeptBy, held: ExitStack) -> tuple[Joined, bytes] | None:
    """None: it has ended. The process is opened, then known to be the one, then looked into, then known to live on:
    so all that was opened is its.
    """

    def hold(fd: int) -> int:
        held.callback(os.close, fd)
        return fd

    pid = keeper.holder.pid
    process = hold(os.pidfd_open(pid))
    if keeper.holder.state() is not Life.ALIVE:
        return None
    if brokered.is_brokered() and not os.access(f"/proc/{pid}/ns/mnt", os.R_OK):  # root's
        context = hold(brokered.open_context(pid, keeper.context))
        return Joined({}, -1, -1, of_root=pid), os.pread(context, _MOST_CONTEXT_BYTES, 0)
    namespaces = {kind: hold(os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)) for kind in KINDS}
    job = hold(os.open(f"/proc/{pid}/fd/{keeper.namespace}", os.O_RDONLY | os.O_CLOEXEC))
    context = hold(os.open(f"/proc/{pid}/fd/{keeper.context}", os.O_RDONLY | os.O_CLOEXEC))
    told = os.pread(context, _MOST_CONTEXT_BYTES, 0)
    if select.select([process], [], [], 0)[0]:
        return None
    return Joined(namespaces=namespaces, job=job, keeper=process), told
