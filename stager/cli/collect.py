"""``stager collect JOB``."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from stager.cli.job_options import scratch_option
from stager.cli.options import common, run_async
from stager.cli.state import State
from stager.cli.stopping import stoppable
from stager.cli.tell import refuse_partial, tell, tell_collected
from stager.errors import UsageError
from stager.job.end import collect_job
from stager.job.keeps import snapshot_of
from stager.job.launching import end_launched
from stager.job.placing import look_into_job, open_known_job
from stager.stages.collect import Collected, holds_anything

__all__ = ["command"]


@click.command("collect")
@click.argument("job_id", metavar="JOB")
@click.option("--snapshot", is_flag=True, help="Of a job that runs: a copy of its results so far, beside their place.")
@click.option("--ended", is_flag=True, help="The job was run by others (stager plan --emit), and has ended.")
@scratch_option
@common
@click.pass_obj
def command(state: State, /, job_id: str, snapshot: bool, ended: bool, scratch: str | None) -> None:
    """Copy a job's /logs and results to the places its job file names, after its end or its crash.

    Doing it again is harmless, and brings what is missing; credentials are looked for anew.

    Example: stager collect 4711
    """

    def collect(stopped: Callable[[], bool]) -> tuple[tuple[Collected, ...], str]:
        with open_known_job(job_id, scratch, os.environ) as job:
            if ended:
                end_launched(job)
            return collect_job(job, stopped=stopped), f"{job.tree}/logs"

    def copy(stopped: Callable[[], bool]) -> tuple[tuple[Collected, ...], str]:
        with look_into_job(job_id, scratch, os.environ) as job:
            return (snapshot_of(job, stopped=stopped),), ""

    again = "run the same command again"
    collected, logs = run_async(stoppable(copy if snapshot else collect), how_to_continue=again)
    for one in collected:
        tell_collected(state, job_id, one)
    refuse_partial(job_id, collected)
    if not collected:
        if not holds_anything(logs):
            tell(state, "collected", {"job": job_id, "logs": logs}, f"nothing to collect from job {job_id}")
            return
        raise UsageError(
            "the job names no place for logs", where=logs,
            hint=f"copy them, then stager teardown --discard-uncollected {job_id}; the next time say --logs DIR",
        )  # fmt: skip
