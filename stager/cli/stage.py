"""``stager stage JOB.toml``."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import click

from stager.cli.filters import FilteringCommand
from stager.cli.job_options import JobArguments, job_options, take_job
from stager.cli.options import common, remote_options, run_async, speed_options
from stager.cli.render import Renderer
from stager.cli.state import State
from stager.cli.tell import tell, tell_placement, warn
from stager.errors import UsageError
from stager.events import Sink
from stager.job.copies import caches_for
from stager.job.end import read_receipt
from stager.job.layouts import stage_into_volumes
from stager.job.order import open_job, stage_job
from stager.job.placing import place_job
from stager.scheduler import choose_job_id, scheduler_facts
from stager.stages.layout import Layout, parse_layout
from stager.stages.place import place

__all__ = ["command"]


@click.command("stage", cls=FilteringCommand)
@click.argument("jobfile", metavar="[JOB.toml|ID]", required=False, type=click.Path())
@click.option("--layout", metavar="data=DIR,code=DIR,logs=DIR",
              help="Stage into these volumes, which are mounted already, and not into a tree.")
@job_options
@speed_options
@remote_options
@common
@click.pass_context
def command(ctx: click.Context, /, jobfile: str | None, layout: str | None, **options: Any) -> None:
    """Bring all of a job's data into the job's tree, and print where that is.

    Nothing is presented as ready before everything is there and verified. The receipt lies beside the tree.

    What chooses files, and how sure they have to be, is for every --data of the command line, and written before or
    behind all of them; each dataset of a job file says its own.

    Example: stager stage train.toml
    """
    state: State = ctx.obj
    job = take_job(ctx, jobfile, options)
    if jobfile is None and not (job.spec.datasets or job.spec.public or job.spec.code):
        raise UsageError("nothing to stage", where="stager stage", hint="name a job file, --data, --public or --code")
    volumes = parse_layout(layout) if layout is not None else None
    # stdout is the tree's path alone, for TREE=$(stager stage ...); what was fetched goes to stderr.
    with Renderer(state, out=None if state.json else sys.stderr) as sink:
        staging = _stage(state, job, sink) if volumes is None else _stage_into(state, job, volumes, sink)
        job_id, tree, receipt = run_async(staging, how_to_continue="run the same command again")
    if not state.json and not state.quiet:
        click.echo(f"stager: job {job_id} is ready", err=True)
    if state.json:
        tell(state, "staged", {"job": job_id, "tree": tree, "receipt": receipt}, tree)
    elif tree:
        click.echo(tree)


async def _stage(state: State, arguments: JobArguments, sink: Sink) -> tuple[str, str, dict[str, Any]]:
    spec = arguments.spec
    job_id = choose_job_id(arguments.job_id, spec.name, scheduler_facts(os.environ))
    async with arguments.transfer as transfer:
        placement = await place_job(
            spec, job_id, arguments.scratch, os.environ, transfer=transfer, remote=arguments.remote,
            cache=arguments.cache,
        )  # fmt: skip
        tell_placement(state, placement)
        with await asyncio.to_thread(
            open_job, spec, job_id, placement, os.environ, arguments.remote, created=arguments.created
        ) as job:
            if spec.profile == "strict":
                warn(state, "the strict profile holds in the view of `stager run` alone: `stager mount` and the tree "
                     "have the node as it is around them")  # fmt: skip
            for dataset in spec.datasets:
                if dataset.access == "read-only" and not dataset.source.is_mounted:
                    warn(state, f'{dataset.name}: access = "read-only" holds in the view of `stager run` alone: '
                         "what is staged without one is a copy that can be written to")  # fmt: skip
            caches = await asyncio.to_thread(caches_for, spec, placement, os.environ) if arguments.cache else {}
            await stage_job(
                spec, job, placement, transfer=transfer, remote=arguments.remote,
                save_listing=arguments.save_listing, caches=caches, sink=sink,
            )  # fmt: skip
            return job_id, job.tree, read_receipt(job)


async def _stage_into(
    state: State, arguments: JobArguments, layout: Layout, sink: Sink
) -> tuple[str, str, dict[str, Any]]:
    spec = arguments.spec
    job_id = choose_job_id(arguments.job_id, spec.name, scheduler_facts(os.environ))
    scratch = None
    if arguments.scratch or os.environ.get("STAGER_SCRATCH"):
        scratch = (await asyncio.to_thread(place, arguments.scratch, os.environ)).scratch
    if spec.logs.persist is not None:
        warn(state, f"logs stay in {layout.logs or 'their volume'}: nothing collects them where there is no view")
    async with arguments.transfer as transfer:
        receipt = await stage_into_volumes(
            spec, job_id, layout, scratch=scratch, transfer=transfer, remote=arguments.remote,
            save_listing=arguments.save_listing, sink=sink,
        )  # fmt: skip
    return job_id, "", receipt
