"""The command of a job, for whoever runs it: the first process in the view, a further rank, or somebody who joins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from stager.errors import HostError
from stager.host.record import Record
from stager.host.site import site_cloud
from stager.job.view import workdir_of
from stager.model import Command, JobSpec
from stager.scheduler import SchedulerFacts, scheduler_facts
from stager.stages.environment import job_environment
from stager.strict_environment import clean_environ

__all__ = ["command_of", "context_of", "joining_command"]


class _Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the command of somebody who joins is made from: of the job file no more than that, and the scheduler's."""

    spec: JobSpec
    facts: SchedulerFacts


def command_of(spec: JobSpec, record: Record, argv: Sequence[str], environ: Mapping[str, str]) -> Command:
    """``argv`` with the job's environment, as it is for a process that has ``environ`` itself. Blocks.

    Raises `UsageError` as `job_environment`, `HostError`: the site's file.
    """
    return _command(spec, record, scheduler_facts(environ), argv, environ)


def context_of(spec: JobSpec, environ: Mapping[str, str]) -> str:
    """For `joining_command`, as JSON. It may hold secrets: those that the job file sets."""
    plain = replace(spec, datasets=(), public=(), resources=(), code=None, workdir=workdir_of(spec))
    return msgspec.json.encode(_Context(spec=plain, facts=scheduler_facts(environ))).decode()


def joining_command(context: bytes, record: Record, argv: Sequence[str], environ: Mapping[str, str]) -> Command:
    """As `command_of`; where ``environ`` knows nothing of the job's scheduler, what that said to the job counts."""
    try:
        found = msgspec.json.decode(context, type=_Context)
    except msgspec.MsgspecError as error:
        raise HostError(
            "was started by another version of stager", where=f"job {record.id}", hint="use that version"
        ) from error
    here = scheduler_facts(environ)
    return _command(found.spec, record, here if here.job_id == found.facts.job_id else found.facts, argv, environ)


def _command(
    spec: JobSpec, record: Record, facts: SchedulerFacts, argv: Sequence[str], environ: Mapping[str, str]
) -> Command:
    workdir = workdir_of(spec)
    if spec.profile == "strict":
        environ = clean_environ(environ, credentials=spec.pass_credentials)
    environment = job_environment(spec, record.identity(), facts, environ, workdir=workdir, cloud=site_cloud())
    return Command(argv=tuple(argv), environment=environment, workdir=workdir)
