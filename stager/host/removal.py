"""Files of a tree looked at and removed one by one, below a directory that is held open.

Each directory on the way is opened by its name in the one above, no symlink is followed, and no mount is crossed. A
file goes only while it is the very one that was looked at; between that look and its end lies one system call.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final, Literal, Self

from msgspec import Struct

from stager.host.mounts import mount_id
from stager.host.names_in import entries_in
from stager.host.threads import Checkpoint, go_on

__all__ = ["Found", "Tree"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV})
_STAYS: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY})
_DEPTH_MAX: Final = 2048  # as a path has at most
_KEPT_OPEN: Final = 64
_NO_NAMES: Final = (b"", b".", b"..")


class Found(Struct, frozen=True):
    """A file, symlink or special file as it was looked at; what writes to it or replaces it changes one of these. A
    directory where that is said.
    """

    path: bytes
    device: int
    inode: int
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Tree:
    """The tree below ``root_fd``, which stays the caller's. Its methods block and raise OSError."""

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self._mount = mount_id(root_fd)
        self._open: list[tuple[bytes, int]] = []  # the last directory and those above it, by name
        self._deep: int | None = None  # the last directory, where it lies deeper

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close_to(0)

    def look(self, path: bytes) -> Found | None:
        """What lies at a path; None when nothing does, or it is a directory, or one cannot come to it. EXDEV: something
        is mounted above it.
        """
        found = self.stat(path)
        return None if found is None or stat.S_ISDIR(found.mode) else found

    def stat(self, path: bytes) -> Found | None:
        """The same, of a directory too."""
        try:
            status = os.lstat(_name(path), dir_fd=self._above(path))
        except OSError as error:
            if error.errno in _NOT_THERE and error.errno != errno.EXDEV:
                return None
            raise
        return _found(path, status)

    def open(self, path: bytes) -> int:
        """A descriptor of a regular file, to read it."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(_name(path), flags, dir_fd=self._above(path))

    def target(self, path: bytes) -> bytes:
        """What a symlink says."""
        return os.readlink(_name(path), dir_fd=self._above(path))

    def remove(self, found: Found) -> bool:
        """Unlink what was found; False, and nothing is touched, when something else lies there now."""
        if self.look(found.path) != found:
            return False
        with suppress(FileNotFoundError):
            os.unlink(_name(found.path), dir_fd=self._above(found.path))
        return True

    def remove_directory(self, path: bytes) -> Literal["removed", "stays", "absent"]:
        """Remove an empty directory; it stays when it is not empty, or is none of this tree."""
        try:
            os.rmdir(_name(path), dir_fd=self._above(path))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return "absent"
            if error.errno in _STAYS | _NOT_THERE:
                return "stays"
            raise
        return "removed"

    def has_directory(self, path: bytes) -> bool:
        """Whether a directory lies at a path."""
        try:
            self._directory(path)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return False
            raise
        return True

    def walk(
        self,
        state_name: bytes,
        state_fd: int | None,
        checkpoint: Checkpoint = go_on,
        *,
        besides: Collection[bytes] = (),
    ) -> Iterator[Found]:
        """All that is no directory, but for what is mounted below, the state directory, and trees of other syncs: those
        with an entry ``state_name``, whatever it is. ``besides``: directories of the root that are not looked into.
        """
        state = os.fstat(state_fd) if state_fd is not None else None
        pending = [b""]
        while pending:
            checkpoint()
            directory = pending.pop()
            try:
                fd = self._directory(directory)
            except OSError as error:
                if error.errno in _NOT_THERE:  # a mount, or moved away meanwhile
                    continue
                raise
            prefix = directory + b"/" if directory else b""
            entries = _entries(fd)
            if directory and any(name == state_name for name, _ in entries):
                continue
            for name, status in entries:
                if stat.S_ISDIR(status.st_mode):
                    own = state is not None and os.path.samestat(status, state)
                    if not own and (directory or (name != state_name and name not in besides)):
                        pending.append(prefix + name)
                elif directory or name != state_name:
                    yield _found(prefix + name, status)

    def contents(self, path: bytes, checkpoint: Checkpoint = go_on) -> Iterator[Found]:
        """All that lies in a directory, directories too. EXDEV: something is mounted at one of them."""
        pending = [path]
        while pending:
            checkpoint()
            directory = pending.pop()
            for name, status in _entries(self._directory(directory)):
                found = _found(directory + b"/" + name, status)
                if stat.S_ISDIR(found.mode):
                    pending.append(found.path)
                yield found

    def _above(self, path: bytes) -> int:
        if path.startswith(b"/"):
            raise _no_path(path)
        return self._directory(path.rpartition(b"/")[0])

    def _directory(self, path: bytes) -> int:
        """The descriptor of a directory, open until another one is asked for. EXDEV: it is another mount's."""
        names = path.split(b"/") if path else []
        if len(names) > _DEPTH_MAX or any(name in _NO_NAMES for name in names):
            raise _no_path(path)
        same = 0
        while same < min(len(names), len(self._open)) and self._open[same][0] == names[same]:
            same += 1
        self._close_to(same)
        for name in names[same:_KEPT_OPEN]:
            self._open.append((name, self._enter(name, self._open[-1][1] if self._open else self._root_fd)))
        here = self._open[-1][1] if self._open else self._root_fd
        for name in names[_KEPT_OPEN:]:
            here = self._enter(name, here)
            if self._deep is not None:
                os.close(self._deep)
            self._deep = here
        return here

    def _enter(self, name: bytes, above_fd: int) -> int:
        fd = os.open(name, _DIRECTORY, dir_fd=above_fd)
        if mount_id(fd) != self._mount:
            os.close(fd)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
        return fd

    def _close_to(self, count: int) -> None:
        if self._deep is not None:
            os.close(self._deep)
            self._deep = None
        while len(self._open) > count:
            os.close(self._open.pop()[1])


def _name(path: bytes) -> bytes:
    name = path.rpartition(b"/")[2]
    if name in _NO_NAMES:
        raise _no_path(path)
    return name


def _no_path(path: bytes) -> OSError:
    return OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)


def _entries(fd: int) -> list[tuple[bytes, os.stat_result]]:
    found = []
    with entries_in(fd) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                found.append((os.fsencode(entry.name), entry.stat(follow_symlinks=False)))
    return found


def _found(path: bytes, status: os.stat_result) -> Found:
    return Found(
        path, status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )
