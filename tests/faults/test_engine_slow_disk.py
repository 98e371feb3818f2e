"""A file system that sleeps in a write times out no connection: neither its own nor any other.

That a write was held for longer than the stall timeout is never assumed. It is seen: meanwhile a request to a server
that fell silent was given up by an engine with the same timeout.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.native_client import NativeClient
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.s3 import object_bytes, small_objects
from servers.seaweedfs import SeaweedFS
from servers.slow_fuse import SlowFuse

pytestmark = pytest.mark.root

BLOCK = 8 << 20
STALL_MS = 400
LARGE = object_bytes(3 * BLOCK + 5, seed=1)
SMALL = dict(small_objects(40))


@pytest.fixture(scope="module")
def bucket(weed: SeaweedFS, bucket_name: Callable[[], str]) -> str:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, {"large": LARGE, **SMALL})
    return bucket


@pytest.fixture
def proxy(weed: SeaweedFS) -> Iterator[FaultProxy]:
    with fault_proxy(weed.address) as proxy:
        yield proxy


@pytest.fixture
def fast_disk(tmp_path: Path) -> Path:
    (tmp_path / "fast").mkdir()
    return tmp_path / "fast"


@pytest.fixture
def outlast_stall_timeouts(weed: SeaweedFS, proxy: FaultProxy, bucket: str, tmp_path: Path) -> Callable[[], None]:
    """Return when two stall timeouts have passed for an engine that waits for a silent server."""

    def outlast() -> None:
        (tmp_path / "unused").mkdir()
        key = next(iter(SMALL))
        proxy.add(Fault(path=key, stall_at=0, times=2))
        with NativeClient(weed, proxy.address, workers=1, stall_timeout_ms=STALL_MS) as other:
            for _ in range(2):
                batch = other.fetch_objects(bucket, {key: SMALL[key]}, tmp_path / "unused")
                assert [failure.kind for failure in other.wait(batch)] == ["stall"]

    return outlast


def holds(root: Path, objects: dict[str, bytes]) -> bool:
    return all((root / key).read_bytes() == content for key, content in objects.items())


def test_while_a_write_is_held_another_disk_gets_its_objects_and_nobody_times_out(
    weed: SeaweedFS,
    bucket: str,
    slow_disk: SlowFuse,
    fast_disk: Path,
    outlast_stall_timeouts: Callable[[], None],
) -> None:
    with (
        NativeClient(weed, weed.address, workers=2, stall_timeout_ms=STALL_MS) as client,
        slow_disk.holding("write"),
    ):
        blocked = client.fetch_ranges(bucket, "large", LARGE, BLOCK, slow_disk.mountpoint / "large")
        slow_disk.wait_held("write")
        assert client.wait(client.fetch_objects(bucket, SMALL, fast_disk)) == []
        assert holds(fast_disk, SMALL)
        outlast_stall_timeouts()
        assert not client.is_complete(blocked)
        slow_disk.clear("write")
        assert client.wait(blocked) == []
    assert (slow_disk.backing / "large").read_bytes() == LARGE


def test_with_every_buffer_waiting_for_a_held_write_the_others_wait_and_nobody_times_out(
    weed: SeaweedFS,
    bucket: str,
    slow_disk: SlowFuse,
    fast_disk: Path,
    outlast_stall_timeouts: Callable[[], None],
) -> None:
    two_buffers = {"memory_bytes": 2 * (64 + 16) << 10, "buffer_bytes": 64 << 10}  # a buffer has 16 KiB for the head
    with (
        NativeClient(weed, weed.address, workers=1, stall_timeout_ms=STALL_MS, **two_buffers) as client,
        slow_disk.holding("write"),
    ):
        blocked = client.fetch_ranges(bucket, "large", LARGE, BLOCK, slow_disk.mountpoint / "large")
        slow_disk.wait_held("write")
        waiting = client.fetch_objects(bucket, SMALL, fast_disk)
        outlast_stall_timeouts()
        slow_disk.clear("write")
        assert client.wait(waiting) == []
        assert client.wait(blocked) == []
    assert holds(fast_disk, SMALL)
    assert (slow_disk.backing / "large").read_bytes() == LARGE


@pytest.mark.parametrize("step", ["create", "write", "rename"])
def test_small_objects_on_a_disk_that_holds_a_step_wait_and_arrive(
    weed: SeaweedFS, bucket: str, slow_disk: SlowFuse, outlast_stall_timeouts: Callable[[], None], step: str
) -> None:
    with (
        NativeClient(weed, weed.address, workers=1, stall_timeout_ms=STALL_MS) as client,
        slow_disk.holding(step),
    ):
        batch = client.fetch_objects(bucket, SMALL, slow_disk.mountpoint)
        slow_disk.wait_held(step)
        outlast_stall_timeouts()
        slow_disk.clear(step)
        assert client.wait(batch) == []
    assert holds(slow_disk.backing, SMALL)


def test_closing_waits_for_the_held_write(weed: SeaweedFS, bucket: str, slow_disk: SlowFuse) -> None:
    """Else the disk would write from a buffer that is gone."""
    with NativeClient(weed, weed.address, workers=1) as client, slow_disk.holding("write"):
        client.fetch_ranges(bucket, "large", LARGE, BLOCK, slow_disk.mountpoint / "large")
        slow_disk.wait_held("write")
        closing = threading.Thread(target=client.engine.close)
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
        slow_disk.clear("write")
        closing.join()
