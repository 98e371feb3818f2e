"""Slurm's prolog, task prolog and epilog: a job's data is on each of its nodes before its first line runs.

A user names a job file in the comment of the job: ``sbatch --comment stager=train.toml``; slurmd hands it to the prolog
(SLURM_JOB_COMMENT, Slurm 22.05). The prolog stages as the user. What it came to lies in ``/run/stager/slurm/JOBID``,
where the job's tasks find it and nobody else: the environment, or why there is no data, which fails the job and not the
node (a prolog that exits non-zero drains the node: slurm.conf(5), "Prolog").
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from stager.errors import BusyError, HostError, NotFoundError, StagerError, from_os_error
from stager.host.host_journal import RUN
from stager.host.host_mounts import make_mounts, remove_mounts
from stager.host.own_command import run_stager
from stager.host.principal import Principal, slurm_principal
from stager.job.hosting import end_outside, offered
from stager.job.slurm_told import Told, open_told, read_told, slurm_job_id, tell_tasks

__all__ = ["end_job", "start_job"]

_NOT_THERE: Final = "its data is not on this node: the prolog has not finished"


def start_job(
    job_file: str, environ: Mapping[str, str], *, mounts: bool, scratch: str | None = None,
    limit_s: float | None = None, directory: str = RUN,
) -> str:  # fmt: skip
    """Stage the job, and make its mounts when ``mounts``. Returns why that has failed, "" when it has not. Blocks.

    Raises what is the node's fault: `HostError`; `UsageError`: it does not know the user, or Slurm has not said whose
    job it is.
    """
    job_id, user = slurm_job_id(environ), slurm_principal(environ)
    fd = open_told(directory)
    try:
        tell_tasks(fd, job_id, user, Told(failed=_NOT_THERE))
        remove_mounts(job_id, directory=directory)  # of an earlier start that had no epilog
        with suppress(StagerError):
            end_outside(user, job_id, scratch)
        told = _stage(job_file, job_id, user, environ, scratch, limit_s)
        if not told.failed:
            told = _hand_over(job_id, user, scratch, directory, mounts=mounts)
        tell_tasks(fd, job_id, user, told)
    except BaseException:
        with suppress(OSError):
            os.unlink(job_id, dir_fd=fd)
        raise
    finally:
        os.close(fd)
    return told.failed


def end_job(
    environ: Mapping[str, str], *, scratch: str | None = None, limit_s: float | None = None, directory: str = RUN
) -> tuple[bool, list[str]]:
    """Remove the mounts of a job that the prolog has staged, keep its logs, remove its tree; whether there was one.

    Also what could not be done for the user, whose tree stays then. Raises what is the node's fault, as `start_job`,
    and `MountError`: something of somebody else's is mounted on or in the job's mounts. Idempotent. Blocks.
    """
    job_id = slurm_job_id(environ)
    fd = open_told(directory)
    try:
        try:
            told = read_told(fd, job_id)
        except HostError:  # it is the user's, to do with it what that one likes
            told = Told()
        if told is None:
            return False, []
        user = slurm_principal(environ)
        remove_mounts(job_id, directory=directory)
        left = _finish(job_id, user, environ, scratch, limit_s, has_run=not told.failed)
        os.unlink(job_id, dir_fd=fd)
    except OSError as error:
        raise from_os_error(error, doing="end the job", where=directory) from error
    finally:
        os.close(fd)
    return True, left


def _stage(
    job_file: str, job_id: str, user: Principal, environ: Mapping[str, str], scratch: str | None, limit_s: float | None
) -> Told:
    """As the user, with nothing of root's: whatever that meets is no fault of the node's."""
    again = {"SLURM_RESTART_COUNT": environ.get("SLURM_JOB_RESTART_COUNT", "0")}  # as the job itself is told
    arguments = ["stage", "-q", job_file, "--job-id", job_id, *_where(scratch)]
    ran = run_stager([arguments], user, {**environ, **again}, limit_s=limit_s)
    if ran.code is None:
        return Told(failed=f"{job_file}: not staged within the {limit_s:.0f} s that this node allows")
    if ran.code:
        return Told(failed=ran.said.strip().removeprefix("stager: ") or f"staging ended with status {ran.code}")
    return Told()


def _hand_over(job_id: str, user: Principal, scratch: str | None, directory: str, *, mounts: bool) -> Told:
    """Make the mounts, and note that the job runs. What its user's part meets is none of the node's faults."""
    fault: StagerError | None = None
    try:
        with offered(user, job_id, scratch) as offer:
            if mounts:
                try:
                    make_mounts(job_id, user.uid, user.gid, offer.mounts, directory=directory)
                except StagerError as error:
                    fault = None if isinstance(error, BusyError) else error
                    raise
            path = offer.take()
    except StagerError as error:
        if error is fault:
            raise
        remove_mounts(job_id, directory=directory)
        return Told(failed=str(error))
    return Told(path=path, tree="" if mounts else os.path.join(path, "tree"))


def _finish(
    job_id: str, user: Principal, environ: Mapping[str, str], scratch: str | None, limit_s: float | None, *,
    has_run: bool,
) -> list[str]:  # fmt: skip
    """The user's part of the end; what it could not do."""
    try:
        end_outside(user, job_id, scratch)
    except NotFoundError:  # it was never staged
        return []
    except StagerError as error:
        return [str(error)]
    commands = ["collect", "teardown"] if has_run else ["teardown"]
    ran = run_stager([[command, "-q", job_id, *_where(scratch)] for command in commands], user, environ,
                     limit_s=limit_s)  # fmt: skip
    how = "has not come in time" if ran.code is None else f"ended with status {ran.code}" if ran.code else ""
    return ran.said.strip().splitlines() or ([f"its end {how}"] if how else [])


def _where(scratch: str | None) -> list[str]:
    return ["--scratch", scratch] if scratch else []
