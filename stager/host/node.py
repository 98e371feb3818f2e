"""This node, as all of its stagers share it: what the site lays down, and the board on which they see one another.

The site names the board's directory (`stager.host.node_settings`): it belongs to root, as all above it do, and is
sticky, so that everybody can write there and nobody can touch what is another's. Without it the stagers of one user
have one of their own, 0700, in the default scratch, which the views of jobs hide.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

from stager.errors import HostError, from_os_error
from stager.host.board import Board
from stager.host.node_settings import NodeSettings
from stager.host.safe_path import safe_part
from stager.host.scratch import DEFAULT_TOP, open_own, open_scratch
from stager.host.site import site_node

__all__ = ["Node", "check_directory", "node_directory", "open_node"]

_OWN: Final = "node"
_ROOT: Final = 0
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_HINT: Final = "the administrator makes it anew at each boot: install -d -o root -m 1777 DIR, or tmpfiles.d(5)"


class Node:
    """``board`` is None where this user's stagers have no place to see one another: each is alone then."""

    def __init__(self, settings: NodeSettings, board: Board | None) -> None:
        self.settings = settings
        self.board = board

    def close(self) -> None:
        """What is on the board stays. Idempotent."""
        if self.board is not None:
            self.board.close()


def open_node(settings: NodeSettings | None = None) -> Node:
    """This node; ``settings``: in place of the site's. Blocks.

    Raises `HostError`: the site's configuration cannot be believed, or its directory could be changed by others.
    """
    settings = site_node() if settings is None else settings
    if settings.directory and _is_covered(settings.directory):
        return Node(settings, None)
    if settings.directory:
        check_directory(settings.directory)
        try:
            return Node(settings, Board(settings.directory))
        except OSError as error:
            raise _refusal(settings.directory, str(error.strerror)) from error
    with suppress(HostError, OSError):
        own = os.path.join(open_scratch(DEFAULT_TOP, {}), _OWN)
        os.close(open_own(own))
        return Node(settings, Board(own))
    return Node(settings, None)


def node_directory() -> str | None:
    """The directory that the site names. Blocks. Raises as `stager.host.site.site_node`."""
    return site_node().directory or None


def _is_covered(path: str) -> bool:
    """As the view of a job does it: nobody writes there, so nobody sees another."""
    with suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


def check_directory(path: str) -> None:
    """Root, who may make it where it is missing, does. Blocks.

    Raises `HostError`: it is not there, not root's, not sticky, or somebody could put another in its place.
    """
    try:
        if os.geteuid() == _ROOT and not os.path.lexists(path):
            _make(path)
        safe = safe_part(path)
        above, belongs = path, True
        while above != "/" and belongs:
            above = os.path.dirname(above)
            belongs = os.lstat(above).st_uid == _ROOT
        found = os.lstat(path)
    except HostError as error:
        raise _refusal(path, f"cannot be used: {error.where} {error.what}") from error
    except OSError as error:
        raise _refusal(path, from_os_error(error, doing="use it").what) from error
    if safe != path:
        raise _refusal(path, "is reached over a symlink")
    if not belongs:
        raise _refusal(path, f"lies in {above}, which does not belong to root")
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != _ROOT:
        raise _refusal(path, "is not a directory of root's")
    if not found.st_mode & stat.S_ISVTX or found.st_mode & _OTHERS_WRITE != _OTHERS_WRITE:
        raise _refusal(path, f"has mode {stat.S_IMODE(found.st_mode):o}, not 1777")


def _make(path: str) -> None:
    """Only in a directory that is there: /run is, a disk that is not mounted is not."""
    above = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileExistsError):
            os.mkdir(os.path.basename(path), 0o700, dir_fd=above)
            os.chmod(os.path.basename(path), 0o1777, dir_fd=above)  # noqa: S103  (sticky, as /tmp)
    finally:
        os.close(above)


def _refusal(path: str, why: str) -> HostError:
    what = f"the directory in which the stagers of this node see one another {why}"
    return HostError(what, where=path, hint=_HINT.replace("DIR", path))
