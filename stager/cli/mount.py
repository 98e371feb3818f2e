"""``stager mount JOB``."""

from __future__ import annotations

import os

import click

from stager.cli.job_options import scratch_option
from stager.cli.options import common
from stager.cli.state import State
from stager.cli.tell import tell
from stager.host.principal import find_principal
from stager.job.hosting import mount_job

__all__ = ["command"]


@click.command("mount")
@click.argument("job_id", metavar="JOB")
@click.option("--user", metavar="USER", help="Whose job it is. [SLURM_JOB_UID, else root]")
@scratch_option
@common
@click.pass_obj
def command(state: State, /, job_id: str, user: str | None, scratch: str | None) -> None:
    """Make the mounts of a staged job in the node's own namespace: /data, /public, /code, /logs and the rest.

    For schedulers that cannot start a job in a namespace of its own. Only root may, and only one job at a time can have
    these paths on a node. What the node has there already is never covered. Doing it again is harmless.

    Example: stager mount 4711 --user alice
    """
    principal = find_principal(user or os.environ.get("SLURM_JOB_UID") or "0", os.environ)
    made = mount_job(principal, job_id, scratch)
    text = f"job {job_id}: {'mounted' if made else 'was mounted before'}"
    tell(state, "mounted", {"job": job_id, "mounted": made}, text)
