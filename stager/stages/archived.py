"""Objects that are archived: found among what a plan wants before anything is moved, and left out by request."""

from __future__ import annotations

from array import array
from typing import Final

from msgspec.structs import replace

from stager._native import Entries
from stager.errors import ArchivedError
from stager.model import Counts
from stager.names import Names, show
from stager.sources.base import Snapshot

__all__ = ["archived_among", "leave_out", "not_in_place", "told_of"]

_NAMED: Final = 20


def archived_among(snapshot: Snapshot, fetch: array[int], *, where: str) -> ArchivedError | None:
    """What of the rows to fetch is known to be archived, as the error it would be; None: nothing."""
    if not snapshot.archived:
        return None
    archived = frozenset(snapshot.archived)
    rows = array("I", (row for row in fetch if row in archived))
    if not rows:
        return None
    names = [show(snapshot.table.key(row)) for row in rows[:_NAMED]]
    return ArchivedError.of(names, objects=len(rows), size=snapshot.table.sum_sizes(rows), where=where)


def leave_out(snapshot: Snapshot, names: Names, fetch: array[int]) -> Names:
    """``names`` without the archived rows among those to fetch; of the others the files that are here are kept."""
    left_out = frozenset(snapshot.archived) & frozenset(fetch)
    return replace(names, good=array("I", (row for row in names.good if row not in left_out)))


def not_in_place(entries: Entries, rows: array[int]) -> list[bytes]:
    """Keys of those of these rows whose files do not stand."""
    stands = frozenset(entries.stands())
    return [entries.table.key(row) for row in rows if row not in stands]


def told_of(error: ArchivedError) -> tuple[Counts, str]:
    """How much is left out, and the sentence that says so."""
    left_out = Counts(objects=error.objects, bytes=error.size)
    return left_out, f"{error.what}: left out, the first is {error.problems[0]}"
