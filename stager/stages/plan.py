"""Compare a source's snapshot with what is known of the destination: rows to fetch, and rows whose files stand."""

from __future__ import annotations

from array import array
from typing import Final

from msgspec import Struct

from stager._native import (
    OUTCOME_BELOW_FILE,
    OUTCOME_DIRECTORY,
    OUTCOME_HASH,
    Comparison,
    Entries,
    KeyOrder,
)
from stager.errors import BadKeysError, NoSpaceError, from_os_error
from stager.host.recheck import recheck
from stager.host.threads import Checkpoint, go_on
from stager.model import Counts
from stager.names import Names, show

__all__ = ["Plan", "check_space", "plan"]

_ROWS_A_CALL: Final = 8192
_OBSTACLES: Final = {
    OUTCOME_BELOW_FILE: "a file or a symlink, which is not followed, stands where a directory must go",
    OUTCOME_DIRECTORY: "a directory stands where a file must go",
}


class Plan(Struct, frozen=True, kw_only=True):
    """What to do: rows to fetch, ascending. ``directories``: how many may have to be made. ``unknown``: directories
    above these rows in which nothing is recorded, where the destination is not empty.
    """

    fetch: array[int]
    keep: Counts
    total: Counts
    move: Counts
    directories: int
    disk_bytes: int  # what `move` takes on disk in whole blocks, less the files it replaces
    unknown: tuple[bytes, ...] = ()


def plan(
    entries: Entries,
    order: KeyOrder,
    names: Names,
    root_fd: int | None,
    *,
    fresh: bool,
    block_bytes: int,
    required: str | None = None,
    from_disk: bool = False,
    checkpoint: Checkpoint = go_on,
) -> Plan:
    """Compare; the entries of the files that are what the source has stand then. Writes nothing to the disk, blocks.

    An entry that was recalled as trusted is believed when size, mtime and ctime of its file agree; a doubtful one only
    after the content has been hashed again (``from_disk``: not what is cached of it); one below the grade ``required``
    is not. ``root_fd`` None or ``fresh``: the destination is empty. Raises `BadKeysError` listing every place where a
    directory, a file or a symlink of the
    destination stands in the way; `HostError`.
    """
    below = -1 if root_fd is None or fresh else root_fd
    comparison = Comparison(entries, root_fd=below, block_bytes=block_bytes, required=required)
    fetch = array("I")
    conflicts: list[str] = []
    for start in range(0, len(names.good), _ROWS_A_CALL):
        checkpoint()
        rows = names.good[start : start + _ROWS_A_CALL]
        wanted, doubtful = _compare(comparison, entries, rows, conflicts)
        if doubtful and root_fd is not None:
            _hash_again(entries, doubtful, root_fd, from_disk, checkpoint)
            changed, _ = _compare(comparison, entries, doubtful, conflicts)
            wanted = array("I", sorted([*wanted, *changed])) if changed else wanted
        fetch.extend(wanted)
    if conflicts:
        raise BadKeysError(
            f"{len(conflicts)} names are taken in the destination", conflicts, hint="move what is there out of the way"
        )
    move = Counts(objects=comparison.fetched, bytes=comparison.fetched_bytes)
    unknown = comparison.unknown_directories(order) if fetch and root_fd is not None and not fresh else ()
    return Plan(
        fetch=fetch,
        keep=Counts(objects=comparison.kept, bytes=comparison.total_bytes - move.bytes),
        total=Counts(objects=len(names.good), bytes=comparison.total_bytes),
        move=move,
        directories=comparison.directories(order),
        disk_bytes=comparison.disk_bytes,
        unknown=tuple(unknown),
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


def _compare(
    comparison: Comparison, entries: Entries, rows: array[int], conflicts: list[str]
) -> tuple[array[int], array[int]]:
    """Rows to fetch, and rows whose file has to be hashed first."""
    try:
        wanted, odd = comparison.compare(rows)
    except OSError as error:
        raise from_os_error(error, doing="look at the file", where=error.filename) from error
    for row, outcome in odd:
        if outcome != OUTCOME_HASH:
            conflicts.append(f"{show(entries.table.key(row))}: {_OBSTACLES[outcome]}")
    return wanted, array("I", (row for row, outcome in odd if outcome == OUTCOME_HASH))


def _hash_again(
    entries: Entries, rows: array[int], root_fd: int, from_disk: bool, checkpoint: Checkpoint
) -> None:
    for odd in recheck(entries, rows, root_fd, stands=False, from_disk=from_disk, checkpoint=checkpoint):
        if odd.errno:
            path = entries.table.key(odd.row)
            raise from_os_error(OSError(odd.errno, ""), doing="read the file again", where=path)
