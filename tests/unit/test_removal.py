"""Files looked at and removed one by one: links and mounts are not followed, what changed stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from entries import recall_all
from stager._native import Comparison, Entries, KeyOrder, KeyTable
from stager.deletion import Delete
from stager.errors import UsageError
from stager.filters import EVERYTHING
from stager.host.deletable import refuse_to_delete_in
from stager.host.foreign_directories import DamagedForeignError, find_foreign, read_foreign, save_foreign
from stager.host.removal import Tree
from stager.manifest import Entry
from stager.stages.delete import Kept, plan_deletion


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root").mkdir()
    fd = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def top(root: int, tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_what_lies_behind_a_symlink_is_not_there(root: int, top: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/f").write_bytes(b"precious")
    (top / "d").mkdir()
    (top / "d/f").write_bytes(b"f")
    with Tree(root) as tree:
        found = tree.look(b"d/f")
        assert found is not None
    (top / "d").rename(top / "moved")
    (top / "d").symlink_to(tmp_path / "outside")
    with Tree(root) as tree:
        assert tree.look(b"d/f") is None
        assert tree.remove(found) is False
        assert tree.remove_directory(b"d") == "stays"
        assert tree.remove_directory(b"d/x") == "stays"
        assert not tree.has_directory(b"d")
        assert [entry.path for entry in tree.walk(b".stager", None)] == [b"d", b"moved/f"]
    assert (tmp_path / "outside/f").read_bytes() == b"precious"


@pytest.mark.parametrize("change", ["content", "replaced", "mode", "touched"])
def test_file_that_changed_since_it_was_looked_at_stays(root: int, top: Path, change: str) -> None:
    path = top / "f"
    path.write_bytes(b"old")
    with Tree(root) as tree:
        found = tree.look(b"f")
        assert found is not None
        before = path.stat()
        if change == "content":
            path.write_bytes(b"new")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif change == "replaced":
            (top / "g").write_bytes(b"old")
            (top / "g").rename(path)
        elif change == "mode":
            path.chmod(0o600)
        else:
            os.utime(path)
        assert tree.remove(found) is False
        assert path.exists()
        again = tree.look(b"f")
        assert again is not None
        assert tree.remove(again) is True
        assert tree.look(b"f") is None


@pytest.mark.parametrize("path", [b"../f", b"a/../f", b"a//f", b"./f", b"/f", b"..", b"a/", b""])
def test_path_that_is_none_is_an_error(root: int, path: bytes) -> None:
    with Tree(root) as tree, pytest.raises(OSError, match="Invalid argument"):
        tree.look(path)


def test_depth_costs_no_descriptors(root: int, top: Path) -> None:
    deep = b"/".join([b"d"] * 100)
    os.makedirs(top / os.fsdecode(deep))
    (top / os.fsdecode(deep) / "f").write_bytes(b"f")
    (top / os.fsdecode(deep).removesuffix("/d") / "g").write_bytes(b"g")
    open_before = len(os.listdir("/proc/self/fd"))
    with Tree(root) as tree:
        assert [entry.path for entry in tree.walk(b".stager", None)] == [deep.removesuffix(b"/d") + b"/g", deep + b"/f"]
        found = tree.look(deep + b"/f")
        assert found is not None
        assert tree.remove(found)
        assert len(os.listdir("/proc/self/fd")) - open_before < 70
        for path in (deep, deep.removesuffix(b"/d")):
            assert tree.remove_directory(path) == ("removed" if path == deep else "stays")
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_places_that_are_nobodys_to_empty_are_refused(tmp_path: Path) -> None:
    home = tmp_path / "home/me"
    home.mkdir(parents=True)
    (tmp_path / "link").symlink_to(home)
    environ = {"HOME": str(home)}
    for path in ("/", home, home.parent, tmp_path / "link", "/proc", os.path.expanduser("~root")):
        with pytest.raises(UsageError, match="nothing is deleted in it"):
            refuse_to_delete_in(str(path), environ)
    for path in (home / "data", tmp_path / "other", tmp_path / "missing"):
        refuse_to_delete_in(str(path), environ)


def test_directories_that_were_there_first_are_known_by_bytes(root: int, top: Path) -> None:
    (top / os.fsdecode(b"\xff/in")).mkdir(parents=True)
    (top / "link").symlink_to("/")
    found = find_foreign(root, {b"\xff", b"\xff/in", b"\xff/in/new", b"new", b"new/er", b"link"})
    assert found == {b"\xff", b"\xff/in"}
    assert read_foreign(root) == frozenset()
    save_foreign(root, found)
    assert read_foreign(root) == found
    for damage in (b"{", b'{"schema":2,"directories":[]}', b'{"schema":1,"directories":["../x"]}', b'{"schema":1}'):
        (top / "foreign.json").write_bytes(damage)
        with pytest.raises(DamagedForeignError):
            read_foreign(root)


def entry(path: bytes) -> Entry:
    return Entry(path, 1, b"etag", bytes(16), 1, 1, 0o644, "B")


def test_directories_are_unknown_where_nothing_below_was_recorded(root: int) -> None:
    table = KeyTable()
    paths = [b"a/b/new", b"a/x-y", b"a/x/new", b"c/d/e/new", b"c/known", b"new", b"a/b/old", b"c/d.f/old"]
    for path in paths:
        table.append(path, 1, b"etag")
    entries, order = Entries(table), KeyOrder(table)
    recall_all(entries, order, [entry(path) for path in (b"a/b/old", b"c/known")], trusted=True)
    comparison = Comparison(entries, root_fd=root, block_bytes=4096)
    assert comparison.unknown_directories(order) == []
    comparison.compare(range(len(paths)))  # type: ignore[arg-type]
    assert comparison.unknown_directories(order) == [b"a/x", b"c/d.f", b"c/d/e", b"c/d"]


def test_a_name_that_the_source_has_in_any_way_is_never_deleted(root: int, top: Path) -> None:
    """Listed twice, or too odd to be a file here: the listing has it."""
    table, listing = KeyTable(), KeyTable()
    for path in (b"twice", b"lost"):
        (top / os.fsdecode(path)).write_bytes(b"x")
        table.append(path, 1, b"")
    for key in (b"twice", b"twice", b"../odd"):
        listing.append(key, 1, b"etag")
    former = Entries(table)
    for row, path in enumerate((b"twice", b"lost")):
        status = os.lstat(path, dir_fd=root)
        former.put(row, bytes(16), status.st_mtime_ns, status.st_ctime_ns, 0o644, "B")
    kept = Kept(order=KeyOrder(listing), wanted=EVERYTHING)
    rows = former.stands()
    for everything in (False, True):
        asked = Delete(everything=everything)
        planned = plan_deletion(asked, kept, former, rows, root, state_name=".stager", state_fd=None, known=2)
        assert [found.path for found in planned.files] == [b"lost"]
