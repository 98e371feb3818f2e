"""Files of our own: committed whole (temporary sibling, write, check, rename), and opened without surprises."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable

from stager.errors import HostError, from_os_error

__all__ = ["is_there", "open_regular", "read_regular", "write_all", "write_file"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_SURPRISE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_NOT_REGULAR = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV})


def open_regular(name: str, flags: int, *, dir_fd: int, mode: int = 0o600) -> int:
    """A descriptor of a file that is nothing but a file; a FIFO does not hold this up and a symlink is not followed.

    Raises `HostError` for anything that is no regular file, else OSError.
    """
    try:
        fd = os.open(name, flags | _NO_SURPRISE, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            raise _not_regular(name) from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _not_regular(name)
    return fd


def read_regular(name: str, *, dir_fd: int, most: int) -> bytes:
    """The contents of a file of at most ``most`` bytes.

    Raises `HostError` for a larger one and for what is no regular file, else OSError.
    """
    with open(open_regular(name, os.O_RDONLY, dir_fd=dir_fd), "rb") as file:
        data = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    if data is None or len(data) > most:
        raise HostError(f"is larger than {most} bytes", where=name, hint="it is not what was written; move it away")
    return data


def _not_regular(name: str) -> HostError:
    return HostError("is not a regular file", where=name, hint="move it away")


def is_there(dir_fd: int, name: str) -> bool:
    """Whether the directory has an entry of this name. Raises `HostError`."""
    try:
        os.lstat(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise from_os_error(error, doing="look for the file", where=name) from error
    return True


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
