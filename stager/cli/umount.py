"""``stager umount JOB``."""

from __future__ import annotations

import os

import click

from stager.cli.job_options import scratch_option
from stager.cli.options import common
from stager.cli.state import State
from stager.cli.tell import tell
from stager.host.principal import find_principal
from stager.job.hosting import umount_job

__all__ = ["command"]


@click.command("umount")
@click.argument("job_id", metavar="JOB")
@click.option("--user", metavar="USER", help="Whose job it is, when it has no mounts. [SLURM_JOB_UID, else root]")
@scratch_option
@common
@click.pass_obj
def command(state: State, /, job_id: str, user: str | None, scratch: str | None) -> None:
    """Remove the mounts that `stager mount` made, also after a crash of it, and say that the job has ended.

    Something that was mounted on or in them since stays, and is named. Doing it again is harmless.

    Example: stager umount 4711
    """
    principal = find_principal(user or os.environ.get("SLURM_JOB_UID") or "0", os.environ)
    removed = umount_job(principal, job_id, scratch)
    text = f"job {job_id}: {'unmounted' if removed else 'nothing is mounted'}"
    tell(state, "unmounted", {"job": job_id, "unmounted": removed}, text)
