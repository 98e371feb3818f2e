"""Directory trees that a job could write, walked and removed without trusting a name in them.

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

from stager.errors import HostError, MountError, from_os_error
from stager.host.mounts import lies_within, mount_id, read_mountinfo
from stager.host.names_in import entries_in
from stager.host.procs import find_viewer

__all__ = ["open_below", "open_top", "refuse_mounts_below", "remove_private", "remove_tree"]

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


def _refuse_viewers(path: str) -> None:
    try:
        pid = find_viewer(path)
    except OSError:  # `remove_tree` says why when it cannot be opened there either
        return
    if pid is not None:
        raise HostError(
            f"process {pid} of the job is alive", where=path, hint=f"end it (kill -KILL {pid}); nothing was removed"
        )


def remove_tree(path: str) -> None:
    """Remove a directory and all below it; one that is not there is no error.

    Raises `MountError` before anything is removed when a file system is mounted below, and at the place where one is
    met later; `HostError`, also before, when a process lives in a view of it: a job whose stager was killed.
    """
    refuse_mounts_below(path)
    _refuse_viewers(path)
    try:
        root_fd = open_top(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="open the tree to remove", where=path) from error
    try:
        os.fchmod(root_fd, 0o700)
        mount = mount_id(root_fd)
        while _empty(root_fd, mount, root_fd, 0):
            pass
        os.rmdir(path)
    except OSError as error:
        raise from_os_error(error, doing="remove the tree", where=path) from error
    finally:
        os.close(root_fd)


def remove_private(path: str) -> None:
    """Remove a directory that nobody else could reach, however deep; never raises. Blocks."""
    with suppress(OSError, MountError):
        root_fd = open_top(path)
        try:
            while _empty(root_fd, mount_id(root_fd), root_fd, 0):
                pass
        finally:
            os.close(root_fd)
        os.rmdir(path)


def _empty(fd: int, mount: int, root_fd: int, depth: int) -> bool:
    """Remove what a directory holds; True when something was too deep and now waits in the root."""
    moved = False
    with entries_in(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
            continue
        if depth >= _DEPTH_MAX:
            os.rename(name, f".deep-{secrets.token_hex(8)}", src_dir_fd=fd, dst_dir_fd=root_fd)
            moved = True
            continue
        below = open_below(name, os.O_RDONLY | os.O_DIRECTORY, fd)
        try:
            if mount_id(below) != mount:
                raise MountError("a file system is mounted here", where=os.readlink(f"/proc/self/fd/{below}"))
            if stat.S_IMODE(os.fstat(below).st_mode) & 0o700 != 0o700:
                os.fchmod(below, 0o700)
            moved |= _empty(below, mount, root_fd, depth + 1)
        finally:
            os.close(below)
        with suppress(FileNotFoundError):
            _rmdir(name, fd)
    return moved


def _rmdir(name: str, fd: int) -> None:
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise MountError("a file system is mounted here", where=name) from error
        raise
