"""What a job sees: its own directories, its data, what is mounted, and what is hidden from it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from stager import view_paths
from stager.host.mounts import lies_within
from stager.host.node import node_directory
from stager.host.record import JobDirectory
from stager.host.scratch import CACHE, PARTS, known_scratches
from stager.host.site import site_storage
from stager.host.storage import to_be_hidden
from stager.job.copies import Copy
from stager.job.storages import Storage, mounts_of
from stager.model import JobSpec, Mount, MountView

__all__ = ["MODULES_BELOW", "OWN", "masked", "view_of", "workdir_of"]

OWN: Final = {
    "code": view_paths.CODE,
    "logs": view_paths.LOGS,
    "task": view_paths.TASK,
    "tmp": view_paths.TMP,
    "local": view_paths.LOCAL_STORAGE,
}
"""Directories in the tree of every job, and where they are in its view."""

MODULES_BELOW: Final = "modules"
"""In the tree of a job that asks for them."""


def view_of(
    spec: JobSpec, job: JobDirectory, scratch: str, copies: Sequence[Copy], storages: Sequence[Storage]
) -> MountView:
    """The view of a job whose tree is made, unchecked. Blocks."""
    mounts = [
        Mount(kind="copy", source=job.tree_of(copy.below), target=copy.target, read_only=copy.read_only)
        for copy in copies
        if not copy.resource
    ]
    mounts += [
        Mount(kind="own", source=os.path.join(job.tree, below), target=target)
        for below, target in OWN.items()
        if target != view_paths.CODE or spec.code is None
    ]
    if spec.clusterone_shim:
        modules = os.path.join(job.tree, MODULES_BELOW)
        mounts.append(Mount(kind="own", source=modules, target=view_paths.MODULES, read_only=True))
    mounts += [*live_mounts(spec), *mounts_of(storages)]
    return MountView(mounts=tuple(mounts), masked=masked(scratch, job), profile=spec.profile)


def live_mounts(spec: JobSpec) -> list[Mount]:
    """What of this host and of servers is mounted as it is, unchecked: a path of this host, or an export of NFS."""
    mounts: list[Mount] = [
        Mount(
            kind="nfs" if dataset.source.scheme == "nfs" else "bind",
            source=dataset.source.location,
            target=f"{view_paths.DATA}/{dataset.name}",
            mounted=dataset.mounted,
        )
        for dataset in spec.datasets
        if dataset.source.is_mounted
    ]
    mounts += [
        Mount(kind="public", source=public.source, target=f"{view_paths.PUBLIC}/{public.name}", read_only=True)
        for public in spec.public
    ]
    return mounts


def masked(scratch: str, job: JobDirectory) -> tuple[str, ...]:
    """Everything of stager that the job must not reach; what lies inside another is masked with it. Blocks.

    Of storages it reaches its own, below /mnt; what is shared in its cloud may be reached by any way.
    """
    others = [os.path.join(os.path.dirname(os.path.dirname(part)), name) for part in job.record.parts.values()
              for name in (PARTS, CACHE)]  # fmt: skip
    others += [*filter(None, [node_directory()]), *to_be_hidden(site_storage())]
    tops = dict.fromkeys((*known_scratches(os.environ), *(path for path in others if os.path.isdir(path))))
    return (scratch, *(top for top in tops if not lies_within(top, scratch)))


def workdir_of(spec: JobSpec) -> str:
    """Where the command starts: as the job file says, else /code with code and no resources, else TASK_PATH."""
    return spec.workdir or (view_paths.CODE if spec.code and not spec.resources else view_paths.TASK)
