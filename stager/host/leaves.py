"""What lies in a tree that a job could write, in one order, within bounds, and with nothing opened but directories.

The order is that of paths cut at their slashes, byte by byte: a directory's entries come where its name stands, so two
lists of one tree are compared side by side, in little memory. No symlink is followed, no mount is crossed (a bind of
the same device has an equal st_dev: it is the mount's id that counts).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final, Self

from msgspec import Struct

from stager.errors import HostError
from stager.host.mounts import mount_id
from stager.host.names_in import entries_in
from stager.host.trees import open_below
from stager.names import show

__all__ = ["DEPTH_MAX", "Identity", "Leaf", "Left", "Lister", "Steps", "in_order", "open_file"]

DEPTH_MAX: Final = 128
"""Directories below the root: one open descriptor each."""

_NAMES_MAX: Final = 2_000_000  # of one directory, 0.2 GB of them

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


Identity = tuple[int, int, int, int]
"""What is not the same any more once something was done to an entry: size, mode, and both times."""


class Leaf(Struct, frozen=True, gc=False):
    """One entry. ``mode`` is st_mode, the kind included; times in ns; ``occupied`` is in bytes, without holes.

    ``target``: of a symlink.
    """

    path: bytes
    size: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    occupied: int = 0
    target: bytes = b""

    @property
    def identity(self) -> Identity:
        """See there."""
        return self.size, self.mode, self.mtime_ns, self.ctime_ns


class Left(Struct, frozen=True):
    """An entry that is left out, and why."""

    path: bytes
    why: str


def in_order(path: bytes) -> list[bytes]:
    """What leaves are ordered by."""
    return path.split(b"/")


class Lister:
    """Lists one tree; what it leaves out goes to ``left``.

    ``mend``: a directory that its owner may not read is made readable; only when the job has ended. ``go_on`` is called
    between entries and ends the work by raising.
    """

    def __init__(
        self, root_fd: int, *, left: Callable[[Left], None], mend: bool = True, go_on: Callable[[], None] = lambda: None
    ) -> None:
        self._root_fd = root_fd
        self._mount = mount_id(root_fd)
        self._left = left
        self._mend = mend
        self._go_on = go_on

    def leaves(self) -> Iterator[Leaf]:
        """Regular files, symlinks and directories, each directory before what it holds. Blocks.

        OSError; `HostError`: a directory has more names than can be put in order.
        """
        yield from self._below(self._root_fd, b"", 0)

    def _below(self, fd: int, prefix: bytes, depth: int) -> Iterator[Leaf]:
        with entries_in(fd) as entries:
            names = [os.fsencode(entry.name) for entry in islice(entries, _NAMES_MAX + 1)]
        if len(names) > _NAMES_MAX:
            raise HostError(f"has more than {_NAMES_MAX} entries", where=show(prefix), hint="copy them yourself")
        names.sort()
        for name in names:
            self._go_on()
            path = prefix + name
            try:
                found = os.lstat(name, dir_fd=fd)
            except FileNotFoundError:  # the job goes on, or ends
                continue
            target = b""
            if stat.S_ISLNK(found.st_mode):
                target = os.readlink(name, dir_fd=fd)
            elif not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                self._left(Left(path, "neither file, directory nor symlink"))
                continue
            yield Leaf(
                path, found.st_size, found.st_mode, found.st_mtime_ns, found.st_ctime_ns, found.st_blocks * 512, target
            )
            if stat.S_ISDIR(found.st_mode):
                yield from self._into(name, fd, path, depth)

    def _into(self, name: bytes, fd: int, path: bytes, depth: int) -> Iterator[Leaf]:
        if depth >= DEPTH_MAX:
            self._left(Left(path, "nested too deep"))
            return
        try:
            below = open_below(name, _DIRECTORY, fd) if self._mend else os.open(name, _DIRECTORY, dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            if not isinstance(error, FileNotFoundError):
                self._left(Left(path, "cannot be entered"))
            return
        try:
            if mount_id(below) != self._mount:
                self._left(Left(path, "another file system is mounted here"))
                return
            yield from self._below(below, path + b"/", depth + 1)
        finally:
            os.close(below)


class Steps:
    """Directories of one tree, opened step by step from its root and kept open for the next path; no symlink is
    followed. ``make``: what is missing is made. ``entered`` is called with each that is opened and its descriptor.
    """

    def __init__(
        self, root_fd: int, *, make: bool = False, entered: Callable[[bytes, int], None] = lambda _path, _fd: None
    ) -> None:
        self._root_fd = root_fd
        self._make = make
        self._entered = entered
        self._open: list[tuple[bytes, int]] = []
        entered(b"", root_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave(0)

    def directory_of(self, path: bytes) -> tuple[int, bytes]:
        """The open directory that holds ``path``, and the name in it; valid until the next call. OSError."""
        *names, last = path.split(b"/")
        same = 0
        while same < min(len(names), len(self._open)) and names[same] == self._open[same][0]:
            same += 1
        self._leave(same)
        for depth in range(same, len(names)):
            fd = self._step(names[depth])
            self._open.append((names[depth], fd))
            self._entered(b"/".join(names[: depth + 1]), fd)
        return self._here(), last

    def _here(self) -> int:
        return self._open[-1][1] if self._open else self._root_fd

    def _step(self, name: bytes) -> int:
        if self._make:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=self._here())
        return os.open(name, _DIRECTORY, dir_fd=self._here())

    def _leave(self, keep: int) -> None:
        while len(self._open) > keep:
            os.close(self._open.pop()[1])


def open_file(name: bytes, dir_fd: int, *, mend: bool = True) -> int | None:
    """A regular file, open to be read; None: it is none, and nothing was opened that could act or wait. OSError.

    ``mend``: one that its owner may not read is made readable.
    """
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            return None
        path, flags = f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(path, flags)
        except PermissionError:
            if not mend:
                raise
            os.chmod(path, stat.S_IMODE(found.st_mode) | 0o400)
            return os.open(path, flags)
    finally:
        os.close(handle)
