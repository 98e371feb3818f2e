"""A directory of this host as a source: copied file by file.

Identity is (size, mtime, ctime, inode): what changes a file changes its ctime. Symlinks are copied as links and never
followed; what is mounted below the directory belongs to it; devices, FIFOs and sockets are refused by name. Set-uid,
set-gid and sticky bits are not copied. Directories exist as their files need them, so empty ones are left out.

Grade B: the file was the pinned one before and after it was read; no second party vouches for its bytes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import stat
import struct
from array import array
from collections.abc import Iterator
from contextlib import aclosing, suppress
from typing import Final, Self

from stager import _native
from stager.errors import (
    AccessDeniedError,
    BadKeysError,
    ChangedError,
    NotFoundError,
    StagerError,
    UsageError,
    from_os_error,
)
from stager.host.threads import in_threads
from stager.model import Grade, SourceRef
from stager.names import show
from stager.sources.base import Capabilities, Earlier, Landing, OnLanded, Snapshot, Wanted, everything

__all__ = ["LocalSource"]

_IDENTITY: Final = struct.Struct("<qqqQ")
_DEPTH_MAX: Final = 200  # one open directory each
_FILES_A_CALL: Final = 64
_BYTES_A_CALL: Final = 64 << 20
_SHOWN: Final = 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE})


class LocalSource:
    """See the module. The directory named may itself be a symlink; below it none is followed."""

    capabilities = Capabilities(modes=True, times="always", grade=Grade.B, best=Grade.B)

    def __init__(self, ref: SourceRef, *, remote: object = None, transfer: object = None) -> None:
        """``remote`` and ``transfer`` are what every source is made with; this one needs neither."""
        self._ref = ref
        self._root_fd = -1

    async def __aenter__(self) -> Self:
        """Nothing to acquire before `snapshot`."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the directory."""
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1

    async def snapshot(self, earlier: Earlier | None = None, wanted: Wanted = everything) -> Snapshot:
        """Walk the whole directory.

        Raises `NotFoundError`, `AccessDeniedError`, `ChangedError` (moved while it was walked), `UsageError` (not a
        directory), `BadKeysError` (special files), `HostError`.
        """
        return await asyncio.to_thread(self._snapshot, wanted)

    async def adopt(self, listed: Snapshot) -> Snapshot:
        """Never: times and inode numbers say nothing on another host or after a restore."""
        raise UsageError("a directory cannot be pinned to an earlier listing", where=self._ref.text,
                         hint="use an s3 or git source")

    async def prove_access(self, snapshot: Snapshot) -> None:
        """Nothing to do: nothing of this host is cached."""

    async def fetch(self, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded) -> None:
        """See `Source.fetch`. Cancelling starts no further file and waits for those being copied."""
        await asyncio.to_thread(self._refuse_nested, landing)

        def copy(piece: array[int]) -> array[int]:
            for row in piece:
                self._copy(snapshot, row, landing)
            return piece

        async with aclosing(in_threads(copy, _pieces(snapshot.table, rows))) as finished:
            async for landed in finished:
                done(landed)

    def _snapshot(self, wanted: Wanted) -> Snapshot:
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1
        try:
            self._root_fd = os.open(self._ref.location, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError:
            raise UsageError("not a directory", where=self._ref.text, hint="name the directory that holds it") from None
        except OSError as error:
            raise self._error(error, b"") from error
        table = _native.KeyTable()
        special: list[str] = []
        for directory_fd, prefix, name, status in self._walk():
            key = prefix + name
            if stat.S_ISREG(status.st_mode):
                table.append(key, status.st_size, _identity(status), status.st_mtime_ns, status.st_mode & 0o777)
            elif stat.S_ISLNK(status.st_mode):
                try:
                    size = len(os.readlink(name, dir_fd=directory_fd))
                except OSError as error:
                    raise self._error(error, key) from error
                table.append(key, size, _identity(status), status.st_mtime_ns, stat.S_IFLNK | 0o777)
            elif wanted(key):
                special.append(f"{show(key)}: {_kind(status.st_mode)}")
        if special:
            rest = [f"and {len(special) - _SHOWN} more"] if len(special) > _SHOWN else []
            raise BadKeysError(
                "the directory holds what is neither file, directory nor symlink", [*special[:_SHOWN], *rest],
                where=self._ref.text, hint="move it away",
            )  # fmt: skip
        return Snapshot(table=table, pinned={"path": self._ref.location})

    def _walk(self) -> Iterator[tuple[int, bytes, bytes, os.stat_result]]:
        """(directory's descriptor, its path with a slash, name, lstat) of all that is no directory."""
        open_now: list[tuple[int, bytes, list[bytes]]] = []
        try:
            open_now.append((os.dup(self._root_fd), b"", []))
            files = self._scan(*open_now[-1])
            while True:
                yield from files
                while open_now and not open_now[-1][2]:
                    os.close(open_now.pop()[0])
                if not open_now:
                    return
                parent, prefix, pending = open_now[-1]
                name = pending.pop()
                key = prefix + name
                if len(open_now) > _DEPTH_MAX:
                    raise BadKeysError(
                        f"directories are nested more than {_DEPTH_MAX} deep", [show(key)], where=self._ref.text
                    )
                try:
                    fd = os.open(name, _DIRECTORY, dir_fd=parent)
                except OSError as error:
                    raise self._error(error, key) from error
                open_now.append((fd, key + b"/", []))
                files = self._scan(*open_now[-1])
        finally:
            for fd, _, _ in open_now:
                os.close(fd)

    def _scan(self, fd: int, prefix: bytes, pending: list[bytes]) -> Iterator[tuple[int, bytes, bytes, os.stat_result]]:
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name)
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(name)
                    else:
                        yield fd, prefix, name, status
        except OSError as error:
            raise self._error(error, prefix) from error

    def _copy(self, snapshot: Snapshot, row: int, landing: Landing) -> None:
        key, identity = snapshot.table.key(row), snapshot.table.identity(row)
        mode = snapshot.table.mode(row)
        directory, _, name = key.rpartition(b"/")
        try:
            source_fd = self._open_directory(directory)
        except OSError as error:
            raise self._error(error, key) from error
        try:
            self._check_unchanged(source_fd, name, key, identity)
            if stat.S_ISLNK(mode):
                set_mtime_ns = snapshot.table.mtime_ns(row) if landing.preserve else None
                digest, mtime_ns, ctime_ns = self._copy_link(source_fd, name, key, landing, set_mtime_ns)
            else:
                digest, mtime_ns, ctime_ns = self._copy_file(source_fd, name, key, mode, landing)
            self._check_unchanged(source_fd, name, key, identity)
        finally:
            os.close(source_fd)
        landing.entries.put(row, digest, mtime_ns, ctime_ns, mode, Grade.B)

    def _copy_file(
        self, source_fd: int, name: bytes, key: bytes, mode: int, landing: Landing
    ) -> tuple[bytes, int, int]:
        try:
            return _native.copy_file(
                source_fd, name, landing.tmp_fd, landing.root_fd, key, mode, preserve=landing.preserve
            )[1:]
        except PermissionError as error:
            if os.access(name, os.R_OK, dir_fd=source_fd, effective_ids=True):
                raise from_os_error(error, doing="write", where=f"{landing.root}/{show(key)}") from error
            raise self._error(error, key) from error
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise self._error(error, key) from error
            raise from_os_error(error, doing="copy a file", where=f"{landing.root}/{show(key)}") from error

    def _copy_link(
        self, source_fd: int, name: bytes, key: bytes, landing: Landing, mtime_ns: int | None
    ) -> tuple[bytes, int, int]:
        temporary = secrets.token_hex(16).encode()
        try:
            target = os.readlink(name, dir_fd=source_fd)
            os.symlink(target, temporary, dir_fd=landing.tmp_fd)
            try:
                times = _native.publish(landing.tmp_fd, temporary, landing.root_fd, key, mtime_ns=mtime_ns)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=landing.tmp_fd)
                raise
        except OSError as error:
            raise from_os_error(error, doing="copy a link", where=f"{landing.root}/{show(key)}") from error
        return _native.digest_bytes(target), *times

    def _open_directory(self, path: bytes) -> int:
        fd = os.dup(self._root_fd)
        for segment in path.split(b"/") if path else ():
            try:
                below = os.open(segment, _DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _check_unchanged(self, directory_fd: int, name: bytes, key: bytes, identity: bytes) -> None:
        try:
            status = os.lstat(name, dir_fd=directory_fd)
        except OSError as error:
            raise self._error(error, key) from error
        if _identity(status) != identity:
            raise self._changed(key)

    def _refuse_nested(self, landing: Landing) -> None:
        """A copy into itself never ends; a copy out of itself overwrites what it reads."""
        if _is_at_or_above(self._root_fd, landing.root_fd) or _is_at_or_above(landing.root_fd, self._root_fd):
            raise UsageError(
                "source and destination lie in one another", where=f"{self._ref.text} and {landing.root}",
                hint="choose a destination outside the source",
            )  # fmt: skip

    def _changed(self, key: bytes) -> ChangedError:
        where = f"{self._ref.text}/{show(key)}"
        return ChangedError("changed while it was being copied", where=where, hint="run this again when it is at rest")

    def _error(self, error: OSError, key: bytes) -> StagerError:
        where = f"{self._ref.text}/{show(key)}" if key else self._ref.text
        if error.errno in (errno.EACCES, errno.EPERM):
            return AccessDeniedError("cannot be read", where=where, hint="check its permissions")
        if error.errno in _GONE:
            return self._changed(key) if key else NotFoundError("no such directory", where=where, hint="check the path")
        return from_os_error(error, doing="read", where=where)


def _identity(status: os.stat_result) -> bytes:
    return _IDENTITY.pack(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def _pieces(table: _native.KeyTable, rows: array[int]) -> Iterator[array[int]]:
    """Rows in calls of bounded count and size, so that a large file does not hold small ones up."""
    piece, size = array("I"), 0
    for row in rows:
        if piece and (len(piece) >= _FILES_A_CALL or size + table.size(row) > _BYTES_A_CALL):
            yield piece
            piece, size = array("I"), 0
        piece.append(row)
        size += table.size(row)
    if piece:
        yield piece


def _is_at_or_above(upper_fd: int, fd: int) -> bool:
    """Whether directory ``upper_fd`` is ``fd`` or one of the directories above it."""
    upper = os.fstat(upper_fd)
    here = os.dup(fd)
    try:
        while True:
            status = os.fstat(here)
            if os.path.samestat(status, upper):
                return True
            try:
                above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
            except OSError:
                return False
            os.close(here)
            here = above
            if os.path.samestat(os.fstat(here), status):
                return False
    finally:
        os.close(here)
