"""After the job: /logs to the place the job file names. The tree that is read is hostile, the place is the user's.

Copied: regular files (empty ones too), directories, and symlinks that are relative and without ``..``, so they cannot
lead out of the copy. Left out by name: other symlinks, FIFOs, sockets, devices; opening those could hang or act. Each
file appears whole, and with the holes it had. Doing it again copies only what is missing.

One syncfs at the end makes all of it durable. Before that a crash of the node can leave a file of the right length
that misses data: after one, what is there is not trusted and copied again.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Final

from stager.errors import HostError, NoSpaceError, UsageError, from_os_error
from stager.host.mounts import lies_within
from stager.host.syscalls import sync_file_system
from stager.host.trees import open_below, open_top
from stager.model import Counts
from stager.names import show
from stager.stages.collect_place import MARK, holds_mark, open_place

__all__ = ["Collected", "collect_logs", "holds_anything"]

_TEMPORARY: Final = re.compile(r"\.stager-[0-9a-f]{16}")
_DEPTH_MAX: Final = 128
_PIECE_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 512  # the unit of st_blocks, whatever the file system's is
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Where the logs are now, how much there is, and what was left out (name: why)."""

    destination: str
    total: Counts
    left_out: tuple[str, ...]


@dataclass
class _Tally:
    stopped: Callable[[], bool]
    trusted: bool  # what has the right length and time is a copy
    objects: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)

    def go_on(self) -> None:
        if self.stopped():
            raise HostError("stopped before all logs were kept", hint="run `stager collect`: it copies what is missing")


def holds_anything(logs: str) -> bool:
    """Whether a job left anything in its logs. Raises `HostError`."""
    try:
        fd = open_top(logs)
        try:
            with os.scandir(fd) as entries:
                return next(entries, None) is not None
        finally:
            os.close(fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise from_os_error(error, doing="look into the logs", where=logs) from error


def collect_logs(
    logs: str,
    destination: str,
    *,
    token: str,
    own_parts: int = 1,
    same_boot: bool = True,
    stopped: Callable[[], bool] = lambda: False,
) -> Collected:
    """Copy the tree ``logs`` to ``destination``, which is marked with ``token`` as this job's and nobody else's.

    ``own_parts``: see `open_place`. ``same_boot``: the node has not been restarted since the job ended.
    ``stopped`` is asked between pieces; once it says so this ends, without a temporary, by a `HostError`.
    Blocks. Raises `HostError`: the destination belongs to another job or user, cannot be made or written;
    `NoSpaceError`, before anything is copied where the free space is known to be too little.
    """
    destination_fd = open_place(destination, own_parts)
    tally = _Tally(stopped, same_boot)
    try:
        logs_fd = open_top(logs)
        try:
            if lies_within(_path_of(destination_fd), _path_of(logs_fd)):
                raise UsageError("the logs are to be kept where they are", where=destination, hint="check [logs]")
            if not holds_mark(destination_fd, destination, token):
                raise HostError(
                    "holds the logs of another job", where=destination, hint="choose another place in [logs]"
                )
            _refuse_too_much(logs_fd, destination_fd, destination, tally)
            _copy_directory(logs_fd, destination_fd, b"", tally)
        finally:
            os.close(logs_fd)
        sync_file_system(destination_fd)
    except OSError as error:
        raise from_os_error(error, doing="keep the logs", where=destination) from error
    finally:
        os.close(destination_fd)
    total = Counts(objects=tally.objects, bytes=tally.bytes)
    return Collected(destination=destination, total=total, left_out=tuple(tally.left_out))


def _path_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _copy_directory(source_fd: int, target_fd: int, prefix: bytes, tally: _Tally) -> None:
    _sweep(target_fd)
    for name_text in sorted(os.listdir(source_fd)):
        tally.go_on()
        name = os.fsencode(name_text)
        path = prefix + name
        found = os.lstat(name, dir_fd=source_fd)
        if stat.S_ISREG(found.st_mode):
            _copy_file(source_fd, target_fd, name, path, tally)
        elif stat.S_ISLNK(found.st_mode):
            _copy_link(source_fd, target_fd, name, path, tally)
        elif not stat.S_ISDIR(found.st_mode):
            tally.left_out.append(f"{show(path)}: neither file, directory nor symlink")
        elif path.count(b"/") >= _DEPTH_MAX:
            tally.left_out.append(f"{show(path)}: nested too deep")
        else:
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=target_fd)
            below = open_below(name, os.O_RDONLY | os.O_DIRECTORY, source_fd)
            try:
                target_below = os.open(name, _DIRECTORY, dir_fd=target_fd)
                try:
                    _copy_directory(below, target_below, path + b"/", tally)
                finally:
                    os.close(target_below)
            finally:
                os.close(below)


