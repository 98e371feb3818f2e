"""What comes after a job: its logs are kept, what is lost is named, its tree is removed; also after a crash."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from stager.errors import HostError, StagerError, UsageError, from_os_error
from stager.host.holders import Life
from stager.host.leaves import Lister
from stager.host.parts import remove_part
from stager.host.record import JobDirectory, Record
from stager.host.trash import remove_tree
from stager.host.trees import open_top
from stager.host.workspace import boot_id
from stager.job.environment import remove_environment
from stager.job.keeps import collect_keep, keeps_of, release_keeps, written_results
from stager.job.resources import TASK_BELOW
from stager.job.storages import release_storage
from stager.model import DATASET_NAME, Counts, JobState
from stager.names import show
from stager.stages.collect import Collected, holds_anything
from stager.stages.discard import Discarded, find_discarded
from stager.stages.recall import whole_manifest
from stager.view_paths import CODE, TASK

__all__ = [
    "CREATED",
    "OVERLAY",
    "RECEIPT",
    "check_teardown",
    "collect_job",
    "find_losses",
    "read_receipt",
    "remove_copies",
    "remove_creation",
    "remove_data",
    "teardown_job",
]

RECEIPT: Final = "receipt.json"
CREATED: Final = "created"
"""In a job's directory: what `stager create` has taken, see `stager.job.creating`."""

OVERLAY: Final = ("upper", "work")
"""In the place of a copy: what a job writes over a kept tree."""

_NAMED: Final = 5


def collect_job(
    job: JobDirectory, *, stopped: Callable[[], bool] = lambda: False, deadline_s: float | None = None
) -> tuple[Collected, ...]:
    """Bring /logs and results to where the job file says; nothing when it names no place. Idempotent. Blocks.

    A job whose stager died is ended by this; ``stopped`` and ``deadline_s``: see `collect_keep`. It is persisted only
    when all is there. When one cannot be kept the other is all the same.
    Raises `UsageError`: not run yet, or running. `HostError`, `NoSpaceError`, `SourceError`.
    """
    _refuse_active(job)
    record = job.record
    if record.state in (JobState.CREATED, JobState.STAGING, JobState.READY):
        raise UsageError(
            "has not run yet", where=f"job {record.id}", hint="say --ended when others have run it, in a container"
        )
    if record.state is JobState.REMOVED:
        return ()
    trusted = _began_in_this_boot(record)
    if record.state is JobState.RUNNING:
        job.advance(JobState.ENDED)
        release_storage(job)
    keeps = keeps_of(job)
    found: list[Collected] = []
    failed: list[StagerError] = []
    for keep in keeps:
        try:
            found.append(collect_keep(job, keep, trusted=trusted, stopped=stopped, deadline_s=deadline_s))
        except StagerError as error:
            failed.append(error)
    if found:
        receipt = read_receipt(job)
        receipt.update({one.what: msgspec.to_builtins(one) for one in found})
        job.write_json(RECEIPT, receipt)
    if failed:
        raise failed[0]
    keeps_logs = any(keep.what == "logs" for keep in keeps)
    if all(one.is_whole for one in found) and (keeps_logs or not holds_anything(os.path.join(job.tree, "logs"))):
        job.advance(JobState.PERSISTED)
    return tuple(found)


def _began_in_this_boot(record: Record) -> bool:
    """Whoever is at work on a job after a restart becomes its owner: its beginning tells then."""
    booted_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return record.owner.boot == boot_id() and record.times.get(JobState.RUNNING, 0.0) > booted_s


def teardown_job(job: JobDirectory, *, discard_uncollected: bool) -> bool:
    """Remove a job's tree; its record and receipt stay. False: it was removed before. Idempotent. Blocks.

    Raises `UsageError`: the job is at work, or its logs are kept nowhere else. `MountError`: something is mounted
    below the tree. `HostError`.
    """
    if job.record.state is JobState.REMOVED:
        return False
    check_teardown(job, discard_uncollected=discard_uncollected)
    remove_copies(job)
    job.sweep()
    job.advance(JobState.REMOVED)
    return True


def check_teardown(job: JobDirectory, *, discard_uncollected: bool) -> None:
    """Raises `UsageError`: the job is at work, or its logs are kept nowhere else. Blocks."""
    _refuse_active(job)
    if job.record.state is not JobState.PERSISTED and not discard_uncollected:
        _refuse_uncollected(job)


def _refuse_uncollected(job: JobDirectory) -> None:
    logs = os.path.join(job.tree, "logs")
    hint = f"run `stager collect {job.record.id}`, copy them, or say --discard-uncollected"
    if holds_anything(logs):
        raise UsageError("its logs are kept nowhere else", where=logs, hint=hint)
    if job.record.has_run() and any(keep.what == "results" for keep in keeps_of(job)):
        raise UsageError("its results are kept nowhere else", where=os.path.join(job.tree, TASK_BELOW), hint=hint)


