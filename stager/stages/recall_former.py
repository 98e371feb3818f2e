"""What earlier syncs put below a destination and the source's table does not hold any more, or does not want now.

It is kept beside the manifest, so that the manifest says what the tree is, and this what else is there by our doing:
``--delete`` deletes nothing but such files, and one that is wanted again is not fetched again.

A file is never in neither of the two: what leaves the manifest is written here before the manifest or the journal is
written anew; what comes back is taken out of here after that.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from stager._native import Entries, KeyOrder, KeyTable, Recall
from stager.errors import from_os_error
from stager.host.atomic import write_file
from stager.host.journal import JOURNAL_NAME, load_journal
from stager.host.manifest_file import copy_entries, load_manifest, manifest_pieces
from stager.host.threads import Checkpoint, go_on
from stager.manifest import FORMER_NAME, DamagedManifestError, Header
from stager.stages.recall import Recalled, Recorded, whole_manifest

__all__ = ["Former", "gather_former", "recall_former", "save_former"]

_ROWS_A_CALL: Final = 4096


class Former(Struct, frozen=True, kw_only=True):
    """``rows`` of ``entries`` are of files that are not in the source's table now; ``again``: those of files that are.

    ``source`` and ``boot`` are as in a manifest's header; empty: not all are of one. ``unsaved``: some of it stands in
    no file that outlives this run. ``damaged``: what was written earlier is not believed, and forgotten.
    """

    entries: Entries
    rows: array[int]
    again: array[int]
    stored: int
    source: str = ""
    boot: str = ""
    unsaved: bool = False
    damaged: bool = False


class _Records(Struct, frozen=True, kw_only=True):
    """Records of one file of the state, the ones that count first."""

    source: str
    boot: str
    entries: Entries
    rows: Iterable[int]


def gather_former(
    state_fd: int | None,
    manifest: Recorded,
    recalled: Recalled,
    order: KeyOrder,
    unusable: frozenset[bytes],
    *,
    source: str,
    checkpoint: Checkpoint = go_on,
) -> Former:
    """Every record of a file that is not in the table of ``order``, or is one of its ``unusable`` keys.

    The manifest is not read again where `recall` has found nothing else in it. Blocks. `HostError`.
    """
    nothing = Former(entries=Entries(KeyTable()), rows=array("I"), again=array("I"), stored=0)
    if state_fd is None:
        return nothing
    try:
        stored = load_manifest(state_fd, FORMER_NAME, one_tree=False, checkpoint=checkpoint)
    except FileNotFoundError:
        stored, damaged = None, False
    except DamagedManifestError:
        stored, damaged = None, True
    else:
        damaged = False
    of_another = manifest.header is not None and manifest.header.source != source
    found = _of_journal(state_fd, checkpoint)
    if not recalled.damaged and (recalled.others or unusable or of_another):
        found += _of_manifest(state_fd)
    if stored is not None:
        header = stored.header
        rows = range(len(stored.table))
        found.append(_Records(source=header.source, boot=header.boot, entries=stored.entries, rows=rows))
    if not found:
        return Former(entries=nothing.entries, rows=array("I"), again=array("I"), stored=0, damaged=damaged)
    return _merge(found, order, unusable, len(stored.table) if stored is not None else 0, damaged, checkpoint)


def recall_former(
    former: Former, entries: Entries, order: KeyOrder, *, source: str, boot: str, verify: bool
) -> int:
    """Note in ``entries`` what is known of files that are wanted again, and return how many they are."""
    if former.source != source:
        return 0
    table = former.entries.table
    rows = array("I", (row for row in former.again if entries.recorded(order.find(table.key(row))) is None))
    trusted = bool(boot) and former.boot == boot and not verify
    Recall(entries, order, trusted=trusted).journal(former.entries.journal(rows))
    return len(rows)


def save_former(state_fd: int, former: Former, rows: array[int], *, checkpoint: Checkpoint = go_on) -> None:
    """Make these rows what is kept; none: the file goes. Blocks. Raises `NoSpaceError`, `HostError`."""
    if not rows:
        try:
            os.unlink(FORMER_NAME, dir_fd=state_fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os_error(error, doing="remove the file", where=FORMER_NAME) from error
        return
    kept = Entries(KeyTable(), len(rows))
    copy_entries(kept, former.entries, rows, checkpoint=checkpoint)
    kept.settle()
    header = Header(source=former.source, boot=former.boot)
    write_file(state_fd, FORMER_NAME, manifest_pieces(header, kept, checkpoint=checkpoint))


def _of_journal(state_fd: int, checkpoint: Checkpoint) -> list[_Records]:
    journal = load_journal(state_fd, JOURNAL_NAME, checkpoint=checkpoint)
    if journal is None:
        return []
    rows = range(len(journal.entries.table) - 1, -1, -1)
    return [_Records(source=journal.source, boot=journal.boot, entries=journal.entries, rows=rows)]


def _of_manifest(state_fd: int) -> list[_Records]:
    manifest = whole_manifest(state_fd)
    if manifest is None:
        return []
    header, rows = manifest.header, range(len(manifest.table))
    return [_Records(source=header.source, boot=header.boot, entries=manifest.entries, rows=rows)]


def _merge(
    found: list[_Records],
    order: KeyOrder,
    unusable: frozenset[bytes],
    stored: int,
    damaged: bool,
    checkpoint: Checkpoint,
) -> Former:
    """Of each file the first record."""
    entries = Entries(KeyTable(), sum(len(records.entries.table) for records in found))
    seen: set[bytes] = set()
    sources, boots = set(), set()
    again_from: list[tuple[_Records, array[int]]] = []
    former = unsaved = 0
    for place, records in enumerate(found):
        of_former = bool(stored) and place == len(found) - 1
        rows, again = array("I"), array("I")
        for row in records.rows:
            if row % _ROWS_A_CALL == 0:
                checkpoint()
            key = records.entries.table.key(row)
            if order.find(key) >= 0 and key not in unusable:
                if of_former:
                    again.append(row)
            elif key not in seen:
                seen.add(key)
                rows.append(row)
        copy_entries(entries, records.entries, rows, checkpoint=checkpoint)
        former += len(rows)
        unsaved += 0 if of_former else len(rows)
        if again:
            again_from.append((records, again))
        if rows or again:
            sources.add(records.source)
            boots.add(records.boot)
    for records, again in again_from:
        copy_entries(entries, records.entries, again, checkpoint=checkpoint)
    entries.settle()
    return Former(
        entries=entries,
        rows=array("I", range(former)),
        again=array("I", range(former, len(entries.table))),
        stored=stored,
        source=sources.pop() if len(sources) == 1 else "",
        boot=boots.pop() if len(boots) == 1 else "",
        unsaved=bool(unsaved),
        damaged=damaged,
    )
