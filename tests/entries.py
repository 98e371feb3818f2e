"""Entries as Python values, for tests: into packed ones and back, as a manifest and from one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable

from stager._native import Entries, KeyOrder, KeyTable, Recall
from stager.host.manifest_file import load_manifest, manifest_pieces
from stager.manifest import MANIFEST_NAME, Entry, Header


def in_place(*found: Entry, table: KeyTable | None = None) -> Entries:
    """Packed entries that stand, of a table with a row for each."""
    if table is None:
        table = KeyTable()
        for entry in found:
            table.append(entry.path, entry.size, entry.identity)
    packed = Entries(table)
    for row, entry in enumerate(found):
        packed.put(row, entry.digest, entry.mtime_ns, entry.ctime_ns, entry.mode, entry.grade)
    return packed


def recall_all(packed: Entries, order: KeyOrder, found: Iterable[Entry], *, trusted: bool) -> None:
    """As if a journal had held these."""
    recorded = in_place(*found)
    Recall(packed, order, trusted=trusted).journal(recorded.journal(recorded.stands()))


def listed(packed: Entries) -> list[Entry]:
    """What is in place or recalled, in the table's order."""
    found = [packed.recorded(row) for row in range(len(packed.table))]
    return [Entry(*entry) for entry in found if entry is not None]


def encode(header: Header, found: Iterable[Entry]) -> bytes:
    """A whole manifest."""
    return b"".join(manifest_pieces(header, in_place(*found)))


def decode(data: bytes) -> tuple[Header, dict[bytes, Entry]]:
    """Header and entries by path of a whole manifest; raises as `load_manifest`."""
    with tempfile.TemporaryDirectory() as directory:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with open(os.path.join(directory, MANIFEST_NAME), "wb") as file:
                file.write(data)
            manifest = load_manifest(fd)
        finally:
            os.close(fd)
    return manifest.header, {entry.path: entry for entry in listed(manifest.entries)}
