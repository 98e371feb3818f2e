"""The one place that commits a small file to disk: temporary sibling, write, check, rename."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from collections.abc import Iterable

from stager.errors import from_os_error

__all__ = ["preallocate", "write_all", "write_file"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def write_file(dir_fd: int, name: str, pieces: Iterable[bytes], *, mode: int = 0o644, durable: bool = False) -> None:
    """Make ``name`` in the directory hold exactly ``pieces``, or leave it untouched.

    ``mode`` is limited by the umask. ``durable``: contents and name have reached the disk on return; a failed fsync
    is an error, never tried again. Raises `NoSpaceError`, `HostError`.
    """
    temporary = f".{name}.{secrets.token_hex(8)}"
    try:
        fd = os.open(temporary, _CREATE, mode, dir_fd=dir_fd)
    except OSError as error:
        raise from_os_error(error, doing="create a file", where=name) from error
    try:
        try:
            length = sum(write_all(fd, piece) for piece in pieces)
            if os.fstat(fd).st_size != length:
                raise OSError("the file is not as long as what was written")
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        if durable:
            os.fsync(dir_fd)
    except BaseException as error:
        _unlink_quietly(temporary, dir_fd)
        if isinstance(error, OSError):
            raise from_os_error(error, doing="write the file", where=name) from error
        raise


def write_all(fd: int, data: bytes) -> int:
    """Write every byte of ``data`` and return their number. OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)


def _unlink_quietly(name: str, dir_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except OSError:
        return


def preallocate(fd: int, size: int) -> None:
    """Reserve ``size`` bytes and set the length; only the length where the file system cannot reserve. OSError.

    Not os.posix_fallocate: where the file system cannot, the C library writes into every block instead.
    """
    if _fallocate(fd, 0, 0, size) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(code, os.strerror(code))
    os.ftruncate(fd, size)


_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
