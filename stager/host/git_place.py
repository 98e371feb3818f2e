"""Where the repository of one run lies: beside the user's mirror on this node, else where the caller has room."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from stager.errors import StagerError
from stager.host.git_mirror import Kind, Mirror
from stager.host.mirrors import has_mirror
from stager.host.private import PrivateDirectory
from stager.host.scratch import open_scratch, used_scratches

__all__ = ["GitPlace"]


class GitPlace:
    """A private directory for one run, and the mirror where it can be used. Everything here blocks."""

    def __init__(
        self,
        url: str,
        state_dir: str | None,
        environ: Mapping[str, str],
        *,
        kind: Kind = "commits",
        scratch: str | None = None,
    ) -> None:
        """``state_dir``: where to work when there is no mirror to be had; None: in the scratch. ``scratch``: where a
        mirror is made, unless another scratch of this user on this node has one; None: STAGER_SCRATCH or the default.

        Raises `NoSpaceError`, `HostError`.
        """
        self._state_dir = state_dir
        self._environ = environ
        self._number = 0
        self.mirror: Mirror | None = None
        self._own: PrivateDirectory | None = None
        with suppress(StagerError):
            where = _scratch_for(url, kind, scratch) if scratch else open_scratch(None, environ)
            self.mirror = Mirror(where, url, kind)
        if self.mirror is None:
            self._own = self._make()

    @property
    def directory(self) -> str:
        """It is gone at `close`."""
        if self._own is not None:
            return self._own.path
        assert self.mirror is not None
        return self.mirror.run.path

    def new_repository(self) -> str:
        """The path of one that is not there yet."""
        self._number += 1
        return os.path.join(self.directory, f"repository-{self._number}.git")

    def leave_mirror(self) -> bool:
        """Work without it from now on: its file system is full. False: it is not in use. Raises as the constructor."""
        if self.mirror is None:
            return False
        self.mirror.close()
        self.mirror = None
        self._own = self._make()
        return True

    def close(self) -> None:
        """Remove what is private. Never raises."""
        if self.mirror is not None:
            self.mirror.close()
        if self._own is not None:
            self._own.close()

    def _make(self) -> PrivateDirectory:
        return PrivateDirectory(self._state_dir or open_scratch(None, self._environ), "git-")


def _scratch_for(url: str, kind: Kind, scratch: str) -> str:
    """Where there is a mirror, that of the scratch itself first; else the scratch."""
    return next((one for one in (scratch, *used_scratches()) if has_mirror(one, url, kind)), scratch)
