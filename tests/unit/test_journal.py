"""The journal of a killed run: whole records survive, torn ones are cut."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.errors import HostError
from stager.host.atomic import write_file
from stager.host.journal import Journal, read_journal, remove_journal
from stager.manifest import Entry

ENTRIES = [Entry(b"d/%d" % n, n, b"etag", bytes(16), n, n, 0o644, "B") for n in range(20)]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def write(directory: int, entries: list[Entry], *, source: str = "s", boot: str = "b") -> None:
    journal = Journal(directory, "journal", source=source, boot=boot)
    journal.append(entries)
    journal.close()


def read(directory: int, source: str = "s") -> tuple[str, list[Entry]]:
    boot, entries = read_journal(directory, "journal", source=source)
    return boot, list(entries.values())


def test_records_come_back_with_their_boot(directory: int) -> None:
    write(directory, ENTRIES[:5])
    write(directory, ENTRIES[5:])
    assert read(directory) == ("b", ENTRIES)


def test_missing_journal_is_empty(directory: int) -> None:
    assert read(directory) == ("", [])
    remove_journal(directory, "journal")


def test_journal_of_another_source_is_not_believed(directory: int) -> None:
    write(directory, ENTRIES)
    assert read(directory, "other") == ("", [])
    write(directory, ENTRIES[:1], source="other")
    assert read(directory, "other") == ("b", ENTRIES[:1])


def test_journal_of_another_boot_hands_on_what_was_verified(directory: int, tmp_path: Path) -> None:
    write(directory, ENTRIES[:5], boot="before")
    changed = Entry(ENTRIES[1].path, 99, b"etag", bytes(16), 1, 1, 0o644, "B")
    verified = [ENTRIES[0], changed, ENTRIES[3], ENTRIES[9]]
    journal = Journal(directory, "journal", source="s", boot="b", verified=verified)
    assert read(directory) == ("b", [ENTRIES[0], ENTRIES[3]])
    journal.append(ENTRIES[7:8])
    journal.close()
    assert read(directory) == ("b", [ENTRIES[0], ENTRIES[3], ENTRIES[7]])
    assert os.listdir(tmp_path) == ["journal"]
    Journal(directory, "journal", source="other", boot="b", verified=ENTRIES).close()
    assert read(directory, "other") == ("b", [])


def test_torn_tail_is_cut_at_every_byte_and_appended_after(directory: int, tmp_path: Path) -> None:
    write(directory, ENTRIES[:2])
    two = (tmp_path / "journal").stat().st_size
    write(directory, ENTRIES[2:3])
    whole = (tmp_path / "journal").read_bytes()
    for length in range(two, len(whole)):
        (tmp_path / "journal").write_bytes(whole[:length])
        assert read(directory) == ("b", ENTRIES[:2])
        write(directory, ENTRIES[7:8])
        assert read(directory) == ("b", [*ENTRIES[:2], ENTRIES[7]])


def test_damaged_record_ends_what_is_believed(directory: int, tmp_path: Path) -> None:
    write(directory, ENTRIES)
    data = bytearray((tmp_path / "journal").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "journal").write_bytes(data)
    boot, entries = read(directory)
    assert boot == "b"
    assert entries == ENTRIES[: len(entries)]
    assert len(entries) < len(ENTRIES)


def test_symlink_in_place_of_the_journal_is_refused(directory: int, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"keep")
    (tmp_path / "journal").symlink_to("elsewhere")
    with pytest.raises(HostError):
        write(directory, ENTRIES)
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
