"""Files below a destination that are none of its dataset's, found piece by piece."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from stager._native import KeyOrder
from stager.errors import from_os_error
from stager.host.names_in import entries_in
from stager.host.threads import Checkpoint
from stager.host.workspace import STATE_NAME

__all__ = ["ForeignFiles"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_ENTRIES_A_CHECKPOINT: Final = 1024


class ForeignFiles:
    """A walk that follows no symlink, opens nothing but directories, and leaves what is mounted below alone: a mount
    point is one foreign path that ends in a slash, as is a directory that may not be read.
    """

    def __init__(self, root_fd: int, order: KeyOrder, *, besides: Collection[str] = ()) -> None:
        """``order``: of the table of what is no foreign file; ``besides``: nor is what lies in these directories of the
        root. The descriptor is the caller's.
        """
        self._besides = frozenset({STATE_NAME, *besides})
        self._root_fd = root_fd
        self._order = order
        self._device = os.fstat(root_fd).st_dev
        self._directories = [b""]  # to be looked at, each with a slash at its end

    def some(self, checkpoint: Checkpoint, most: int) -> list[bytes]:
        """More of them, at least ``most`` unless these are the last; empty behind them. Blocks. `HostError`."""
        found: list[bytes] = []
        while self._directories and len(found) < most:
            directory = self._directories.pop()
            try:
                self._look(checkpoint, directory, found)
            except PermissionError:
                found.append(directory)
            except OSError as error:
                if error.errno not in _GONE:
                    raise from_os_error(error, doing="list the directory", where=directory or b".") from error
        return found

    def _look(self, checkpoint: Checkpoint, directory: bytes, found: list[bytes]) -> None:
        fd = self._open(directory)
        try:
            if os.fstat(fd).st_dev != self._device:
                found.append(directory)
                return
            with entries_in(fd) as entries:
                for number, entry in enumerate(entries):
                    if number % _ENTRIES_A_CHECKPOINT == 0:
                        checkpoint()
                    path = directory + os.fsencode(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        if directory or entry.name not in self._besides:
                            self._directories.append(path + b"/")
                    elif self._order.find(path) < 0:
                        found.append(path)
        finally:
            os.close(fd)

    def _open(self, directory: bytes) -> int:
        """Component by component: none of them may have become a symlink."""
        fd = os.open(".", _DIRECTORY, dir_fd=self._root_fd)
        for name in directory.split(b"/")[:-1]:
            above, fd = fd, -1
            try:
                fd = os.open(name, _DIRECTORY, dir_fd=above)
            finally:
                with suppress(OSError):
                    os.close(above)
        return fd
