"""What was written below a directory, brought to the disk with every error told: `sync --fsync`.

syncfs(2) tells an error of write-back to each descriptor that was opened before it happened, once (Linux 5.8). So the
descriptor is opened before the first byte of what it commits, and a failed commit is never tried again as if it could
succeed: the kernel has given up what it could not write. A FUSE file system is not asked by syncfs to bring anything to
its own disk: there each file and directory is synchronised alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from stager._native import Entries
from stager.errors import from_os_error
from stager.host.mounts import mount_of_path, read_mountinfo
from stager.host.syscalls import sync_file_system
from stager.host.threads import Checkpoint

__all__ = ["Commit"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FILES_A_CHECKPOINT: Final = 64


class Commit:
    """Open it before anything is written below ``root``. Its methods block."""

    def __init__(self, root: str, root_fd: int) -> None:
        """Raises `HostError`."""
        self._root = root
        self._fd = -1
        try:
            self._fd = os.open(".", _DIRECTORY, dir_fd=root_fd)
            row = mount_of_path(os.path.realpath(root), read_mountinfo())
        except OSError as error:
            self.close()
            raise self._error(error) from error
        self._is_fuse = row is not None and row.fstype.startswith("fuse")

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def flush(self) -> None:
        """Write back what is cached from earlier runs, so that hashing again can read it from the disk.

        Raises `NoSpaceError`, `HostError`.
        """
        try:
            fd = os.open(".", _DIRECTORY, dir_fd=self._fd)
            try:
                sync_file_system(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._error(error) from error

    def commit(self, checkpoint: Checkpoint, entries: Entries) -> None:
        """All files that stand, and their directories, are on the disk on return. Once only. Raises as `flush`."""
        try:
            if self._is_fuse:
                self._commit_one_by_one(checkpoint, entries)
            sync_file_system(self._fd)
        except OSError as error:
            raise self._error(error) from error

    def _commit_one_by_one(self, checkpoint: Checkpoint, entries: Entries) -> None:
        directories = {b"."}
        for number, row in enumerate(entries.stands()):
            if number % _FILES_A_CHECKPOINT == 0:
                checkpoint()
            path = entries.table.key(row)
            directories.update(_parents(path))
            self._sync(path, _FILE)
        for directory in directories:
            self._sync(directory, _DIRECTORY)

    def _sync(self, path: bytes, flags: int) -> None:
        try:
            fd = os.open(path, flags, dir_fd=self._fd)
        except OSError as error:
            if error.errno == errno.ELOOP:  # a symlink lives in its directory
                return
            raise
        try:
            os.fsync(fd)
        finally:
            with suppress(OSError):
                os.close(fd)

    def _error(self, error: OSError) -> Exception:
        return from_os_error(error, doing="bring the data to the disk", where=self._root)


def _parents(path: bytes) -> Iterator[bytes]:
    while path := os.path.dirname(path):
        yield path
