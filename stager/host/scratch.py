"""The user's scratch directory on this node: private, and proven to be the user's own."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from stager.errors import HostError, UsageError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.safe_path import make_safe_directory, safe_part

__all__ = [
    "CACHE",
    "DEFAULT_TOP",
    "LFS",
    "MIRRORS",
    "PARTS",
    "STORAGE",
    "TRASH",
    "is_private",
    "known_scratches",
    "open_own",
    "open_scratch",
    "remember_scratch",
    "used_scratches",
]

DEFAULT_TOP: Final = "/var/tmp"  # noqa: S108  (a directory of our own in it, checked below)
_JOBS: Final = "jobs"
MIRRORS: Final = "mirrors"
"""In a scratch: what its user has of remote repositories, see `stager.host.git_mirror`."""

CACHE: Final = "cache"
"""In a scratch: trees for its user's next jobs, see `stager.host.cache`."""
LFS: Final = "lfs"
"""In a scratch: what was fetched of Git LFS, see `stager.host.lfs_store`."""

PARTS: Final = "parts"
"""In a scratch: what was placed there of jobs that lie in another, see `stager.host.parts`."""

STORAGE: Final = "storage"
"""In a scratch: storages of jobs that no site has a place for, see `stager.job.storages`."""

TRASH: Final = "trash"
"""In a scratch: what is on its way out, see `stager.host.trash`."""

_OWN: Final = (_JOBS, MIRRORS, CACHE, LFS, PARTS, STORAGE, TRASH)
_REGISTER: Final = "scratches"
_REGISTER_MAX_BYTES: Final = 1 << 20
_KNOWN_MOST: Final = 256
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_FOREIGN_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def open_scratch(asked: str | None, environ: Mapping[str, str]) -> str:
    """The scratch directory's path, made when missing.

    ``asked``, else STAGER_SCRATCH, else /var/tmp. A directory that is the user's own and that nobody else may write
    is used as it is; in any other, ``stager-UID`` (0700) is. /tmp is not the default: on many nodes it is in memory.

    Raises `UsageError`: not an absolute path. `HostError`: a symlink, another user's directory, or one that others
    may write stands in its place or above it (`make_safe_directory`); it cannot be made. `NoSpaceError`.
    """
    top = asked or environ.get("STAGER_SCRATCH") or DEFAULT_TOP
    if not top.startswith("/") or "\0" in top:
        raise UsageError("the scratch directory needs an absolute path", where=repr(top), hint="check --scratch")
    top = make_safe_directory(os.path.normpath(top))
    try:
        if is_private(os.stat(top)):
            return top
        below = os.path.join(top, f"stager-{os.geteuid()}")
        try:
            os.mkdir(below, 0o700)
        except FileExistsError:
            _check_own(below)
    except OSError as error:
        raise from_os_error(error, doing="make the scratch directory", where=error.filename or top) from error
    return below


def remember_scratch(scratch: str) -> None:
    """Note a scratch directory with jobs or mirrors in it, for `known_scratches`. Blocks.

    The list lies in the default scratch, which every job's view masks. Where somebody else holds that name it is not
    kept: nobody may stop a user's jobs by taking a name in /var/tmp. What cannot be seen from here, as in a container,
    others may see: it is forgotten when the list is long.
    """
    with suppress(HostError, OSError):
        own = os.open(open_scratch(DEFAULT_TOP, {}), _DIRECTORY)
        try:
            fcntl.flock(own, fcntl.LOCK_EX)
            known = _read_register(own)
            if scratch not in known:
                if len(known) >= _KNOWN_MOST:
                    known = [path for path in known if any(os.path.isdir(os.path.join(path, name)) for name in _OWN)]
                write_file(own, _REGISTER, [b"\0".join(map(os.fsencode, [*known, scratch]))], mode=0o600)
        finally:
            os.close(own)


def known_scratches(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Directories of this user where jobs live or lived and mirrors lie, as far as anyone can know: the default
    scratch, STAGER_SCRATCH, and every one that was used on this node and still exists. Blocks.

    Of a scratch that is not the default only those: the directory around them may be the user's for other things.
    """
    mine = f"stager-{os.geteuid()}"
    default = os.path.join(DEFAULT_TOP, mine)
    found = [default]
    if asked := environ.get("STAGER_SCRATCH", ""):
        found += [os.path.join(asked, name) for name in (*_OWN, mine)]
    with suppress(HostError, OSError):
        own = os.open(default, _DIRECTORY)
        try:
            found += [os.path.join(path, name) for path in _read_register(own) for name in _OWN]
        finally:
            os.close(own)
    return tuple(dict.fromkeys(os.path.realpath(path) for path in found if os.path.isdir(path)))


def used_scratches() -> list[str]:
    """The scratch directories of this user that jobs were staged in, the default first. Blocks. Never raises."""
    default = os.path.join(DEFAULT_TOP, f"stager-{os.geteuid()}")
    found = [default]
    with suppress(HostError, OSError):
        own = os.open(default, _DIRECTORY)
        try:
            found += _read_register(own)
        finally:
            os.close(own)
    return [path for path in dict.fromkeys(found) if _is_still_own(path)]


def _is_still_own(path: str) -> bool:
    """Whether nobody else could have put something in its place since."""
    try:
        return safe_part(path) == path and is_private(os.stat(path))
    except (HostError, OSError):
        return False


def _read_register(own: int) -> list[str]:
    """The list in the default scratch; nothing of one that another user could have written."""
    if not is_private(os.fstat(own)):
        return []
    try:
        data = read_regular(_REGISTER, dir_fd=own, most=_REGISTER_MAX_BYTES)
        return [os.fsdecode(path) for path in data.split(b"\0") if path.startswith(b"/")]
    except FileNotFoundError:
        return []


def open_own(path: str) -> int:
    """A descriptor of a directory of one's own that nobody else may even look into, made when missing. Blocks.

    OSError; `HostError`: it is another's, or open to others.
    """
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    fd = os.open(path, _DIRECTORY)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
        os.close(fd)
        raise HostError("is not a directory of your own alone", where=path, hint="remove it")
    return fd


def is_private(found: os.stat_result) -> bool:
    """Whether a directory is the user's own and nobody else may write to it."""
    return found.st_uid == os.geteuid() and not found.st_mode & (_FOREIGN_WRITE | stat.S_ISVTX)


def _check_own(path: str) -> None:
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode) and is_private(found):
        return
    raise HostError(
        "is not a directory that only you can write; somebody may have put it there", where=path,
        hint="remove it, or choose another with --scratch",
    )  # fmt: skip
