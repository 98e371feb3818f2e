"""The place where a job's logs are kept: named, refused, or marked as the job's before anything runs.

A job that is run again under its id (Slurm requeues a job so) gets a place of its own: ``.restart-N`` is appended, and
what an earlier one kept is never written over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from stager.errors import HostError, UsageError, from_os_error
from stager.host.atomic import open_regular, write_file
from stager.host.mounts import lies_within

__all__ = [
    "MARK",
    "claim_place",
    "count_own_parts",
    "holds_mark",
    "is_store",
    "open_place",
    "persist_path",
    "refuse_own_places",
    "release_place",
]

MARK: Final = ".stager-job"
"""The file in such a place that says whose it is."""


def persist_path(
    template: str, *, job_id: str, job_name: str, environ: Mapping[str, str], restart: int = 0
) -> str:
    """The directory or s3:// prefix for one job on one node; /JOB_ID/NODE_RANK is appended unless {job.id} stands in
    ``template``.

    NODE_RANK is SLURM_NODEID, else 0. Raises `UsageError`: not absolute, or '..' in it.
    """
    scheme = "s3:/" if is_store(template) else ""
    template = template.removeprefix(scheme)
    rank = environ.get("SLURM_NODEID", "0")
    rank = rank if rank.isascii() and rank.isdigit() else "0"
    if "{job.id}" not in template:
        template = os.path.join(template, "{job.id}", "{node.rank}")
    path = template.replace("{job.id}", job_id).replace("{job.name}", job_name).replace("{node.rank}", rank)
    if not path.startswith("/") or ".." in path.split("/"):
        raise UsageError("the place for logs must be absolute and without '..'", where=path, hint="check [logs]")
    path = scheme + os.path.normpath(path)
    return f"{path}.restart-{restart}" if restart else path


def is_store(place: str) -> bool:
    """Whether it is a prefix of a bucket, not a directory."""
    return place.startswith("s3://")


def refuse_own_places(path: str, tops: Iterable[str]) -> None:
    """Raise `UsageError` when ``path`` lies in one of stager's own directories, whatever symlinks lead there."""
    if is_store(path):
        return
    real = os.path.realpath(path)
    if any(lies_within(real, os.path.realpath(top)) for top in tops):
        raise UsageError(
            "the place for logs lies in stager's own directories, which go with the job", where=path,
            hint="name another in [logs]",
        )  # fmt: skip


def count_own_parts(template: str) -> int:
    """How many directories at the end of `persist_path` are this job's: from the first that the job's id names."""
    if "{job.id}" not in template:
        return 2
    parts = [part for part in template.split("/") if part not in ("", ".")]
    return next(len(parts) - at for at, part in enumerate(parts) if "{job.id}" in part)


def open_place(destination: str, own_parts: int, *, make: bool = True) -> int:
    """A descriptor of the place, made when missing if ``make``. Blocks.

    What lies above the job's own directories is the user's choice, symlinks too. The last ``own_parts`` of the path
    are no symlinks and the user's own: others may be able to write above, and must not lead the logs elsewhere.
    Raises `HostError`: it cannot be made, or is not so; `NoSpaceError`.
    """
    above, names = destination, list[str]()
    for _ in range(own_parts):
        above, name = os.path.split(above)
        names.insert(0, name)
    try:
        if make:
            os.makedirs(above, exist_ok=True)
        fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in names:
            fd = _step_into(name, fd, make)
    except OSError as error:
        raise from_os_error(error, doing="make the place for logs", where=destination) from error
    return fd


def _step_into(name: str, fd: int, make: bool) -> int:
    """The user's own directory ``name`` in the open directory ``fd``, which is closed. `HostError`, OSError."""
    where = os.path.join(os.readlink(f"/proc/self/fd/{fd}"), name)
    try:
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except NotADirectoryError as error:
        raise HostError(
            "a symlink or a file stands in the place of logs", where=where, hint="choose another place in [logs]"
        ) from error
    finally:
        os.close(fd)
    owner = os.fstat(below).st_uid
    if owner != os.geteuid():
        os.close(below)
        raise HostError(
            f"belongs to another user (uid {owner})", where=where, hint="choose another place in [logs]"
        )
    return below


def claim_place(destination: str, token: str, *, own_parts: int = 1) -> bool:
    """Make ``destination`` and mark it with ``token`` as this job's; False when it is another job's. Blocks.

    Raises `HostError`: what `open_place` raises, or it holds files that are nobody's logs; `NoSpaceError`.
    """
    fd = open_place(destination, own_parts)
    try:
        return holds_mark(fd, destination, token)
    except OSError as error:
        raise from_os_error(error, doing="mark the place for logs", where=destination) from error
    finally:
        os.close(fd)


def holds_mark(fd: int, destination: str, token: str) -> bool:
    """Whether the open place is marked with ``token``; an empty one is marked now. `HostError`, OSError."""
    found = _read_mark(fd)
    if found is None:
        if os.listdir(fd):
            raise HostError(
                "holds files that are not this job's", where=destination, hint="choose an empty place in [logs]"
            )
        write_file(fd, MARK, [token.encode() + b"\n"], durable=True)
        return True
    return found == token


def release_place(destination: str, token: str, *, own_parts: int = 1) -> None:
    """Remove a place that `claim_place` made and nothing was kept in. Blocks; never raises."""
    with suppress(HostError, OSError):
        fd = open_place(destination, own_parts, make=False)
        try:
            if os.listdir(fd) == [MARK] and _read_mark(fd) == token:
                os.unlink(MARK, dir_fd=fd)
                os.rmdir(destination)
        finally:
            os.close(fd)


def _read_mark(fd: int) -> str | None:
    try:
        with open(open_regular(MARK, os.O_RDONLY, dir_fd=fd), encoding="utf-8") as file:
            return file.read(256).strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ""
