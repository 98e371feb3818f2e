"""The ``.git`` directory of a tree that was staged: what `git clone` would have left beside the same files.

Its index says of every file how it lies there now, so that `git status` reads none of them. What is no longer as it
was put there, git looks at itself.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

from stager.errors import from_os_error
from stager.host.git_directory import Layout, make_directory, write_directory
from stager.host.git_history import HistoryRepository
from stager.host.git_index import SUBMODULE_MODE, IndexRow, fill_index, index_rows
from stager.host.gitrepo import Pin
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.trees import remove_private
from stager.sources.base import Beside

__all__ = ["HistoryRepository", "make_history"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SECOND_NS: Final = 1_000_000_000
_LOOK_AGAIN_S: Final = 0.02
_WAIT_MAX_S: Final = 2.0
_CONVERTED: Final = b" "  # in the identity of what is not its blob


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
    filled, youngest_ns = await blocking(fill, index, pin.commit, beside)
    await stoppable(_write_index, os.path.join(where, "index"), filled, youngest_ns)


def fill(index: bytes, commit: str, beside: Beside) -> tuple[bytes, int]:
    """The index with the times of the files beside it, and the latest of those that are no blobs. Blocks."""
    look = _Look(beside)
    return fill_index(index, len(commit) // 2, look.status_of), look.youngest_ns


class _Look:
    def __init__(self, beside: Beside) -> None:
        self._beside = beside
        self.youngest_ns = 0

    def status_of(self, row: IndexRow) -> os.stat_result | None:
        """Of a file that is still what was put there."""
        entries = self._beside.entries
        known = self._beside.order.find(row.name)
        record = entries.recorded(known) if known >= 0 else None
        if record is None:
            return None
        _, size, identity, _, mtime_ns, ctime_ns, _, _ = record
        blob, converted, _ = identity.partition(_CONVERTED)
        if blob != row.blob.hex().encode():
            return None
        with suppress(OSError):
            found = os.lstat(row.name, dir_fd=self._beside.root_fd)
            if (found.st_size, found.st_mtime_ns, found.st_ctime_ns) == (size, mtime_ns, ctime_ns):
                if converted:
                    self.youngest_ns = max(self.youngest_ns, mtime_ns)
                return found
        return None


def _write_index(checkpoint: Checkpoint, path: str, index: bytes, youngest_ns: int) -> None:
    """Git reads a file again whose time is not before the index's, in whole seconds (gitformat-index(5), racy-git): to
    one that is not its blob that would be a change wherever no filter is set up. So the index is of a later second.
    """
    deadline_s = time.monotonic() + _WAIT_MAX_S
    try:
        with open(path, "xb") as file:
            file.write(index)
        while os.stat(path).st_mtime_ns // _SECOND_NS <= youngest_ns // _SECOND_NS and time.monotonic() < deadline_s:
            checkpoint()
            time.sleep(_LOOK_AGAIN_S)
            os.utime(path)
    except OSError as error:
        raise from_os_error(error, doing="write the index", where=path) from error


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
