"""The comparison: what is fetched, what stands, what stands in the way, and whether it fits."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from entries import recall_all
from stager._native import Entries, KeyOrder, KeyTable, digest_bytes
from stager.errors import NoSpaceError
from stager.manifest import Entry
from stager.names import compile_names
from stager.stages.plan import Plan, check_space, plan

CONTENT = b"content"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def table(*paths: bytes, identity: bytes = b"etag", mode: int = 0, size: int = len(CONTENT)) -> KeyTable:
    made = KeyTable()
    for path in paths:
        made.append(path, size, identity, 0, mode)
    return made


def put(tmp_path: Path, name: str, *, executable: bool = False) -> Entry:
    """A file in place and the entry that describes it."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(CONTENT)
    path.chmod(0o755 if executable else 0o644)
    return entry_of(path, name, digest_bytes(CONTENT))


def entry_of(path: Path, name: str, digest: bytes) -> Entry:
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode) | (stat.S_IFLNK if path.is_symlink() else 0)
    return Entry(name.encode(), found.st_size, b"etag", digest, found.st_mtime_ns, found.st_ctime_ns, mode, "B")


class Compared:
    """A plan and the paths that stand by it."""

    def __init__(self, planned: Plan, entries: Entries) -> None:
        self.plan = planned
        self.fetch = list(planned.fetch)
        self.keep = [entries.table.key(row) for row in entries.stands()]


def compare(
    rows: KeyTable, root: int | None, *, trusted: list[Entry] | None = None, doubtful: list[Entry] | None = None
) -> Compared:
    entries, order = Entries(rows), KeyOrder(rows)
    recall_all(entries, order, doubtful or [], trusted=False)
    recall_all(entries, order, trusted or [], trusted=True)
    planned = plan(entries, order, compile_names(rows), root, fresh=False, block_bytes=4096)
    compared = Compared(planned, entries)
    assert (planned.keep.objects, planned.move.objects) == (len(compared.keep), len(compared.fetch))
    return compared


def kept(compared: Compared) -> list[bytes]:
    return compared.keep


def test_file_that_agrees_with_its_entry_stands(root: int, tmp_path: Path) -> None:
    planned = compare(table(b"d/a", b"b"), root, trusted=[put(tmp_path, "d/a")])
    assert (kept(planned), planned.fetch) == ([b"d/a"], [1])
    assert (planned.plan.total.objects, planned.plan.move.objects, planned.plan.move.bytes) == (2, 1, len(CONTENT))


def test_without_a_destination_everything_is_fetched(tmp_path: Path) -> None:
    planned = compare(table(b"a"), None, trusted=[put(tmp_path, "a")])
    assert planned.fetch == [0]


def test_another_identity_or_size_is_fetched(root: int, tmp_path: Path) -> None:
    entry = put(tmp_path, "a")
    assert compare(table(b"a", identity=b"other"), root, trusted=[entry]).fetch == [0]
    assert compare(table(b"a", size=3), root, trusted=[entry]).fetch == [0]


def test_file_without_an_entry_is_fetched(root: int, tmp_path: Path) -> None:
    put(tmp_path, "a")
    assert compare(table(b"a"), root).fetch == [0]


def test_changed_time_or_mode_is_fetched(root: int, tmp_path: Path) -> None:
    touched, mode = put(tmp_path, "touched"), put(tmp_path, "mode")
    os.utime(tmp_path / "touched", ns=(1, 1))
    (tmp_path / "mode").chmod(0o600)
    assert compare(table(b"touched", b"mode"), root, trusted=[touched, mode]).fetch == [0, 1]


def test_executable_bit_of_the_source_counts_where_it_has_modes(root: int, tmp_path: Path) -> None:
    plain, program = put(tmp_path, "plain"), put(tmp_path, "program", executable=True)
    rows = table(b"plain", b"program", mode=0o755)
    assert kept(compare(rows, root, trusted=[plain, program])) == [b"program"]
    rows = table(b"plain", b"program", mode=0)
    assert kept(compare(rows, root, trusted=[plain, program])) == [b"plain", b"program"]


def test_symlink_stands_only_where_the_source_has_one(root: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("content")
    entry = entry_of(tmp_path / "link", "link", digest_bytes(b"content"))
    assert kept(compare(table(b"link", mode=stat.S_IFLNK | 0o777), root, trusted=[entry])) == [b"link"]
    assert kept(compare(table(b"link", mode=stat.S_IFLNK | 0o777), root, doubtful=[entry])) == [b"link"]
    assert compare(table(b"link"), root, trusted=[entry]).fetch == [0]


def test_doubtful_file_is_hashed_before_it_stands(root: int, tmp_path: Path) -> None:
    good = put(tmp_path, "good")
    put(tmp_path, "bad")
    bad = entry_of(tmp_path / "bad", "bad", digest_bytes(b"another"))
    planned = compare(table(b"good", b"bad"), root, doubtful=[good, bad])
    assert (kept(planned), planned.fetch) == ([b"good"], [1])


def test_rows_in_whose_way_something_stands_are_fetched_and_told_apart(root: int, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("dir")
    planned = compare(table(b"dir", b"file/x", b"fine", b"link/y"), root).plan
    assert [list(rows) for rows in (planned.fetch, planned.blocked, planned.free)] == [[0, 1, 2, 3], [0, 1, 3], [2]]
    assert planned.move.bytes == 4 * len(CONTENT)


def test_space_counts_whole_blocks_and_what_is_replaced(root: int, tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(bytes(10_000))
    planned = compare(table(b"old", b"d/new", size=5000), root).plan
    assert planned.disk_bytes == 2 * 8192 - 8192
    assert planned.directories == 1
    check_space(planned, planned.disk_bytes, 3, where="x")
    check_space(planned, planned.disk_bytes, None, where="x")
    with pytest.raises(NoSpaceError, match="bytes are needed"):
        check_space(planned, planned.disk_bytes - 1, None, where="x")
    check_space(planned, planned.disk_bytes - 1, None, where="x", room_bytes=1)
    with pytest.raises(NoSpaceError, match="inodes are needed"):
        check_space(planned, planned.disk_bytes, 2, where="x")


def test_full_disk_is_no_error_when_nothing_moves(root: int, tmp_path: Path) -> None:
    check_space(compare(table(b"a"), root, trusted=[put(tmp_path, "a")]).plan, 0, 0, where="x")


def test_every_directory_above_what_moves_is_counted_once(root: int) -> None:
    keys = [b"a/x/1", b"a/y/1", b"top", b"a/x/2", b"a/b/c/d", b"a-b/1"]
    assert compare(table(*keys), root).plan.directories == len({b"a", b"a/x", b"a/y", b"a/b", b"a/b/c", b"a-b"})
    assert compare(table(*sorted(keys)), root).plan.directories == 6


def test_rows_to_fetch_are_ascending_also_behind_hashed_ones(root: int, tmp_path: Path) -> None:
    put(tmp_path, "b")
    bad = entry_of(tmp_path / "b", "b", digest_bytes(b"another"))
    assert compare(table(b"a", b"b", b"c"), root, doubtful=[bad]).fetch == [0, 1, 2]


def test_entry_without_an_identity_never_stands(root: int, tmp_path: Path) -> None:
    found = put(tmp_path, "a")
    entry = Entry(b"a", found.size, b"", found.digest, found.mtime_ns, found.ctime_ns, found.mode, "C")
    assert compare(table(b"a", identity=b""), root, trusted=[entry]).fetch == [0]
    assert compare(table(b"a", identity=b""), root, doubtful=[entry]).fetch == [0]
