"""A staged job for who starts it in a container: what of it is kept, and read again."""

from __future__ import annotations

import os

import msgspec

from stager.errors import UsageError
from stager.host.record import JobDirectory
from stager.model import JobSpec, JobState, MountView
from stager.scheduler import JobIdentity, scheduler_facts
from stager.stages.emit_launch import LAUNCH, Launch, launch_of, read_launch
from stager.stages.environment import job_environment

__all__ = ["keep_launch", "launch_of_job"]


def keep_launch(spec: JobSpec, job: JobDirectory, view: MountView, *, workdir: str) -> None:
    """Note beside its record how the job is started: nothing of stager's own environment, no credential.

    Blocks. Raises `HostError`, `NoSpaceError`.
    """
    identity = JobIdentity(id=job.record.id, attempt=job.record.restart)
    environment = job_environment(spec, identity, scheduler_facts(os.environ), {}, workdir=workdir)
    launch = launch_of(spec, job.record.id, view.mounts, workdir=workdir, environment=environment)
    job.write_json(LAUNCH, msgspec.to_builtins(launch))


def launch_of_job(job: JobDirectory) -> Launch:
    """What `keep_launch` noted. `UsageError`: the job's tree is not there. `HostError`: the note is damaged. Blocks."""
    if job.record.state in (JobState.STAGING, JobState.REMOVED) or job.record.error:
        raise UsageError(
            f"has no staged tree (it is {job.record.shown_state()})", where=f"job {job.record.id}",
            hint="`stager stage JOB.toml` stages it",
        )  # fmt: skip
    return read_launch(job.read_json(LAUNCH), where=job.path)
