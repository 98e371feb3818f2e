"""What a site lets root mount for users, asked by the user's own stager before anything moves.

`stager.host.rights` decides: there the sources are open, and nobody can exchange them any more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from stager.host import brokered
from stager.host.rights import NO_EXPORT, why_not_allowed
from stager.host.site import site_principals

__all__ = ["refused_to_users"]


class _Mount(Protocol):
    @property
    def kind(self) -> str:
        """As in `stager.model.Mount`."""

    @property
    def source(self) -> str:
        """Without symlinks."""


def refused_to_users(mounts: Sequence[_Mount]) -> list[str]:
    """Why the site does not let root mount these, where root started this stager for its user. Blocks.

    Raises `HostError` as `stager.host.site.site_principals`.
    """
    if not brokered.is_brokered():
        return []
    site = site_principals()
    allowed = {"bind": site.allowed_binds, "public": site.allowed_public}
    real = {kind: [os.path.realpath(path) for path in paths] for kind, paths in allowed.items()}
    told = [(mount.source, NO_EXPORT) for mount in mounts if mount.kind == "nfs"]
    told += [
        (mount.source, why)
        for mount in mounts
        if mount.kind in real and (why := why_not_allowed(mount.kind, mount.source, real[mount.kind])) is not None
    ]
    return [f"{source}: {why}" for source, why in told]
