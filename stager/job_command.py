"""The command of a job, for whoever runs it: the first process in the view, a further rank, or somebody who joins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from stager.errors import HostError
from stager.job_view import workdir_of
from stager.model import Command, JobSpec
from stager.scheduler import JobIdentity, scheduler_facts
from stager.stages.environment import job_environment

__all__ = ["command_of", "context_of", "spec_in"]


def command_of(spec: JobSpec, identity: JobIdentity, argv: Sequence[str], environ: Mapping[str, str]) -> Command:
    """``argv`` with the job's environment, as it is for a process that has ``environ`` itself."""
    workdir = workdir_of(spec)
    environment = job_environment(spec, identity, scheduler_facts(environ), environ, workdir=workdir)
    return Command(argv=tuple(argv), environment=environment, workdir=workdir)


def context_of(spec: JobSpec) -> str:
    """Of the job file what `command_of` makes the command of somebody who joins from, as JSON. It may hold secrets."""
    plain = replace(spec, datasets=(), public=(), resources=(), code=None, workdir=workdir_of(spec))
    return msgspec.json.encode(plain).decode()


def spec_in(context: bytes, job_id: str) -> JobSpec:
    """What `context_of` was made of. `HostError`: by another version of stager."""
    try:
        return msgspec.json.decode(context, type=JobSpec)
    except msgspec.MsgspecError as error:
        raise HostError(
            "was started by another version of stager", where=f"job {job_id}", hint="use that version"
        ) from error
