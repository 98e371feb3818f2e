"""The end of a job's record: the directory goes, and nothing but what stager has put there."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import Final

from stager.errors import HostError, from_os_error
from stager.host.names_in import names_in
from stager.host.record import RECORD, JobDirectory

__all__ = ["forget_job"]

_OURS: Final = re.compile(r"lock|[a-z][a-z-]{0,30}\.(?:json|env)|\..{1,255}")


def forget_job(job: JobDirectory) -> None:
    """Remove a job's directory, whose tree, state and creation are removed already; the record goes last, so that
    whoever is killed in between can begin again. Blocks.

    Raises `HostError`: something else lies there, and nothing is removed.
    """
    try:
        names = names_in(job.fd)
        foreign = [name for name in names if not _is_ours(job.fd, name)]
        if foreign:
            what = f"{foreign[0]!a} is nothing that stager has made; nothing was removed"
            raise HostError(what, where=job.path, hint="look at it, and remove it yourself")
        for name in sorted(names, key=lambda name: (name == "lock", name == RECORD)):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=job.fd)
        os.rmdir(job.path)
    except OSError as error:
        raise from_os_error(error, doing="remove the job's record", where=job.path) from error


def _is_ours(fd: int, name: str) -> bool:
    return bool(_OURS.fullmatch(name)) and stat.S_ISREG(os.lstat(name, dir_fd=fd).st_mode)
