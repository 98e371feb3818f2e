"""Whether a directory takes names of another case for the same: found out by writing, or without.

ext4 and f2fs fold in those directories that have an attribute, which new ones below inherit (chattr(1), "F"); other
file systems fold everywhere or nowhere. Who may not write asks for an existing entry by its name in the other case.
Source: ioctl_iflags(2); include/uapi/linux/fs.h, FS_CASEFOLD_FL.
"""

from __future__ import annotations

import fcntl
import os
import struct
from itertools import islice
from typing import Final

from stager.host.mounts import mount_of_path, read_mountinfo

__all__ = ["folds_when_written", "seems_to_fold"]

_GET_FLAGS: Final = 0x80000000 | struct.calcsize("l") << 16 | ord("f") << 8 | 1  # FS_IOC_GETFLAGS
_CASEFOLD: Final = 0x40000000
_FOLDING_TYPES: Final = frozenset({"vfat", "msdos", "exfat", "hfs", "hfsplus"})
"""File systems that fold unless they are mounted or made so that they do not."""
_ENTRIES_MAX: Final = 256
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def folds_when_written(directory_fd: int, root_fd: int) -> bool:
    """By a file that is made in one directory and removed, and by the attribute of another. Blocks. Raises OSError."""
    os.close(os.open("case-probe", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory_fd))
    try:
        os.stat("CASE-PROBE", dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return _has_attribute(root_fd)
    else:
        return True
    finally:
        os.unlink("case-probe", dir_fd=directory_fd)


def seems_to_fold(path: str) -> bool:
    """Of a directory that is there or would be made, and nothing is written. Where no entry of it or of one above it on
    the same file system tells, the kind of file system does. Blocks; raises nothing: what cannot be read tells nothing.
    """
    path = os.path.realpath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    try:
        device, here = os.stat(path).st_dev, path
        while os.stat(here).st_dev == device:
            found = _look(here)
            if found is not None:
                return found
            if here == (above := os.path.dirname(here)):
                break
            here = above
        row = mount_of_path(path, read_mountinfo())
    except OSError:
        return False
    return row is not None and row.fstype in _FOLDING_TYPES


def _look(path: str) -> bool | None:
    """What the directory and its entries tell; None: nothing."""
    try:
        fd = os.open(path, _DIRECTORY)
    except PermissionError:
        return None
    try:
        if _has_attribute(fd):
            return True
        with os.scandir(fd) as entries:
            some = islice(entries, _ENTRIES_MAX)
            names = [entry.name for entry in some if entry.name.isascii() and entry.name != entry.name.swapcase()]
        for name in names:
            try:
                os.lstat(name, dir_fd=fd)
            except OSError:  # it has just gone
                continue
            other = name.swapcase()
            try:
                os.lstat(other, dir_fd=fd)
            except FileNotFoundError:
                return False
            with os.scandir(fd) as entries:  # inode numbers do not tell: FUSE has one for each spelling
                return all(entry.name != other for entry in entries)
        return None
    finally:
        os.close(fd)


def _has_attribute(fd: int) -> bool:
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(fd, _GET_FLAGS, bytes(struct.calcsize("l"))))
    except OSError:  # a file system without attributes
        return False
    return bool(flags & _CASEFOLD)
