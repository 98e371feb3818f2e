"""Of many stagers that want one tree one fetches it, whichever is killed, stopped or confined, without flock."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest

from integration.cache_driver import Stager, start_stager
from integration.clone_disk import clone_disk
from integration.sync_driver import wait_until
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3
from stager.host.cache import Cache, Generation, Kept
from stager.host.leases import Leases

pytestmark = pytest.mark.root

MIB = 1 << 20
SMALL = {f"small{number}": object_bytes(9_000, number) for number in range(4)}
OBJECTS = {"large": object_bytes(3 * MIB, 9), **SMALL}
IN_A_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
STALE_S = 0.3  # for who looks at one that is stopped

Start = Callable[..., Stager]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    top = tmp_path_factory.mktemp("disk")
    with clone_disk(top / "disk", top / "image") as place:
        yield place


@pytest.fixture
def scratch(disk: Path, tmp_path: Path, strict: StrictS3) -> Path:
    strict.buckets["bucket"] = dict(OBJECTS)
    place = disk / tmp_path.name
    place.mkdir(mode=0o700)
    return place


@pytest.fixture
def start(scratch: Path, strict: StrictS3) -> Iterator[Start]:
    """A stager of its own name, for which flock locks nothing."""
    running: list[Stager] = []

    def begin(name: str, **how: Any) -> Stager:
        environment = {**strict.environment(), "NO_FLOCK": "1"}
        running.append(start_stager(scratch, scratch / name, environment, **how))
        return running[-1]

    yield begin
    for one in running:
        one.send(SIGKILL)
        one.process.communicate()


@contextmanager
def held_up(strict: StrictS3) -> Iterator[threading.Event]:
    """The first who asks for the large object waits for it, until the end; set when it has asked."""
    asked, go_on, lock = threading.Event(), threading.Event(), threading.Lock()

    def hold_up(method: str, target: str) -> None:
        if method == "GET" and "/bucket/large" in target:
            with lock:
                is_first, _ = not asked.is_set(), asked.set()
            if is_first:
                go_on.wait(60)

    strict.on_request = hold_up
    try:
        yield asked
    finally:
        go_on.set()
        strict.on_request = None


def gets(strict: StrictS3) -> Counter[str]:
    """How often each object was asked for."""
    targets = [target for method, target in strict.requests if method == "GET" and "list-type" not in target]
    return Counter(target.partition("?")[0].removeprefix("/bucket/") for target in targets)


def contents(tree: Path) -> dict[str, bytes]:
    found = {path.relative_to(tree): path for path in tree.rglob("*") if path.is_file()}
    return {str(name): path.read_bytes() for name, path in found.items() if name.parts[0] != ".stager"}


def entry(scratch: Path) -> Kept:
    (found,) = Cache(str(scratch)).entries()
    return found


def leftovers(scratch: Path) -> list[str]:
    """What is kept beside the one generation in use, its readers included."""
    kept = entry(scratch)
    newest = kept.newest()
    assert newest is not None
    usual = {"about.json", Path(newest.path).name}
    found = [path for path in Path(kept.path).iterdir() if path.name not in usual and not is_given_back(path)]
    return [str(path) for path in (*found, *Path(kept.path).parent.glob("gone-*"), *Path(newest.uses).iterdir())]


def is_given_back(path: Path) -> bool:
    return path.name.startswith("lease.") and path.stat().st_mtime == 0


def test_of_eight_stagers_without_flock_one_downloads(scratch: Path, strict: StrictS3, start: Start) -> None:
    stagers = [start(f"tree{number}") for number in range(8)]
    moved = [one.finish()["objects"] for one in stagers]
    assert sorted(moved) == [0] * 7 + [len(OBJECTS)]
    assert gets(strict) == Counter(OBJECTS.keys())
    assert all(contents(one.destination) == OBJECTS for one in stagers)
    assert leftovers(scratch) == []


def test_one_that_is_killed_is_followed_at_once_and_gone_on_with(scratch: Path, strict: StrictS3, start: Start) -> None:
    with held_up(strict) as asked:
        first = start("one", stale_s=1000)
        assert asked.wait(60)
        second = start("two", stale_s=1000)
        wait_until(lambda: all(journaled(scratch, name) for name in SMALL))
        first.send(SIGKILL)
        assert second.finish() == {"objects": 1, "bytes": 3 * MIB}
    assert contents(second.destination) == OBJECTS
    assert gets(strict) == Counter([*OBJECTS, "large"])
    assert leftovers(scratch) == []


def journaled(scratch: Path, name: str) -> bool:
    return any(name.encode() in path.read_bytes() for path in scratch.glob("cache/2/*/*/state/journal"))


def test_one_that_is_stopped_is_followed_when_its_heart_is_still_and_starts_over(
    scratch: Path, strict: StrictS3, start: Start
) -> None:
    with held_up(strict) as asked:
        first = start("one")
        assert asked.wait(60)
        first.send(SIGSTOP)
        first.await_stop()
        at_work = entry(scratch).newest()
        strict.buckets["bucket"] |= {"small0": b"new", "more": b"more"}
        second = start("two", stale_s=STALE_S)
        second.finish()
        assert contents(second.destination) == strict.buckets["bucket"]
    newest = entry(scratch).newest()
    assert at_work is not None and newest is not None and newest.path != at_work.path
    strict.requests.clear()
    first.send(SIGCONT)
    assert first.finish() == {"objects": 0, "bytes": 0}
    assert gets(strict) == Counter()
    assert contents(first.destination) == contents(second.destination) == strict.buckets["bucket"]
    assert start("three").finish()["objects"] == 0
    assert leftovers(scratch) == []


def test_one_that_is_stopped_when_all_is_done_does_not_lend_what_was_followed(
    scratch: Path, strict: StrictS3, start: Start
) -> None:
    """Its tree was whole, and is gone or old when it wakes up."""
    first = start("one", STOP="hold")
    first.await_stop()
    strict.buckets["bucket"]["small0"] = b"new"
    strict.requests.clear()
    start("two", stale_s=STALE_S).finish()
    assert gets(strict) == Counter(["small0"])
    first.send(SIGCONT)
    assert first.finish()["objects"] == 0
    assert contents(scratch / "one")["small0"] == b"new"
    assert leftovers(scratch) == []


def test_tree_of_a_reader_that_is_stopped_stays(scratch: Path, strict: StrictS3, start: Start) -> None:
    """What it has found whole before it was followed it may read, as long as it likes."""
    first = start("one", STOP="trim", LEND="1")
    first.await_stop()
    used = entry(scratch).newest()
    assert used is not None
    strict.buckets["bucket"]["small0"] = b"new"
    start("two", stale_s=STALE_S).finish()
    assert not entry(scratch).remove()
    assert contents(scratch / "two")["small0"] == b"new"
    assert contents(Path(used.tree)) == OBJECTS
    first.send(SIGCONT)
    first.finish()
    start("three").finish()
    assert not Path(used.path).exists()
    assert leftovers(scratch) == []


@pytest.mark.parametrize(("kind", "step"), [(Leases, "revoke"), (Generation, "give_up")])
def test_one_that_is_stopped_while_it_removes_takes_nothing_that_is_used(
    scratch: Path, strict: StrictS3, start: Start, monkeypatch: pytest.MonkeyPatch, kind: type, step: str
) -> None:
    """Somebody begins to read between two steps, the lease being stale for the one that removes."""
    start("one").finish()
    kept, original, readers = Kept(entry(scratch).path, stale_s=-1), getattr(kind, step), []

    def meanwhile(self: Any) -> bool:
        monkeypatch.setattr(kind, step, original)
        readers.append(start("two", STOP="trim", LEND="1"))
        readers[0].await_stop()
        return bool(original(self))

    monkeypatch.setattr(kind, step, meanwhile)
    assert kept.remove() == (step == "give_up")  # then what is read is a new generation
    readers[0].send(SIGCONT)
    readers[0].finish()
    assert contents(Path(os.readlink(scratch / "two"))) == OBJECTS
    assert kept.remove()
    assert list(Path(kept.path).parent.iterdir()) == []


def test_two_pid_namespaces_share_one_download_and_wait_for_a_dead_one(
    scratch: Path, strict: StrictS3, start: Start
) -> None:
    with held_up(strict) as asked:
        first = start("one", before=IN_A_NAMESPACE, stale_s=1000)
        assert asked.wait(60)
        second = start("two", before=IN_A_NAMESPACE, stale_s=1.5)
        third = start("three", before=IN_A_NAMESPACE, stale_s=1.5)
        wait_until(lambda: all(journaled(scratch, name) for name in SMALL))
        assert gets(strict) == Counter(OBJECTS.keys())
        first.send(SIGKILL)
        moved = sorted(one.finish()["objects"] for one in (second, third))
    assert moved == [0, len(OBJECTS)]  # what the first was at work on is not touched: from here it may be alive
    assert gets(strict) == Counter(2 * [*OBJECTS])
    assert contents(second.destination) == contents(third.destination) == OBJECTS
    assert leftovers(scratch) == []
