"""The standard streams of a job, which the process that keeps its view has first."""

from __future__ import annotations

import fcntl
import os
import stat

from stager.errors import MountError

__all__ = ["guard_streams", "silence"]


def guard_streams() -> None:
    """An inherited file of a public data set must not be a way around the read-only mount: /proc/self/fd/0 reopens.

    Standard input is opened again inside the view; an output that leads there was opened for writing and is refused
    by `MountError`.
    """
    for descriptor in range(3):
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
            continue
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        inside = _open_same(path, descriptor)
        if inside is None:
            continue
        if os.fstatvfs(inside).f_flag & os.ST_RDONLY:
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                raise MountError(
                    "an output of the job is a file of a public data set", where=path, hint="write it elsewhere"
                )
            if stat.S_ISREG(kind):
                os.lseek(inside, os.lseek(descriptor, 0, os.SEEK_CUR), os.SEEK_SET)
            os.dup2(inside, descriptor, inheritable=True)
        os.close(inside)


def _open_same(path: str, descriptor: int) -> int | None:
    """The file behind ``descriptor``, read-only through the view; nothing when the view does not show it there."""
    try:
        inside = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    if os.path.samestat(os.fstat(inside), os.fstat(descriptor)):
        return inside
    os.close(inside)
    return None


def silence() -> None:
    """The job alone holds its streams from here: a reader of them sees the end when the job has ended."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.close(null)
