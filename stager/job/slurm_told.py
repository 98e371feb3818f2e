"""What Slurm tells the prolog, and the prolog the tasks of a job it has staged: a file in ``/run/stager/slurm``.

It is the user's, to be read by nobody else; its name and place are root's.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from stager.errors import HostError, UsageError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.host_journal import RUN, open_run_directory
from stager.host.principal import Principal
from stager.host.record import record_at
from stager.host.site import site_cloud
from stager.job.environment import places_in, without_view
from stager.job.settings import read_settings
from stager.scheduler import scheduler_facts
from stager.stages.environment import own_environment

__all__ = ["Told", "job_file_of", "open_told", "read_told", "slurm_job_id", "task_lines", "tell_tasks", "was_staged"]

_WORD: Final = "stager="
_DIRECTORY: Final = "slurm"
_JOB_ID: Final = re.compile(r"[0-9]{1,20}")
_MOST_BYTES: Final = 1 << 20


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the prolog tells the tasks of a job: why there is no data; or the job's directory and, without mounts, its
    tree.
    """

    failed: str = ""
    path: str = ""
    tree: str = ""


def job_file_of(environ: Mapping[str, str]) -> str | None:
    """The job file that the job's comment names, absolute; None: it names none."""
    comment = environ.get("SLURM_JOB_COMMENT", "")
    try:
        words = shlex.split(comment)
    except ValueError:  # an apostrophe of somebody's prose
        words = comment.split()
    for word in words:
        if word.startswith(_WORD) and len(word) > len(_WORD):
            return os.path.join(environ.get("SLURM_JOB_WORK_DIR") or "/", word.removeprefix(_WORD))
    return None


def was_staged(environ: Mapping[str, str], *, directory: str = RUN) -> bool:
    """Whether the prolog has begun with this job, for who has to know it quickly. Raises `UsageError`. Blocks."""
    return os.path.lexists(os.path.join(directory, _DIRECTORY, slurm_job_id(environ)))


def task_lines(environ: Mapping[str, str], *, directory: str = RUN) -> tuple[list[str], bool]:
    """What the task prolog prints for a job that the prolog has staged, and whether the task may start. Blocks.

    Lines are Slurm's (slurm.conf(5), "TaskProlog"): ``export NAME=value``, ``print text``. Nothing for any other job.
    """
    try:
        fd = os.open(os.path.join(directory, _DIRECTORY), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return [], True
    try:
        told = read_told(fd, slurm_job_id(environ))
    except OSError as error:
        raise from_os_error(error, doing="read what the prolog tells", where=directory) from error
    finally:
        os.close(fd)
    if told is None:
        return [], True
    if told.failed:
        return [f"print stager: {line}" for line in told.failed.splitlines()], False
    return list(_exports(_variables(told, environ))), True


def slurm_job_id(environ: Mapping[str, str]) -> str:
    """The number of the job. Raises `UsageError`."""
    job_id = environ.get("SLURM_JOB_ID", "")
    if not _JOB_ID.fullmatch(job_id):
        raise UsageError("is no number: Slurm sets it", where="SLURM_JOB_ID", hint="call this from slurm.conf")
    return job_id


def open_told(directory: str = RUN) -> int:
    """A descriptor of where the files are. Raises `HostError`. Blocks."""
    path = os.path.join(directory, _DIRECTORY)
    try:
        os.close(open_run_directory(directory))
        return open_run_directory(path)
    except OSError as error:
        raise from_os_error(error, doing="make the directory", where=path) from error


def tell_tasks(fd: int, job_id: str, user: Principal, told: Told) -> None:
    """Write the file of a job. Raises `HostError`, `NoSpaceError`. Blocks."""
    write_file(fd, job_id, [msgspec.json.encode(told)], mode=0o400)
    try:
        os.chown(job_id, user.uid, user.gid, dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        raise from_os_error(error, doing="hand over the file", where=job_id) from error


def read_told(fd: int, job_id: str) -> Told | None:
    """None: the prolog has not staged this job. OSError; raises `HostError`: it is damaged."""
    try:
        data = read_regular(job_id, dir_fd=fd, most=_MOST_BYTES)
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=Told)
    except (msgspec.MsgspecError, ValueError) as error:
        raise HostError(f"is damaged: {error}", where=f"{_DIRECTORY}/{job_id}", hint="submit the job again") from error


def _variables(told: Told, environ: Mapping[str, str]) -> dict[str, str]:
    """What stager sets for this task; the rest of its environment is Slurm's."""
    path = told.path
    try:
        record = record_at(path)
    except OSError as error:
        raise from_os_error(error, doing="read the job's record", where=path) from error
    if record is None:
        raise HostError("the job's record is gone", where=path, hint="submit the job again")
    identity = record.identity()
    spec, facts, cloud = read_settings(path).spec, scheduler_facts(environ), site_cloud()
    if not told.tree:
        return own_environment(spec, identity, facts, cloud=cloud)
    found = own_environment(spec, identity, facts, cloud=cloud, places=places_in(told.tree))
    return without_view(found, told.tree)


def _exports(variables: Mapping[str, str]) -> Iterator[str]:
    for name, value in sorted(variables.items()):
        if "\n" in value:
            yield f"print stager: {name} has several lines, which Slurm cannot pass on: it is left out"
        else:
            yield f"export {name}={value}"
