"""The storages that a job has below /mnt: where each lies, opened before anything is moved.

Local storage lies with the job's tree, on this node. What a site has no place for lies in the user's own scratch, so
that every job has all four; its user is told that it is not what it is elsewhere.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from stager.errors import HostError, MountError, from_os_error
from stager.host.cluster_storage import (
    ClusterStorage,
    join_cluster_storage,
    leave_cluster_storage,
    list_cluster_storage,
)
from stager.host.find_roots import this_node
from stager.host.probe import probe_directories
from stager.host.record import JobDirectory
from stager.host.roots import examine
from stager.host.scratch import STORAGE, open_own, open_scratch, used_scratches
from stager.host.site import site_storage
from stager.host.storage import open_own_in, open_top
from stager.host.storage_settings import StorageSettings
from stager.model import Mount
from stager.placement import DeviceClass
from stager.view_paths import CLUSTER_STORAGE, LOCAL_STORAGE, SHARED_STORAGE, USER_STORAGE

__all__ = ["Storage", "cluster_storages", "mounts_of", "open_storages", "release_storage"]

_ANSWER_WITHIN_S: Final = 10.0
_LOCAL: Final = "local"  # in a job's tree
_ALONE: Final = "on this node alone, and yours alone"
_HERE: Final = f"{_ALONE}: this site has no place for it"


class Storage(Struct, frozen=True, kw_only=True):
    """One of them: ``target`` in the view, ``path`` on the node. ``owner``: it is this user's alone. ``fallback``: it
    is not what it should be, as ``told`` says.
    """

    target: str
    path: str
    told: str
    owner: int | None = None
    fallback: bool = False


def open_storages(job: JobDirectory, scratch: str, environ: Mapping[str, str]) -> list[Storage]:
    """All four, of a job whose tree is made; ``scratch``: where that lies. Blocks.

    Raises `MountError`: a configured one does not answer. `HostError`: it is not there, cannot be had, or is somebody
    else's. `NoSpaceError`.
    """
    settings = site_storage()
    closed = _closed_ones(settings)
    data = join_cluster_storage(settings.cluster or _own_place("cluster", scratch, environ), job.record.id, job.path)
    job.store_in(data)
    user = _user_directory(settings.user or _own_place("user", scratch, environ))
    if settings.shared and settings.shared not in closed:
        shared, told = settings.shared, _configured(settings)
    else:
        shared = _own_place("shared", scratch, environ)
        told = f"{_ALONE}: you may not enter {settings.shared}" if settings.shared else _HERE
    me = os.geteuid()
    return [
        _local_storage(job),
        Storage(target=CLUSTER_STORAGE, path=data, owner=me, told=_configured(settings) if settings.cluster else _HERE,
                fallback=not settings.cluster),
        Storage(target=USER_STORAGE, path=user, owner=me, told=_configured(settings) if settings.user else _HERE,
                fallback=not settings.user),
        Storage(target=SHARED_STORAGE, path=shared, told=told, fallback=shared != settings.shared),
    ]  # fmt: skip


def _configured(settings: StorageSettings) -> str:
    return f"as {settings.file} says"


def mounts_of(storages: Sequence[Storage]) -> list[Mount]:
    """What is mounted of them; the local one is a directory of the job like others."""
    return [
        Mount(kind="storage", source=one.path, target=one.target, owner=one.owner)
        for one in storages
        if one.target != LOCAL_STORAGE
    ]


def release_storage(job: JobDirectory) -> None:
    """The job does not use its cluster storage on this node any more: what is in it stays. Blocks; never raises."""
    if job.record.cluster:
        leave_cluster_storage(job.record.cluster, job.path)


def cluster_storages() -> list[ClusterStorage]:
    """All that this user's jobs have left or use, in every place that is known here. Blocks. Raises `HostError`."""
    tops = [os.path.join(scratch, STORAGE, "cluster") for scratch in used_scratches()]
    if configured := site_storage().cluster:
        tops.append(configured)
    return [one for top in dict.fromkeys(tops) for one in list_cluster_storage(top)]


def _local_storage(job: JobDirectory) -> Storage:
    path = os.path.join(job.tree, _LOCAL)
    root = examine(path, this_node(), origin="default")
    told = f"{root.device_class} ({root.told})"
    if root.root_disk:
        told = f"on the root disk, {told}"
    fallback = root.root_disk or root.device_class in (DeviceClass.NETWORK, DeviceClass.RAM)
    return Storage(target=LOCAL_STORAGE, path=path, told=told, fallback=fallback)


def _closed_ones(settings: StorageSettings) -> frozenset[str]:
    """Configured ones that this user may not enter. `MountError`: a server that is gone would let whoever opens its
    directory sleep without end.
    """
    tops = [top for top in (settings.cluster, settings.user, settings.shared) if top]
    probes = probe_directories(tops, limit_s=_ANSWER_WITHIN_S) if tops else []
    for probe in probes:
        if probe.error == -1:
            raise MountError("no answer; the server behind this storage may be gone", where=probe.path)
    return frozenset(probe.path for probe in probes if probe.error in (errno.EACCES, errno.EPERM))


def _own_place(name: str, scratch: str, environ: Mapping[str, str]) -> str:
    """In the default scratch, for all jobs of the user; where somebody else holds that name, in the job's."""
    try:
        top = open_scratch(None, environ)
    except HostError:
        top = scratch
    path = os.path.join(top, STORAGE, name)
    try:
        for directory in (os.path.dirname(path), path):
            os.close(open_own(directory))
    except OSError as error:
        raise from_os_error(error, doing="make the storage", where=path) from error
    return path


def _user_directory(top: str) -> str:
    path, top_fd = os.path.join(top, str(os.geteuid())), open_top(top)
    try:
        os.close(open_own_in(top_fd, os.path.basename(path), path))
    finally:
        os.close(top_fd)
    return path
