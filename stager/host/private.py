"""A directory that one run has for itself."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from contextlib import suppress
from typing import Final

from stager.errors import HostError, from_os_error
from stager.host.trash import remove_temporary

__all__ = ["PrivateDirectory"]

_LOOKS: Final = 1000
_LOOK_S: Final = 0.001
_STALE_AFTER_S: Final = 600.0  # a new directory is not locked for a moment


class PrivateDirectory:
    """A fresh directory (0700) for one run, removed by `close`; what runs that were killed left is swept before."""

    def __init__(self, above: str, prefix: str) -> None:
        """Blocks. Raises `NoSpaceError`, `HostError`."""
        try:
            _sweep(above, prefix)
            self.path = tempfile.mkdtemp(prefix=prefix, dir=above)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            _lock(self._fd)
        except OSError as error:
            raise from_os_error(error, doing="make a directory", where=above) from error

    def close(self) -> None:
        """Remove it. Blocks; never raises."""
        remove_temporary(self.path)
        os.close(self._fd)


def _lock(fd: int) -> None:
    """Whoever looks whether it is in use has the lock for a moment. OSError."""
    for _ in range(_LOOKS):
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOOK_S)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sweep(above: str, prefix: str) -> None:
    """Remove directories of ours whose maker is gone: it held a lock that ends with its process."""
    with os.scandir(above) as entries:
        candidates = [entry.path for entry in entries if entry.name.startswith(prefix)]
    for path in candidates:
        with suppress(OSError, HostError):  # one with another name than we give is none of ours
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found = os.fstat(fd)
                if found.st_uid == os.geteuid() and time.time() - found.st_mtime > _STALE_AFTER_S:
                    remove_temporary(path)
            finally:
                os.close(fd)
