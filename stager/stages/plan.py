"""Compare a source's snapshot with what is known of the destination: frozen rows to fetch and entries to keep."""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stager._native import KeyTable, digest_bytes, digest_fd, stat_below
from stager.errors import BadKeysError, NoSpaceError, from_os_error
from stager.manifest import Entry
from stager.model import Counts
from stager.names import Names, show

__all__ = ["Known", "Plan", "check_space", "plan"]

_MODE_BITS: Final = 0o177777  # above them a table keeps flags of its own


@dataclass(frozen=True, kw_only=True)
class Known:
    """What earlier runs recorded, by path.

    ``trusted`` entries are believed when size, mtime and ctime of the file agree. ``doubtful`` ones (of another boot,
    or when verifying was asked for) only after their content has been hashed again.
    """

    trusted: Mapping[bytes, Entry]
    doubtful: Mapping[bytes, Entry]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do: rows to fetch, entries that stand. ``directories``: how many may have to be made."""

    fetch: array[int]
    keep: tuple[Entry, ...]
    total: Counts
    move: Counts
    directories: int
    disk_bytes: int  # what `move` takes on disk in whole blocks, less the files it replaces


def plan(table: KeyTable, names: Names, known: Known, root_fd: int | None, *, fresh: bool, block_bytes: int) -> Plan:
    """Compare. Reads the destination, writes nothing, blocks: run it in a thread.

    ``root_fd`` None or ``fresh``: the destination is empty. Raises `BadKeysError` listing every place where a
    directory, a file or a symlink of the destination stands in the way; `HostError`.
    """
    fetch = array("q")
    keep: list[Entry] = []
    conflicts: list[str] = []
    directories: set[bytes] = set()
    total_bytes = move_bytes = disk_bytes = 0
    for row in names.good:
        path, size = table.key(row), table.size(row)
        total_bytes += size
        local = None
        if root_fd is not None and not fresh:
            local, obstacle = _look(root_fd, path)
            if obstacle:
                conflicts.append(f"{show(path)}: {obstacle}")
                continue
        entry = _standing(table, row, path, known, root_fd, local) if local is not None else None
        if entry is not None:
            keep.append(entry)
            continue
        fetch.append(row)
        move_bytes += size
        replaced = local[1] if local is not None and stat.S_ISREG(local[0]) else 0
        disk_bytes += (-(-size // block_bytes) - replaced // block_bytes) * block_bytes
        directories.add(path.rpartition(b"/")[0])
    if conflicts:
        raise BadKeysError(
            f"{len(conflicts)} names are taken in the destination", conflicts, hint="move what is there out of the way"
        )
    return Plan(
        fetch=fetch,
        keep=tuple(keep),
        total=Counts(objects=len(names.good), bytes=total_bytes),
        move=Counts(objects=len(fetch), bytes=move_bytes),
        directories=len(directories - {b""}),
        disk_bytes=disk_bytes,
    )


def check_space(plan: Plan, free_bytes: int, free_inodes: int | None, *, where: str) -> None:
    """Refuse before the first byte when what moves cannot fit. Raises `NoSpaceError`."""
    if plan.disk_bytes > free_bytes:
        raise NoSpaceError(
            f"{plan.disk_bytes} bytes are needed, {free_bytes} are free",
            where=where,
            hint="free some or choose another disk",
        )
    inodes = plan.move.objects + plan.directories
    if free_inodes is not None and plan.move.objects and inodes > free_inodes:
        raise NoSpaceError(
            f"{inodes} inodes are needed, {free_inodes} are free", where=where, hint="choose another disk"
        )


Local = tuple[int, int, int, int]  # mode, size, mtime_ns, ctime_ns


def _look(root_fd: int, path: bytes) -> tuple[Local | None, str]:
    """What stands under a name, and why it cannot be replaced by a file when so."""
    try:
        local = stat_below(root_fd, path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None, ""
        if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
            return None, "a file or a symlink, which is not followed, stands where a directory must go"
        raise from_os_error(error, doing="look at the file", where=path) from error
    if stat.S_ISDIR(local[0]):
        return None, "a directory stands where a file must go"
    return local, ""


def _standing(
    table: KeyTable, row: int, path: bytes, known: Known, root_fd: int | None, local: Local
) -> Entry | None:
    """The entry of a file that is already what the source has, else None."""
    trusted = known.trusted.get(path)
    entry = trusted or known.doubtful.get(path)
    if entry is None or entry.size != table.size(row) or entry.identity != table.identity(row):
        return None
    if not entry.identity:  # nothing says that the source still has the same
        return None
    mode, size, mtime_ns, ctime_ns = local
    if (size, mtime_ns, ctime_ns) != (entry.size, entry.mtime_ns, entry.ctime_ns):
        return None
    if stat.S_IFMT(mode) not in (stat.S_IFREG, stat.S_IFLNK) or not _same_kind(table.mode(row), entry.mode, mode):
        return None
    if trusted is None and root_fd is not None and _digest(root_fd, path, mode) != entry.digest:
        return None
    return entry


def _same_kind(wanted: int, recorded: int, local: int) -> bool:
    """Whether symlink-or-file agrees everywhere, and the executable bit with the source where it has modes."""
    if stat.S_ISLNK(recorded) != stat.S_ISLNK(local):
        return False
    wanted &= _MODE_BITS
    if not wanted:
        return not stat.S_ISLNK(local)
    return stat.S_ISLNK(wanted) == stat.S_ISLNK(local) and bool(wanted & 0o100) == bool(recorded & 0o100)


def _digest(root_fd: int, path: bytes, mode: int) -> bytes:
    try:
        if stat.S_ISLNK(mode):
            return digest_bytes(os.readlink(path, dir_fd=root_fd))
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=root_fd)
        try:
            return digest_fd(fd)[1]
        finally:
            os.close(fd)
    except OSError as error:
        raise from_os_error(error, doing="read the file again", where=path) from error