def _refuse_too_much(logs_fd: int, destination_fd: int, destination: str, tally: _Tally) -> None:
    found = os.fstatvfs(destination_fd)
    needed, free = _missing_bytes(logs_fd, destination_fd, 0, tally), found.f_bavail * found.f_frsize
    if needed > free:
        raise NoSpaceError(
            f"the logs take {needed} bytes, {free} are free", where=destination,
            hint="free some space, then run `stager collect`",
        )  # fmt: skip


def _missing_bytes(source_fd: int, target_fd: int | None, depth: int, tally: _Tally) -> int:
    """What the regular files that are not in the copy yet occupy; a hole occupies nothing."""
    total = 0
    with os.scandir(source_fd) as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    for name, status in found:
        tally.go_on()
        if stat.S_ISREG(status.st_mode):
            if target_fd is None or not _is_there(target_fd, os.fsencode(name), status, tally):
                total += min(status.st_size, status.st_blocks * _BLOCK_BYTES)
        elif stat.S_ISDIR(status.st_mode) and depth < _DEPTH_MAX:
            with ExitStack() as opened:
                below = open_below(name, os.O_RDONLY | os.O_DIRECTORY, source_fd)
                opened.callback(os.close, below)
                copy: int | None = None
                if target_fd is not None:
                    with suppress(OSError):
                        copy = os.open(name, _DIRECTORY, dir_fd=target_fd)
                        opened.callback(os.close, copy)
                total += _missing_bytes(below, copy, depth + 1, tally)
    return total


def _sweep(target_fd: int) -> None:
    """Remove what a stager that was killed was writing."""
    for name in os.listdir(target_fd):
        if _TEMPORARY.fullmatch(name) and stat.S_ISREG(os.lstat(name, dir_fd=target_fd).st_mode):
            os.unlink(name, dir_fd=target_fd)


def _copy_file(source_fd: int, target_fd: int, name: bytes, path: bytes, tally: _Tally) -> None:
    if path == MARK.encode():
        tally.left_out.append(f"{show(path)}: the name is stager's")
        return
    fd = open_below(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, source_fd)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            tally.left_out.append(f"{show(path)}: changed while it was looked at")
            return
        tally.objects += 1
        tally.bytes += found.st_size
        if not _is_there(target_fd, name, found, tally):
            _write_copy(fd, target_fd, name, found, tally)
    finally:
        os.close(fd)


def _is_there(target_fd: int, name: bytes, found: os.stat_result, tally: _Tally) -> bool:
    if not tally.trusted:
        return False
    try:
        there = os.lstat(name, dir_fd=target_fd)
    except FileNotFoundError:
        return False
    return (there.st_size, there.st_mtime_ns) == (found.st_size, found.st_mtime_ns) and stat.S_ISREG(there.st_mode)


def _write_copy(fd: int, target_fd: int, name: bytes, found: os.stat_result, tally: _Tally) -> None:
    temporary = f".stager-{secrets.token_hex(8)}"
    out = os.open(temporary, _NEW_FILE, 0o600, dir_fd=target_fd)
    try:
        try:
            os.ftruncate(out, found.st_size)
            for start, end in _data_of(fd, found.st_size):
                _copy_range(fd, out, start, end, tally)
            os.fchmod(out, found.st_mode & 0o777 | 0o400)
            os.utime(out, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(out)
        os.rename(temporary, name, src_dir_fd=target_fd, dst_dir_fd=target_fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=target_fd)
        raise


def _data_of(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file holds data, from and to; all of it where the file system knows of no holes."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        yield start, at


def _copy_range(fd: int, out: int, start: int, end: int, tally: _Tally) -> None:
    at = start
    while at < end and (piece := os.pread(fd, min(_PIECE_BYTES, end - at), at)):
        tally.go_on()
        view = memoryview(piece)
        while view:
            written = os.pwrite(out, view, at)
            view, at = view[written:], at + written


def _copy_link(source_fd: int, target_fd: int, name: bytes, path: bytes, tally: _Tally) -> None:
    target = os.readlink(name, dir_fd=source_fd)
    if target.startswith(b"/") or b".." in target.split(b"/"):
        tally.left_out.append(f"{show(path)}: a symlink that may lead outside")
        return
    tally.objects += 1
    with suppress(FileExistsError):
        os.symlink(target, name, dir_fd=target_fd)
