"""Directories of one user in places where others have theirs too: made, or proved to be that user's alone.

Checked is the open directory, not its name: whoever may write to the place could have put another there. What is
mounted is checked once more (`stager.host.view`).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

from stager.errors import HostError, from_os_error
from stager.host.storage_settings import StorageSettings

__all__ = ["open_own_in", "open_top", "to_be_hidden"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def open_top(path: str) -> int:
    """The directory that the site has named, for directories of several users in it. Blocks.

    Raises `HostError`: it is not there, or others could exchange what lies in it.
    """
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError as error:
        raise from_os_error(error, doing="open the storage of [storage]", where=path) from error
    mode = os.fstat(fd).st_mode
    if mode & _OTHERS_WRITE and not mode & stat.S_ISVTX:
        os.close(fd)
        raise HostError(
            "can be written by several users, who could exchange what lies in it", where=path,
            hint="the administrator makes it sticky (chmod 1777)",
        )  # fmt: skip
    return fd


def to_be_hidden(settings: StorageSettings) -> list[str]:
    """What no job reaches by its own path: what others have of cluster and user storage, and the shared storage of
    other clouds, as far as it is there. Blocks.
    """
    hidden = [os.path.dirname(path) if settings.cloud else path for path in (settings.cluster, settings.user) if path]
    if settings.cloud and settings.shared:
        top, own = os.path.split(settings.shared)
        with suppress(OSError):
            hidden += [os.path.join(top, name) for name in os.listdir(top) if name != own]
    return hidden


def open_own_in(top_fd: int, name: str, where: str) -> int:
    """The directory ``name`` of a place that `open_top` has opened, made when missing; closed to others where its owner
    has opened it. ``where``: its path. Blocks.

    Raises `HostError`: it cannot be made, or is somebody else's. `NoSpaceError`.
    """
    try:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=top_fd)
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=top_fd)
    except NotADirectoryError:
        raise HostError("a symlink or a file stands in its place", where=where, hint="have it removed") from None
    except PermissionError as error:
        with suppress(FileNotFoundError):
            _refuse_others(os.lstat(name, dir_fd=top_fd), where)
        raise HostError(
            "you cannot make your directory in the storage", where=where,
            hint=f"the administrator makes it for uid {os.geteuid()} (0700), or lets users make theirs (chmod 1777)",
        ) from error  # fmt: skip
    except OSError as error:
        raise from_os_error(error, doing="make your directory in the storage", where=where) from error
    try:
        _close_to_others(fd, where)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _close_to_others(fd: int, where: str) -> None:
    found = os.fstat(fd)
    _refuse_others(found, where)
    if found.st_mode & _OTHERS:
        try:
            os.fchmod(fd, 0o700)
        except OSError as error:
            raise from_os_error(error, doing="close your directory to others", where=where) from error


def _refuse_others(found: os.stat_result, where: str) -> None:
    if found.st_uid != os.geteuid():
        raise HostError(
            f"belongs to another user (uid {found.st_uid})", where=where,
            hint=f"the administrator gives it to uid {os.geteuid()}, or removes it",
        )  # fmt: skip
