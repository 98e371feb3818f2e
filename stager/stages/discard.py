"""What the end of a job throws away: files it wrote or changed in its copies. Said before they go, not after.

The tree is hostile: no symlink is followed, nothing in it is opened but directories, and depth is bounded. It is about
to be removed, so directories that cannot be read are made readable.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from stager.errors import HostError, from_os_error
from stager.host.git_look import GIT_NAME, look_at, what_changed
from stager.host.trees import open_below
from stager.manifest import Entry
from stager.model import Counts
from stager.names import show

__all__ = ["Discarded", "find_discarded"]

_DEPTH_MAX: Final = 128
_NAMED: Final = 5
_GIT: Final = os.fsencode(GIT_NAME)

Recorded = Callable[[bytes], Entry | None]
"""What the copy's manifest says of a path below it."""


@dataclass(frozen=True, kw_only=True)
class Discarded:
    """Files of one copy that exist nowhere else: how many, their bytes, and the names of the first, escaped."""

    total: Counts
    first: tuple[str, ...]


@dataclass
class _Tally:
    objects: int = 0
    bytes: int = 0
    first: list[str] = field(default_factory=list)


def find_discarded(copy: str, recorded: Recorded) -> Discarded:
    """Files below ``copy`` that are not as the manifest recorded them: new, or of another size or time. A ``.git``
    directory of ours is one thing, and counts when somebody has worked in it.

    Blocks. Raises `HostError`.
    """
    tally = _Tally()
    try:
        above_fd = os.open(os.path.dirname(copy), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _look_into(os.fsencode(os.path.basename(copy)), above_fd, b"", recorded, tally)
        finally:
            os.close(above_fd)
    except OSError as error:
        raise from_os_error(error, doing="look what the job wrote", where=copy) from error
    return Discarded(total=Counts(objects=tally.objects, bytes=tally.bytes), first=tuple(tally.first))


def _look_into(name: bytes, above_fd: int, path: bytes, recorded: Recorded, tally: _Tally) -> None:
    fd = open_below(name, os.O_RDONLY | os.O_DIRECTORY, above_fd)
    try:
        if os.fstat(fd).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(fd, stat.S_IRWXU)
        _look(fd, path, recorded, tally)
    finally:
        os.close(fd)


def _look(fd: int, path: bytes, recorded: Recorded, tally: _Tally) -> None:
    with os.scandir(fd) as found:
        names = [os.fsencode(entry.name) for entry in found]
    for name in names:
        status = os.lstat(name, dir_fd=fd)
        whole = path + name
        if whole == _GIT and (changes := _git_changes(fd)) is not None:
            if changes:
                _count(whole, 0, tally, f" ({changes[0]})")
        elif not stat.S_ISDIR(status.st_mode):
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:  # an overlay's note that something was removed
                continue
            if not _is_as_recorded(status, recorded(whole)):
                _count(whole, status.st_size, tally)
        elif whole.count(b"/") >= _DEPTH_MAX:
            _count(whole + b"/", 0, tally)
        else:
            _look_into(name, fd, whole + b"/", recorded, tally)


def _git_changes(fd: int) -> list[str] | None:
    """What was done in the directory of ours; None: it is none, or cannot be read, and is files like any others."""
    with suppress(HostError):
        mark = look_at(fd).mark
        return what_changed(fd, mark) if mark is not None else None
    return None


def _is_as_recorded(status: os.stat_result, entry: Entry | None) -> bool:
    return entry is not None and (status.st_size, status.st_mtime_ns, status.st_ctime_ns) == (
        entry.size,
        entry.mtime_ns,
        entry.ctime_ns,
    )


def _count(path: bytes, size: int, tally: _Tally, why: str = "") -> None:
    tally.objects += 1
    tally.bytes += size
    if len(tally.first) < _NAMED:
        tally.first.append(show(path) + why)
