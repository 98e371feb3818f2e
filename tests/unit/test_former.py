"""The record of what earlier syncs left: what comes into it and out of it, and what is not believed of it."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entries import encode, in_place
from stager._native import Entries, KeyOrder, KeyTable
from stager.errors import HostError
from stager.host.journal import JOURNAL_NAME, Journal, load_journal
from stager.manifest import FORMER_NAME, MANIFEST_NAME, Entry, Header
from stager.stages.recall import read_manifest, recall
from stager.stages.recall_former import Former, gather_former, recall_former, save_former

SOURCE, BOOT = "s", "b"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def entry(path: bytes, version: int = 1) -> Entry:
    return Entry(path, 1, b"etag%d" % version, bytes([version] * 16), version, version, 0o644, "B")


def record(tmp_path: Path, name: str, *found: Entry, source: str = SOURCE, boot: str = BOOT) -> None:
    (tmp_path / name).write_bytes(encode(Header(source=source, boot=boot), found))


def begin_journal(state: int, *found: Entry, source: str = SOURCE) -> None:
    packed = in_place(*found)
    journal = Journal(state, JOURNAL_NAME, packed, KeyOrder(packed.table), source=source, boot=BOOT)
    journal.append(packed.stands())
    journal.close()


class Gathered:
    """What a run with these keys in its table finds."""

    def __init__(self, state: int, *keys: bytes, unusable: frozenset[bytes] = frozenset(), boot: str = BOOT) -> None:
        table = KeyTable()
        for key in keys:
            table.append(key, 1, b"etag1")
        self.entries, self.order = Entries(table), KeyOrder(table)
        manifest = read_manifest(state)
        recalled = recall(state, manifest, self.entries, self.order, source=SOURCE, boot=boot)
        self.former: Former = gather_former(state, manifest, recalled, self.order, unusable, source=SOURCE)
        self.again = recall_former(
            self.former, self.entries, self.order, source=SOURCE, boot=boot, verify=False
        )

    def paths(self) -> dict[bytes, int]:
        """Those that are left, and of which version."""
        found = self.former.entries
        records = (found.recorded(row) for row in self.former.rows)
        return {known[0]: known[4] for known in records if known is not None}


def test_nothing_recorded_is_nothing_left(state: int) -> None:
    gathered = Gathered(state, b"a")
    assert (gathered.paths(), gathered.former.unsaved, gathered.former.damaged) == ({}, False, False)


def test_what_the_table_lacks_is_left_by_the_record_that_counts(state: int, tmp_path: Path) -> None:
    record(tmp_path, FORMER_NAME, entry(b"old"), entry(b"both", 1), entry(b"all", 1))
    record(tmp_path, MANIFEST_NAME, entry(b"kept"), entry(b"lost"), entry(b"both", 2), entry(b"all", 2))
    begin_journal(state, entry(b"landed"), entry(b"all", 2))
    begin_journal(state, entry(b"all", 3))
    gathered = Gathered(state, b"kept")
    assert gathered.paths() == {b"old": 1, b"lost": 1, b"both": 2, b"all": 3, b"landed": 1}
    assert gathered.former.unsaved
    save_former(state, gathered.former, gathered.former.rows)
    os.unlink(JOURNAL_NAME, dir_fd=state)
    record(tmp_path, MANIFEST_NAME, entry(b"kept"))
    again = Gathered(state, b"kept")
    assert (again.paths(), again.former.unsaved) == (gathered.paths(), False)
    save_former(state, again.former, array("I"))
    assert not (tmp_path / FORMER_NAME).exists()


def test_what_is_wanted_again_is_recalled_unless_it_means_nothing_any_more(state: int, tmp_path: Path) -> None:
    record(tmp_path, FORMER_NAME, entry(b"back"), entry(b"gone"))
    gathered = Gathered(state, b"back", b"new")
    assert (gathered.again, gathered.paths()) == (1, {b"gone": 1})
    assert gathered.entries.recorded(0) == ((b"back", 1, b"etag1", bytes([1] * 16), 1, 1, 0o644, "B"))
    record(tmp_path, FORMER_NAME, entry(b"back"), entry(b"gone"), source="another")
    assert Gathered(state, b"back").again == 0
    assert Gathered(state, b"back").paths() == {b"gone": 1}


def test_records_of_several_sources_are_of_none(state: int, tmp_path: Path) -> None:
    record(tmp_path, FORMER_NAME, entry(b"x"), source="first")
    record(tmp_path, MANIFEST_NAME, entry(b"y"), source="second")
    gathered = Gathered(state, b"z")
    assert (gathered.paths(), gathered.former.source) == ({b"x": 1, b"y": 1}, "")
    save_former(state, gathered.former, gathered.former.rows)
    record(tmp_path, MANIFEST_NAME, entry(b"z"))
    assert Gathered(state, b"x", b"z").again == 0


def test_journal_of_another_source_is_not_lost(state: int) -> None:
    begin_journal(state, entry(b"landed"), source="another")
    assert Gathered(state, b"a").paths() == {b"landed": 1}


def test_file_that_cannot_be_one_any_more_is_left(state: int, tmp_path: Path) -> None:
    record(tmp_path, MANIFEST_NAME, entry(b"a"), entry(b"b"))
    assert Gathered(state, b"a", b"b", unusable=frozenset([b"a"])).paths() == {b"a": 1}


def test_a_file_may_have_been_left_where_a_directory_was_later(state: int, tmp_path: Path) -> None:
    record(tmp_path, FORMER_NAME, entry(b"a"), entry(b"a/b"))
    assert Gathered(state).paths() == {b"a": 1, b"a/b": 1}


@pytest.mark.parametrize("damage", ["cut", "flipped", "twice", "folded", "huge"])
def test_damaged_record_is_forgotten(state: int, tmp_path: Path, damage: str) -> None:
    record(tmp_path, FORMER_NAME, entry(b"a"), entry(b"b"))
    path = tmp_path / FORMER_NAME
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-5])
    elif damage == "flipped":
        path.write_bytes(data.replace(b'"a"', b'"c"'))
    elif damage == "twice":
        record(tmp_path, FORMER_NAME, entry(b"a"), entry(b"a"))
    elif damage == "folded":
        record(tmp_path, FORMER_NAME, entry("\uff0estager/manifest.jsonl".encode()))
    else:
        os.truncate(path, 1 << 40)
    gathered = Gathered(state, b"z")
    assert (gathered.paths(), gathered.former.damaged) == ({}, True)


def test_endless_journal_takes_no_memory(state: int, tmp_path: Path) -> None:
    begin_journal(state, entry(b"a"), entry(b"b"))
    os.truncate(tmp_path / JOURNAL_NAME, 1 << 40)
    found = load_journal(state, JOURNAL_NAME)
    assert found is not None
    assert len(found.entries.table) == 2


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_no_file_is_refused(state: int, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / FORMER_NAME)
    with pytest.raises(HostError, match="not a regular file"):
        Gathered(state, b"a")