def find_losses(job: JobDirectory) -> dict[str, Discarded]:
    """What removing the tree loses for good: files the job wrote or changed in its copies and in TASK_PATH, by their
    path in the view.

    Blocks. Raises `HostError`.
    """
    if not os.path.isdir(job.tree):
        return {}
    told = _copied_to(job)
    # What lay in memory is gone after a reboot.
    there = [target for target in sorted({*told, CODE}) if os.path.isdir(job.tree_of(target.lstrip("/")))]
    losses = {target: _find_loss(job, target, told.get(target, "")) for target in there}
    if not any(keep.what == "results" for keep in keeps_of(job)):
        losses[TASK] = _find_unkept(job)
    return {target: loss for target, loss in losses.items() if loss.total.objects}


class _Told(msgspec.Struct):
    """What is read again of a dataset's receipt."""

    how: str
    destination: str
    cache: dict[str, Any] = {}


def _copied_to(job: JobDirectory) -> dict[str, str]:
    """Where the job's copies are in its view, as its receipt has it: /data/OWNER/NAME or /code, nothing else; and how
    each came out of the cache.
    """
    try:
        told = msgspec.convert(read_receipt(job).get("datasets", []), list[_Told])
    except msgspec.ValidationError as error:
        raise _damaged(job, str(error)) from error
    targets = {data.destination: str(data.cache.get("how", "")) for data in told if data.how == "copy"}
    for target in targets.keys() - {"/code"}:
        if not target.startswith("/data/") or not DATASET_NAME.fullmatch(target.removeprefix("/data/")):
            raise _damaged(job, "a copy that is neither a dataset nor the code")
    return targets


def _damaged(job: JobDirectory, why: str) -> HostError:
    return HostError(f"is damaged: {why}", where=f"{job.path}/{RECEIPT}", hint="look at the job's tree yourself")


def _find_loss(job: JobDirectory, target: str, how: str) -> Discarded:
    below = target.lstrip("/")
    if how == "overlay":
        return find_discarded(os.path.join(job.tree_of(below), OVERLAY[0]), lambda _: None)
    try:
        state_fd = os.open(job.state_of(below), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # the empty /code of a job without code
        return find_discarded(job.tree_of(below), lambda _: None)
    try:
        manifest = whole_manifest(state_fd)
        return find_discarded(job.tree_of(below), manifest.get if manifest is not None else lambda _: None)
    finally:
        os.close(state_fd)


def _find_unkept(job: JobDirectory) -> Discarded:
    """What was written to TASK_PATH and no rule keeps."""
    try:
        task_fd = open_top(os.path.join(job.tree, TASK_BELOW))
    except FileNotFoundError:
        return Discarded(total=Counts(), first=())
    try:
        total, first = Counts(), list[str]()
        for leaf in written_results(job, Lister(task_fd, left=lambda _: None).leaves()):
            total += Counts(objects=1, bytes=leaf.size)
            if len(first) < _NAMED:
                first.append(show(leaf.path))
        return Discarded(total=total, first=tuple(first))
    except OSError as error:
        raise from_os_error(error, doing="look what the job wrote", where=job.tree) from error
    finally:
        os.close(task_fd)


def read_receipt(job: JobDirectory) -> dict[str, Any]:
    """The job's receipt; empty when it was never staged whole. Raises `HostError`."""
    return job.read_json(RECEIPT)


def remove_copies(job: JobDirectory) -> None:
    """Remove what a job sees, the state of its datasets, and a place for logs that nothing was kept in. Blocks.

    Raises `MountError`, `HostError`.
    """
    release_storage(job)
    remove_data(job)
    if job.record.state is not JobState.PERSISTED:
        release_keeps(job)


def remove_data(job: JobDirectory) -> None:
    """Remove its tree, with the state of its datasets and all parts. Blocks. Raises `MountError`, `HostError`."""
    for part in dict.fromkeys(job.record.parts.values()):
        remove_part(part)
    remove_tree(job.tree)
    remove_tree(job.state_dir)
    remove_environment(job)


def remove_creation(job: JobDirectory) -> None:
    """Remove what `stager create` has taken: the job cannot be started again then. Blocks. Raises as `remove_data`."""
    remove_tree(os.path.join(job.path, CREATED))


def _refuse_active(job: JobDirectory) -> None:
    """One of which nothing can be seen from here (of another container) has given up the lock, which is held now."""
    owner = job.record.owner
    if job.record.runs_outside():
        raise UsageError(
            "runs, and not by stager", where=f"job {job.record.id}",
            hint=f"when it has ended, root says so: stager umount {job.record.id}",
        )  # fmt: skip
    if job.record.is_active() and owner.state() is Life.ALIVE and owner.pid != os.getpid():
        raise UsageError(
            f"is {job.record.state} (process {owner.pid})", where=f"job {job.record.id}", hint="wait for its end"
        )
