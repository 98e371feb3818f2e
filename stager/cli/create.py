"""``stager create JOB.toml``."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

import click
import msgspec

from stager.cli.advise import Told, advising
from stager.cli.job_options import JobArguments, job_options, take_job
from stager.cli.options import common, remote_options, run_async, speed_options
from stager.cli.render import Renderer
from stager.cli.state import State
from stager.cli.tell import tell, tell_placement
from stager.cli.with_command import COMMAND, WithCommand
from stager.errors import UsageError
from stager.events import Sink
from stager.job.creating import create_job, live_view, settings_of
from stager.job.placing import place_job
from stager.model import DatasetReceipt
from stager.scheduler import SchedulerFacts, choose_job_id

__all__ = ["command"]


class _Creating(WithCommand):
    """Nothing runs: a wrong option is a wrong option."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As `WithCommand`, with the exit code of other commands."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise click.UsageError(error.format_message(), ctx=error.ctx) from None


@click.command("create", cls=_Creating)
@click.argument("jobfile", metavar="[JOB.toml]", required=False, type=click.Path())
@click.option("--from", "like", metavar="JOB", help="Settings as those of a job of this node, whatever became of it.")
@job_options
@speed_options
@remote_options
@common
@click.pass_context
def command(ctx: click.Context, /, jobfile: str | None, like: str | None, **options: Any) -> None:
    """Make a job now, to be started later by its id, and print that.

    What can change until then stays as it is now: the code (a directory is copied, a ref becomes the commit it is at),
    the refs of git datasets, and what S3 lists. Nothing else is moved. `stager run ID` and `stager stage ID` start it.

    With --from the job gets the settings of another, not its data, its results or what lies in its cluster storage;
    code, refs and listings are taken anew.

    Example: stager create train.toml
    """
    state: State = ctx.obj
    if jobfile is not None and like is not None:
        raise UsageError("the job file says it all", where="--from", hint="leave one of them out")
    named = options["data"] or options["public"] or options["code"] or ctx.meta[COMMAND]
    if jobfile is None and like is None and not named:
        hint = "name a job file, --from, --data, --public, --code, or a command after --"
        raise UsageError("nothing to create", where="stager create", hint=hint)
    given = settings_of(like, options["scratch"], os.environ) if like is not None else None
    argv: tuple[str, ...] = ctx.meta[COMMAND]
    job = take_job(ctx, jobfile, options, argv=argv, given=given)
    if argv:
        job = replace(job, spec=msgspec.structs.replace(job.spec, command=argv))
    # stdout is the id alone, for ID=$(stager create ...); what was found goes to stderr.
    with Renderer(state, out=None if state.json else sys.stderr) as sink:
        job_id, scratch, receipts = run_async(_create(state, job, sink), how_to_continue="run the same command again")
    body = {"job": job_id, "directory": os.path.join(scratch, "jobs", job_id), "found": msgspec.to_builtins(receipts)}
    if state.json:
        tell(state, "created", body, job_id)
    else:
        click.echo(job_id)


async def _create(state: State, arguments: JobArguments, sink: Sink) -> tuple[str, str, list[DatasetReceipt]]:
    spec = arguments.spec
    job_id = choose_job_id(arguments.job_id, spec.name, SchedulerFacts())  # whoever creates it is another job
    async with arguments.transfer as transfer:
        placement = await place_job(
            spec, job_id, arguments.scratch, os.environ, transfer=transfer, remote=arguments.remote, for_view=True,
            cache=arguments.cache,
        )  # fmt: skip
        tell_placement(state, placement)
        async with advising(state, live_view(spec), Told()):
            receipts = await create_job(spec, job_id, placement, transfer=transfer, remote=arguments.remote, sink=sink)
    return job_id, placement.scratch, receipts
