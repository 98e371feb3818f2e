"""``stager collect JOB``."""

from __future__ import annotations

import os
from collections.abc import Callable

import click
import msgspec

from stager.cli.job_options import scratch_option
from stager.cli.options import common, run_async
from stager.cli.state import State
from stager.cli.stopping import stoppable
from stager.cli.tell import tell, warn
from stager.cli.text import count, size
from stager.errors import UsageError
from stager.job_end import collect_job
from stager.placing import open_known_job
from stager.stages.collect import Collected, holds_anything

__all__ = ["command"]


@click.command("collect")
@click.argument("job_id", metavar="JOB")
@scratch_option
@common
@click.pass_obj
def command(state: State, /, job_id: str, scratch: str | None) -> None:
    """Copy a job's /logs to the place its job file names, after its end or its crash. Doing it again is harmless.

    Example: stager collect 4711
    """

    def collect(stopped: Callable[[], bool]) -> tuple[Collected | None, str]:
        with open_known_job(job_id, scratch, os.environ) as job:
            return collect_job(job, stopped=stopped), f"{job.tree}/logs"

    collected, logs = run_async(stoppable(collect), how_to_continue="run the same command again")
    if collected is None:
        if not holds_anything(logs):
            tell(state, "collected", {"job": job_id, "logs": logs}, f"nothing to collect from job {job_id}")
            return
        raise UsageError(
            "the job names no place for logs", where=logs,
            hint=f"copy them, then stager teardown --discard-uncollected {job_id}; the next time say --logs DIR",
        )  # fmt: skip
    text = f"{count(collected.total.objects)}, {size(collected.total.bytes)} of logs kept in {collected.destination}"
    tell(state, "collected", {"job": job_id, **msgspec.to_builtins(collected)}, text)
    for name in collected.left_out:
        warn(state, f"left out of the logs: {name}")
