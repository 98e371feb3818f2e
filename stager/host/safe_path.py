"""A path that nobody but its user and root can lead elsewhere, now or later."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from stager.errors import HostError, from_os_error

__all__ = ["make_safe_directory", "safe_part"]

_LINKS_MAX: Final = 40  # as the kernel has it, path_resolution(7)
_HANDLE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def make_safe_directory(path: str) -> str:
    """``path``, absolute, without symlinks; what is missing of it is made (0700). Blocks.

    Whoever may rename an entry of a directory above could put a tree of theirs in the place of what was checked: so
    each of them belongs to this user or to root and can be written by nobody else, unless it is sticky, and so does
    each symlink on the way.

    Raises `HostError` naming the first directory or symlink that is not so, or that cannot be opened or made;
    `NoSpaceError`.
    """
    return _follow(path, make=True)


def safe_part(path: str) -> str:
    """The same for what of ``path`` is there: nothing is made. Blocks. Raises as `make_safe_directory`."""
    return _follow(path, make=False)


def _follow(path: str, *, make: bool) -> str:
    here, left, links = "/", path.split("/")[::-1], 0
    fd = os.open("/", _HANDLE | os.O_DIRECTORY)
    try:
        _refuse_others_directory(os.fstat(fd), here)
        while left:
            name = left.pop()
            if name in ("", "."):
                continue
            above, here = here, os.path.normpath(os.path.join(here, name))
            found = _open_or_make(name, fd, make=make)
            if found is None:
                return above
            if stat.S_ISDIR(os.fstat(found).st_mode):
                os.close(fd)
                fd = found
                _refuse_others_directory(os.fstat(fd), here)
                continue
            links += 1
            target = _target_of(found, here, links)
            left += target.split("/")[::-1]
            here = os.path.dirname(here)
            if target.startswith("/"):
                os.close(fd)
                fd, here = os.open("/", _HANDLE | os.O_DIRECTORY), "/"
    except OSError as error:
        raise from_os_error(error, doing="make the directory", where=here) from error
    finally:
        os.close(fd)
    return here


def _open_or_make(name: str, fd: int, *, make: bool) -> int | None:
    """The directory (an automounted one is mounted), or whatever else bears the name; None: nothing does. OSError."""
    for _ in range(2):
        try:
            return os.open(name, _HANDLE | os.O_DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            if not make:
                return None
            os.mkdir(name, 0o700, dir_fd=fd)
        except NotADirectoryError:
            break
    return os.open(name, _HANDLE, dir_fd=fd)


def _target_of(found: int, here: str, links: int) -> str:
    try:
        status = os.fstat(found)
        if not stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if links > _LINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if status.st_uid not in (0, os.geteuid()):
            raise _refusal(f"is a symlink of another user (uid {status.st_uid})", here)
        return os.readlink("", dir_fd=found)
    finally:
        os.close(found)


def _refuse_others_directory(found: os.stat_result, where: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise _refusal(f"belongs to another user (uid {found.st_uid}), who could exchange what lies in it", where)
    if found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX:
        raise _refusal("can be written by others, who could exchange what lies in it", where)


def _refusal(what: str, where: str) -> HostError:
    return HostError(what, where=where, hint="choose another with --scratch, or have it closed to others (chmod go-w)")
