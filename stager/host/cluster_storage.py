"""Storage of one job that all its nodes share: it survives restarts of the job, and is not removed at its end.

::

    TOP/UID-JOB/            0700, in the place that the site has for it, or in the user's own scratch
        used-by/NODE-HASH   one for each node where the job is staged or running: which node, and the job's directory
        data/               what the job has at /mnt/cluster_storage

The job is told by its id: started again under it, on whatever node, it finds what it left; another one finds nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec
from msgspec import Struct

from stager.errors import HostError, MountError, UsageError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.holders import Life
from stager.host.names_in import names_in
from stager.host.procs import find_viewer
from stager.host.record import record_at
from stager.host.scratch import is_private
from stager.host.storage import open_own_in, open_top
from stager.host.trees import refuse_mounts_below, remove_at
from stager.model import JOB_ID, JobState

__all__ = ["ClusterStorage", "join_cluster_storage", "leave_cluster_storage", "list_cluster_storage",
           "remove_cluster_storage"]  # fmt: skip

_DATA: Final = "data"
_USED_BY: Final = "used-by"
_MOST_BYTES: Final = 1 << 14
_GONE: Final = ".gone-"
_TRIES: Final = 16
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Mark(Struct, frozen=True):
    node: str
    job: str


class ClusterStorage(Struct, frozen=True, kw_only=True):
    """What a job has left, or has: its directory, when something was last done at its top, and, as far as can be known
    here, the nodes whose jobs still use it.
    """

    path: str
    job_id: str
    changed_s: float
    used_by: tuple[str, ...]


_decoder: Final = msgspec.json.Decoder(_Mark)


def join_cluster_storage(top: str, job_id: str, job: str) -> str:
    """The storage of a job, for its directory ``job`` on this node, made when it is the first; what is to be mounted.

    Blocks. Raises `HostError`, `NoSpaceError`.
    """
    name = f"{os.geteuid()}-{job_id}"
    path = os.path.join(top, name)
    top_fd = open_top(top)
    try:
        for _ in range(_TRIES):
            fd = open_own_in(top_fd, name, path)
            try:
                return _mark(fd, path, job)
            except FileNotFoundError:  # it was empty, and somebody has removed it
                continue
            except OSError as error:
                raise from_os_error(error, doing="make the storage of the job", where=path) from error
            finally:
                os.close(fd)
    finally:
        os.close(top_fd)
    raise HostError("the storage of the job is removed again and again", where=path, hint="run again")


def _mark(fd: int, path: str, job: str) -> str:
    for name in (_USED_BY, _DATA):
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=fd)
    with _opened(_USED_BY, fd) as used_fd:
        body = msgspec.json.encode(_Mark(node=os.uname().nodename, job=job))
        write_file(used_fd, _mark_name(job), [body], mode=0o600)
    os.lstat(_DATA, dir_fd=fd)
    return os.path.join(path, _DATA)


def leave_cluster_storage(data: str, job: str) -> None:
    """The job has ended on this node: what it left stays. Blocks; never raises.

    Where nothing is left it goes, but from a place that several nodes may have: one could come to it at this moment.
    """
    path = os.path.dirname(data)
    with suppress(OSError, HostError):
        fd = os.open(path, _DIRECTORY)
        try:
            with _opened(_USED_BY, fd) as used_fd:
                os.unlink(_mark_name(job), dir_fd=used_fd)
                if names_in(used_fd) or not is_private(os.stat(os.path.dirname(path))):
                    return
            for name in (_DATA, _USED_BY):
                os.rmdir(name, dir_fd=fd)
            os.rmdir(path)
        finally:
            os.close(fd)


def list_cluster_storage(top: str) -> list[ClusterStorage]:
    """This user's, the one that was left alone longest first; none where there is no such place. Blocks.

    Raises `HostError`: it cannot be listed.
    """
    prefix, found = f"{os.geteuid()}-", []
    try:
        names = os.listdir(top)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, doing="list the storage of jobs", where=top) from error
    for name in names:
        job_id = name.removeprefix(prefix)
        if name.startswith(prefix) and JOB_ID.fullmatch(job_id):
            with suppress(OSError):
                found.append(_look(os.path.join(top, name), job_id))
    return sorted(found, key=lambda one: one.changed_s)


def _look(path: str, job_id: str) -> ClusterStorage:
    times = [os.lstat(os.path.join(path, name)).st_mtime for name in (_DATA, _USED_BY)]
    users = []
    fd = os.open(os.path.join(path, _USED_BY), _DIRECTORY)
    try:
        for name in names_in(fd):
            if not name.startswith("."):
                users += _user_of(name, fd)
    finally:
        os.close(fd)
    return ClusterStorage(path=path, job_id=job_id, changed_s=max(times), used_by=tuple(sorted(users)))


def _user_of(name: str, used_fd: int) -> list[str]:
    """The node whose mark this is; nobody when it is this one, and the job is at work no more."""
    try:
        mark = _decoder.decode(read_regular(name, dir_fd=used_fd, most=_MOST_BYTES))
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return [name]
    return [] if mark.node == os.uname().nodename and _has_ended(mark.job) else [mark.node]


def _has_ended(job: str) -> bool:
    """As far as is known; not so of a job in a scratch that cannot be seen, as from within a container."""
    try:
        record = record_at(job)
    except (OSError, HostError):
        return False
    if record is None:
        return os.path.isdir(os.path.dirname(job))
    if record.state in (JobState.STAGING, JobState.RUNNING):
        return record.owner.state() is Life.DEAD
    return record.state is not JobState.READY or record.error is not None


def remove_cluster_storage(found: ClusterStorage, *, unused_only: bool = True) -> None:
    """Remove what a job has left, whole. Blocks.

    Raises `UsageError`: it is in use (a node that is gone for good never says that it is not: without ``unused_only``
    that is no matter), and nothing is touched. `HostError`, `MountError`.
    """
    top, name = os.path.split(found.path)
    top_fd = open_top(top)
    try:
        now = _look(found.path, found.job_id)
        if unused_only and now.used_by:
            raise UsageError(f"is in use on {', '.join(now.used_by)}", where=found.path, hint="wait for the job's end")
        refuse_mounts_below(found.path)
        if (pid := find_viewer(found.path)) is not None:
            raise UsageError(f"process {pid} of a job sees it", where=found.path, hint="wait for the job's end")
        _sweep(top_fd)
        fd = os.open(name, _DIRECTORY, dir_fd=top_fd)
        try:
            aside = f"{_GONE}{os.geteuid()}-{secrets.token_hex(8)}"
            os.rename(name, aside, src_dir_fd=top_fd, dst_dir_fd=top_fd)
            if not os.path.samestat(os.lstat(aside, dir_fd=top_fd), os.fstat(fd)):
                os.rename(aside, name, src_dir_fd=top_fd, dst_dir_fd=top_fd)
                raise HostError("was exchanged while it was removed; nothing was removed", where=found.path)
            remove_at(aside, top_fd, fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="remove the storage of the job", where=found.path) from error
    finally:
        os.close(top_fd)


def _sweep(top_fd: int) -> None:
    """What another remover that was killed has left."""
    for name in names_in(top_fd):
        if name.startswith(f"{_GONE}{os.geteuid()}-"):
            with suppress(OSError, MountError):
                remove_at(name, top_fd)


def _mark_name(job: str) -> str:
    node = re.sub(r"[^A-Za-z0-9.-]", "-", os.uname().nodename).lstrip(".")[:64]
    return f"{node}-{hashlib.sha256(os.fsencode(job)).hexdigest()[:12]}"


@contextmanager
def _opened(name: str, above: int) -> Iterator[int]:
    fd = os.open(name, _DIRECTORY, dir_fd=above)
    try:
        yield fd
    finally:
        os.close(fd)
