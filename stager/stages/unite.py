"""Several trees into one, in order: for the same name the last one wins. They are moved, not copied.

The trees are the job's own and nobody runs yet; still nothing but renames touches them, so no symlink is followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final

from stager.errors import BadKeysError, HostError, from_os_error
from stager.names import show

__all__ = ["kinds_clash", "unite"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def kinds_clash(problems: Sequence[str]) -> BadKeysError:
    """The error for names that are a file in one resource and a directory in another."""
    return BadKeysError(
        f"{len(problems)} names of resources exclude each other", problems,
        hint="leave one of the two out, with exclude",
    )  # fmt: skip


def unite(trees: Sequence[str], into: str) -> None:
    """Move what is in ``trees`` into the directory ``into``, on the same file system. Blocks.

    Raises `BadKeysError`: a name is a file in one and a directory in another, which `stager.job.resources` has looked
    for before; `HostError`.
    """
    for tree in trees:
        try:
            source_fd = os.open(tree, _DIRECTORY)
            try:
                target_fd = os.open(into, _DIRECTORY)
                try:
                    _move(source_fd, target_fd, b"")
                finally:
                    os.close(target_fd)
            finally:
                os.close(source_fd)
        except OSError as error:
            raise from_os_error(error, doing="put the resources together", where=into) from error


def _move(source_fd: int, target_fd: int, prefix: bytes) -> None:
    with os.scandir(source_fd) as entries:
        names = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        path = prefix + name
        there = _is_directory(name, target_fd)
        if there is not None and there != is_directory:
            raise kinds_clash([f"{show(path)}: is a file in one and a directory in another"])
        if there is None or not is_directory:
            os.rename(name, name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
            continue
        below = os.open(name, _DIRECTORY, dir_fd=source_fd)
        try:
            target_below = os.open(name, _DIRECTORY, dir_fd=target_fd)
            try:
                _move(below, target_below, path + b"/")
            finally:
                os.close(target_below)
        finally:
            os.close(below)


def _is_directory(name: bytes, fd: int) -> bool | None:
    """None: there is nothing of this name."""
    try:
        found = os.lstat(name, dir_fd=fd)
    except FileNotFoundError:
        return None
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        raise HostError("is neither file, directory nor symlink", where=show(name))
    return stat.S_ISDIR(found.st_mode)
