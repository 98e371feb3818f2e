"""A network that misbehaves: every sync ends complete and right, or with the exit code that says why it did not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from faults.syncing import receipt, run_sync, tree
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.s3 import object_bytes, small_objects
from servers.seaweedfs import SeaweedFS

OBJECTS = dict(small_objects(150)) | {"large": object_bytes(17 << 20, seed=1), "mid": object_bytes(3 << 20, seed=2)}
LISTING = "list-type"
FOLDER = "0001/"
FOR_EVER = 1_000_000


@pytest.fixture(scope="module")
def source(weed: SeaweedFS, bucket_name: Callable[[], str]) -> str:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, OBJECTS)
    return f"s3://{bucket}/"


@pytest.fixture
def proxy(weed: SeaweedFS) -> Iterator[FaultProxy]:
    with fault_proxy(weed.address) as proxy:
        yield proxy


@pytest.fixture
def environment(weed: SeaweedFS, proxy: FaultProxy) -> dict[str, str]:
    """What leads to SeaweedFS through the proxy."""
    return replace(weed, endpoint_url=proxy.url).environment()


PASSING = {
    "cut": [
        Fault(path="large", cut_at=100_000, times=3),
        Fault(path=FOLDER, cut_at=5000, times=30),
        Fault(path="mid", cut_at=0),
        Fault(path=LISTING, cut_at=1000, times=2),
    ],
    "reset": [
        Fault(path="large", reset_at=9_000_000, times=3),
        Fault(path=FOLDER, reset_at=5000, times=30),
        Fault(path="mid", reset_at=0),
        Fault(path=LISTING, reset_at=1000, times=2),
    ],
    "stall": [Fault(path="large", stall_at=100_000), Fault(path=FOLDER, stall_at=5000, times=3)],
    "delay": [Fault(path=LISTING, delay_s=0.1), Fault(path=FOLDER, delay_s=0.05, times=30)],
    "rate": [Fault(path="large", bytes_per_s=40 << 20, times=2)],
}


@pytest.mark.parametrize("kind", PASSING)
def test_faults_that_pass_leave_a_complete_and_right_tree(
    source: str, proxy: FaultProxy, environment: dict[str, str], tmp_path: Path, kind: str
) -> None:
    proxy.add(*PASSING[kind])
    done = run_sync(source, tmp_path / "dst", environment, "--stall-timeout=0.5")
    assert (done.status, done.err) == (0, "")
    assert proxy.counts.faults >= len(PASSING[kind])
    assert tree(tmp_path / "dst") == OBJECTS


def test_refused_connections_that_pass_leave_a_complete_and_right_tree(
    source: str, proxy: FaultProxy, environment: dict[str, str], tmp_path: Path
) -> None:
    proxy.refuse(2)
    assert run_sync(source, tmp_path / "dst", environment).status == 0
    assert proxy.counts.refused == 2
    assert tree(tmp_path / "dst") == OBJECTS


@pytest.mark.parametrize(
    "fault",
    [
        Fault(path="large", cut_at=0, times=FOR_EVER),
        Fault(path="large", reset_at=1000, times=FOR_EVER),
        Fault(path=FOLDER, stall_at=5000, times=FOR_EVER),
        Fault(path=LISTING, cut_at=100, times=FOR_EVER),
    ],
    ids=["cut", "reset", "stall", "listing"],
)
def test_faults_without_end_give_up_as_transient_and_the_next_run_completes(
    source: str, proxy: FaultProxy, environment: dict[str, str], tmp_path: Path, fault: Fault
) -> None:
    proxy.add(fault)
    done = run_sync(source, tmp_path / "dst", environment, "--retries=2", "--stall-timeout=0.3")
    assert done.status == 7
    assert len(done.err.splitlines()) == 1
    assert OBJECTS.items() >= tree(tmp_path / "dst").items(), "what is visible is right"
    with pytest.raises(FileNotFoundError):
        receipt(tmp_path / "dst")
    proxy.clear()
    assert run_sync(source, tmp_path / "dst", environment).status == 0
    assert tree(tmp_path / "dst") == OBJECTS


def test_no_server_at_all_gives_up_as_transient(
    source: str, proxy: FaultProxy, environment: dict[str, str], tmp_path: Path
) -> None:
    proxy.refuse(FOR_EVER)
    done = run_sync(source, tmp_path / "dst", environment, "--retries=2")
    assert done.status == 7
    assert tree(tmp_path / "dst") == {}


def test_damaged_listing_is_an_integrity_error(
    source: str, proxy: FaultProxy, environment: dict[str, str], tmp_path: Path
) -> None:
    proxy.add(Fault(path=LISTING, corrupt_at=1, times=FOR_EVER))
    assert run_sync(source, tmp_path / "dst", environment).status == 4
    assert tree(tmp_path / "dst") == {}


def test_byte_corrupted_under_tls_is_noticed_and_fetched_again(weed: SeaweedFS, source: str, tmp_path: Path) -> None:
    assert weed.https_url is not None
    port = int(weed.https_url.rpartition(":")[2])
    with fault_proxy(("127.0.0.1", port), raw=True) as proxy:
        proxy.add(Fault(corrupt_at=300_000), Fault(corrupt_at=2_000), Fault(cut_at=500_000), Fault(reset_at=50_000))
        through = replace(weed, endpoint_url=proxy.url).environment()
        done = run_sync(source, tmp_path / "dst", through, "--connections=4")
        assert (done.status, done.err) == (0, "")
        assert proxy.counts.faults == 4
    assert tree(tmp_path / "dst") == OBJECTS


def test_byte_corrupted_where_no_checksum_is_compared_is_never_called_better_than_grade_b(
    source: str, proxy: FaultProxy, environment: dict[str, str], tmp_path: Path
) -> None:
    """But for its ETag nothing that this server sends covers the content; the grade says so."""
    proxy.add(Fault(path="mid", corrupt_at=77))
    done = run_sync(source, tmp_path / "dst", environment, "--integrity", "light")
    assert done.status == 0
    assert tree(tmp_path / "dst")["mid"] != OBJECTS["mid"]
    assert set(receipt(tmp_path / "dst")["grades"]) == {"B"}
