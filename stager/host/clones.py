"""Files that share their blocks until one of them is written to: FICLONE (ioctl_ficlonerange(2))."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from typing import Final

__all__ = ["can_clone", "clone_file", "clones_in"]

_FICLONE: Final = 0x40049409  # linux/fs.h
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def can_clone(from_fd: int, to_fd: int) -> bool:
    """Whether files of one directory can be cloned into another; tried with one that is gone afterwards. Blocks."""
    name = f".{secrets.token_hex(16)}"
    with contextlib.ExitStack() as held, contextlib.suppress(OSError):
        fds = []
        for dir_fd in (from_fd, to_fd):
            fds.append(os.open(name, _CREATE, 0o600, dir_fd=dir_fd))
            held.callback(os.close, fds[-1])
            held.callback(os.unlink, name, dir_fd=dir_fd)
            name = f".{secrets.token_hex(16)}"  # both may be the same directory
        os.write(fds[0], bytes(4096))
        return clone_file(fds[0], fds[1])
    return False


def clones_in(directory: str) -> bool | None:
    """Whether files in a directory can share blocks; None: it cannot be tried. Blocks. Never raises."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return can_clone(fd, fd)
    finally:
        os.close(fd)


def clone_file(from_fd: int, to_fd: int) -> bool:
    """Make an empty file one that shares all its blocks with another; False: the file system cannot. Blocks."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(to_fd, _FICLONE, from_fd)
        return True
    return False
