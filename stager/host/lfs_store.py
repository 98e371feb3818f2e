"""LFS objects that this user's syncs have fetched to this node, by their SHA-256, for the next tree that needs them.

``SCRATCH/lfs/AA/OID``: files of 0400 below a directory of 0700, never linked into a tree, and none of them believed:
whoever takes one copies it and compares the SHA-256 of what was copied. Nothing needs the store: where it cannot be
made, read or written, objects are fetched. Two syncs may use it at once; files come by a rename and go by an unlink.
Beside them lie ``uses/``, who is at work with the store (`stager.host.readers`), and ``pinned`` where they are to stay.
An object's mtime is that of its last use.

It is filled where that costs next to nothing: by clones, which share their blocks with the tree's files, where the file
system has them; else by copies where the network took several times as long as a copy does, and there is ample room. It
keeps to a share of the disk, and what was not used for the longest time goes first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

from stager import _native
from stager.errors import HostError
from stager.host.clones import can_clone
from stager.host.names_in import names_in
from stager.host.readers import Use, begin_use
from stager.host.scratch import LFS, open_own

__all__ = ["PINNED", "USES", "LfsStore", "Object", "drop", "is_pinned", "is_worth_a_copy", "objects_in"]

USES: Final = "uses"
PINNED: Final = "pinned"
_TMP: Final = "tmp"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHARE: Final = 0.25  # of what is free and its own
_AMPLE: Final = 0.5  # of the disk stays free when objects are copied
_COPY_BYTES_A_S: Final = 1e9
_COPY_FILE_S: Final = 150e-6
_TIMES_SLOWER: Final = 5.0
_STALE_AFTER_S: Final = 86400.0


def is_worth_a_copy(objects: int, size: int, seconds: float) -> bool:
    """Whether fetching so many objects, of ``size`` bytes together, took so long that a copy hardly adds to it."""
    return seconds >= _TIMES_SLOWER * (objects * _COPY_FILE_S + size / _COPY_BYTES_A_S)


class LfsStore:
    """See the module. Every method blocks and raises nothing but what it says."""

    def __init__(self, scratch: str, others: Iterable[str] = ()) -> None:
        """``others``: scratch directories whose stores are read from too. Raises OSError, `HostError`: there can be no
        store.
        """
        path = os.path.join(scratch, LFS)
        self._kept = False
        self._uses: list[Use] = []
        with contextlib.ExitStack() as opened:
            opened.callback(self._end_uses)
            self._fd = open_own(path)
            opened.callback(os.close, self._fd)
            with contextlib.suppress(FileExistsError):
                os.mkdir(_TMP, 0o700, dir_fd=self._fd)
            self._tmp_fd = os.open(_TMP, _DIRECTORY, dir_fd=self._fd)
            opened.callback(os.close, self._tmp_fd)
            self._uses.append(begin_use(os.path.join(path, USES)))
            self._fds = [self._fd]
            for other in dict.fromkeys(others):
                if other != scratch and os.path.isdir(os.path.join(other, LFS)):
                    with contextlib.suppress(OSError, HostError):
                        self._fds.append(open_own(os.path.join(other, LFS)))
                        opened.callback(os.close, self._fds[-1])
                        self._uses.append(begin_use(os.path.join(other, LFS, USES)))
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Make room, if something was added."""
        if self._kept:
            with contextlib.suppress(OSError):
                self._trim()
        self._opened.close()

    def _end_uses(self) -> None:
        for use in self._uses:
            use.close()

    def has(self, oid: str) -> bool:
        """Whether there is a file for it."""
        return any(_has(fd, oid) for fd in self._fds)

    def take(
        self, oid: str, size: int, tmp_fd: int, root_fd: int, key: bytes, mode: int
    ) -> tuple[bytes, int, int] | None:
        """Put an object in place below ``root_fd``: (digest, mtime_ns, ctime_ns) of the file; None: it is not here, or
        not what it should be, and is then removed. Raises OSError of the destination.
        """
        for fd in self._fds:
            if (taken := _take(fd, oid, size, tmp_fd, root_fd, key, mode)) is not None:
                return taken
        return None

    def can_clone(self, tmp_fd: int) -> bool:
        """Whether files of the destination can share their blocks with files here."""
        return can_clone(tmp_fd, self._tmp_fd)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes can be copied here and ample room is left."""
        found = os.fstatvfs(self._fd)
        return found.f_bavail * found.f_frsize - size >= _AMPLE * found.f_blocks * found.f_frsize

    def keep(self, oid: str, root_fd: int, key: bytes) -> None:
        """Keep the object that stands below ``root_fd``, if that can be done; it is compared on the way."""
        with contextlib.suppress(OSError):
            _native.copy_file(
                root_fd, key, self._tmp_fd, self._fd, os.fsencode(_path(oid)), 0o400, sha256=bytes.fromhex(oid)
            )
            self._kept = True

    def _trim(self) -> None:
        """Remove what was used longest ago until the rest is a fair share of the disk."""
        for name in names_in(self._tmp_fd):  # of syncs that were killed
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(name, dir_fd=self._tmp_fd).st_mtime > _STALE_AFTER_S:
                    os.unlink(name, dir_fd=self._tmp_fd)
        if is_pinned(self._fd):
            return
        files = list(objects_in(self._fd))
        disk = os.fstatvfs(self._fd)
        used = sum(one.bytes for one in files)
        most = _SHARE * (disk.f_bavail * disk.f_frsize + used)
        for one in sorted(files):
            if used <= most:
                break
            drop(self._fd, one.path)
            used -= one.bytes


class Object(NamedTuple):
    """One that is kept. ``path``: below the store's directory; ``bytes``: on the disk."""

    last_use_ns: int
    path: str
    bytes: int


def objects_in(fd: int) -> Iterator[Object]:
    """All of a store's. Blocks. OSError."""
    for name in names_in(fd):
        if len(name) == 2:
            with contextlib.suppress(OSError), os.scandir(f"/proc/self/fd/{fd}/{name}") as found:
                for entry in found:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        yield Object(status.st_mtime_ns, f"{name}/{entry.name}", status.st_blocks * 512)


def is_pinned(fd: int) -> bool:
    """Whether a store's objects stay until they are removed by name."""
    try:
        os.lstat(PINNED, dir_fd=fd)
    except OSError:
        return False
    return True


def drop(fd: int, path: str) -> None:
    """Remove an object. Who reads it reads on. Never raises."""
    with contextlib.suppress(OSError):
        os.unlink(path, dir_fd=fd)


def _take(
    fd: int, oid: str, size: int, tmp_fd: int, root_fd: int, key: bytes, mode: int
) -> tuple[bytes, int, int] | None:
    path = _path(oid)
    try:
        found = os.lstat(path, dir_fd=fd)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_size != size or found.st_uid != os.geteuid():
        drop(fd, path)
        return None
    try:
        taken = _native.copy_file(fd, os.fsencode(path), tmp_fd, root_fd, key, mode, sha256=bytes.fromhex(oid))
    except OSError as error:
        if error.errno in (errno.EBADMSG, errno.EIO, errno.EINVAL):
            drop(fd, path)
            return None
        if error.errno in (errno.ESTALE, errno.ENOENT) and not _has(fd, oid):  # somebody made room meanwhile
            return None
        raise
    with contextlib.suppress(OSError):
        os.utime(path, dir_fd=fd, follow_symlinks=False)  # used now
    return taken[1:]


def _has(fd: int, oid: str) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISREG(os.lstat(_path(oid), dir_fd=fd).st_mode)
    return False


def _path(oid: str) -> str:
    return f"{oid[:2]}/{oid}"
