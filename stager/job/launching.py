"""A staged job for who starts it in a container: what of it is kept, and read again."""

from __future__ import annotations

import os

import msgspec

from stager.errors import UsageError
from stager.host.memory import available_bytes
from stager.host.record import JobDirectory
from stager.job.environment import own_variables
from stager.model import JobSpec, JobState, MountView
from stager.stages.emit_launch import LAUNCH, Launch, launch_of, read_launch
from stager.stages.ram_disk import ram_disk_of

__all__ = ["end_launched", "keep_launch", "launch_of_job"]


def keep_launch(spec: JobSpec, job: JobDirectory, view: MountView, *, workdir: str) -> None:
    """Note beside its record how the job is started: nothing of stager's own environment, no credential.

    Blocks. Raises as `own_variables` and `ram_disk_of`, `NoSpaceError`.
    """
    environment = {**own_variables(spec, job, os.environ), "PWD": workdir}
    disk = ram_disk_of(spec.tmp, available_bytes())
    launch = launch_of(spec, job.record.id, view.mounts, disk=disk, workdir=workdir, environment=environment)
    job.write_json(LAUNCH, msgspec.to_builtins(launch))


def launch_of_job(job: JobDirectory) -> Launch:
    """What `keep_launch` noted. `UsageError`: the job's tree is not there. `HostError`: the note is damaged. Blocks."""
    if job.record.state in (JobState.STAGING, JobState.REMOVED) or job.record.error:
        raise UsageError(
            f"has no staged tree (it is {job.record.shown_state()})", where=f"job {job.record.id}",
            hint="`stager stage JOB.toml` stages it",
        )  # fmt: skip
    return read_launch(job.read_json(LAUNCH), where=job.path)


def end_launched(job: JobDirectory) -> None:
    """Note that a job which others have run, in a container, has ended; one that is further already stays so. Blocks.

    Raises `UsageError`: it is not staged. `HostError`, `NoSpaceError`.
    """
    if job.record.state is JobState.READY:
        launch_of_job(job)
        job.advance(JobState.RUNNING)
        job.advance(JobState.ENDED)
