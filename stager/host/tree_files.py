"""The files of a tree that a job writes, looked at from outside while it may still do so: it is hostile, and is not
trusted.

No symlink is followed, nothing but directories and regular files is opened, depth is bounded, and nothing is changed: a
directory that its owner may not read is one thing, which cannot be looked into.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from stager.errors import HostError
from stager.host.names_in import names_in

__all__ = ["TreeFile", "open_in_tree", "walk_files"]

_DEPTH_MAX: Final = 128
_BLOCK_BYTES: Final = 512  # the unit of st_blocks
_FOLLOWS_NOTHING: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeFile(NamedTuple):
    """``path`` below the top; ``size`` in bytes, ``disk_bytes`` what of that takes space. ``kind`` "other": FIFOs,
    sockets, devices, and directories that cannot be looked into.
    """

    path: bytes
    kind: Literal["file", "link", "other"]
    size: int = 0
    disk_bytes: int = 0
    mtime_ns: int = 0
    target: bytes = b""


def walk_files(top: str) -> Iterator[TreeFile]:
    """Every file below the directory ``top``, in no order; none where that is not there. Blocks. OSError."""
    try:
        fd = os.open(top, _DIRECTORY)
    except FileNotFoundError:
        return
    try:
        yield from _files_in(fd, b"", 0)
    finally:
        os.close(fd)


def _files_in(fd: int, prefix: bytes, depth: int) -> Iterator[TreeFile]:
    for name_text in names_in(fd):
        name = os.fsencode(name_text)
        path = prefix + name
        try:
            status = os.lstat(name, dir_fd=fd)
            mtime_ns = status.st_mtime_ns
            if stat.S_ISREG(status.st_mode):
                disk_bytes = status.st_blocks * _BLOCK_BYTES
                yield TreeFile(
                    path=path, kind="file", size=status.st_size, disk_bytes=disk_bytes, mtime_ns=mtime_ns
                )
            elif stat.S_ISLNK(status.st_mode):
                yield TreeFile(path=path, kind="link", mtime_ns=mtime_ns, target=os.readlink(name, dir_fd=fd))
            elif not stat.S_ISDIR(status.st_mode) or depth >= _DEPTH_MAX:
                yield TreeFile(path=path, kind="other", mtime_ns=mtime_ns)
            else:
                yield from _files_below(fd, name, path, mtime_ns, depth)
        except FileNotFoundError:  # it has gone meanwhile
            continue


def _files_below(fd: int, name: bytes, path: bytes, mtime_ns: int, depth: int) -> Iterator[TreeFile]:
    try:
        below = os.open(name, _DIRECTORY, dir_fd=fd)
    except (PermissionError, NotADirectoryError):
        yield TreeFile(path=path, kind="other", mtime_ns=mtime_ns)
        return
    try:
        yield from _files_in(below, path + b"/", depth + 1)
    finally:
        os.close(below)


def open_in_tree(top: str, path: bytes) -> int:
    """A descriptor of one of these files, to read. OSError; `HostError`: it is no regular file (any more)."""
    *above, name = path.split(b"/")
    fd = os.open(top, _DIRECTORY)
    try:
        for part in above:
            below = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        file = os.open(name, os.O_RDONLY | _FOLLOWS_NOTHING, dir_fd=fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise HostError("is no regular file", where=os.path.join(top, os.fsdecode(path)))
    return file
