"""Directory trees that a job could write, walked and emptied without trusting a name in them. What may be removed at
all is said elsewhere (`stager.host.trash`).

Everything is reached through descriptors, no symlink is followed, and no mount is crossed: each directory must be on
the mount of the tree's root (its mnt_id, since binds of the same device have equal st_dev).
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from typing import Final

from stager.errors import MountError
from stager.host.mounts import lies_within, mount_id, read_mountinfo
from stager.host.names_in import entries_in

__all__ = ["open_below", "open_top", "refuse_mounts_below", "remove_at", "remove_below"]

_DEPTH_MAX: Final = 64  # one open directory each; what lies deeper is moved up and removed from there


def open_below(name: str | bytes, flags: int, dir_fd: int) -> int:
    """Open an entry of a tree of ours, not following a symlink; lack of permission bits is put right first. OSError."""
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=dir_fd)
    except PermissionError:
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            found = os.fstat(handle)
            if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
                raise
            os.chmod(f"/proc/self/fd/{handle}", stat.S_IMODE(found.st_mode) | 0o700)
        finally:
            os.close(handle)
        return os.open(name, flags, dir_fd=dir_fd)


def open_top(path: str) -> int:
    """`open_below` for the directory at the top of such a tree. OSError."""
    above_fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_below(os.path.basename(path), os.O_RDONLY | os.O_DIRECTORY, above_fd)
    finally:
        os.close(above_fd)


def refuse_mounts_below(path: str) -> None:
    """Raise `MountError` when something is mounted at or below ``path``: removing would reach through it."""
    real = os.path.realpath(path)
    mounted = [row.mountpoint for row in read_mountinfo() if lies_within(row.mountpoint, real)]
    if mounted:
        raise MountError(
            f"{len(mounted)} file systems are mounted below it, the first at {mounted[0]}", where=path,
            hint="unmount them first; nothing was removed",
        )  # fmt: skip


def remove_below(root_fd: int) -> None:
    """Remove all that a directory of ours holds, which stays: no symlink is followed, no mount crossed, and what
    somebody else removes at the same time is no matter. Permission bits are put right on the way. Blocks.

    OSError; `MountError`: something is mounted below, and that and what was not yet come to is left.
    """
    mount = mount_id(root_fd)
    while _empty(root_fd, mount, root_fd, 0):
        pass


def remove_at(name: str, dir_fd: int, fd: int | None = None) -> None:
    """The same, and the directory itself, whose name is ``name``; ``fd``: it is open already. Raises as that."""
    opened = open_below(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd) if fd is None else fd
    try:
        os.fchmod(opened, 0o700)
        remove_below(opened)
    finally:
        if fd is None:
            os.close(opened)
    with suppress(FileNotFoundError):
        _rmdir(name, dir_fd)


def _empty(fd: int, mount: int, root_fd: int, depth: int) -> bool:
    """Remove what a directory holds; True when something was too deep and now waits in the root."""
    moved = False
    with entries_in(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        try:  # `suppress` costs 4 % of the whole
            if is_directory:
                moved |= _remove_directory(name, fd, mount, root_fd, depth)
            else:
                os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            continue
    return moved


def _remove_directory(name: str, fd: int, mount: int, root_fd: int, depth: int) -> bool:
    moved = False
    below = open_below(name, os.O_RDONLY | os.O_DIRECTORY, fd)
    try:
        if mount_id(below) != mount:
            raise MountError("a file system is mounted here", where=os.readlink(f"/proc/self/fd/{below}"))
        if stat.S_IMODE(os.fstat(below).st_mode) & 0o700 != 0o700:
            os.fchmod(below, 0o700)
        if depth >= _DEPTH_MAX:
            os.rename(name, f".deep-{secrets.token_hex(8)}", src_dir_fd=fd, dst_dir_fd=root_fd)
            return True
        for last in (False, False, True):  # who had it open may put something in until it finds that it is removed
            moved |= _empty(below, mount, root_fd, depth + 1)
            if _rmdir(name, fd, may_hold=not last):
                break
    finally:
        os.close(below)
    return moved


def _rmdir(name: str, fd: int, *, may_hold: bool = False) -> bool:
    """``may_hold``: False when it is not empty, else that is an OSError like any other."""
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise MountError("a file system is mounted here", where=name) from error
        if error.errno == errno.ENOTEMPTY and may_hold:
            return False
        raise
    return True
