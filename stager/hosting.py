"""A staged job's view in the node's own mount namespace: what `stager mount` and `stager umount` do, as root.

A child that is the job's user finds the job, checks its sources and opens them; root mounts what it was handed, and
nothing by a path that the user could change. What the user says is checked: it is the user's word, no more.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal

from stager.errors import AccessDeniedError, MountError, NotFoundError, UsageError
from stager.host import syscalls
from stager.host.becoming import Channel, User, as_user, find_user
from stager.host.host_journal import RUN
from stager.host.host_mounts import HostMount, begun_mounts, make_mounts, remove_mounts
from stager.host.record import JobDirectory
from stager.launching import launch_of_job
from stager.model import DATASET_NAME, JobState, Mount, MountView
from stager.placing import open_known_job
from stager.stages.emit_launch import LaunchMount
from stager.stages.mount import check_sources
from stager.view_paths import (
    CLUSTER_STORAGE,
    CODE,
    DATA,
    LOCAL_STORAGE,
    LOGS,
    PUBLIC,
    SHARED_STORAGE,
    TASK,
    TMP,
    TMP_RAMFS,
    USER_STORAGE,
)

__all__ = ["end_outside", "mount_job", "run_outside", "umount_job"]

_PUBLIC_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_OWN: Final = frozenset({CODE, LOGS, TASK, TMP, TMP_RAMFS, LOCAL_STORAGE})
"""The job's alone, at paths that every user of the node can reach."""
_TOPS: Final = _OWN | {CLUSTER_STORAGE, USER_STORAGE, SHARED_STORAGE}


def mount_job(user: User, job_id: str, scratch: str | None, *, directory: str = RUN) -> bool:
    """Mount what a staged job is to see, and note that it runs; False: it was mounted already. Root's. Blocks.

    Raises `MountError`, `BusyError` (another job has these paths), `NotFoundError`, `AccessDeniedError`, `UsageError`
    (not staged, or ended), `HostError`, `NoSpaceError`.
    """
    _refuse_others("mount")
    with as_user(user, partial(_offer, job_id, scratch)) as channel:
        wanted = _take(channel, user)
        try:
            made = make_mounts(job_id, user.uid, user.gid, wanted, directory=directory)
        finally:
            _close_all(wanted)
        try:
            channel.say({"mounted": True})
            channel.hear()
        except BaseException:
            if made:
                remove_mounts(job_id, directory=directory)
            raise
    return made


def umount_job(user: User, job_id: str, scratch: str | None, *, directory: str = RUN) -> bool:
    """Remove a job's mounts, and note that it has ended; False: it had none. Root's. Blocks.

    ``user``: whose job it is when it has none; else the journal knows.
    Raises `MountError`: something that is not ours is mounted there. `NotFoundError`: neither mounts nor a job.
    """
    _refuse_others("unmount")
    begun = begun_mounts(directory=directory)
    if begun is not None and begun.job == job_id and begun.uid != user.uid:
        user = find_user(str(begun.uid))
    removed = remove_mounts(job_id, directory=directory)
    try:
        with as_user(user, partial(_end, job_id, scratch)) as channel:
            channel.hear()
    except NotFoundError:
        if not removed:
            raise
    return removed


def run_outside(job: JobDirectory) -> None:
    """Note that a staged job's command is run by others from here. Raises `HostError`, `NoSpaceError`. Blocks."""
    if not job.record.runs_outside():
        job.advance(JobState.RUNNING, outside=True)


def end_outside(job: JobDirectory) -> None:
    """Note that they have ended. Raises `HostError`, `NoSpaceError`. Blocks."""
    if job.record.runs_outside():
        job.advance(JobState.ENDED)


def _refuse_others(what: str) -> None:
    if os.geteuid() != 0:
        raise MountError(
            f"only root can {what} in the node's own namespace", where="stager",
            hint="`stager run` makes the same view for its command alone, without root",
        )  # fmt: skip


