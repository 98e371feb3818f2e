"""The mirrors of a scratch, for who uses, counts or removes one. What lies in it: `stager.host.git_mirror`.

::

    SCRATCH/mirrors/NAME/
        about.json          of which repository it is, for people
        uses/               who uses it (`stager.host.readers`); its mtime is that of the last use
        given-up/           what uses/ is called from when it is on its way out

Who removes a mirror closes it first and looks for users then; who wants to use it writes that down first, and looks
whether it is closed then. Who finds it closed ends what somebody began to, and begins anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from stager.errors import HostError, StagerError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.readers import Use, begin_use, is_used, sweep_uses
from stager.host.scratch import MIRRORS, open_own
from stager.host.trash import ExchangedError, discard
from stager.keeping import Item
from stager.urls import redacted

__all__ = [
    "begin_mirror_use",
    "has_mirror",
    "is_pinned_mirror",
    "mirror_path",
    "mirrors_in",
    "pin_mirror",
    "remove_mirror",
    "tell_of",
]

_NAME: Final = re.compile(r"[0-9a-f]{40}")
_ABOUT: Final = "about.json"
_USES: Final = "uses"
_GIVEN_UP: Final = "given-up"
_RUN: Final = "run-"
_MOST_BYTES: Final = 1 << 16
_TRIES: Final = 50
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _About(Struct, frozen=True, kw_only=True):
    """``source``: without secrets."""

    source: str
    is_pinned: bool = False


_decoder: Final = msgspec.json.Decoder(_About)
_UNKNOWN: Final = _About(source="?")


def mirror_path(scratch: str, url: str) -> str:
    """Where that of a repository is in a scratch, or would be."""
    return os.path.join(scratch, MIRRORS, hashlib.sha256(os.fsencode(url)).hexdigest()[:40])


def has_mirror(scratch: str, url: str, kind: str) -> bool:
    """Whether something of a repository was kept in a scratch. Blocks. Never raises."""
    with suppress(OSError):
        return any(name.startswith(f"{kind}.") for name in os.listdir(mirror_path(scratch, url)))
    return False


def begin_mirror_use(path: str) -> tuple[int, Use]:
    """The directory of a mirror, made when missing, that nobody removes until the use of it ends. Blocks.

    Raises `HostError`: it cannot be used, or is being removed; `NoSpaceError`.
    """
    for _ in range(_TRIES):
        try:
            os.close(open_own(os.path.dirname(path)))
            fd = open_own(path)
        except OSError as error:
            raise from_os_error(error, doing="open the mirror", where=path) from error
        try:
            use = begin_use(os.path.join(path, _USES))
            try:
                if _is_open(fd, use, path):
                    os.utime(use.fd)
                    return fd, use
            except BaseException:
                use.close()
                raise
            use.close()
        except BaseException as error:
            # Another may lie there already, or this one is about to go, without its records.
            was_removed = not _lies_at(fd, path) or isinstance(error.__cause__, FileNotFoundError)
            os.close(fd)
            if isinstance(error, HostError | OSError) and was_removed:
                continue
            if isinstance(error, OSError):
                raise from_os_error(error, doing="use the mirror", where=path) from error
            raise
        os.close(fd)
        remove_mirror(path)
    raise HostError("is being removed", where=path, hint="try again")


def tell_of(path: str, url: str) -> None:
    """Write down of which repository it is. Raises `HostError`, `NoSpaceError`."""
    about, source = _about(path), redacted(url)
    if about.source != source:
        _tell(path, replace(about, source=source))


def pin_mirror(path: str, *, is_pinned: bool) -> None:
    """Whether it stays until it is removed by name. Raises `HostError`, `NoSpaceError`."""
    _tell(path, replace(_about(path), is_pinned=is_pinned))


def is_pinned_mirror(path: str) -> bool:
    """Never raises."""
    return _about(path).is_pinned


def mirrors_in(scratch: str) -> Iterator[Item]:
    """All there are, in no order. Blocks. Never raises."""
    top = os.path.join(scratch, MIRRORS)
    with suppress(OSError):
        for name in os.listdir(top):
            if _NAME.fullmatch(name):
                with suppress(OSError):
                    yield _item(os.path.join(top, name))


def remove_mirror(path: str) -> bool:
    """Remove it; False: somebody uses it, and it stays. Blocks. Raises `HostError`."""
    uses, closed = os.path.join(path, _USES), os.path.join(path, _GIVEN_UP)
    if _is_in_use(path):
        return False
    try:
        for one in (closed, uses):
            sweep_uses(one)
        try:
            os.rename(uses, closed)
        except FileNotFoundError:  # nobody has used it since an earlier release
            with suppress(FileExistsError):
                os.mkdir(closed, 0o700)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise from_os_error(error, doing="remove the mirror", where=path) from error
    if is_used(closed):
        with suppress(OSError):  # where others have opened it anew, it is closed when they have ended
            os.rename(closed, uses)
        return False
    with suppress(ExchangedError):  # who wanted one has put it aside, and begun another
        discard(path)
    return True


def _is_open(fd: int, use: Use, path: str) -> bool:
    """OSError."""
    if os.path.lexists(os.path.join(path, _GIVEN_UP)):
        return False
    return os.path.samestat(os.fstat(use.fd), os.lstat(_USES, dir_fd=fd)) and os.path.samestat(
        os.fstat(fd), os.lstat(path)
    )


def _lies_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _is_in_use(path: str) -> bool:
    return any(is_used(os.path.join(path, name)) for name in (_USES, _GIVEN_UP)) or _has_runs(path)


def _has_runs(path: str) -> bool:
    """Of a release that wrote down no uses: each run holds the lock of its directory."""
    with suppress(FileNotFoundError):
        for name in os.listdir(path):
            if name.startswith(_RUN):
                fd = os.open(os.path.join(path, name), _DIRECTORY)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
                except OSError:  # a file system without locks
                    continue
                finally:
                    os.close(fd)
    return False


def _item(path: str) -> Item:
    """OSError."""
    about, sizes, files, inodes = _about(path), 0, 0, 1
    for directory, below, names in os.walk(path):
        inodes += len(below) + len(names)
        files += len(names)
        for name in names:
            with suppress(FileNotFoundError):
                sizes += os.lstat(os.path.join(directory, name)).st_size
    return Item(
        name=os.path.basename(path), path=path, kind="mirror", source=about.source, bytes=sizes, files=files,
        inodes=inodes, last_use_s=_last_use_s(path), is_pinned=about.is_pinned, in_use=_is_in_use(path),
    )  # fmt: skip


def _last_use_s(path: str) -> float:
    for name in (_USES, _GIVEN_UP, ""):
        with suppress(OSError):
            return os.lstat(os.path.join(path, name)).st_mtime
    return 0.0


def _about(path: str) -> _About:
    with suppress(OSError, StagerError, msgspec.MsgspecError, UnicodeError, RecursionError):
        fd = os.open(path, _DIRECTORY)
        try:
            return _decoder.decode(read_regular(_ABOUT, dir_fd=fd, most=_MOST_BYTES))
        finally:
            os.close(fd)
    return _UNKNOWN


def _tell(path: str, about: _About) -> None:
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError as error:
        raise from_os_error(error, doing="write to the mirror", where=path) from error
    try:
        write_file(fd, _ABOUT, [msgspec.json.encode(about)], mode=0o600)
    finally:
        os.close(fd)
