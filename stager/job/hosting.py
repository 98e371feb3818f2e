"""A staged job's view in the node's own mount namespace: what `stager mount` and `stager umount` do, as root.

A child that is the job's user finds the job, checks its sources and opens them; root mounts what it was handed, and
nothing by a path that the user could change. What the user says is checked: it is the user's word, no more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Literal

from stager.errors import AccessDeniedError, MountError, NotFoundError, UsageError
from stager.host import syscalls
from stager.host.becoming import Channel, as_user
from stager.host.host_journal import RUN
from stager.host.host_mounts import HostMount, begun_mounts, make_mounts, remove_mounts
from stager.host.principal import Principal, find_principal
from stager.host.rights import refuse_target, why_not_allowed
from stager.host.site import site_principals, site_storage
from stager.job.launching import launch_of_job
from stager.job.placing import open_known_job
from stager.model import JobState, Mount, MountView
from stager.stages.emit_launch import LaunchMount
from stager.stages.mount import check_sources
from stager.view_paths import CODE, LOCAL_STORAGE, LOGS, MODULES, PUBLIC, SHARED_STORAGE, TASK, TMP, TMP_RAMFS

__all__ = ["Offer", "end_outside", "mount_job", "offered", "umount_job"]

_MOST_MOUNTS: Final = 1000
_OWN: Final = frozenset({CODE, LOGS, MODULES, TASK, TMP, TMP_RAMFS, LOCAL_STORAGE})
"""The job's alone, at paths that every user of the node can reach."""


@contextmanager
def offered(user: Principal, job_id: str, scratch: str | None) -> Iterator[Offer]:
    """What a staged job of ``user`` is to see, opened by a child that is that user; the files are closed at the end.

    What is raised until the block begins, and by `Offer.take`, is the fault of the job or its user.
    """
    _refuse_others("mount")
    with as_user(user, partial(_offer, job_id, scratch)) as channel:
        offer = Offer(channel, _take(channel, user))
        try:
            yield offer
        finally:
            _close_all(offer.mounts)


class Offer:
    """``mounts`` of a job."""

    def __init__(self, channel: Channel, mounts: Sequence[HostMount]) -> None:
        self.mounts = mounts
        self._channel = channel

    def take(self) -> str:
        """Say that they stand, or that none is wanted: the job runs from here. Its directory. Raises as `offered`."""
        self._channel.say({"taken": True})
        message, _ = self._channel.hear()
        return str(message["path"])


def mount_job(user: Principal, job_id: str, scratch: str | None, *, directory: str = RUN) -> bool:
    """Mount what a staged job is to see, and note that it runs; False: it was mounted already. Root's. Blocks.

    Raises `MountError`, `BusyError` (another job has these paths), `NotFoundError`, `AccessDeniedError`, `UsageError`
    (not staged, or ended), `HostError`, `NoSpaceError`.
    """
    with offered(user, job_id, scratch) as offer:
        made = make_mounts(job_id, user.uid, user.gid, offer.mounts, directory=directory)
        try:
            offer.take()
        except BaseException:
            if made:
                remove_mounts(job_id, directory=directory)
            raise
    return made


def umount_job(user: Principal, job_id: str, scratch: str | None, *, directory: str = RUN) -> bool:
    """Remove a job's mounts, and note that it has ended; False: it had none. Root's. Blocks.

    ``user``: whose job it is when it has none; else the journal knows.
    Raises `MountError`: something that is not ours is mounted there. `NotFoundError`: neither mounts nor a job.
    """
    _refuse_others("unmount")
    begun = begun_mounts(directory=directory)
    if begun is not None and begun.job == job_id and begun.uid != user.uid:
        user = find_principal(str(begun.uid), {})
    removed = remove_mounts(job_id, directory=directory)
    try:
        end_outside(user, job_id, scratch)
    except NotFoundError:
        if not removed:
            raise
    return removed


