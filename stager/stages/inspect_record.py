"""What is recorded of a staged tree: its manifest, and over it the journal of a run that has not finished.

A sync that was killed has put files in place that the manifest does not know. Its journal does, but for the last fifth
of a second before the end. So where both name a file the journal counts, and a file of the manifest in whose place the
journal has a directory, or the other way round, has gone.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from stager._native import Entries, KeyOrder, KeyTable
from stager.errors import IntegrityError, UsageError
from stager.host.journal import JOURNAL_NAME, Journaled, load_journal
from stager.host.judge import judge
from stager.host.manifest_file import Manifest, copy_entries, load_manifest
from stager.host.threads import Checkpoint
from stager.manifest import DamagedManifestError
from stager.names import directories_above, steps_above

__all__ = ["Record", "read_record"]

_AGAIN: Final = "`stager sync` it again"


class Record(Struct, frozen=True, kw_only=True):
    """``journal``: of which source it is (as `stager.manifest.Header` has it); None: there is none. ``newer``: rows
    that the journal has and the manifest has not, or of another content.
    """

    manifest: Manifest
    journal: str | None = None
    newer: frozenset[int] = frozenset()


def read_record(
    checkpoint: Checkpoint, state_fd: int | None, where: str, *, finish: Callable[[str], str], dates: bool = False
) -> Record:
    """The record with all of its entries. ``finish``: says what finishes a sync of such a source; ``dates``: the table
    has the files' times, where the source's were asked for. Blocks. Raises `UsageError` (there is none),
    `IntegrityError` (damaged), `HostError`.
    """
    if state_fd is None:
        raise UsageError("nothing was staged here", where=where, hint=_AGAIN)
    journal = load_journal(state_fd, JOURNAL_NAME, checkpoint=checkpoint)
    try:
        record = Record(manifest=load_manifest(state_fd, checkpoint=checkpoint))
        if journal is not None:
            record = _with_journal(record.manifest, journal, checkpoint)
    except FileNotFoundError:
        hint = _AGAIN if journal is None else finish(journal.source)
        raise UsageError("has no manifest: no sync has finished here", where=where, hint=hint) from None
    except DamagedManifestError as error:
        raise IntegrityError(f"the manifest is damaged ({error})", where=where, hint=_AGAIN) from error
    if dates and record.manifest.header.preserve:
        record = replace(record, manifest=_with_times(record.manifest, checkpoint))
    return record


def _with_journal(manifest: Manifest, journal: Journaled, checkpoint: Checkpoint) -> Record:
    theirs = journal.entries.table
    latest = {theirs.key(row): row for row in range(len(theirs))}
    directories = directories_above(latest)
    rows = array("I")
    for row in range(len(manifest.table)):
        key = manifest.table.key(row)
        if key not in latest and key not in directories and latest.keys().isdisjoint(steps_above(key)):
            rows.append(row)
    table = KeyTable()
    entries = Entries(table, len(rows) + len(latest))
    copy_entries(entries, manifest.entries, rows, checkpoint=checkpoint)
    copy_entries(entries, journal.entries, array("I", latest.values()), checkpoint=checkpoint)
    order = KeyOrder(table, checkpoint)
    names = judge(table, order, checkpoint=checkpoint)
    if names.bad or names.markers:
        raise DamagedManifestError("the journal beside it has names that exclude each other")
    newer = frozenset(row for row in range(len(rows), len(table)) if not _is_same(manifest, table, row))
    merged = Manifest(header=manifest.header, table=table, entries=entries, order=order)
    return Record(manifest=merged, journal=journal.source, newer=newer)


def _is_same(manifest: Manifest, table: KeyTable, row: int) -> bool:
    known = manifest.order.find(table.key(row))
    return known >= 0 and (manifest.table.size(known), manifest.table.identity(known)) == (
        table.size(row), table.identity(row),
    )  # fmt: skip


def _with_times(manifest: Manifest, checkpoint: Checkpoint) -> Manifest:
    """The same with a table that says of each file the time that it was given."""
    table = KeyTable()
    for row in range(len(manifest.table)):
        if row % 4096 == 0:
            checkpoint()
        found = manifest.entries.recorded(row)
        if found is None:
            raise ValueError("an entry of a manifest is not recorded")
        path, size, identity, _, mtime_ns, *_ = found
        table.append(path, size, identity, mtime_ns, manifest.table.mode(row))
    order, entries = KeyOrder(table, checkpoint), Entries(table)
    copy_entries(entries, manifest.entries, array("I", range(len(table))), order, checkpoint=checkpoint)
    return Manifest(header=manifest.header, table=table, entries=entries, order=order)
