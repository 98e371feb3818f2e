"""A directory as the place for logs and results. What is read is hostile, the place is the user's.

Each file appears whole, with the holes it had. Doing it again copies only what is missing. One syncfs at the end makes
all of it durable. Before that a crash of the node can leave a file of the right length that misses data: after one,
what is there is not trusted and copied again.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from stager.errors import NoSpaceError, UsageError, from_os_error
from stager.host.atomic import write_file
from stager.host.leaves import Leaf, Steps, open_file
from stager.host.mounts import lies_within
from stager.host.syscalls import sync_file_system
from stager.stages.collect_place import MARK, claim_place, open_place, release_place
from stager.stages.collect_sink import OutOfTimeError, Tally

__all__ = ["OWN_FILES", "RECEIPT", "DirectorySink", "leads_out"]

RECEIPT: Final = ".stager-receipt.json"
"""In the place, written last."""

_TEMPORARY: Final = re.compile(rb"\.stager-[0-9a-f]{16}")
OWN_FILES: Final = (MARK.encode(), RECEIPT.encode())
"""At the top of such a place."""
_PIECE_BYTES: Final = 1 << 20
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SETTLED_S: Final = 2.0  # longer than a tick of any file system's clock


class DirectorySink:
    """``own_parts``: see `open_place`."""

    def __init__(self, place: str, own_parts: int) -> None:
        self.place = place
        self._own_parts = own_parts

    def ask(self, within_s: float) -> None:
        """See `Sink`: the nearest directory above the place that is there is one to write to."""
        above = self.place
        while not os.path.lexists(above):
            above = os.path.dirname(above)
        try:
            if not os.path.isdir(above):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(above, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise from_os_error(error, doing="keep anything there", where=above) from error

    def claim(self, token: str) -> bool:
        """See `Sink`."""
        return claim_place(self.place, token, own_parts=self._own_parts)

    def release(self, token: str) -> None:
        """See `Sink`."""
        release_place(self.place, token, own_parts=self._own_parts)

    def close(self) -> None:
        """Nothing is held open."""

    def put(self, root_fd: int, leaves: Sequence[Leaf], tally: Tally) -> None:
        """See `Sink`."""
        place_fd = open_place(self.place, self._own_parts)
        try:
            if lies_within(_path_of(place_fd), _path_of(root_fd)):
                raise UsageError(
                    f"the {tally.what} are to be kept where they are", where=self.place, hint=f"check [{tally.what}]"
                )
            _refuse_too_much(leaves, place_fd, self.place, tally)
            swept = set[bytes]()

            def sweep(path: bytes, fd: int) -> None:
                if path not in swept:
                    swept.add(path)
                    _sweep(fd)

            with Steps(root_fd) as source, Steps(place_fd, make=True, entered=sweep) as target:
                for number, leaf in enumerate(leaves):
                    try:
                        tally.go_on()
                        _put(leaf, source, target, tally)
                    except OutOfTimeError:
                        tally.miss(leaves[number:], "there was no time left")
                        break
        except OSError as error:
            raise from_os_error(error, doing=f"keep the {tally.what}", where=self.place) from error
        finally:
            os.close(place_fd)

    def finish(self, receipt: dict[str, Any]) -> None:
        """See `Sink`."""
        place_fd = open_place(self.place, self._own_parts)
        try:
            sync_file_system(place_fd)
            body = msgspec.json.format(msgspec.json.encode(receipt), indent=2) + b"\n"
            write_file(place_fd, RECEIPT, [body], durable=True)
        except OSError as error:
            raise from_os_error(error, doing="write the receipt", where=self.place) from error
        finally:
            os.close(place_fd)


def _path_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def _put(leaf: Leaf, source: Steps, target: Steps, tally: Tally) -> None:
    if b"/" not in leaf.path and (leaf.path in OWN_FILES or _TEMPORARY.fullmatch(leaf.path)):
        tally.leave_out(leaf.path, "the name is stager's")
        return
    try:
        _put_there(leaf, source, target, tally)
    except (NotADirectoryError, IsADirectoryError):  # that was kept while the job ran
        tally.miss([leaf], "an earlier copy has a file of another kind in its place")


def _put_there(leaf: Leaf, source: Steps, target: Steps, tally: Tally) -> None:
    target_fd, name = target.directory_of(leaf.path)
    if stat.S_ISDIR(leaf.mode):
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=target_fd)
    elif stat.S_ISLNK(leaf.mode):
        if leads_out(leaf.target):
            tally.leave_out(leaf.path, "a symlink that may lead outside")
            return
        tally.count(leaf)
        _put_link(leaf.target, target_fd, name)
    else:
        _put_file(leaf, source, target_fd, name, tally)


def leads_out(target: bytes) -> bool:
    """Whether a symlink of this text could lead out of the tree that it lies in."""
    return target.startswith(b"/") or b".." in target.split(b"/")


def _put_link(text: bytes, target_fd: int, name: bytes) -> None:
    """In place of what an earlier copy put there, which may have been another link, or a file."""
    try:
        if os.readlink(name, dir_fd=target_fd) == text:
            return
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):  # EINVAL: it is no link
            raise
    temporary = f".stager-{secrets.token_hex(8)}"
    os.symlink(text, temporary, dir_fd=target_fd)
    try:
        os.rename(temporary, name, src_dir_fd=target_fd, dst_dir_fd=target_fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=target_fd)
        raise


def _put_file(leaf: Leaf, source: Steps, target_fd: int, name: bytes, tally: Tally) -> None:
    try:
        source_fd, source_name = source.directory_of(leaf.path)
        fd = open_file(source_name, source_fd, mend=not tally.running)
    except OSError as error:
        tally.miss([leaf], f"cannot be read: {os.strerror(error.errno or 0)}")
        return
    if fd is None:
        tally.leave_out(leaf.path, "changed while it was looked at")
        return
    try:
        found = os.fstat(fd)
        tally.count(leaf)
        if not _is_there(target_fd, name, found, tally):
            _write_copy(fd, target_fd, name, found, tally)
    finally:
        os.close(fd)


def _is_there(target_fd: int, name: bytes, found: os.stat_result | Leaf, tally: Tally) -> bool:
    if not tally.trusted:
        return False
    try:
        there = os.lstat(name, dir_fd=target_fd)
    except FileNotFoundError:
        return False
    size, mtime_ns = (found.size, found.mtime_ns) if isinstance(found, Leaf) else (found.st_size, found.st_mtime_ns)
    return (there.st_size, there.st_mtime_ns) == (size, mtime_ns) and stat.S_ISREG(there.st_mode)


def _refuse_too_much(leaves: Sequence[Leaf], place_fd: int, place: str, tally: Tally) -> None:
    """What is not in the copy yet occupies room there; a hole occupies nothing."""
    found = os.fstatvfs(place_fd)
    free = found.f_bavail * found.f_frsize
    files = [leaf for leaf in leaves if stat.S_ISREG(leaf.mode)]
    if sum(min(leaf.size, leaf.occupied) for leaf in files) <= free:
        return
    needed = 0
    with Steps(place_fd) as there:
        for leaf in files:
            tally.go_on()
            with suppress(OSError):
                target_fd, name = there.directory_of(leaf.path)
                if _is_there(target_fd, name, leaf, tally):
                    continue
            needed += min(leaf.size, leaf.occupied)
    if needed > free:
        raise NoSpaceError(
            f"the {tally.what} take {needed} bytes, {free} are free", where=place,
            hint="free some space, then run `stager collect`",
        )  # fmt: skip


def _sweep(target_fd: int) -> None:
    """Remove what a stager that was killed was writing."""
    for name in map(os.fsencode, os.listdir(target_fd)):
        if _TEMPORARY.fullmatch(name) and stat.S_ISREG(os.lstat(name, dir_fd=target_fd).st_mode):
            os.unlink(name, dir_fd=target_fd)


def _write_copy(fd: int, target_fd: int, name: bytes, found: os.stat_result, tally: Tally) -> None:
    temporary = f".stager-{secrets.token_hex(8)}"
    out = os.open(temporary, _NEW_FILE, 0o600, dir_fd=target_fd)
    try:
        try:
            os.ftruncate(out, found.st_size)
            for start, end in _data_of(fd, found.st_size):
                _copy_range(fd, out, start, end, tally)
            os.fchmod(out, found.st_mode & 0o777 | 0o400)
            os.utime(out, ns=(found.st_atime_ns, _time_of_copy(found, tally)))
        finally:
            os.close(out)
        os.rename(temporary, name, src_dir_fd=target_fd, dst_dir_fd=target_fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=target_fd)
        raise


def _time_of_copy(found: os.stat_result, tally: Tally) -> int:
    """Who writes to a file that has just been copied may leave its length and time as they were: it is copied again."""
    unsettled = tally.running and time.time() - found.st_mtime_ns / 1e9 < _SETTLED_S
    return found.st_mtime_ns - unsettled


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


def _copy_range(fd: int, out: int, start: int, end: int, tally: Tally) -> None:
    at = start
    while at < end and (piece := os.pread(fd, min(_PIECE_BYTES, end - at), at)):
        tally.go_on()
        view = memoryview(piece)
        while view:
            written = os.pwrite(out, view, at)
            view, at = view[written:], at + written
