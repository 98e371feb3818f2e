"""Leases and readers of a kept tree, at the moments and with the records that no process makes on purpose."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stager.caching import open_cache
from stager.host import cache, leases, procs, readers
from stager.host.cache import Cache, Generation, Kept
from stager.host.holders import Holder
from stager.host.leases import Lease, LeaseLostError, Leases

STALE_S = 0.2


@pytest.fixture
def entry(tmp_path: Path) -> Iterator[Path]:
    for path in (tmp_path / "cache", tmp_path / "cache/2"):
        path.mkdir(mode=0o700)
    before = set(os.listdir("/proc/self/fd"))
    yield tmp_path / "cache/2/name"
    assert set(os.listdir("/proc/self/fd")) == before


def take(entry: Path, *, stale_s: float = 1000.0) -> Lease | None:
    return Leases(str(entry), stale_s=stale_s).try_take()


def taken(entry: Path, *, stale_s: float = 1000.0) -> Lease:
    lease = take(entry, stale_s=stale_s)
    assert lease is not None
    return lease


def begun(entry: Path, lease: Lease) -> Generation:
    return Kept(str(entry)).begin(lease)


def change(path: Path, **fields: object) -> None:
    """Another holder in a record; its times stay."""
    record, found = json.loads(path.read_bytes()), path.stat()
    record["holder"] |= fields
    path.write_text(json.dumps(record))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def dead_pid() -> int:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    return child.pid


GONE = [{"boot": "another"}, {"start": 1}, {"pid": dead_pid()}, {"pid": 1 << 40}, {"pid": -1}]


@pytest.mark.parametrize("change_of", GONE)
def test_who_is_dead_is_followed_at_once_where_it_was_at_work(entry: Path, change_of: dict[str, object]) -> None:
    first = taken(entry)
    generation = begun(entry, first)
    assert take(entry) is None
    change(entry / "lease.1", **change_of)
    second = taken(entry)
    assert second.given == os.path.basename(generation.path)
    assert not first.is_in_force() and second.is_in_force()
    first.release()
    assert second.is_in_force()
    second.release()
    assert sorted(os.listdir(entry)) == sorted([second.given, "lease.2"])


def test_who_is_alive_keeps_it_while_its_heart_beats_and_is_not_gone_on_with_after(entry: Path) -> None:
    first = taken(entry)
    begun(entry, first)
    time.sleep(STALE_S)
    assert first.beat()
    assert take(entry, stale_s=STALE_S) is None
    time.sleep(1.1 * STALE_S)
    second = taken(entry, stale_s=STALE_S)
    assert (second.given, second.before) == ("", first.room)
    assert not first.beat()
    second.release()
    third = taken(entry)  # the second has begun nothing, so there is nothing that the first cannot be writing to
    assert third.given == ""
    third.release()
    first.release()


def test_heart_that_beats_in_time_to_come_does_not_hold_for_ever(entry: Path) -> None:
    first = taken(entry)
    os.utime(entry / "lease.1", ns=(0, 1 << 62))
    taken(entry).release()
    first.release()


def test_lease_is_given_back_with_what_was_begun(entry: Path) -> None:
    first = taken(entry)
    generation = begun(entry, first)
    first.release()
    second = taken(entry)
    assert second.given == os.path.basename(generation.path)
    second.release()


def test_of_many_at_once_one_has_it(entry: Path) -> None:
    """Each counts in a file of its own as far as it alone may."""
    most, counts = 20, []

    def count() -> None:
        for _ in range(most):
            while (lease := take(entry)) is None:
                time.sleep(0.0001)
            number = len(counts)
            time.sleep(0)
            counts.append(number)
            lease.release()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == list(range(4 * most))
    assert os.listdir(entry) == [f"lease.{4 * most}"]


def test_work_is_ended_when_the_lease_is_lost(entry: Path) -> None:
    async def work() -> None:
        waiting = asyncio.ensure_future(first.keep(asyncio.sleep(60), every_s=0.01))
        await asyncio.sleep(1.1 * STALE_S)
        assert take(entry, stale_s=STALE_S) is None  # it beats
        change(entry / "lease.1", boot="another")
        second = taken(entry)
        with pytest.raises(LeaseLostError):
            await waiting
        second.release()

    first = taken(entry)
    asyncio.run(work())
    first.release()


def test_what_is_wrong_with_work_is_told_while_the_lease_holds(entry: Path) -> None:
    async def fail() -> None:
        raise ValueError

    async def work() -> None:
        with pytest.raises(ValueError):
            await lease.keep(fail())
        waiting = asyncio.ensure_future(lease.keep(asyncio.sleep(60), every_s=0.01))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    lease = taken(entry)
    asyncio.run(work())
    assert lease.is_in_force()
    lease.release()


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def text(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def lease_that_leads_outside(path: Path) -> None:
    record = {"token": 16 * "a", "holder": json.loads(json.dumps(holder())), "given": "../../elsewhere"}
    path.write_text(json.dumps(record))


def holder() -> dict[str, Any]:
    me = Holder.of_self()
    return {"boot": me.boot, "pid": me.pid, "start": me.start, "uid": me.uid}


GARBAGE = [
    link_to_itself, huge, os.mkfifo, Path.mkdir, lease_that_leads_outside, text(b""), text(b"{}"), text(b"\xff"),
    text(b"[" * 4000), text(b'{"token": 5}'),
]  # fmt: skip


@pytest.mark.parametrize("plant", GARBAGE)
@pytest.mark.parametrize("number", ["2", "99999999999999", "999999999999999"])
def test_garbage_is_no_lease(entry: Path, plant: Callable[[Path], Any], number: str) -> None:
    first = taken(entry)
    generation = begun(entry, first)
    first.release()
    plant(entry / f"lease.{number}")
    assert Kept(str(entry)).newest() is not None
    second = taken(entry)
    assert second.given == os.path.basename(generation.path) and second.is_in_force()
    second.release()


@pytest.mark.parametrize("plant", [plant for plant in GARBAGE if plant is not lease_that_leads_outside])
def test_garbage_is_no_reader(entry: Path, plant: Callable[[Path], Any]) -> None:
    lease = taken(entry)
    generation = begun(entry, lease)
    plant(Path(generation.uses, "0123456789abcdef"))
    assert generation.is_free()
    generation.hold(lease).close()
    lease.release()
    assert Kept(str(entry)).remove()
    assert not entry.exists()


@pytest.mark.parametrize("change_of", GONE)
def test_tree_is_used_until_its_reader_is_dead(entry: Path, change_of: dict[str, object]) -> None:
    lease = taken(entry)
    kept, generation = Kept(str(entry)), begun(entry, lease)
    use = generation.hold(lease)
    lease.release()
    (record,) = Path(generation.uses).iterdir()
    os.close(use.fd)  # and the flock with it
    assert kept.is_in_use() and not kept.remove()
    change(record, boot="")  # nobody knows
    assert kept.is_in_use() and not kept.remove()
    change(record, **{"boot": Holder.of_self().boot, **change_of})
    assert not kept.is_in_use()
    lease = taken(entry)
    kept.trim(lease, generation)
    assert list(Path(generation.uses).iterdir()) == []
    lease.release()


def test_flock_alone_is_a_reader_too(entry: Path) -> None:
    lease = taken(entry)
    generation = begun(entry, lease)
    use = generation.hold(lease)
    lease.release()
    (record,) = Path(generation.uses).iterdir()
    record.unlink()
    assert not Kept(str(entry)).remove()
    use.close()
    assert Kept(str(entry)).remove()


def test_reader_that_comes_while_a_tree_is_given_up_is_seen(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = taken(entry)
    generation = begun(entry, lease)
    uses: list[readers.Use] = []
    original = os.rename

    def first_read(*arguments: Any, **named: Any) -> None:
        monkeypatch.setattr(cache.os, "rename", original)
        uses.append(generation.hold(lease))
        original(*arguments, **named)

    monkeypatch.setattr(cache.os, "rename", first_read)
    assert not generation.give_up()
    assert generation.is_given_up()
    uses.pop().close()
    assert generation.give_up()
    lease.release()


@pytest.mark.parametrize("step", ["_add", "_share_lock"])
def test_reader_that_comes_too_late_reads_nothing(entry: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    lease = taken(entry)
    generation = begun(entry, lease)
    original = getattr(readers, step)

    def first_remove(*arguments: Any) -> Any:
        patch.undo()
        assert generation.give_up()
        return original(*arguments)

    monkeypatch.setattr(readers, "_is_locked", lambda _fd: False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(LeaseLostError):
        patch.setattr(readers, step, first_remove)
        generation.hold(lease)
    lease.release()


def test_reader_without_its_lease_reads_nothing(entry: Path) -> None:
    first = taken(entry)
    generation = begun(entry, first)
    second = taken(entry, stale_s=-1)
    with pytest.raises(LeaseLostError):
        generation.hold(first)
    assert generation.is_free()
    first.release()
    second.release()


def test_removed_and_begun_again_is_nothing_that_was_held_before(entry: Path) -> None:
    """The numbers begin anew, and the one that was stopped has the same."""
    first = taken(entry)
    begun(entry, first)
    assert Kept(str(entry), stale_s=-1).remove()
    assert not entry.exists() and not first.is_in_force()
    second = taken(entry)
    generation, other = begun(entry, second), begun(entry, first)
    assert other.path != generation.path
    with pytest.raises(LeaseLostError):
        other.hold(first)
    first.release()
    newest = Kept(str(entry)).newest()
    assert newest is not None and newest.path == generation.path
    assert second.is_in_force() and take(entry) is None
    second.release()


@pytest.mark.parametrize("plant", GARBAGE)
def test_garbage_among_kept_trees_is_none(tmp_path: Path, plant: Callable[[Path], Any]) -> None:
    kept = Cache(str(tmp_path))
    plant(Path(kept.path, "0123456789abcdef"))
    for entry in kept.entries():
        assert entry.newest() is None and entry.about() is None and entry.remove()
    assert list(kept.entries()) == []


@pytest.mark.parametrize("file_system", ["nfs4", "lustre", "tmpfs"])
def test_nothing_is_kept_where_other_nodes_write(tmp_path: Path, file_system: str) -> None:
    """Of these nobody sees whether they live."""
    assert open_cache(str(tmp_path), file_system) is None
    assert list(tmp_path.iterdir()) == []


def test_constants_fit() -> None:
    assert 10 * leases.BEAT_EVERY_S < leases.STALE_S


def test_mounts_of_another_boot_are_nobodys(tmp_path: Path) -> None:
    """The kernel gives the numbers of mount namespaces anew after each start, and a daemon may have one for good."""
    uses = tmp_path / "uses"
    use = readers.begin_use(str(uses))
    readers.hand_over([use.fd], os.getpid(), procs.mounts_of())
    use.close()
    (record,) = uses.iterdir()
    assert json.loads(record.read_bytes())["mounts"] == os.stat("/proc/self/ns/mnt").st_ino
    assert readers.is_used(str(uses))
    change(record, boot="another", start=1)
    assert not readers.is_used(str(uses))
