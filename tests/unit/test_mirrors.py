"""Mirrors and LFS objects as things of the node's cache: counted, kept while they are used, removed whole."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from stager.host.cache_items import items_in, pin_item, remove_item
from stager.host.git_mirror import Loan, Mirror
from stager.host.lfs_store import LfsStore
from stager.host.mirrors import remove_mirror
from stager.keeping import Item

COMMIT = "a" * 40
PACK = f"pack-{'c' * 40}.pack"
URL = "https://user@git.example/words"
DAY_S = 86400


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir(mode=0o700)
    return tmp_path / "scratch"


def keep(scratch: Path) -> None:
    """As a run does that has fetched a commit in one pack."""
    mirror = Mirror(str(scratch), URL, "commits")
    packs = Path(mirror.run.path, "packs")
    packs.mkdir()
    (packs / PACK).write_bytes(b"packed")
    mirror.keep(str(packs), Loan(shallow=frozenset({COMMIT})), commit=COMMIT)
    mirror.close()


def the_item(scratch: Path) -> Item:
    (item,) = items_in(str(scratch))
    return item


def test_mirror_is_counted_with_its_source_and_last_use(scratch: Path) -> None:
    before = time.time() - 1
    keep(scratch)
    item = the_item(scratch)
    assert (item.kind, item.in_use, item.is_pinned) == ("mirror", False, False)
    assert "git.example/words" in item.source and "user" not in item.source
    assert item.bytes > 6 and item.files == 3  # the pack, its record, and about.json
    assert before <= item.last_use_s <= time.time() + 1


def test_mirror_in_use_stays_and_is_removed_whole_afterwards(scratch: Path) -> None:
    keep(scratch)
    reader = Mirror(str(scratch), URL, "commits")
    loan = reader.lend(COMMIT)
    assert loan is not None
    assert the_item(scratch).in_use
    assert not remove_item(the_item(scratch))
    assert Path(loan.packs[PACK]).read_bytes() == b"packed"
    reader.close()
    assert remove_item(the_item(scratch))
    assert list((scratch / "mirrors").iterdir()) == list((scratch / "trash").iterdir()) == []


def test_mirror_that_was_pinned_meanwhile_stays_and_goes_by_name(scratch: Path) -> None:
    keep(scratch)
    seen = the_item(scratch)
    pin_item(seen, is_pinned=True)
    keep(scratch)
    assert the_item(scratch).is_pinned and the_item(scratch).source == seen.source
    assert not remove_item(seen, pinned=False)
    assert remove_item(seen)
    assert items_in(str(scratch)) == []


def test_removal_that_was_killed_after_it_closed_the_mirror_is_ended_by_the_next_user(scratch: Path) -> None:
    keep(scratch)
    (mirror,) = (scratch / "mirrors").iterdir()
    (mirror / "uses").rename(mirror / "given-up")
    again = Mirror(str(scratch), URL, "commits")
    assert again.lend(COMMIT) is None
    again.close()
    assert not the_item(scratch).in_use


def _use_often(scratch: str, until: float) -> None:
    while time.monotonic() < until:
        mirror = Mirror(scratch, URL, "commits")
        held = os.stat(mirror.run.path).st_ino
        for _ in range(20):
            assert os.stat(mirror.run.path).st_ino == held  # nobody moves it away
        mirror.close()


def test_removers_and_users_at_once_are_in_nobodys_way(scratch: Path) -> None:
    keep(scratch)
    (path,) = (scratch / "mirrors").iterdir()
    until, removed = time.monotonic() + 1, 0
    spawn = multiprocessing.get_context("spawn")
    users = [spawn.Process(target=_use_often, args=(str(scratch), until)) for _ in range(2)]
    for user in users:
        user.start()
    while any(user.is_alive() for user in users):
        removed += path.exists() and remove_mirror(str(path))
    for user in users:
        user.join()
        assert user.exitcode == 0
    assert remove_mirror(str(path))


@pytest.fixture
def days(scratch: Path) -> Path:
    """A store with objects of three days."""
    LfsStore(str(scratch)).close()
    for day in range(3):
        path = scratch / "lfs" / f"{day}0" / (f"{day}0" + "0" * 62)
        path.parent.mkdir()
        path.write_bytes(bytes(10_000))
        os.utime(path, (0, day * DAY_S + 100))
    return scratch


def test_lfs_objects_are_counted_and_removed_by_the_day_of_their_last_use(days: Path) -> None:
    items = sorted(items_in(str(days)), key=lambda item: item.last_use_s)
    assert [item.name for item in items] == ["lfs-1970-01-01", "lfs-1970-01-02", "lfs-1970-01-03"]
    assert all((item.kind, item.files, item.may_go) == ("lfs", 1, True) and item.bytes >= 10_000 for item in items)
    os.utime(days / "lfs/10" / ("10" + "0" * 62), (0, 2 * DAY_S))  # used since
    assert remove_item(items[1]) and remove_item(items[0])
    assert [item.name for item in items_in(str(days))] == ["lfs-1970-01-03"]
    assert items_in(str(days))[0].files == 2


def test_lfs_objects_stay_while_a_sync_uses_the_store_or_they_are_pinned(days: Path) -> None:
    with LfsStore(str(days)):
        assert all(item.in_use and not remove_item(item) for item in items_in(str(days)))
    seen = items_in(str(days))
    pin_item(seen[0], is_pinned=True)
    assert not any(item.may_go or remove_item(item, pinned=False) for item in items_in(str(days)))
    pin_item(seen[0], is_pinned=False)
    assert all(remove_item(item, pinned=False) for item in seen)
    assert items_in(str(days)) == []
