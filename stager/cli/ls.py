"""``stager ls``."""

from __future__ import annotations

import os

import click
import msgspec

from stager.cli.job_options import scratch_option
from stager.cli.options import common
from stager.cli.state import State
from stager.cli.tell import tell
from stager.host.record import list_jobs, rfc3339
from stager.job.placing import job_scratches
from stager.model import JobState
from stager.names import show

__all__ = ["command"]


@click.command("ls")
@click.option("-a", "--all", "everything", is_flag=True, help="Removed jobs too.")
@scratch_option
@common
@click.pass_obj
def command(state: State, /, everything: bool, scratch: str | None) -> None:
    """List the jobs of this user on this node: id, state, when created or started, name. "crashed": its stager died.

    Example: stager ls
    """
    found = [(record, top) for top in job_scratches(scratch, os.environ) for record in list_jobs(top)]
    shown = [record for record, _ in found if everything or record.state is not JobState.REMOVED]
    width = max((len(record.id) for record in shown), default=0)
    for record, top in sorted(found, key=lambda each: each[0].begun_s()):
        if record.state is JobState.REMOVED and not everything:
            continue
        started = rfc3339(record.begun_s())
        tree = os.path.join(top, "jobs", record.id, "tree")
        body = {**msgspec.to_builtins(record), "state": record.shown_state(), "started": started, "tree": tree}
        name = show(os.fsencode(record.name))
        tell(state, "job", body, f"{record.id:{width}}  {record.shown_state():9}  {started}  {name}")
