"""What git's index says of how a tree's files lie, so that `git status` reads none of them.

Of what is no longer as it was put there the index says nothing, and git looks at it itself.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

from stager.errors import from_os_error
from stager.host.atomic import read_regular, write_all
from stager.host.git_index import INDEX_MAX_BYTES, IndexRow, fill_index
from stager.host.threads import Checkpoint
from stager.sources.base import Beside
from stager.sources.lfs_rows import part_lfs

__all__ = ["refresh_history", "with_times", "write_index"]

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_INDEX, _LOCK = "index", "index.lock"
_FILES_A_CHECKPOINT: Final = 1024
_SECOND_NS: Final = 1_000_000_000
_LOOK_AGAIN_S: Final = 0.02
_WAIT_MAX_S: Final = 2.0
_MORE: Final = b" "  # in an identity, behind the blob's


def refresh_history(checkpoint: Checkpoint, git_fd: int, commit: str, beside: Beside) -> None:
    """Let the index of a directory that was made so, and in which nobody has worked, say how the files lie now. Another
    git that is at work in it is left alone. Blocks. Raises `HostError`, `NoSpaceError`.
    """
    with suppress(ValueError, FileNotFoundError, FileExistsError):
        index = read_regular(_INDEX, dir_fd=git_fd, most=INDEX_MAX_BYTES)
        filled, youngest_ns = with_times(checkpoint, index, commit, beside)
        write_index(checkpoint, git_fd, filled, youngest_ns)


def with_times(checkpoint: Checkpoint, index: bytes, commit: str, beside: Beside) -> tuple[bytes, int]:
    """The index with the times of the files beside it, and the latest of LFS objects. Blocks."""
    look = _Look(checkpoint, beside)
    return fill_index(index, len(commit) // 2, look.status_of), look.youngest_ns


class _Look:
    def __init__(self, checkpoint: Checkpoint, beside: Beside) -> None:
        self._checkpoint = checkpoint
        self._count = 0
        self._beside = beside
        _, objects = part_lfs(beside.entries.table, beside.entries.stands())
        self._objects = frozenset(objects)
        self.youngest_ns = 0

    def status_of(self, row: IndexRow) -> os.stat_result | None:
        """Of a file that is still what was put there."""
        entries = self._beside.entries
        if self._count % _FILES_A_CHECKPOINT == 0:
            self._checkpoint()
        self._count += 1
        known = self._beside.order.find(row.name)
        record = entries.recorded(known) if known >= 0 else None
        if record is None:
            return None
        _, size, identity, _, mtime_ns, ctime_ns, _, _ = record
        if identity.partition(_MORE)[0] != row.blob.hex().encode():
            return None
        with suppress(OSError):
            found = os.lstat(row.name, dir_fd=self._beside.root_fd)
            if (found.st_size, found.st_mtime_ns, found.st_ctime_ns) == (size, mtime_ns, ctime_ns):
                if known in self._objects:
                    self.youngest_ns = max(self.youngest_ns, mtime_ns)
                return found
        return None


def write_index(checkpoint: Checkpoint, git_fd: int, index: bytes, youngest_ns: int) -> None:
    """As git does, under its lock. Git reads a file again whose time is not before the index's, in whole seconds
    (gitformat-index(5), racy-git): an LFS object would be a change then, wherever its filter is not set up. So the
    index is of a later second. Raises `FileExistsError`: somebody has the lock.
    """
    deadline_s = time.monotonic() + _WAIT_MAX_S
    try:
        fd = os.open(_LOCK, _CREATE, 0o666, dir_fd=git_fd)
        try:
            write_all(fd, index)
            while os.fstat(fd).st_mtime_ns // _SECOND_NS <= youngest_ns // _SECOND_NS and time.monotonic() < deadline_s:
                checkpoint()
                time.sleep(_LOOK_AGAIN_S)
                os.utime(fd)
            os.rename(_LOCK, _INDEX, src_dir_fd=git_fd, dst_dir_fd=git_fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(_LOCK, dir_fd=git_fd)
            raise
        finally:
            os.close(fd)
    except FileExistsError:
        raise
    except OSError as error:
        raise from_os_error(error, doing="write git's index", where=_INDEX) from error
