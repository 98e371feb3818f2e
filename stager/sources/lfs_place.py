"""LFS objects that are on this node already, put in place: from another path of the tree, from the node's store, from a
repository in a directory. Each is copied, or cloned where the file system can, and its SHA-256 compared on the way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator

from stager import _native
from stager._native import KeyTable
from stager.errors import IntegrityError, from_os_error
from stager.host.lfs_store import LfsStore
from stager.model import Grade
from stager.names import show
from stager.sources.base import Landing
from stager.sources.lfs_rows import oid_of

__all__ = ["Places"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Places:
    """Of one fetch. Its methods block and may be called by several threads at once, for rows of their own."""

    def __init__(self, table: KeyTable, landing: Landing, store: LfsStore | None) -> None:
        """``clones`` says whether what the store keeps takes no space of its own. Blocks. Raises `NoSpaceError`,
        `HostError`.
        """
        self._table = table
        self._landing = landing
        self._store = store
        name = secrets.token_hex(16)
        try:
            fd = os.open(name, _CREATE, 0o777, dir_fd=landing.tmp_fd)
            try:
                self._allowed = os.fstat(fd).st_mode & 0o777  # as the umask has it
            finally:
                os.close(fd)
                os.unlink(name, dir_fd=landing.tmp_fd)
            self.clones = store is not None and store.can_clone(landing.tmp_fd)
        except OSError as error:
            raise from_os_error(error, doing="create a file", where=landing.root) from error

    @property
    def has_store(self) -> bool:
        """Whether `from_store` may find anything."""
        return self._store is not None

    def has_room(self, size: int) -> bool:
        """Whether the store has room for copies of so many bytes."""
        return self._store is not None and self._store.has_room(size)

    def from_row(self, first: int, row: int) -> None:
        """A file that is another one of the tree. Raises `IntegrityError`, `NoSpaceError`, `HostError`."""
        self._copy(self._landing.root_fd, self._table.key(first), row)

    def from_file(self, path: str, row: int) -> None:
        """A file of this host. Raises as `from_row`."""
        directory, _, name = path.rpartition("/")
        with self._raising(row):
            fd = os.open(directory or "/", _DIRECTORY)
        try:
            self._copy(fd, os.fsencode(name), row)
        finally:
            os.close(fd)

    def from_store(self, row: int) -> bool:
        """Whether the store has it, and it is in place now. Raises `NoSpaceError`, `HostError`."""
        if self._store is None:
            return False
        with self._raising(row):
            taken = self._store.take(
                oid_of(self._table, row), self._table.size(row), self._landing.tmp_fd, self._landing.root_fd,
                self._table.key(row), self._mode(row),
            )  # fmt: skip
        if taken is not None:
            self._put(row, *taken)
        return taken is not None

    def keep(self, row: int) -> None:
        """Let the store have it."""
        if self._store is not None:
            self._store.keep(oid_of(self._table, row), self._landing.root_fd, self._table.key(row))

    def _mode(self, row: int) -> int:
        bits = self._table.mode(row) & 0o777
        return (bits if bits & 0o111 else 0o666) & self._allowed

    def _copy(self, source_fd: int, source: bytes, row: int) -> None:
        landing, table = self._landing, self._table
        with self._raising(row):
            size, digest, mtime_ns, ctime_ns = _native.copy_file(
                source_fd, source, landing.tmp_fd, landing.root_fd, table.key(row), self._mode(row),
                sha256=bytes.fromhex(oid_of(table, row)),
            )  # fmt: skip
        if size != table.size(row):
            raise IntegrityError("has another size than its pointer says", where=self._shown(row))
        self._put(row, digest, mtime_ns, ctime_ns)

    def _put(self, row: int, digest: bytes, mtime_ns: int, ctime_ns: int) -> None:
        self._landing.entries.put(row, digest, mtime_ns, ctime_ns, self._mode(row), Grade.A)

    def _shown(self, row: int) -> str:
        return f"{self._landing.root}/{show(self._table.key(row))}"

    @contextlib.contextmanager
    def _raising(self, row: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.EBADMSG, errno.ESTALE):
                raise IntegrityError(
                    "its bytes on this node are not the LFS object, or changed while they were copied",
                    where=f"{self._shown(row)} ({oid_of(self._table, row)})", hint="run this again",
                ) from error  # fmt: skip
            raise from_os_error(error, doing="copy the object", where=self._shown(row)) from error
