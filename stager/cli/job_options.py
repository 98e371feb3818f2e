"""What the commands that start a job share: its options, and a `JobSpec` from a file or from options alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from msgspec.structs import replace

from stager.cli.data_options import data_options, take_choices
from stager.cli.options import limits_of, remote_of
from stager.config import Remote
from stager.errors import UsageError
from stager.model import JobSpec
from stager.stages.spec import load_spec, with_options
from stager.stages.spec_distributed import instances_of
from stager.stages.spec_schema import Problems
from stager.tasks import Instances
from stager.transfer import Transfer

__all__ = ["JobArguments", "job_options", "scratch_option", "take_job"]

Command = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class JobArguments:
    """A job as it was asked for on the command line."""

    spec: JobSpec
    job_id: str | None
    scratch: str | None
    remote: Remote
    transfer: Transfer
    save_listing: str | None
    cache: bool


def scratch_option(command: Command) -> Command:
    """Add ``--scratch``."""
    return click.option(
        "--scratch", metavar="DIR", type=click.Path(),
        help="Where jobs live on this node. [STAGER_SCRATCH, else the best place: see stager doctor]",
    )(command)


def job_options(command: Command) -> Command:
    """Add what describes a job; `take_job` makes `JobArguments` of it. The command is a `FilteringCommand`."""
    command = data_options(command)
    for option in (
        click.option("--job-id", metavar="ID", help="The job's id. [the scheduler's, else made of name and time]"),
        click.option("--name", metavar="NAME", help="The job's name, without a job file."),
        click.option("--save-listing", metavar="DIR", type=click.Path(),
                     help="Keep what was listed of each dataset below DIR, for frozen = in a job file."),
        click.option("--no-cache", is_flag=True, help="Fetch anew what other jobs on this node have fetched, and keep "
                     "nothing for later ones."),
        click.option("--instances", metavar="N|IDS", help="The job's instances: 5, or ids and ranges like 1-6,15."),
        click.option("--instance", metavar="ID", type=click.IntRange(0, 999_999_999),
                     help="Which of them this is. [the scheduler's array, else the only one]"),
        click.option("--clusterone", is_flag=True, help="Let Python scripts import get_data_path and get_logs_path "
                     "from clusterone."),
        click.option("--logs", metavar="DIR", help="Keep /logs there after the job, below its id."),
        click.option("--code", metavar="SRC", help="A git source or a directory: copied to /code."),
        click.option("--public", metavar="NAME=DIR", multiple=True, help="Read-only at /public/NAME; repeatable."),
        click.option("--data", metavar="OWNER/NAME=SRC", multiple=True,
                     help="At /data/OWNER/NAME; repeatable. What chooses files, --integrity, --require-integrity and "
                     "--on-archived are for every --data."),
    ):
        command = option(command)
    return scratch_option(command)


def take_job(
    ctx: click.Context, jobfile: str | None, options: dict[str, Any], *, argv: tuple[str, ...] = ()
) -> JobArguments:
    """The job file, if any, with what the options add. Raises `SpecError`, `HostError`, `UsageError`."""
    if jobfile is not None and options["name"] is not None:
        raise UsageError("the job file names the job", where="--name", hint="leave one of them out")
    spec = load_spec(jobfile) if jobfile is not None else JobSpec(name=options["name"] or _name_from(argv))
    added = {name: options[name] for name in ("data", "public", "code", "logs")}
    choices, mistakes = take_choices(ctx, options, added["data"])
    problems = Problems(found=list(mistakes))
    instances = instances_of(options["instances"], problems, "--instances")
    if options["instances"] is not None and spec.instances.ids:
        problems.add("--instances", "the job file says them already")
    spec = with_options(spec, **added, choices=choices, mistakes=problems.found, base=os.getcwd())
    spec = replace(
        spec,
        instances=Instances(ids=instances.ids or spec.instances.ids, this=options["instance"]),
        clusterone_shim=spec.clusterone_shim or options["clusterone"],
    )
    limits, timeouts, retry = limits_of(options)
    return JobArguments(
        spec=spec,
        job_id=options["job_id"],
        scratch=options["scratch"],
        remote=remote_of(options),
        transfer=Transfer(limits=limits, timeouts=timeouts, retry=retry),
        save_listing=options["save_listing"],
        cache=not options["no_cache"],
    )


def _name_from(argv: tuple[str, ...]) -> str:
    """A job without a name is called by its program."""
    program = re.sub(r"[^A-Za-z0-9._-]", "-", os.path.basename(argv[0])) if argv else ""
    return program.lstrip("._-")[:64] or "job"