def end_outside(user: Principal, job_id: str, scratch: str | None) -> None:
    """Note that a job which others run has ended. Raises as `offered`. Blocks."""
    with as_user(user, partial(_end, job_id, scratch)) as channel:
        channel.hear()


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
            channel.say({"target": mount.target, "kind": mount.kind, "read_only": mount.read_only}, source)
            os.close(source)
        for memory in mounts:
            if memory.kind == "memory":
                channel.say({"target": memory.target, "bytes": memory.size_bytes, "inodes": memory.inodes})
        channel.say({"whole": True})
        channel.hear()
        if not job.record.runs_outside():
            job.advance(JobState.RUNNING, outside=True)
        channel.say({"path": job.path})


def _end(job_id: str, scratch: str | None, channel: Channel) -> None:
    with open_known_job(job_id, scratch, os.environ) as job:
        if job.record.runs_outside():
            job.advance(JobState.ENDED)
    channel.say({"ended": True})


def _view_of(mounts: Sequence[LaunchMount]) -> MountView:
    """Of what lies on this node, for its sources to be checked. `UsageError`: an export, which a view alone mounts."""
    for mount in mounts:
        if mount.kind == "nfs":
            raise UsageError("is mounted in a view alone", where=mount.source, hint="mount it, and say bind:/WHERE")

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


def _take(channel: Channel, user: Principal) -> list[HostMount]:
    """What the user's child offers, as far as it may be mounted."""
    wanted: list[HostMount] = []
    try:
        while True:
            message, files = channel.hear()
            if "whole" in message:
                return wanted
            mount = _asked(message, files, user)
            wanted.append(mount)
            _refuse_too_many(wanted)
            _admit(mount, str(message.get("kind")), user, [one.target for one in wanted[:-1]])
    except BaseException:
        _close_all(wanted)
        raise


def _refuse_too_many(wanted: Sequence[HostMount]) -> None:
    """A node has room for so many in all (fs.mount-max)."""
    if len(wanted) > _MOST_MOUNTS:
        raise MountError(f"more than {_MOST_MOUNTS} mounts", where="the job", hint="put data sets together")


def _asked(message: dict[str, Any], files: Sequence[int], user: Principal) -> HostMount:
    target = str(message["target"])
    if files:
        return HostMount(target, files[0], locked=bool(message["read_only"]) or target.startswith(f"{PUBLIC}/"))
    size, inodes = int(message["bytes"]), int(message["inodes"])
    if target != TMP_RAMFS or size < 1 or inodes < 1:
        raise MountError("is no place in memory, or one without an end", where=ascii(target))
    options = {"mode": "0700", "uid": str(user.uid), "gid": str(user.gid), "size": str(size), "nr_inodes": str(inodes)}
    return HostMount(target, None, tmpfs_options=options)


def _admit(mount: HostMount, kind: str, user: Principal, others: Sequence[str]) -> None:
    """Raises `MountError`: nothing goes there, or others than the user could enter. `AccessDeniedError`: the site does
    not let the user. Whoever is not root has no more mounted than that user's own directories and what the site allows.
    """
    target, source = mount.target, mount.source
    if (why := refuse_target(target, others)) is not None:
        raise MountError(why, where=ascii(target))
    if source is None:
        return
    found = os.fstat(source)
    if target in _OWN and (found.st_uid != user.uid or found.st_mode & 0o077):
        raise MountError("others than the job's user could enter", where=target)
    if user.uid == 0:
        return
    here = os.readlink(f"/proc/self/fd/{source}")
    if kind not in ("bind", "public"):
        shared = site_storage().shared
        if found.st_uid != user.uid and not (target == SHARED_STORAGE and shared and here == os.path.realpath(shared)):
            raise AccessDeniedError("is not a directory of the user's", where=here)
        return
    site = site_principals()
    tops = site.allowed_binds if kind == "bind" else site.allowed_public
    if (why := why_not_allowed(kind, here, [os.path.realpath(top) for top in tops])) is not None:
        raise AccessDeniedError(why, where=here)


def _close_all(mounts: Sequence[HostMount]) -> None:
    for mount in mounts:
        if mount.source is not None:
            os.close(mount.source)
