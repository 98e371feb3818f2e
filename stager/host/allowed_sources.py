"""What a site lets root mount for users, asked by the user's own stager before anything moves.

`stager.host.rights` decides: there the sources are open, and nobody can exchange them any more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from stager.host import brokered
from stager.host.rights import why_not_allowed
from stager.host.site import site_principals

__all__ = ["refused_to_users"]


class _Mount(Protocol):
    @property
    def kind(self) -> str:
        """As in `stager.model.Mount`."""

    @property
    def source(self) -> str:
        """Without symlinks."""


def refused_to_users(mounts: Iterable[_Mount]) -> list[str]:
    """Why the site does not let root mount these, where root started this stager for its user. Blocks.

    Raises `HostError` as `stager.host.site.site_principals`.
    """
    if not brokered.is_brokered():
        return []
    site = site_principals()
    allowed = {"bind": site.allowed_binds, "public": site.allowed_public}
    real = {kind: [os.path.realpath(path) for path in paths] for kind, paths in allowed.items()}
    told = (
        (mount.source, why_not_allowed(mount.kind, mount.source, real[mount.kind]))
        for mount in mounts
        if mount.kind in real
    )
    return [f"{source}: {why}" for source, why in told if why is not None]
