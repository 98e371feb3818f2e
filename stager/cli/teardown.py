"""``stager teardown JOB``."""

from __future__ import annotations

import asyncio
import os

import click

from stager.cli.job_options import scratch_option
from stager.cli.options import common, run_async
from stager.cli.state import State
from stager.cli.tell import tell, warn_of_losses
from stager.job.end import remove_creation, teardown_job
from stager.job.placing import open_known_job

__all__ = ["command"]


@click.command("teardown")
@click.argument("job_id", metavar="JOB")
@click.option("--discard-uncollected", is_flag=True, help="Remove the tree although its logs are kept nowhere else.")
@scratch_option
@common
@click.pass_obj
def command(state: State, /, job_id: str, discard_uncollected: bool, scratch: str | None) -> None:
    """Remove a job's tree: the copies of its data, its code, its logs. Its receipt stays. Sources are never touched.

    Example: stager teardown 4711
    """

    def teardown() -> bool:
        with open_known_job(job_id, scratch, os.environ) as job:
            warn_of_losses(state, job)
            removed = teardown_job(job, discard_uncollected=discard_uncollected)
            remove_creation(job)
            return removed

    removed = run_async(asyncio.to_thread(teardown), how_to_continue="run the same command again")
    text = f"job {job_id}: {'removed' if removed else 'was removed before'}"
    tell(state, "removed", {"job": job_id, "removed": removed}, text)
