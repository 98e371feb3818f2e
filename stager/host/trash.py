"""The one remover of directories: only what carries our mark goes, and it goes whole.

::

    SCRATCH/trash/          0700
        TOKEN/              on its way out

What goes is renamed first, so that nobody meets a part of it, and whoever is killed in the middle leaves nothing but
trash, which is swept by the next. What is removed then is the directory that was looked at before, by its descriptor,
whatever has its name by now (`stager.host.trees`).

The mark is where it lies and whose it is: one of the names below, in a scratch in which every directory on the way is
the user's own, is written by nobody else, and is no symlink; beside a job's tree its record, in a part its mark. What
one run makes for itself has a name that says so.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from stager.errors import HostError, MountError, from_os_error
from stager.host.mounts import mount_id
from stager.host.names_in import names_in
from stager.host.procs import find_viewer
from stager.host.scratch import TRASH, is_private
from stager.host.trees import open_below, refuse_mounts_below, remove_at

__all__ = ["ExchangedError", "discard", "remove_temporary", "remove_tree", "sweep_trash"]

_MARKED: Final = re.compile(
    r"(?P<scratch>/.*)/(?P<above>"
    r"jobs/[A-Za-z0-9][A-Za-z0-9._-]{0,159}(?=/(?:tree|state|created)$)"
    r"|parts(?=/[A-Za-z0-9][A-Za-z0-9._-]{0,200}$)"
    r"|cache/[0-9]{1,9}/[A-Za-z0-9][A-Za-z0-9._-]{0,160}(?=/[0-9]{1,15}(?:\.[0-9a-f]{16})?$)"
    r"|mirrors(?=/[0-9a-f]{40}$)"
    r"|mirrors/[0-9a-f]{40}(?=/(?:commits|history)\.[0-9]{1,15}$)"
    r")/(?P<name>[^/]+)"
)
_BESIDE: Final = {"jobs": "job.json"}
_WITHIN: Final = {"parts": "part.json"}
_TEMPORARY: Final = re.compile(
    r"(?:^|/)(?:tmp\.[0-9a-f]{16}|\.lease\.[0-9]{1,15}\.[0-9a-f]{16}|git-[0-9a-f]{16}"
    r"|(?:run|git|doctor|\.overlay)-[a-z0-9_]{8})(?:/|$)"
)
_TOKEN: Final = re.compile(r"[0-9a-f]{32}")
_NO_TRASH: Final = frozenset({errno.EXDEV, errno.ENOSPC, errno.EDQUOT})
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_HELD: Final = _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ExchangedError(HostError):
    """Something else lies in the place of what was to be removed, and stays."""


def remove_tree(path: str) -> None:
    """`discard` for what a job has seen.

    Raises also `MountError`, before anything is touched, when a file system is mounted below; `HostError`, also
    before, when a process lives in a view of it: a job whose stager was killed.
    """
    refuse_mounts_below(path)
    _refuse_viewers(path)
    discard(path)


def discard(path: str) -> None:
    """Remove a directory that carries our mark, and all below it; one that is not there is no error. Blocks.

    It is out of the way at once, or, on a disk without a free block, where it is. Raises `HostError`: it carries no
    mark, or is another user's, and nothing is touched; or it cannot be removed. `MountError`: something is mounted
    there; what lies above is gone perhaps.
    """
    match = _MARKED.fullmatch(path)
    if match is None:
        raise _refusal("is nothing that stager has made", path)
    name = match["name"]
    try:
        with _own(match["scratch"], match["above"]) as (scratch_fd, above_fd):
            fd = open_below(name, _DIRECTORY, above_fd)
            try:
                _check(match, fd, above_fd, path)
                where, now = _put_aside(scratch_fd, above_fd, name, fd, path)
                try:
                    remove_at(now, where, fd)
                finally:
                    if where != above_fd:
                        os.close(where)
            finally:
                os.close(fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="remove the directory", where=path) from error


def sweep_trash(scratch: str) -> None:
    """Remove what others began to, and are not at any more. Blocks. Never raises."""
    with suppress(OSError, HostError), _own(scratch, TRASH) as (_, fd):
        for name in names_in(fd):
            if _TOKEN.fullmatch(name):
                with suppress(OSError, MountError):
                    _sweep(name, fd)


def remove_temporary(path: str, *, dir_fd: int | None = None) -> None:
    """Remove a directory that a run has made for itself, or one below such; what cannot go, or is another user's, is
    left. Blocks. Raises nothing but `HostError`: it has no such name.
    """
    if not _TEMPORARY.search(path):
        raise _refusal("is nothing that a run of stager made for itself", path)
    above, name = os.path.split(path.rstrip("/"))
    with suppress(OSError, MountError):
        above_fd = os.open(above or ".", os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            fd = open_below(name, _DIRECTORY, above_fd)
            try:
                if os.fstat(fd).st_uid == os.geteuid() and mount_id(fd) == mount_id(above_fd):
                    remove_at(name, above_fd, fd)
            finally:
                os.close(fd)
        finally:
            os.close(above_fd)


def _refuse_viewers(path: str) -> None:
    try:
        pid = find_viewer(path)
    except OSError:  # `discard` says why when it cannot be opened there either
        return
    if pid is not None:
        raise HostError(
            f"process {pid} of the job is alive", where=path, hint=f"end it (kill -KILL {pid}); nothing was removed"
        )


@contextmanager
def _own(scratch: str, below: str) -> Iterator[tuple[int, int]]:
    """Descriptors of the scratch, and of a directory below it; each on the way is the user's own. Raises OSError,
    `HostError`.
    """
    fds = [os.open(scratch, _HELD)]
    try:
        here = scratch
        for name in (*below.split("/"), None):
            if not is_private(os.fstat(fds[-1])):
                raise _refusal("lies in a directory that is not your own, or that others can write", here)
            if name is not None:
                here = os.path.join(here, name)
                fds.append(os.open(name, _HELD, dir_fd=fds[-1]))
        yield fds[0], fds[-1]
    finally:
        for fd in fds:
            os.close(fd)


def _check(match: re.Match[str], fd: int, above_fd: int, path: str) -> None:
    """OSError, `HostError`, `MountError`."""
    kind = match["above"].partition("/")[0]
    beside, within = _BESIDE.get(kind), _WITHIN.get(kind)
    if os.fstat(fd).st_uid != os.geteuid():
        raise _refusal(f"belongs to another user (uid {os.fstat(fd).st_uid})", path)
    if mount_id(fd) != mount_id(above_fd):
        raise MountError("a file system is mounted here", where=path, hint="unmount it first; nothing was removed")
    if beside is not None and not _has(above_fd, beside):
        raise _refusal(f"carries no mark of stager ({beside} beside it)", path)
    if within is not None and not _has(fd, within) and names_in(fd):
        raise _refusal(f"carries no mark of stager ({within} in it)", path)


def _has(fd: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=fd)
    except FileNotFoundError:
        return False
    return True


def _put_aside(scratch_fd: int, above_fd: int, name: str, fd: int, path: str) -> tuple[int, str]:
    """Where it lies now, and its name there: in the trash, in a descriptor to be closed; where it was, on a disk that
    has no room for the trash or is not the scratch's. OSError, `HostError`.
    """
    _lock(fd)
    trash = -1
    try:
        with suppress(FileExistsError):
            os.mkdir(TRASH, 0o700, dir_fd=scratch_fd)
        trash = os.open(TRASH, _HELD, dir_fd=scratch_fd)
        token = secrets.token_hex(16)
        os.fchmod(fd, 0o700)  # or it cannot be moved
        _move(fd, (name, above_fd), (token, trash), path)
    except BaseException as error:
        if trash >= 0:
            os.close(trash)
        if isinstance(error, OSError) and error.errno in _NO_TRASH:
            return above_fd, name
        raise
    return trash, token


def _move(fd: int, origin: tuple[str, int], goal: tuple[str, int], path: str) -> None:
    """OSError, `HostError`."""
    (name, above_fd), (token, trash) = origin, goal
    if not is_private(os.fstat(trash)):
        raise _refusal("the trash is not your own, or others can write to it", path)
    _check_same(name, above_fd, fd, path)  # so that what has come into its place is hardly ever moved away and back
    os.rename(name, token, src_dir_fd=above_fd, dst_dir_fd=trash)
    try:
        _check_same(token, trash, fd, path)
    except ExchangedError:
        os.rename(token, name, src_dir_fd=trash, dst_dir_fd=above_fd)
        raise


def _check_same(name: str, above_fd: int, fd: int, path: str) -> None:
    """OSError, `ExchangedError`."""
    if not os.path.samestat(os.lstat(name, dir_fd=above_fd), os.fstat(fd)):
        raise ExchangedError("was exchanged while it was removed; nothing was removed", where=path, hint="look at it")


def _lock(fd: int) -> bool:
    """So that nobody sweeps it meanwhile; of two that do, neither is wrong. False: somebody is at it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _sweep(name: str, trash: int) -> None:
    """OSError, `MountError`."""
    try:
        fd = open_below(name, _DIRECTORY, trash)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            os.unlink(name, dir_fd=trash)
        return
    try:
        if mount_id(fd) == mount_id(trash) and _lock(fd):
            remove_at(name, trash, fd)
    finally:
        os.close(fd)


def _refusal(what: str, path: str) -> HostError:
    return HostError(f"{what}; nothing was removed", where=path, hint="look at it, and remove it yourself")
