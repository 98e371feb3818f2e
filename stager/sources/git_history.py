"""The ``.git`` directory of a tree that was staged: what `git clone` would have left beside the same files."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import Final

from stager.errors import from_os_error
from stager.host.clones import clone_file
from stager.host.git_directory import Layout, make_directory, write_directory
from stager.host.git_history import HistoryRepository
from stager.host.git_index import SUBMODULE_MODE, index_rows
from stager.host.gitrepo import Pin
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.trash import remove_temporary
from stager.sources.base import Beside
from stager.sources.git_times import with_times, write_index
from stager.sources.lfs_rows import oid_of, part_lfs

__all__ = ["HistoryRepository", "make_history"]

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def make_history(repository: HistoryRepository, pin: Pin, where: str, beside: Beside, *, lfs: bool) -> None:
    """Make the directory ``where``, in which there is nothing yet that counts. ``lfs``: objects of it are in the tree.

    Raises what `PinnedRepository.fetch` and `HistoryRepository.give` raise.
    """
    pin = await repository.fetch(pin)
    await blocking(remove_temporary, where)
    packs = await blocking(make_directory, where)
    index = await repository.give(packs, pin.commit)
    layout = Layout(
        url=repository.url, commit=pin.commit, ref=pin.ref, refs=repository.refs, default=repository.default, lfs=lfs,
        folds=beside.folds,
    )  # fmt: skip
    await blocking(write_directory, where, layout, index)
    await blocking(_make_submodules, index, pin.commit, beside.root_fd)
    if lfs:
        await stoppable(_clone_objects, where, beside)
    filled, youngest_ns = await stoppable(with_times, index, pin.commit, beside)
    git_fd = os.open(where, _DIRECTORY)
    try:
        await stoppable(write_index, git_fd, filled, youngest_ns)
    finally:
        os.close(git_fd)


def _clone_objects(checkpoint: Checkpoint, where: str, beside: Beside) -> None:
    """Let git-lfs have the objects of the tree too, where that takes no space: else it fetches again what it wants. Of
    what is no longer as it was put there nothing is taken. Blocks. Raises `NoSpaceError`, `HostError`.
    """
    _, rows = part_lfs(beside.entries.table, beside.entries.stands())
    try:
        for row in rows:
            checkpoint()
            oid = oid_of(beside.entries.table, row)
            directory = os.path.join(where, "lfs", "objects", oid[:2], oid[2:4])
            os.makedirs(directory, exist_ok=True)
            if not _clone_object(beside, row, os.path.join(directory, oid)):
                remove_temporary(os.path.join(where, "lfs"))
                return
    except OSError as error:
        raise from_os_error(error, doing="clone an object", where=where) from error


def _clone_object(beside: Beside, row: int, target: str) -> bool:
    """False: this file system has no clones. OSError."""
    record = beside.entries.recorded(row)
    if record is None or os.path.exists(target):
        return True
    path, size, _, _, mtime_ns, ctime_ns, _, _ = record
    with ExitStack() as held:
        try:
            reading = os.open(path, _READ, dir_fd=beside.root_fd)
        except OSError:  # gone, or something else now
            return True
        held.callback(os.close, reading)
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        held.callback(os.close, writing)
        cloned = clone_file(reading, writing)
        found = os.fstat(reading)
        if not cloned or (found.st_size, found.st_mtime_ns, found.st_ctime_ns) != (size, mtime_ns, ctime_ns):
            os.unlink(target)
        return cloned


def _make_submodules(index: bytes, commit: str, root_fd: int) -> None:
    """Those that are not brought are empty directories, as after git clone: git takes a missing one for deleted."""
    for row in index_rows(index, len(commit) // 2):
        if row.mode == SUBMODULE_MODE:
            with suppress(OSError):
                _make_below(root_fd, row.name)


def _make_below(root_fd: int, path: bytes) -> None:
    """A directory, and those above it; no symlink is followed. OSError."""
    here = os.open(".", _DIRECTORY, dir_fd=root_fd)
    for name in path.split(b"/"):
        try:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=here)
            inner = os.open(name, _DIRECTORY, dir_fd=here)
        finally:
            os.close(here)
        here = inner
    os.close(here)
