"""What a job writes to its logs, shown as it is written: ``stager logs --follow``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from stager.cli.state import State
from stager.cli.tell import tell
from stager.errors import StagerError
from stager.host.record import Record, record_at
from stager.host.tree_files import TreeFile, open_in_tree
from stager.job.logs import kept_logs, list_logs
from stager.job.look import JobLook
from stager.model import JobState
from stager.names import show, to_json

__all__ = ["follow_logs"]

_EVERY_S: Final = 0.2
_MOST_OPEN: Final = 256
_LINES: Final = 10
_LAST_BYTES: Final = 64 << 10
_PIECE_BYTES: Final = 1 << 16
_WAITING: Final = (JobState.CREATED, JobState.STAGING, JobState.READY, JobState.RUNNING)


class _Reader:
    """What is new in each file since it was looked at last. Descriptors stay open: the end of a job may remove what was
    written last before it was read.
    """

    def __init__(self, state: State, job_id: str, names: Sequence[bytes]) -> None:
        self._state = state
        self._job_id = job_id
        self._names = frozenset(names)
        self._open: dict[bytes, int] = {}
        self._at: dict[bytes, int] = {}
        self._last: bytes | None = None

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def read(self, where: str | None, *, first: bool) -> None:
        """``first``: of what is there already only the last lines are shown."""
        for file in list_logs(where) if where is not None else []:
            if file.kind == "file" and (not self._names or file.path in self._names) and file.path not in self._at:
                self._begin(where or "", file, first)
        for path, fd in list(self._open.items()):
            self._show_new(path, fd)

    def _begin(self, where: str, file: TreeFile, first: bool) -> None:
        if len(self._open) >= _MOST_OPEN:
            return
        with suppress(OSError, StagerError):
            fd = open_in_tree(where, file.path)
            self._at[file.path] = 0
            if b"\0" in os.pread(fd, _PIECE_BYTES, 0) and not self._names:  # nothing for people
                os.close(fd)
                return
            self._open[file.path] = fd
            if first:
                self._at[file.path] = _last_lines(fd)

    def _show_new(self, path: bytes, fd: int) -> None:
        if os.fstat(fd).st_size < self._at[path]:  # begun anew
            self._at[path] = 0
        while piece := os.pread(fd, _PIECE_BYTES, self._at[path]):
            self._at[path] += len(piece)
            self._show(path, piece)

    def _show(self, path: bytes, piece: bytes) -> None:
        if self._state.json:
            body: dict[str, Any] = {"job": self._job_id, "path": to_json(path), "text": to_json(piece)}
            tell(self._state, "logged", body, "")
            return
        head = b"" if self._last == path or len(self._names) == 1 else f"==> {show(path)} <==\n".encode()
        self._last = path
        sys.stdout.buffer.write((b"\n" if head and self._at[path] > len(piece) else b"") + head + piece)
        sys.stdout.buffer.flush()


def follow_logs(state: State, look: JobLook, names: Sequence[bytes]) -> None:
    """Until the job has ended, or for good where nobody is at work on it that could end it; all of them without
    ``names``. Raises `StagerError`: the logs cannot be read.
    """
    reader = _Reader(state, look.record.id, names)
    try:
        reader.read(kept_logs(look), first=True)
        while _goes_on(record := record_at(look.directory)):
            time.sleep(_EVERY_S)
            reader.read(kept_logs(look), first=False)
        if record is not None:
            reader.read(kept_logs(JobLook(record=record, scratch=look.scratch, directory=look.directory)), first=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        reader.close()


def _goes_on(record: Record | None) -> bool:
    if record is None or record.state not in _WAITING:
        return False
    return record.shown_state() not in ("failed", "crashed")


def _last_lines(fd: int) -> int:
    """Where the last lines of a file begin."""
    end = os.fstat(fd).st_size
    start = max(0, end - _LAST_BYTES)
    lines = os.pread(fd, end - start, start).splitlines(keepends=True)
    return end - sum(len(line) for line in lines[-_LINES:])
