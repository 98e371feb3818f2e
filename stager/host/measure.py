"""How fast a directory's disks take data: a bounded amount written past the page cache, to a file without a name."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
import time
from typing import Final

from stager.errors import from_os_error
from stager.host.rates import Rate

__all__ = ["measure"]

_PIECE_BYTES: Final = 4 << 20
_NO_DIRECT: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


def measure(directory: str, *, most_bytes: int, most_s: float = 2.0) -> Rate:
    """Write at most that much (4 MiB are the least), for about that long, and flush; nothing is left. Blocks.

    With O_DIRECT where the file system has it, else by fsync. Raises `NoSpaceError`, `HostError`.
    """
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file, mmap.mmap(-1, _PIECE_BYTES) as piece:
            piece.write(os.urandom(_PIECE_BYTES))  # nothing that a disk could compress
            direct = _make_direct(file.fileno())
            start = time.perf_counter()
            written = 0
            while written < most_bytes and (not written or time.perf_counter() - start < most_s):
                try:
                    written += os.write(file.fileno(), piece)
                except OSError as error:
                    if not (direct and error.errno in _NO_DIRECT and not written):
                        raise
                    direct = _make_buffered(file.fileno())
            os.fsync(file.fileno())
            seconds = time.perf_counter() - start
    except OSError as error:
        raise from_os_error(error, doing="measure how fast it writes", where=directory) from error
    return Rate(bytes_per_s=written / max(seconds, 1e-6), measured_s=time.time(), how="direct" if direct else "fsync")


def _make_direct(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)
    except OSError:
        return False
    return True


def _make_buffered(fd: int) -> bool:
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_DIRECT)
    return False
