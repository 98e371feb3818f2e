"""The journal of a killed run: whole records survive, torn ones are cut."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from entries import in_place, listed
from stager._native import Entries, KeyOrder
from stager.errors import HostError
from stager.host.atomic import write_file
from stager.host.journal import Journal, recall_journal, remove_journal
from stager.manifest import Entry

ENTRIES = [Entry(b"d/%d" % n, n, b"etag", bytes(16), n, n, 0o644, "B") for n in range(20)]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


KNOWN = in_place(*ENTRIES)
ORDER = KeyOrder(KNOWN.table)


def rows(*numbers: int) -> array[int]:
    return array("I", numbers)


def write(directory: int, *numbers: int, source: str = "s", boot: str = "b", known: Entries = KNOWN) -> None:
    journal = Journal(directory, "journal", known, ORDER, source=source, boot=boot)
    journal.append(rows(*numbers))
    journal.close()


def read(directory: int, source: str = "s") -> tuple[str, list[Entry]]:
    """The boot that trusts the journal, and its entries in the table's order."""
    for boot in ("b", "before", ""):
        found = Entries(KNOWN.table)
        recall_journal(directory, "journal", found, ORDER, source=source, trusted_boot=boot)
        doubtful = [row for row in range(len(ENTRIES)) if found.recorded(row) and not _is_doubtful(found, row)]
        if doubtful:
            return boot, listed(found)
    return "", listed(found)


def _is_doubtful(found: Entries, row: int) -> bool:
    try:
        found.vouch(row, True)
    except ValueError:
        return False
    return True


def test_records_come_back_with_their_boot(directory: int) -> None:
    write(directory, *range(5))
    write(directory, *range(5, 20))
    assert read(directory) == ("b", ENTRIES)


def test_missing_journal_is_empty(directory: int) -> None:
    assert read(directory) == ("", [])
    remove_journal(directory, "journal")


def test_journal_of_another_source_is_not_believed(directory: int) -> None:
    write(directory, *range(20))
    assert read(directory, "other") == ("", [])
    write(directory, 0, source="other")
    assert read(directory, "other") == ("b", ENTRIES[:1])


def test_journal_of_another_boot_hands_on_what_was_verified(directory: int, tmp_path: Path) -> None:
    write(directory, *range(5), boot="before")
    verified = Entries(KNOWN.table)
    for row in (0, 3, 9):
        verified.put(row, bytes(16), row, row, 0o644, "B")
    verified.put(1, bytes(16), 99, 99, 0o644, "B")
    journal = Journal(directory, "journal", verified, ORDER, source="s", boot="b")
    assert read(directory) == ("b", [ENTRIES[0], ENTRIES[3]])
    verified.put(7, bytes(16), 7, 7, 0o644, "B")
    journal.append(rows(7))
    journal.close()
    assert read(directory) == ("b", [ENTRIES[0], ENTRIES[3], ENTRIES[7]])
    assert os.listdir(tmp_path) == ["journal"]
    Journal(directory, "journal", KNOWN, ORDER, source="other", boot="b").close()
    assert read(directory, "other") == ("", [])


def test_torn_tail_is_cut_at_every_byte_and_appended_after(directory: int, tmp_path: Path) -> None:
    write(directory, 0, 1)
    two = (tmp_path / "journal").stat().st_size
    write(directory, 2)
    whole = (tmp_path / "journal").read_bytes()
    for length in range(two, len(whole)):
        (tmp_path / "journal").write_bytes(whole[:length])
        assert read(directory) == ("b", ENTRIES[:2])
        write(directory, 7)
        assert read(directory) == ("b", [*ENTRIES[:2], ENTRIES[7]])


def test_damaged_record_ends_what_is_believed(directory: int, tmp_path: Path) -> None:
    write(directory, *range(20))
    data = bytearray((tmp_path / "journal").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "journal").write_bytes(data)
    boot, entries = read(directory)
    assert boot == "b"
    assert entries == ENTRIES[: len(entries)]
    assert len(entries) < len(ENTRIES)


def test_later_record_of_a_file_replaces_the_earlier_one(directory: int) -> None:
    write(directory, 0, 1)
    again = Entries(KNOWN.table)
    again.put(1, bytes(16), 5, 6, 0o600, "A")
    write(directory, 1, known=again)
    assert read(directory) == ("b", [ENTRIES[0], Entry(b"d/1", 1, b"etag", bytes(16), 5, 6, 0o600, "A")])


def test_journal_of_more_than_one_read_comes_back(directory: int) -> None:
    write(directory, *range(20))
    for _ in range(7):
        write(directory, *(number % 20 for number in range(4000)))
    assert read(directory) == ("b", ENTRIES)


def test_record_of_a_file_that_the_source_lacks_is_passed_over(directory: int) -> None:
    write(directory, *range(20))
    fewer = in_place(*ENTRIES[3:6])
    found = Entries(fewer.table)
    count = recall_journal(directory, "journal", found, KeyOrder(fewer.table), source="s", trusted_boot="b")
    assert (count, listed(found)) == (20, ENTRIES[3:6])


def test_journal_that_cannot_be_continued_leaves_no_descriptor(
    directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _length: int) -> None:
        raise OSError(errno.EIO, "no")

    write(directory, 0)
    monkeypatch.setattr(os, "ftruncate", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(HostError, match="open the journal"):
        write(directory, 1)
    assert os.listdir("/proc/self/fd") == before


def test_symlink_in_place_of_the_journal_is_refused(directory: int, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"keep")
    (tmp_path / "journal").symlink_to("elsewhere")
    with pytest.raises(HostError):
        write(directory, *range(20))
    with pytest.raises(HostError):
        read(directory)
    assert (tmp_path / "elsewhere").read_bytes() == b"keep"


def test_file_is_replaced_whole_or_not_at_all(directory: int, tmp_path: Path) -> None:
    write_file(directory, "f", [b"old"])

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_file(directory, "f", pieces())
    assert (tmp_path / "f").read_bytes() == b"old"
    write_file(directory, "f", [b"new", b"er"], durable=True)
    assert (tmp_path / "f").read_bytes() == b"newer"
    assert os.listdir(tmp_path) == ["f"]
