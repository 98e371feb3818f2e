"""What lies in an open directory, now.

btrfs lists a directory as far as it reached when it was opened or last rewound (Linux 6.5, btrfs_get_dir_last_index):
through a descriptor that is kept, names that have come since are missing. To seek to its begin is to rewind it, for all
who have that descriptor or a copy of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

__all__ = ["entries_in", "names_in"]


def names_in(dir_fd: int) -> list[str]:
    """Their names, as `os.listdir`, also while another thread lists the same. Blocks. OSError."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)  # how far it was read is its own
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def entries_in(dir_fd: int) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    """As `os.scandir`. Blocks. OSError."""
    os.lseek(dir_fd, 0, os.SEEK_SET)
    return os.scandir(dir_fd)
