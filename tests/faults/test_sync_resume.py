"""A sync that was killed inside a large object continues there: what had arrived is read again, not fetched again."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from faults.syncing import receipt
from integration.sync_driver import Outcome, Sync, tree, wait_until
from servers.bench_origin import BenchOrigin, bench_origin
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.s3 import object_bytes
from servers.slow_fuse import SlowFuse
from servers.strict_s3 import StrictS3

BLOCK = 8 << 20
PART = 2 * BLOCK
SIZE = 3 * PART + (2 << 20)  # four parts
CONTENT = object_bytes(SIZE, seed=1)
HEAD, RECORD = 24, 32


@pytest.fixture
def server(strict: StrictS3) -> StrictS3:
    strict.buckets["bucket"] = {"large": CONTENT, "small": b"small"}
    strict.algorithm = "crc64nvme"
    return strict


@pytest.fixture
def proxy(server: StrictS3) -> Iterator[FaultProxy]:
    with fault_proxy(("127.0.0.1", urlsplit(server.endpoint_url).port or 0)) as proxy:
        yield proxy


@pytest.fixture
def sync(server: StrictS3, proxy: FaultProxy, tmp_path: Path) -> Sync:
    return Sync("s3://bucket/", tmp_path / "dst", {**server.environment(), "AWS_ENDPOINT_URL": proxy.url})


def recorded(destination: Path) -> int:
    """Blocks that a run under way has recorded."""
    return sum((path.stat().st_size - HEAD) // RECORD for path in destination.glob(".stager/partial/*.blocks"))


def leave_unfinished(sync: Sync, proxy: FaultProxy, number: signal.Signals = signal.SIGKILL) -> Outcome:
    """End a sync when everything has arrived but one part, which the server holds back."""
    proxy.add(Fault(path="large", stall_at=1 << 20))
    process = sync.start()
    proxy.wait_stalled()
    wait_until(lambda: recorded(sync.destination) >= 5)  # of seven
    ended = sync.stop(process, number)
    proxy.clear()
    proxy.release()
    return ended


def ranges(server: StrictS3) -> list[str]:
    return [target for method, target in server.requests if method == "GET" and target.endswith("/large")]


@pytest.mark.parametrize(
    ("number", "algorithm"), [(signal.SIGKILL, "crc64nvme"), (signal.SIGTERM, "crc64nvme"), (signal.SIGKILL, "sha256")]
)
def test_killed_sync_fetches_only_the_part_that_was_in_flight(
    sync: Sync, server: StrictS3, proxy: FaultProxy, number: signal.Signals, algorithm: str
) -> None:
    """Whether its digest combines, or has to be taken of the whole file."""
    server.algorithm = algorithm
    leave_unfinished(sync, proxy, number)
    assert "large" not in tree(sync.destination)
    server.requests.clear()
    again = sync.run()
    assert again.code == 0, again.err
    assert tree(sync.destination) == server.buckets["bucket"]
    assert len(ranges(server)) == 1
    found = receipt(sync.destination)
    assert found["continued_bytes"] in (SIZE - PART, 3 * PART)
    assert found["grades"] == {"A": 2}
    assert not (sync.destination / ".stager" / "partial").exists()
    assert "of it by an earlier run" in again.out


def test_killed_sync_on_a_file_system_that_is_not_local_is_continued(
    sync: Sync, server: StrictS3, proxy: FaultProxy, slow_disk: SlowFuse
) -> None:
    sync.destination = slow_disk.mountpoint / "dst"
    leave_unfinished(sync, proxy)
    server.requests.clear()
    assert sync.run().code == 0
    assert tree(sync.destination) == server.buckets["bucket"]
    assert len(ranges(server)) == 1


def test_block_changed_on_disk_is_fetched_again(sync: Sync, server: StrictS3, proxy: FaultProxy) -> None:
    leave_unfinished(sync, proxy)
    (records,) = sync.destination.glob(".stager/partial/*.blocks")
    number = int.from_bytes(records.read_bytes()[HEAD + 8 : HEAD + 16], "little")  # of the first record
    with open(records.with_suffix(""), "r+b") as file:
        file.seek(number * BLOCK + 5)
        file.write(b"x")
    server.requests.clear()
    assert sync.run().code == 0
    assert tree(sync.destination) == server.buckets["bucket"]
    assert len(ranges(server)) == 2


def test_object_that_is_another_one_now_is_fetched_whole(sync: Sync, server: StrictS3, proxy: FaultProxy) -> None:
    leave_unfinished(sync, proxy)
    server.buckets["bucket"]["large"] = object_bytes(SIZE, seed=2)
    server.requests.clear()
    assert sync.run().code == 0
    assert tree(sync.destination) == server.buckets["bucket"]
    assert len(ranges(server)) == 4
    assert receipt(sync.destination)["continued_bytes"] == 0


def test_unfinished_file_of_an_object_that_is_gone_is_removed(sync: Sync, server: StrictS3, proxy: FaultProxy) -> None:
    leave_unfinished(sync, proxy)
    del server.buckets["bucket"]["large"]
    assert sync.run().code == 0
    assert tree(sync.destination) == {"small": b"small"}
    assert not (sync.destination / ".stager" / "partial").exists()


@pytest.mark.parametrize("left_out_by", [["--exclude", "large"], ["--max-size", "1M", "--delete"]])
def test_unfinished_file_that_a_filter_leaves_out_is_continued_later(
    sync: Sync, server: StrictS3, proxy: FaultProxy, left_out_by: list[str]
) -> None:
    leave_unfinished(sync, proxy)
    server.buckets["bucket"]["other"] = b"something to fetch"
    for _ in range(2):
        assert sync.run(*left_out_by).code == 0
    assert tree(sync.destination) == {"small": b"small", "other": b"something to fetch"}
    assert sync.run().code == 0
    assert receipt(sync.destination)["continued_bytes"] >= 4 * BLOCK
    assert tree(sync.destination) == server.buckets["bucket"]
    assert not (sync.destination / ".stager/partial").exists()


@pytest.mark.parametrize("now", [None, b"another" + CONTENT[7:], CONTENT[:-1]])
def test_unfinished_file_left_out_by_a_filter_goes_when_its_object_does(
    sync: Sync, server: StrictS3, proxy: FaultProxy, now: bytes | None
) -> None:
    leave_unfinished(sync, proxy)
    del server.buckets["bucket"]["large"]
    if now is not None:
        server.buckets["bucket"]["large"] = now
    assert sync.run("--exclude", "large").code == 0
    assert not (sync.destination / ".stager/partial").exists()


def test_wrong_bytes_that_were_recorded_are_found_by_the_announced_checksum(
    sync: Sync, server: StrictS3, proxy: FaultProxy
) -> None:
    """The flipped byte is in a part that was recorded before the run was killed: its digest is that of wrong bytes."""
    proxy.add(Fault(path="large", corrupt_at=1000, times=3))
    leave_unfinished(sync, proxy)
    assert sync.run().code == 0
    assert tree(sync.destination) == server.buckets["bucket"]
    assert receipt(sync.destination)["grades"] == {"A": 2}


OBJECTS, OBJECT_BYTES = 2, 6 * PART + 4321
CONNECTIONS = 4
AT_A_KILL = (CONNECTIONS + 2) * PART
"""In flight is a part a connection; recorded within milliseconds, so two parts more is ample."""


@pytest.fixture
def origin(origin_program: str) -> Iterator[BenchOrigin]:
    """Large objects by formula, over a line that takes a while for them."""
    arguments = (str(OBJECTS), str(OBJECT_BYTES), "set/", "--formula", "--checksum", "crc64nvme")
    with bench_origin(origin_program, *arguments, "--line-bytes-per-s", str(300 << 20)) as origin:
        yield origin


def test_sync_killed_again_and_again_ends_complete_and_right(
    origin: BenchOrigin, origin_program: str, tmp_path: Path, soak: int, seed: int
) -> None:
    draw = random.Random(seed)
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{origin.port}", "AWS_ACCESS_KEY_ID": "k", "AWS_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": "s", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    verify = [origin_program, "0", str(OBJECTS), str(OBJECT_BYTES), "set/", "--formula", "--verify"]
    options = ("--max-connections", str(CONNECTIONS))
    wanted_kills = 2 if soak == 1 else 50
    kills = trees = 0
    while kills < wanted_kills or trees == 0:
        sync = Sync("s3://bench/set/", tmp_path / f"dst{trees}", environment)
        process = sync.start(*options)
        if kills < wanted_kills:
            until = recorded(sync.destination) + draw.randrange(1, 5)
            _wait_recorded(sync.destination, until, process)
            time.sleep(draw.random() * 0.02)  # where in a block, a record or a rename it is killed is left to chance
            process.kill()
        _, err = process.communicate(timeout=60)
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.returncode == 0, err
        subprocess.run([*verify, str(sync.destination)], check=True)
        shutil.rmtree(sync.destination)
        trees += 1
    again = origin.stats()["bytes_sent"] - trees * OBJECTS * OBJECT_BYTES
    print(f"{kills} kills, {trees} trees: {again} bytes were fetched again; at most {kills * AT_A_KILL} may be")
    assert again <= kills * AT_A_KILL + (1 << 20)  # listings and HEADs


def _wait_recorded(destination: Path, until: int, process: subprocess.Popen[str]) -> None:
    wait_until(lambda: recorded(destination) >= until or process.poll() is not None)
