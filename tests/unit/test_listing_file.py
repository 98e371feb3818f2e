"""A listing kept as a file: what goes in comes out, and what is damaged, hostile or another source's is refused."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stager._native import KeyTable
from stager.errors import BadListingError, HostError, UsageError
from stager.host.listing_file import Listing, read_listing, save_listing
from stager.host.threads import go_on
from stager.urls import parse_source

S3 = parse_source("s3://bucket/set/")
GIT = parse_source("git+https://host/repository")
ROWS = [
    (b"plain", 3, b"d41d8cd98f00b204e9800998ecf8427e", 1_700_000_000_000_000_000, 0),
    (b"caf\xe9/\xff", 0, b"etag\0version-1", 0, 0),
    ("naïve\n\"\\".encode(), 2**62, b"\x80\xff", -5, 0x80000000),
    (b"marker/", 0, b"x", 0, 0),
]


def table_of(rows: list[tuple[bytes, int, bytes, int, int]]) -> KeyTable:
    table = KeyTable()
    for row in rows:
        table.append(*row)
    return table


def save(path: Path, rows: list[tuple[bytes, int, bytes, int, int]] = ROWS) -> None:
    save_listing(go_on, str(path), S3, table_of(rows), folder=b"set/\xff", pinned={"bucket": "bucket"})


def read(path: Path) -> Listing:
    return read_listing(go_on, str(path), S3)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rewrite(path: Path, *lines: object) -> None:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))


def test_rows_of_any_bytes_come_back_as_they_were(tmp_path: Path) -> None:
    save(tmp_path / "f")
    found = read(tmp_path / "f")
    assert list(found.table.rows()) == ROWS
    assert (found.folder, found.version) == (b"set/\xff", "")
    assert found.digest == lines_of(tmp_path / "f")[0]["listing"]


def test_file_is_whole_or_not_there(tmp_path: Path) -> None:
    save(tmp_path / "f")
    before = (tmp_path / "f").read_bytes()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_listing(stop, str(tmp_path / "f"), S3, table_of(ROWS), pinned={})
    assert (tmp_path / "f").read_bytes() == before
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"key":1,"size":0}', "line 3"),
        ('{"key":"a","size":-1}', "size out of range"),
        ('{"key":"a","size":9223372036854775808}', "size out of range"),
        ('{"key":"a","size":1.5}', "line 3"),
        ('{"key":"a","size":1,"etag":"x\\r\\nHost: evil"}', "an ETag"),
        ('{"key":"a","size":1,"etag":"x\\u0000v"}', "an ETag"),
        ('{"key":"a","size":1,"etag":"\\u0100"}', "line 3"),
        ('{"key":"a","size":1,"version_id":"a b"}', "a version id"),
        ('{"key":"a","size":1}', "neither ETag nor version"),
        ('{"key":"a","size":1,"version_id":"null"}', "neither ETag nor version"),
        ('{"key":"a","size":1,"etag":"x","mode":2541}', "a mode"),
        ('{"key":"a","size":1,"etag":"x","mtime_ns":9223372036854775808}', "line 3"),
        ('{"key":{"base64":"!"},"size":1,"etag":"x"}', "base64"),
        ('{"key":"' + "k" * 65536 + '","size":1,"etag":"x"}', "65,535"),
        ("[" * 5000, "line 3"),
        ("\x1b[31mred", "line 3"),
    ],
)
def test_row_that_is_none_is_refused_with_its_line(tmp_path: Path, row: str, says: str) -> None:
    save(tmp_path / "f", ROWS[:1])
    header, first = (tmp_path / "f").read_text().splitlines()
    rewrite(tmp_path / "f", header, first, row)
    with pytest.raises(BadListingError) as caught:
        read(tmp_path / "f")
    assert len(caught.value.problems) == 1
    assert says in caught.value.problems[0]
    assert "line 3" in caught.value.problems[0]
    assert caught.value.problems[0].isprintable()


def test_first_wrong_lines_are_named_and_no_more(tmp_path: Path) -> None:
    save(tmp_path / "f", ROWS[:1])
    header, first = (tmp_path / "f").read_text().splitlines()
    rewrite(tmp_path / "f", header, first, *["{}", first] * 20)
    with pytest.raises(BadListingError) as caught:
        read(tmp_path / "f")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [f"line {n}" for n in (3, 5, 7, 9, 11)]


def test_row_that_was_changed_left_out_or_added_is_noticed(tmp_path: Path) -> None:
    save(tmp_path / "f")
    header, *rows = (tmp_path / "f").read_text().splitlines()
    for changed in ([rows[0].replace('"size":3', '"size":4'), *rows[1:]], rows[:-1], [*rows, rows[0]], []):
        rewrite(tmp_path / "f", header, *changed)
        with pytest.raises(BadListingError, match="cut or changed"):
            read(tmp_path / "f")
    (tmp_path / "f").write_text("\n".join([header, *rows]))
    with pytest.raises(BadListingError, match="cut short"):
        read(tmp_path / "f")


@pytest.mark.parametrize(
    "change", [{"home": "other"}, {"scheme": "git"}, {"stager_listing": 2}, {"folder": {"base64": "!"}}, {"folder": 1}]
)
def test_header_of_another_source_or_form_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    save(tmp_path / "f")
    header, *rows = lines_of(tmp_path / "f")
    rewrite(tmp_path / "f", header | change, *rows)
    with pytest.raises(BadListingError):
        read(tmp_path / "f")


def test_what_is_no_file_of_text_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", ".", "none"):
        with pytest.raises(HostError):
            read(tmp_path / name)
    (tmp_path / "zeros").write_bytes(bytes(4 << 20))
    with pytest.raises(BadListingError):
        read(tmp_path / "zeros")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadListingError, match="larger than any"):
        read(tmp_path / "huge")


def test_directory_has_no_listing_to_keep_and_git_keeps_its_modes(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        save_listing(go_on, str(tmp_path / "f"), parse_source("file:///data"), table_of([]), pinned={})
    rows = [(b"run", 1, b"a" * 40, 0, 0o755), (b"link", 1, b"b" * 40, 0, 0o120777)]
    save_listing(go_on, str(tmp_path / "f"), GIT, table_of(rows), version="c" * 40 + ":", pinned={})
    found = read_listing(go_on, str(tmp_path / "f"), GIT)
    assert (list(found.table.rows()), found.version) == (rows, "c" * 40 + ":")


@given(data=st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_a_listing_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    save(path)
    header = path.read_bytes().partition(b"\n")[0]
    for text in (data, header + b"\n" + data):
        path.write_bytes(text)
        with pytest.raises(BadListingError):
            read(path)


def test_hundred_thousand_rows_are_read_in_little_time_and_memory(tmp_path: Path) -> None:
    rows = [(b"train/%07d.jpg" % number, number, b"d" * 32, 10**18, 0) for number in range(100_000)]
    save(tmp_path / "f", rows)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    assert len(read(tmp_path / "f").table) == len(rows)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert time.process_time() - started < 2.0
    assert after.ru_maxrss - before.ru_maxrss < 64 << 10, "in KiB: a piece of lines at a time, beside the table"
