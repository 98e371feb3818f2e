"""What names, manifest, journal and comparison cost per object: milliseconds here are tenths of a microsecond each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stager._native import Comparison, Entries, KeyOrder, KeyTable, Recall
from stager.host.judge import judge
from stager.host.manifest_file import manifest_pieces
from stager.manifest import Header

OBJECTS = 10_000

pytestmark = pytest.mark.benchmark(max_time=0.2)


@pytest.fixture
def table() -> KeyTable:
    table = KeyTable()
    for number in range(OBJECTS):
        table.append(f"class-{number // 1000:04}/image-{number:08}.jpg".encode(), 16, b"0123456789abcdef" * 2)
    return table


@pytest.fixture
def entries(table: KeyTable) -> Entries:
    entries = Entries(table)
    for row in range(OBJECTS):
        entries.put(row, bytes(16), 1_700_000_000_000_000_000 + row, 1_700_000_000_000_000_000 + row, 0o644, "B")
    return entries


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_names_of_10_000_rows_judged(benchmark: Any, table: KeyTable) -> None:
    assert len(benchmark(lambda: judge(table, KeyOrder(table))).good) == OBJECTS


def test_manifest_of_10_000_rows_written(benchmark: Any, entries: Entries) -> None:
    header = Header(source="s", boot="b")
    assert benchmark(lambda: sum(map(len, manifest_pieces(header, entries)))) > OBJECTS * 100


def test_manifest_of_10_000_rows_read(benchmark: Any, table: KeyTable, entries: Entries) -> None:
    lines, order = entries.lines(0)[0], KeyOrder(table)

    def read() -> int:
        recall = Recall(Entries(table), order, trusted=True)
        recall.lines(lines)
        return len(recall)

    assert benchmark(read) == lines.count(b"\n")


def test_journal_of_10_000_rows_written_and_read(benchmark: Any, table: KeyTable, entries: Entries) -> None:
    rows, order = entries.stands(), KeyOrder(table)

    def write_and_read() -> int:
        recall = Recall(Entries(table), order, trusted=True)
        recall.journal(entries.journal(rows))
        return len(recall)

    assert benchmark(write_and_read) == OBJECTS


def test_10_000_rows_compared_with_an_empty_directory(benchmark: Any, table: KeyTable, empty: int) -> None:
    rows = judge(table, KeyOrder(table)).good

    def compare() -> int:
        return len(Comparison(Entries(table), root_fd=empty, block_bytes=4096).compare(rows)[0])

    assert benchmark(compare) == OBJECTS
