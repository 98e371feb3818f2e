"""``stager slurm prolog|task-prolog|epilog``: what slurm.conf names, in a script of the site's or as it is."""

from __future__ import annotations

import os
import sys

import click

from stager.cli.figure import Figure
from stager.cli.render import write
from stager.job.slurm_told import job_file_of, task_lines, was_staged
from stager.names import show

__all__ = ["command"]

_scratch_option = click.option(
    "--scratch", metavar="DIR", type=click.Path(), help="Where jobs live, below it in a place for each user."
)


@click.group("slurm")
def command() -> None:
    """Stage jobs of Slurm before their first line runs: for slurm.conf, as Prolog, TaskProlog and Epilog.

    A user says which job file: sbatch --comment stager=train.toml train.sh

    Example: stager slurm prolog --limit 3600
    """


@command.command("prolog")
@click.option("--mount/--no-mount", "mounts", default=True, show_default=True,
              help="Make the job's mounts in the node's own namespace; one job at a time can have them.")
@click.option("--limit", "limit_s", type=Figure(1.0, 1e7), metavar="SECONDS", help="Fail a job that takes longer.")
@_scratch_option
def prolog(mounts: bool, limit_s: float | None, scratch: str | None) -> None:
    """Stage the job that Slurm is about to start on this node, as its user.

    A fault of the job or its user fails the job, with its reason in the job's output; only a fault of the node ends
    this with a status that drains it. Jobs whose comment names no job file are none of its business.

    Example: stager slurm prolog --no-mount
    """
    job_file = job_file_of(os.environ)
    if job_file is None:
        return
    from stager.job.slurm import start_job  # takes its time, and most jobs have none of it

    failed = start_job(job_file, os.environ, mounts=mounts, scratch=scratch, limit_s=limit_s)
    for line in failed.splitlines():
        write(sys.stderr, f"stager: job {os.environ['SLURM_JOB_ID']} fails: {show(os.fsencode(line))}")


@command.command("task-prolog")
def task_prolog() -> int:
    """Print the environment of a task for Slurm to take over; fail the task when its data is not there.

    Example: stager slurm task-prolog
    """
    lines, may_start = task_lines(os.environ)
    for line in lines:
        write(sys.stdout, line)
    return 0 if may_start else 1


@command.command("epilog")
@click.option("--limit", "limit_s", type=Figure(1.0, 1e7), metavar="SECONDS", default=3600.0, show_default=True,
              help="Give up what takes longer: the tree stays.")
@_scratch_option
def epilog(limit_s: float, scratch: str | None) -> None:
    """Remove the mounts of the job that has ended on this node, keep its logs, remove its tree.

    What cannot be kept stays in its tree (stager ls). Only a fault of the node ends this with a status that drains it.

    Example: stager slurm epilog
    """
    if not was_staged(os.environ):
        return
    from stager.job.slurm import end_job

    _, left = end_job(os.environ, scratch=scratch, limit_s=limit_s)
    for line in left:
        write(sys.stderr, f"stager: job {os.environ['SLURM_JOB_ID']}: {show(os.fsencode(line))}")
