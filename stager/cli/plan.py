"""``stager plan``: the dry run as a command of its own."""

from __future__ import annotations

from typing import Any, Final

import click
from click.core import ParameterSource

from stager.cli.filters import FilteringCommand
from stager.cli.options import common, limits_of, remote_of, remote_options, run_async, speed_options
from stager.cli.render import Renderer
from stager.cli.state import State
from stager.cli.sync import request_options, run_request
from stager.config import Remote
from stager.errors import UsageError
from stager.events import Sink
from stager.model import JobSpec
from stager.planning import plan_job
from stager.stages.spec import load_spec
from stager.transfer import Transfer

__all__ = ["command"]

_HOW: Final = "run the same command again"


@click.command("plan", cls=FilteringCommand)
@click.argument("source", metavar="SRC|JOB.toml")
@click.argument("destination", metavar="[DST]", required=False, type=click.Path())
@request_options
@common
@click.pass_context
def command(ctx: click.Context, /, source: str, destination: str | None, ref: str | None, **options: Any) -> None:
    """Say what `stager sync SRC DST`, or `stager stage JOB.toml`, would fetch, and change nothing.

    How many objects and bytes, and to which commit a branch is pinned now; with -v or --json each file by its name.

    Example: stager plan git+https://git.example/vision/labels@main /scratch/labels
    """
    if destination is not None:
        run_request(ctx, source, destination, ref, {**options, "dry_run": True})
        return
    if "://" in source:
        raise UsageError("a source needs a destination too", where=source, hint="write stager plan SRC DST")
    _refuse_what_the_job_file_says(ctx)
    state: State = ctx.obj
    limits, timeouts, retry = limits_of(options)
    transfer = Transfer(limits=limits, timeouts=timeouts, retry=retry)
    with Renderer(state) as sink:
        names = state.json or state.verbosity > 0
        run_async(_plan(load_spec(source), transfer, remote_of(options), names, sink), how_to_continue=_HOW)


def _refuse_what_the_job_file_says(ctx: click.Context) -> None:
    """What is for one source. Raises `UsageError`."""

    @speed_options
    @remote_options
    @common
    def allowed() -> None: ...

    known = {option.name for option in getattr(allowed, "__click_params__", ())} | {"source", "destination"}
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name not in known:
            raise UsageError("is for SRC DST: a job file says it of each dataset", where=option.opts[0])


async def _plan(spec: JobSpec, transfer: Transfer, remote: Remote, names: bool, sink: Sink) -> None:
    async with transfer:
        await plan_job(spec, transfer=transfer, remote=remote, names=names, sink=sink)
