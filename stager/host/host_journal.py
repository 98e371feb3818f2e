"""What stager has mounted in the node's own namespace, and for which job: a line for each step, flushed before it.

::

    /run/stager/        root's
        lock            held while mounts are made or removed
        mounts          JSON lines: the job, then directories and mounts as they are made, then that all of them stand

A line that is torn was the last one, and its step was not begun.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

import msgspec

from stager.errors import BusyError, HostError, from_os_error
from stager.host.atomic import open_regular, read_regular, write_all
from stager.host.safe_path import make_safe_directory
from stager.host.workspace import boot_id

__all__ = ["RUN", "Begun", "Complete", "Directory", "HostJournal", "Mounted", "Step", "Undoing", "open_run_directory",
           "own_namespace"]

RUN: Final = "/run/stager"
_NAME: Final = "mounts"
_LOCK: Final = "lock"
_WAIT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.05
_MOST_BYTES: Final = 64 << 20


class Begun(msgspec.Struct, frozen=True, kw_only=True, tag="job"):
    """Whose mounts these are, and in which mount namespace (its inode) of which boot."""

    job: str
    uid: int
    boot: str
    namespace: int
    started_s: float


class Directory(msgspec.Struct, frozen=True, kw_only=True, tag="directory"):
    """A mount point that is missing and will be made."""

    path: str


class Mounted(msgspec.Struct, frozen=True, kw_only=True, tag="mount"):
    """A mount, as mountinfo has it once it stands. ``identity`` is (st_dev, st_ino) of its root directory, which stays
    when that is renamed. ``below``: id, device and root of what is mounted in it and came with it.
    """

    target: str
    mount_id: int
    device: str
    root: str
    identity: tuple[int, int]
    below: tuple[tuple[int, str, str], ...] = ()


class Complete(msgspec.Struct, frozen=True, tag="complete"):
    """Everything stands."""


class Undoing(msgspec.Struct, frozen=True, tag="undoing"):
    """It is on its way out."""


Step = Begun | Directory | Mounted | Complete | Undoing

_decode: Final = msgspec.json.Decoder(Step).decode


class HostJournal:
    """The journal, locked; ``steps`` are those of the mounts that stand, in their order."""

    def __init__(self, directory: str = RUN) -> None:
        """Blocks. Raises `HostError`: the directory could be somebody else's, the journal is damaged; `BusyError`."""
        self.path = os.path.join(directory, _NAME)
        self._file: int | None = None
        try:
            self._fd = open_run_directory(directory)
            try:
                self._lock = _lock(self._fd, directory)
                try:
                    self.steps: list[Step] = self._read()
                except BaseException:
                    os.close(self._lock)
                    raise
            except BaseException:
                os.close(self._fd)
                raise
        except OSError as error:
            raise from_os_error(error, doing="open the journal of the node's mounts", where=self.path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in (self._file, self._lock, self._fd):
            if fd is not None:
                os.close(fd)

    @property
    def begun(self) -> Begun | None:
        """Whose mounts there are."""
        return next((step for step in self.steps if isinstance(step, Begun)), None)

    def is_complete(self) -> bool:
        """Whether all mounts were made, and none was removed."""
        return bool(self.steps) and isinstance(self.steps[-1], Complete)

    def begin(self, job: str, uid: int) -> None:
        """Start a new one. Raises `HostError`, `NoSpaceError`."""
        begun = Begun(job=job, uid=uid, boot=boot_id(), namespace=own_namespace(), started_s=time.time())
        with _reporting(self.path):
            self._file = open_regular(_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, dir_fd=self._fd)
            os.fsync(self._fd)
        self.note(begun)

    def note(self, step: Step) -> None:
        """What is about to be done; on the disk when this returns. Raises `HostError`, `NoSpaceError`."""
        with _reporting(self.path):
            if self._file is None:
                self._file = open_regular(_NAME, os.O_WRONLY | os.O_APPEND, dir_fd=self._fd)
            write_all(self._file, msgspec.json.encode(step) + b"\n")
            os.fsync(self._file)
        self.steps.append(step)

    def remove(self) -> None:
        """Nothing of it stands any more. Raises `HostError`."""
        with _reporting(self.path):
            os.unlink(_NAME, dir_fd=self._fd)
            os.fsync(self._fd)
        if self._file is not None:
            os.close(self._file)
        self._file, self.steps = None, []

    def _read(self) -> list[Step]:
        """What was noted whole; a torn file without its first line is none."""
        try:
            *lines, torn = read_regular(_NAME, dir_fd=self._fd, most=_MOST_BYTES).split(b"\n")
        except FileNotFoundError:
            return []
        try:
            steps = [_decode(line) for line in lines]
        except (msgspec.MsgspecError, ValueError) as error:
            raise self._damaged(str(error)) from error
        if not steps:
            self.remove()
            return []
        if not isinstance(steps[0], Begun):
            raise self._damaged("it does not say whose mounts these are")
        if torn:
            with _reporting(self.path):
                os.truncate(self.path, sum(len(line) + 1 for line in lines))
        return steps

    def _damaged(self, why: str) -> HostError:
        return HostError(
            f"is damaged: {why}", where=self.path,
            hint="look at the node's mounts yourself, unmount what it names, and remove it",
        )  # fmt: skip


@contextmanager
def _reporting(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise from_os_error(error, doing="write the journal of the node's mounts", where=path) from error


def own_namespace() -> int:
    """The inode of this process's mount namespace. OSError."""
    return os.stat("/proc/self/ns/mnt").st_ino


def open_run_directory(directory: str) -> int:
    """A descriptor of a directory that is root's and written by nobody else; others may look up what lies in it.

    Made when missing. OSError; raises `HostError`: it could be somebody else's.
    """
    path = make_safe_directory(directory)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(fd)
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        os.close(fd)
        raise HostError("others than root may write there", where=path, hint="remove it, or chmod go-w")
    os.fchmod(fd, 0o755)
    return fd


def _lock(fd: int, directory: str) -> int:
    lock = open_regular(_LOCK, os.O_RDWR | os.O_CREAT, dir_fd=fd)
    deadline_s = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                os.close(lock)
                raise BusyError(
                    "another stager is at work on the mounts of this node", where=directory, hint="wait for its end"
                ) from None
            time.sleep(_LOOK_EVERY_S)
        else:
            return lock