def _offer(job_id: str, scratch: str | None, channel: Channel) -> None:
    """The user's part: each source, opened; then the job runs."""
    with open_known_job(job_id, scratch, os.environ) as job:
        if job.record.state is not JobState.READY and not job.record.runs_outside():
            raise UsageError(f"is {job.record.shown_state()}, not ready", where=f"job {job_id}", hint="stage it first")
        mounts = launch_of_job(job).mounts
        for mount in check_sources(_view_of(mounts)).mounts:
            source = _open_pinned(mount)
            channel.say({"target": mount.target, "read_only": mount.read_only}, source)
            os.close(source)
        for memory in mounts:
            if memory.kind == "memory":
                channel.say({"target": memory.target, "bytes": memory.size_bytes, "inodes": memory.inodes})
        channel.say({"whole": True})
        channel.hear()
        run_outside(job)
        channel.say({"runs": True})


def _end(job_id: str, scratch: str | None, channel: Channel) -> None:
    with open_known_job(job_id, scratch, os.environ) as job:
        end_outside(job)
    channel.say({"ended": True})


def _view_of(mounts: Sequence[LaunchMount]) -> MountView:
    """Of what lies on this node, for its sources to be checked."""

    def kind(mount: LaunchMount) -> Literal["public", "bind", "own"]:
        return "public" if mount.target.startswith(f"{PUBLIC}/") else "bind" if mount.live else "own"

    return MountView(
        mounts=tuple(
            Mount(kind=kind(mount), source=mount.source, target=mount.target, read_only=mount.read_only)
            for mount in mounts
            if mount.kind == "bind"
        )
    )  # fmt: skip


def _open_pinned(mount: Mount) -> int:
    try:
        source = syscalls.open_resolved(
            mount.source, os.O_PATH | os.O_DIRECTORY, resolve=syscalls.RESOLVE_NO_SYMLINKS
        )  # fmt: skip
        found = os.fstat(source)
        if mount.target in _OWN and found.st_mode & 0o077:
            os.chmod(f"/proc/self/fd/{source}", stat.S_IMODE(found.st_mode) & ~0o077)
    except OSError as error:
        raise MountError(f"cannot open the source of {mount.target}: {error.strerror}", where=mount.source) from error
    if (found.st_dev, found.st_ino) != mount.pinned:
        os.close(source)
        raise MountError("another directory than the one that was checked", where=mount.source, hint="try again")
    return source


def _take(channel: Channel, user: User) -> list[HostMount]:
    """What the user's child offers, as far as it may be mounted."""
    wanted: list[HostMount] = []
    try:
        while True:
            message, files = channel.hear()
            if "whole" in message:
                return wanted
            wanted.append(_asked(message, files, user))
            _refuse_target(wanted[-1].target, {mount.target for mount in wanted[:-1]})
            if files:
                _refuse_source(wanted[-1], user)
    except BaseException:
        _close_all(wanted)
        raise


def _asked(message: dict[str, Any], files: Sequence[int], user: User) -> HostMount:
    target = str(message["target"])
    if files:
        return HostMount(target, files[0], locked=bool(message["read_only"]) or target.startswith(f"{PUBLIC}/"))
    size, inodes = int(message["bytes"]), int(message["inodes"])
    options = {"mode": "0700", "uid": str(user.uid), "gid": str(user.gid), "size": str(size), "nr_inodes": str(inodes)}
    return HostMount(target, None, tmpfs_options=options)


def _refuse_target(target: str, others: set[str]) -> None:
    above, _, name = target.partition("/")[2].partition("/")
    known = target in _TOPS
    known |= f"/{above}" == DATA and DATASET_NAME.fullmatch(name) is not None
    known |= f"/{above}" == PUBLIC and _PUBLIC_NAME.fullmatch(name) is not None
    if not known or target in others:
        raise MountError("is no path of a job's view, or twice", where=target[:200])


def _refuse_source(mount: HostMount, user: User) -> None:
    assert mount.source is not None
    found = os.fstat(mount.source)
    if not stat.S_ISDIR(found.st_mode):
        raise MountError("is no directory", where=mount.target)
    if mount.target in _OWN and (found.st_uid != user.uid or found.st_mode & 0o077):
        raise MountError("others than the job's user could enter", where=mount.target)
    if user.uid != 0 and found.st_uid != user.uid:
        raise AccessDeniedError(
            f"user {user.name} may have nothing mounted there but what is that user's own", where=mount.target,
            hint="the node's administrator can allow it: [principals] in /etc/stager/site.toml",
        )  # fmt: skip


def _close_all(mounts: Sequence[HostMount]) -> None:
    for mount in mounts:
        if mount.source is not None:
            os.close(mount.source)
