"""``stager exec JOB -- CMD ...``."""

from __future__ import annotations

import os

import click

from stager.cli.job_options import scratch_option
from stager.cli.options import common, run_async
from stager.cli.render import report_error
from stager.cli.state import State
from stager.cli.with_command import COMMAND, WithCommand, own_failure
from stager.errors import UsageError
from stager.job.joining import exec_in_job

__all__ = ["command"]


@click.command("exec", cls=WithCommand)
@click.argument("job_id", metavar="JOB")
@scratch_option
@common
@click.pass_context
def command(ctx: click.Context, /, job_id: str, scratch: str | None) -> int:
    """Run a command in the view of a job that runs on this node: a debugger, a look around, a further rank.

    It has the job's data, environment and working directory, and the terminal, the limits and the control group of
    whoever asks. It ends with the job at the latest. Its exit status is passed on; 125 and 75 are stager's own
    failures, 126 and 127 say that the command could not be started.

    Example: stager exec 4711 -- py-spy dump --pid 77
    """
    state: State = ctx.obj
    argv: tuple[str, ...] = ctx.meta[COMMAND]
    try:
        return _exec(job_id, argv, scratch)
    except Exception as error:
        report_error(error, json=state.json)
        return own_failure(error)


def _exec(job_id: str, argv: tuple[str, ...], scratch: str | None) -> int:
    if not argv:
        raise UsageError("no command", where="stager exec", hint="name one after --")
    return run_async(exec_in_job(job_id, argv, scratch, os.environ), how_to_continue="the job goes on").code
