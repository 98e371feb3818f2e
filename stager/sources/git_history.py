"""The ``.git`` directory of a tree that was staged: what `git clone` would have left beside the same files."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from stager.host.git_directory import Layout, make_directory, write_directory
from stager.host.git_history import HistoryRepository
from stager.host.git_index import SUBMODULE_MODE, index_rows
from stager.host.gitrepo import Pin
from stager.host.threads import blocking, stoppable
from stager.host.trees import remove_private
from stager.sources.base import Beside
from stager.sources.git_times import with_times, write_index

__all__ = ["HistoryRepository", "make_history"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def make_history(repository: HistoryRepository, pin: Pin, where: str, beside: Beside, *, lfs: bool) -> None:
    """Make the directory ``where``, in which there is nothing yet that counts. ``lfs``: objects of it are in the tree.

    Raises what `PinnedRepository.fetch` and `HistoryRepository.give` raise.
    """
    pin = await repository.fetch(pin)
    await blocking(remove_private, where)
    packs = await blocking(make_directory, where)
    index = await repository.give(packs, pin.commit)
    layout = Layout(
        url=repository.url, commit=pin.commit, ref=pin.ref, refs=repository.refs, default=repository.default, lfs=lfs,
        folds=beside.folds,
    )  # fmt: skip
    await blocking(write_directory, where, layout, index)
    await blocking(_make_submodules, index, pin.commit, beside.root_fd)
    filled, youngest_ns = await stoppable(with_times, index, pin.commit, beside)
    git_fd = os.open(where, _DIRECTORY)
    try:
        await stoppable(write_index, git_fd, filled, youngest_ns)
    finally:
        os.close(git_fd)


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
