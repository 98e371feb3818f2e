"""``stager check JOB.toml``."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

import click

from stager.cli.figure import Figure
from stager.cli.options import common, remote_of, remote_options, run_async
from stager.cli.render import report_error, write
from stager.cli.state import State
from stager.cli.tell import tell
from stager.config import Retry, Timeouts
from stager.errors import StagerError
from stager.job.checking import Checked, check_job
from stager.model import JobSpec
from stager.stages.spec import read_spec
from stager.stages.spec_file import read_file
from stager.transfer import Transfer

__all__ = ["command"]

_ATTEMPTS: Final = 2  # somebody waits; what is wrong for good is not tried again anyway
_USAGE: Final = 2


@click.command("check")
@click.argument("jobfile", metavar="JOB.toml", type=click.Path())
@click.option("--timeout", "limit_s", type=Figure(0.1, 3600.0), default=10.0, metavar="SECONDS", show_default=True,
              help="Give a source up that has not answered for so long.")
@remote_options
@common
@click.pass_obj
def command(state: State, /, jobfile: str, limit_s: float, **options: Any) -> int:
    """Say what is wrong with a job file before it is submitted: all of it, in seconds, nothing moved.

    Every key and value is checked, and every source asked, with your rights and from this host: of S3 a page is listed
    and an object asked for, of git which commit the ref is at, a directory is read. The exit code is 0 when all is
    well; else that of the first thing that cannot be had.

    Example: stager check train.toml
    """
    spec, mistakes = read_spec(read_file(jobfile), where=jobfile, base=os.path.dirname(os.path.abspath(jobfile)))
    if mistakes is not None:
        report_error(mistakes, json=state.json)
    checked = _ask(spec, limit_s, options) if spec is not None else []
    for one in checked:
        _tell(state, one)
    errors: list[StagerError] = [one.error for one in checked if one.error is not None]
    if mistakes is None and not errors:
        tell(state, "accepted", {"jobfile": jobfile}, f"{jobfile}: nothing is wrong with it")
        return 0
    return _USAGE if mistakes is not None else min(errors, key=lambda error: error.retryable).exit_code


def _ask(spec: JobSpec, limit_s: float, options: dict[str, Any]) -> list[Checked]:
    transfer = Transfer(timeouts=Timeouts(stall_s=limit_s, connect_s=min(limit_s, Timeouts().connect_s)),
                        retry=Retry(attempts=_ATTEMPTS))  # fmt: skip
    remote = remote_of(options)

    async def ask() -> list[Checked]:
        async with transfer:
            return await check_job(spec, transfer=transfer, remote=remote, environ=os.environ, limit_s=limit_s)

    return run_async(ask(), how_to_continue="run the same command again")


def _tell(state: State, one: Checked) -> None:
    body: dict[str, Any] = {"name": one.name, "source": one.source, "found": one.found, "error": None}
    if one.error is not None:
        error = one.error
        body["error"] = {"class": type(error).__name__, "exit_code": error.exit_code, "retryable": error.retryable,
                         "what": error.what, "where": error.where, "hint": error.hint}  # fmt: skip
    if state.json or one.error is None:
        tell(state, "checked", body, f"{one.name}: {one.source}: {one.found}")
    else:
        write(sys.stderr, f"stager: {one.name}: {one.error}")


