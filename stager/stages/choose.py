"""Leave out of a listing what is not wanted, before names are judged: the rest of a run sees a smaller table."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from stager._native import KeyTable
from stager.errors import FilterError, UsageError
from stager.filters import Filter
from stager.host.threads import Checkpoint, go_on
from stager.model import Counts
from stager.names import show
from stager.sources.base import Capabilities

__all__ = ["Chosen", "check_filter", "choose", "has_files"]

_ROWS_A_STEP: Final = 8192
_LARGEST: Final = 2**63 - 1
_EARLIEST_NS: Final = -(2**63)
_NOTHING_LEFT: Final = "the filter wants none of the source's files (of the patterns, the last that matches decides)"


class Chosen(Struct, frozen=True, kw_only=True):
    """A table of what is wanted, the source's own where that is all of it, and what was left out."""

    table: KeyTable
    left_out: Counts
    warnings: tuple[str, ...] = ()


def has_files(table: KeyTable) -> bool:
    """Whether it holds more than markers of directories."""
    return len(table.files(0, _LARGEST, _EARLIEST_NS)[0]) > 0


def check_filter(wanted: Filter, capabilities: Capabilities, *, where: str) -> None:
    """Raises `UsageError` for a filter that this kind of source cannot answer."""
    if wanted.since_ns is not None and capabilities.times == "never":
        raise UsageError(
            "this source has no times, so nothing in it is newer than another", where=where,
            hint="leave --newer out, or choose by name",
        )  # fmt: skip


def choose(
    table: KeyTable, wanted: Filter, capabilities: Capabilities, *, where: str, checkpoint: Checkpoint = go_on
) -> Chosen:
    """Apply a filter to a whole listing. Blocks; takes some 0.4 µs for each name that is looked at.

    Markers of directories, which are no files, are left out too but not counted. Raises `FilterError` naming every path
    of the filter's list that the source does not have; `UsageError`: rows without a time.
    """
    if not wanted:
        return Chosen(table=table, left_out=Counts())
    rows, markers = _by_numbers(table, wanted, capabilities, where)
    files = len(table) - markers
    if wanted.paths is not None:
        listed = _by_name(table, table.files(0, _LARGEST, _EARLIEST_NS)[0], wanted.paths.__contains__, checkpoint)
        _refuse_missing(table, listed, wanted.paths, where, checkpoint)
        rows = array("I", sorted(set(rows).intersection(listed)))
    if wanted.rules:
        rows = _by_name(table, rows, wanted.wants_name(), checkpoint)
    if len(rows) == len(table):
        return Chosen(table=table, left_out=Counts())
    left_bytes = table.total_bytes - table.sum_sizes(rows)
    left_out = Counts(objects=files - len(rows), bytes=left_bytes)
    return Chosen(table=table.select(rows), left_out=left_out, warnings=(_NOTHING_LEFT,) if files and not rows else ())


def _by_numbers(
    table: KeyTable, wanted: Filter, capabilities: Capabilities, where: str
) -> tuple[array[int], int]:
    least = wanted.min_bytes or 0
    most = _LARGEST if wanted.max_bytes is None else wanted.max_bytes
    since_ns = _EARLIEST_NS
    if wanted.since_ns is not None:
        since_ns = max(_EARLIEST_NS, min(wanted.since_ns, _LARGEST))
        if capabilities.times == "listed":
            _refuse_timeless(table, where)
    return table.files(least, most, since_ns)


def _refuse_timeless(table: KeyTable, where: str) -> None:
    timed = len(table.files(0, _LARGEST, 1)[0])
    files = len(table.files(0, _LARGEST, _EARLIEST_NS)[0])
    if timed < files:
        raise UsageError(
            f"the listing gives no time for {files - timed} of {files} objects", where=where,
            hint="leave --newer out",
        )  # fmt: skip


def _by_name(
    table: KeyTable, rows: array[int], wants: Callable[[bytes], bool], checkpoint: Checkpoint
) -> array[int]:
    chosen = array("I")
    for start in range(0, len(rows), _ROWS_A_STEP):
        checkpoint()
        some = rows[start : start + _ROWS_A_STEP]
        chosen.extend([row for row, key in zip(some, table.keys(some), strict=True) if wants(key)])
    return chosen


def _refuse_missing(
    table: KeyTable, listed: array[int], paths: frozenset[bytes], where: str, checkpoint: Checkpoint
) -> None:
    missing = set(paths)
    for start in range(0, len(listed), _ROWS_A_STEP):
        missing.difference_update(table.keys(listed[start : start + _ROWS_A_STEP]))
    if not missing:
        return
    directories: set[bytes] = set()
    for start in range(0, len(table), _ROWS_A_STEP):
        checkpoint()
        rows = array("I", range(start, min(start + _ROWS_A_STEP, len(table))))
        directories.update(path for key in table.keys(rows) for path in _above(key, missing))
    problems = [
        f"{show(path)}: {'is a directory: name its files, or use --include' if path in directories else 'is not there'}"
        for path in sorted(missing)
    ]
    raise FilterError(f"{len(problems)} of the paths listed are no files of the source", problems, where=where)


def _above(key: bytes, among: set[bytes]) -> list[bytes]:
    """The directories above a key that are among these."""
    found = []
    end = key.find(b"/")
    while end >= 0:
        if key[:end] in among:
            found.append(key[:end])
        end = key.find(b"/", end + 1)
    return found
