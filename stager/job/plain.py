"""A job without a view (``--view none``): its tree and its environment are all that it gets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from stager import view_paths
from stager.errors import UsageError, from_os_error
from stager.host.mounts import lies_within
from stager.host.record import JobDirectory
from stager.job.environment import command_environment, places_in, without_view
from stager.job.view import OWN
from stager.model import Command, JobSpec, MountView

__all__ = ["link_mounted", "plain_command"]

"""Says that data is at /data, which it is not here."""

_PLACES: Final = {view_paths.DATA: "data", view_paths.PUBLIC: "public", **{OWN[below]: below for below in OWN}}
"""Of the places of a view, where the tree has them."""


def link_mounted(view: MountView, job: JobDirectory) -> None:
    """What a view would mount from elsewhere on the node is a symlink in the tree. Blocks.

    Raises `UsageError`: an export of NFS, which has to be mounted. `HostError`.
    """
    for mount in view.mounts:
        if mount.kind == "nfs":
            raise UsageError("cannot be mounted without a view", where=mount.source, hint="have it mounted; say bind:")
        if mount.kind in ("bind", "public", "storage"):
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
    the tree; STAGER_TREE is its top. ``workdir``: a path of the view. Blocks. Raises as `command_environment`, and
    `UsageError`: it is none.
    """
    where = _in_tree(job, workdir)
    if where is None:
        raise UsageError("is no directory of the job's tree", where=workdir, hint="without a view there is no other")
    environment = command_environment(spec, job, environ, workdir=where, places=places_in(job.tree))
    return Command(argv=argv, environment=without_view(environment, job.tree), workdir=where)


def _in_tree(job: JobDirectory, path: str) -> str | None:
    """Where the tree has what a view has at ``path``; None: nowhere."""
    for target, below in _PLACES.items():
        if lies_within(path, target):
            return f"{job.tree}/{below}{path[len(target) :]}"
    return None
