"""LFS objects that this user's syncs have fetched to this node, by their SHA-256, for the next tree that needs them.

``SCRATCH/lfs/AA/OID``: files of 0400 below a directory of 0700, never linked into a tree, and none of them believed:
whoever takes one copies it and compares the SHA-256 of what was copied. Nothing needs the store: where it cannot be
made, read or written, objects are fetched. Two syncs may use it at once; files come by a rename and go by an unlink.

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
from typing import Final, Self

from stager import _native
from stager.host.clones import can_clone
from stager.host.names_in import names_in
from stager.host.scratch import LFS

__all__ = ["LfsStore", "is_worth_a_copy"]

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

    def __init__(self, scratch: str) -> None:
        """Raises OSError: there can be no store."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.join(scratch, LFS), 0o700)
        self._fd = os.open(os.path.join(scratch, LFS), _DIRECTORY)
        try:
            found = os.fstat(self._fd)
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                raise PermissionError(errno.EACCES, "others may use it", LFS)
            with contextlib.suppress(FileExistsError):
                os.mkdir(_TMP, 0o700, dir_fd=self._fd)
            self._tmp_fd = os.open(_TMP, _DIRECTORY, dir_fd=self._fd)
        except OSError:
            os.close(self._fd)
            raise
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Make room, if something was added."""
        if self._kept:
            with contextlib.suppress(OSError):
                self._trim()
        os.close(self._tmp_fd)
        os.close(self._fd)

    def has(self, oid: str) -> bool:
        """Whether there is a file for it."""
        with contextlib.suppress(OSError):
            return stat.S_ISREG(os.lstat(_path(oid), dir_fd=self._fd).st_mode)
        return False

    def take(
        self, oid: str, size: int, tmp_fd: int, root_fd: int, key: bytes, mode: int
    ) -> tuple[bytes, int, int] | None:
        """Put an object in place below ``root_fd``: (digest, mtime_ns, ctime_ns) of the file; None: it is not here, or
        not what it should be, and is then removed. Raises OSError of the destination.
        """
        path = _path(oid)
        try:
            found = os.lstat(path, dir_fd=self._fd)
        except OSError:
            return None
        if not stat.S_ISREG(found.st_mode) or found.st_size != size or found.st_uid != os.geteuid():
            self._drop(path)
            return None
        try:
            taken = _native.copy_file(
                self._fd, os.fsencode(path), tmp_fd, root_fd, key, mode, sha256=bytes.fromhex(oid)
            )
        except OSError as error:
            if error.errno in (errno.EBADMSG, errno.EIO, errno.EINVAL):
                self._drop(path)
                return None
            if error.errno in (errno.ESTALE, errno.ENOENT) and not self.has(oid):  # another sync made room meanwhile
                return None
            raise
        with contextlib.suppress(OSError):
            os.utime(path, dir_fd=self._fd, follow_symlinks=False)  # used now
        return taken[1:]

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

    def _drop(self, path: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(path, dir_fd=self._fd)

    def _trim(self) -> None:
        """Remove what was used longest ago until the rest is a fair share of the disk."""
        files = []
        for name in names_in(self._tmp_fd):  # of syncs that were killed
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(name, dir_fd=self._tmp_fd).st_mtime > _STALE_AFTER_S:
                    os.unlink(name, dir_fd=self._tmp_fd)
        for name in names_in(self._fd):
            if len(name) != 2:  # _TMP
                continue
            with contextlib.suppress(OSError), os.scandir(os.path.join(f"/proc/self/fd/{self._fd}", name)) as found:
                for entry in found:
                    status = entry.stat(follow_symlinks=False)
                    files.append((status.st_mtime_ns, f"{name}/{entry.name}", status.st_blocks * 512))
        disk = os.fstatvfs(self._fd)
        used = sum(size for _, _, size in files)
        most = _SHARE * (disk.f_bavail * disk.f_frsize + used)
        for _, path, size in sorted(files):
            if used <= most:
                break
            self._drop(path)
            used -= size


def _path(oid: str) -> str:
    return f"{oid[:2]}/{oid}"
