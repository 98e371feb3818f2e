"""Compare a source's snapshot with what is known of the destination: rows to fetch, and rows whose files stand."""

from __future__ import annotations

from array import array
from typing import Final

from msgspec import Struct, field

from stager._native import OUTCOME_BLOCKED, OUTCOME_HASH, Comparison, Entries, KeyOrder
from stager.amounts import about_bytes
from stager.errors import NoSpaceError, from_os_error
from stager.host.recheck import recheck
from stager.host.threads import Checkpoint, go_on
from stager.model import Counts
from stager.names import Names

__all__ = ["Plan", "check_space", "plan"]

_ROWS_A_CALL: Final = 8192


class Plan(Struct, frozen=True, kw_only=True):
    """What to do: rows to fetch, ascending; ``blocked``: those of them in whose way a directory, a file or a symlink of
    the destination stands. ``directories``: how many may have to be made. ``unknown``: directories above these rows in
    which nothing is recorded, where the destination is not empty.
    """

    fetch: array[int]
    blocked: array[int] = field(default_factory=lambda: array("I"))
    keep: Counts
    total: Counts
    move: Counts
    directories: int
    disk_bytes: int  # what `move` takes on disk in whole blocks, less the files it replaces
    unknown: tuple[bytes, ...] = ()

    @property
    def free(self) -> array[int]:
        """The rows to fetch in whose way nothing stands."""
        if not self.blocked:
            return self.fetch
        blocked = frozenset(self.blocked)
        return array("I", (row for row in self.fetch if row not in blocked))


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
    is not. ``root_fd`` None or ``fresh``: the destination is empty. Raises `HostError`.
    """
    below = -1 if root_fd is None or fresh else root_fd
    comparison = Comparison(entries, root_fd=below, block_bytes=block_bytes, required=required)
    fetch = array("I")
    blocked = array("I")
    for start in range(0, len(names.good), _ROWS_A_CALL):
        checkpoint()
        rows = names.good[start : start + _ROWS_A_CALL]
        wanted, doubtful = _compare(comparison, rows, blocked)
        if doubtful and root_fd is not None:
            _hash_again(entries, doubtful, root_fd, from_disk, checkpoint)
            changed, _ = _compare(comparison, doubtful, blocked)
            wanted = array("I", sorted([*wanted, *changed])) if changed else wanted
        fetch.extend(wanted)
    move = Counts(objects=comparison.fetched, bytes=comparison.fetched_bytes)
    unknown = comparison.unknown_directories(order) if fetch and root_fd is not None and not fresh else ()
    return Plan(
        fetch=fetch,
        blocked=array("I", sorted(blocked)),
        keep=Counts(objects=comparison.kept, bytes=comparison.total_bytes - move.bytes),
        total=Counts(objects=len(names.good), bytes=comparison.total_bytes),
        move=move,
        directories=comparison.directories(order),
        disk_bytes=comparison.disk_bytes,
        unknown=tuple(unknown),
    )


def check_space(plan: Plan, free_bytes: int, free_inodes: int | None, *, where: str, room_bytes: int = 0) -> None:
    """Refuse before the first byte when what moves cannot fit; ``room_bytes`` become free. Raises `NoSpaceError`."""
    needed = plan.disk_bytes - room_bytes
    inodes = plan.move.objects + plan.directories if plan.move.objects else 0
    missing_bytes = max(0, needed - free_bytes)
    missing_inodes = max(0, inodes - free_inodes) if free_inodes is not None else 0
    if not (missing_bytes or missing_inodes):
        return
    if missing_bytes:
        error = NoSpaceError(
            f"{needed} bytes are needed, {free_bytes} are free ({about_bytes(needed)}, {about_bytes(free_bytes)})",
            where=where,
            hint="free some or choose another disk",
        )
    else:
        error = NoSpaceError(
            f"{inodes} inodes are needed, {free_inodes} are free", where=where, hint="choose another disk"
        )
    error.missing_bytes, error.missing_inodes = missing_bytes, missing_inodes
    raise error


def _compare(comparison: Comparison, rows: array[int], blocked: array[int]) -> tuple[array[int], array[int]]:
    """Rows to fetch, those that are ``blocked`` appended to these too, and rows whose file has to be hashed first."""
    try:
        wanted, odd = comparison.compare(rows)
    except OSError as error:
        raise from_os_error(error, doing="look at the file", where=error.filename) from error
    taken = array("I", (row for row, outcome in odd if outcome == OUTCOME_BLOCKED))
    if taken:
        blocked.extend(taken)
        wanted = array("I", sorted([*wanted, *taken]))
    return wanted, array("I", (row for row, outcome in odd if outcome == OUTCOME_HASH))


def _hash_again(
    entries: Entries, rows: array[int], root_fd: int, from_disk: bool, checkpoint: Checkpoint
) -> None:
    for odd in recheck(entries, rows, root_fd, stands=False, from_disk=from_disk, checkpoint=checkpoint):
        if odd.errno:
            path = entries.table.key(odd.row)
            raise from_os_error(OSError(odd.errno, ""), doing="read the file again", where=path)
