"""``stager collect JOB``."""

from __future__ import annotations

import os

import click
import msgspec

from stager.cli.job_options import scratch_option
from stager.cli.options import common
from stager.cli.render import count, size
from stager.cli.state import State
from stager.cli.tell import tell, warn
from stager.host.record import JobDirectory
from stager.job_end import collect_job
from stager.stages.place import place

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
    with JobDirectory.open(place(scratch, os.environ).scratch, job_id) as job:
        collected = collect_job(job)
        logs = f"{job.tree}/logs"
    if collected is None:
        tell(state, "collected", {"job": job_id, "logs": logs}, f"job {job_id} names no place for logs; see {logs}")
        return
    text = f"{count(collected.total.objects)}, {size(collected.total.bytes)} of logs kept in {collected.destination}"
    tell(state, "collected", {"job": job_id, **msgspec.to_builtins(collected)}, text)
    for name in collected.left_out:
        warn(state, f"left out of the logs: {name}")
