"""A job without a view (``--view none``): its tree and its environment are all that it gets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from stager import view_paths
from stager.errors import UsageError, from_os_error
from stager.host.mounts import lies_within
from stager.host.record import JobDirectory
from stager.job_view import OWN
from stager.model import Command, JobSpec, MountView
from stager.scheduler import JobIdentity, scheduler_facts
from stager.stages.environment import job_environment

__all__ = ["link_mounted", "plain_command"]

_CLOUD: Final = "CLUSTERONE_CLOUD"
"""Says that data is at /data, which it is not here."""

_PLACES: Final[Mapping[str, str | None]] = {
    **{target: below for below, target in OWN.items()},
    view_paths.DATA: "data",
    view_paths.PUBLIC: "public",
    view_paths.TMP_RAMFS: None,
    view_paths.CLUSTER_STORAGE: None,
    view_paths.USER_STORAGE: None,
    view_paths.SHARED_STORAGE: None,
}
"""Of the places of a view those in the tree; None: it has nothing of the kind."""


def link_mounted(view: MountView, job: JobDirectory) -> None:
    """What a view would mount from elsewhere on the node is a symlink in the tree. Blocks.

    Raises `UsageError`: an export of NFS, which has to be mounted. `HostError`.
    """
    for mount in view.mounts:
        if mount.kind == "nfs":
            raise UsageError("cannot be mounted without a view", where=mount.source, hint="have it mounted; say bind:")
        if mount.kind in ("bind", "public"):
            place = f"{job.tree}{mount.target}"
            try:
                os.makedirs(os.path.dirname(place), mode=0o755, exist_ok=True)
                os.symlink(mount.source, place)
            except OSError as error:
                raise from_os_error(error, doing="link what is mounted", where=place) from error


def plain_command(
    spec: JobSpec, job: JobDirectory, environ: Mapping[str, str], argv: tuple[str, ...], *, workdir: str
) -> Command:
    """The command as it is run in a view, but that each variable which stager sets to a path of the view has that of
    the tree, and is not set where the tree has none; STAGER_TREE is its top.

    ``workdir``: a path of the view. Raises `UsageError`: it is none.
    """
    identity = JobIdentity(id=job.record.id, attempt=job.record.restart)
    facts = scheduler_facts(environ)
    own = job_environment(spec, identity, facts, {}, workdir=workdir)
    where = _in_tree(job, workdir)
    if where is None:
        raise UsageError("is no directory of the job's tree", where=workdir, hint="without a view there is no other")
    environment = job_environment(spec, identity, facts, environ, workdir=workdir)
    for name, value in own.items():
        if name in spec.environment or not _is_of_a_view(value):
            continue
        if (place := _in_tree(job, value)) is not None:
            environment[name] = place
        else:
            del environment[name]
    environment.pop(_CLOUD, None)
    return Command(argv=argv, environment={**environment, "PWD": where, "STAGER_TREE": job.tree}, workdir=where)


def _is_of_a_view(path: str) -> bool:
    return any(lies_within(path, top) for top in _PLACES)


def _in_tree(job: JobDirectory, path: str) -> str | None:
    """Where the tree has what a view has at ``path``; None: nowhere."""
    for target, below in _PLACES.items():
        if below is not None and lies_within(path, target):
            return f"{job.tree}/{below}{path[len(target):]}"
    return None
