"""What the commands that start a job share: its options, and a `JobSpec` from a file or from options alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource
from msgspec.structs import replace

from stager.cli.data_options import data_options, take_choices
from stager.cli.options import limits_of, remote_of, remote_options
from stager.config import Remote
from stager.errors import UsageError
from stager.host.site import site_view
from stager.job.creating import Created, find_created
from stager.job.settings import Settings
from stager.model import JobSpec
from stager.stages.spec import load_spec, with_options
from stager.stages.spec_distributed import instances_of
from stager.stages.spec_schema import Problems
from stager.stages.spec_site import with_site_data
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
    created: bool = False  # the job was created, and its record is waiting


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
        click.option("--logs", metavar="DIR", help="Keep /logs there after the job, below its id; or s3://..."),
        click.option("--code", metavar="SRC", help="A git source or a directory: copied to /code."),
        click.option("--public", metavar="NAME=DIR", multiple=True, help="Read-only at /public/NAME; repeatable."),
        click.option("--data", metavar="OWNER/NAME=SRC", multiple=True,
                     help="At /data/OWNER/NAME; repeatable. What chooses files, --integrity, --require-integrity and "
                     "--on-archived are for every --data."),
    ):
        command = option(command)
    return scratch_option(command)


def take_job(
    ctx: click.Context,
    jobfile: str | None,
    options: dict[str, Any],
    *,
    argv: tuple[str, ...] = (),
    given: Settings | None = None,
) -> JobArguments:
    """The job file, if any, with what the options add; or, by its id in place of a file, a job that was created.
    ``given``: in place of a job file. Raises `SpecError`, `HostError`, `UsageError`.
    """
    created = _created(ctx, jobfile, options)
    if created is not None:
        jobfile, given = None, created.settings
    elif jobfile is not None and options["name"] is not None:
        raise UsageError("the job file names the job", where="--name", hint="leave one of them out")
    if given is not None:
        spec = given.spec if options["name"] is None else replace(given.spec, name=options["name"])
    else:
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
    spec = with_site_data(spec, site_view())
    limits, timeouts, retry = limits_of(options)
    remote = remote_of(options)
    return JobArguments(
        spec=spec,
        job_id=options["job_id"] or (created.job_id if created is not None else None),
        scratch=options["scratch"],
        remote=given.remote if given is not None and given.remote is not None and remote == Remote() else remote,
        transfer=Transfer(limits=limits, timeouts=timeouts, retry=retry),
        save_listing=options["save_listing"],
        cache=not options["no_cache"],
        created=created is not None and options["job_id"] in (None, created.job_id),
    )


def _created(ctx: click.Context, jobfile: str | None, options: dict[str, Any]) -> Created | None:
    """The job that an id, or its directory, in place of a file names. Raises `UsageError`: an option that comes too
    late; as `find_created`.
    """
    if jobfile is None or (os.path.lexists(jobfile) and not os.path.isdir(jobfile)):
        return None
    created = find_created(jobfile, options["scratch"], os.environ)
    if created is None:
        return None

    @remote_options
    @data_options
    def late() -> None: ...

    names = {option.name for option in getattr(late, "__click_params__", ())}
    names |= {"data", "public", "code", "logs", "name", "save_listing"}
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name in names:
            hint = "say it to `stager create`; `stager create --from` makes another like it"
            raise UsageError(f"job {jobfile} was created without it", where=option.opts[0], hint=hint)
    return created


def _name_from(argv: tuple[str, ...]) -> str:
    """A job without a name is called by its program."""
    program = re.sub(r"[^A-Za-z0-9._-]", "-", os.path.basename(argv[0])) if argv else ""
    return program.lstrip("._-")[:64] or "job"
