"""Checksums that the server announces: bytes without them are never kept, and grade A says that bytes had them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from faults.syncing import receipt, run_sync, tree
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.moto_s3 import MotoS3
from servers.rclone_s3 import RcloneS3
from servers.s3 import Objects, S3Server, object_bytes
from servers.seaweedfs import SeaweedFS
from servers.strict_s3 import ALGORITHMS, Reply, StrictS3

LARGE = 17 << 20
OBJECTS = {
    "empty": b"",
    "large": object_bytes(LARGE, seed=1),
    "mid": object_bytes(3 << 20, seed=2),
    "small": object_bytes(1000, seed=3),
}
BUCKET = "bucket"
SOURCE = f"s3://{BUCKET}/"


@pytest.fixture
def server(strict: StrictS3) -> StrictS3:
    strict.buckets[BUCKET] = dict(OBJECTS)
    return strict


@pytest.fixture
def proxy(server: StrictS3) -> Iterator[FaultProxy]:
    with fault_proxy(("127.0.0.1", urlsplit(server.endpoint_url).port or 0)) as proxy:
        yield proxy


@pytest.fixture
def environment(server: StrictS3, proxy: FaultProxy) -> dict[str, str]:
    """What leads to the strict server through the proxy."""
    return {**server.environment(), "AWS_ENDPOINT_URL": proxy.url}


def grades(root: Path) -> dict[str, int]:
    return dict(receipt(root)["grades"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_objects_with_their_announced_checksum_have_grade_a(server: StrictS3, tmp_path: Path, algorithm: str) -> None:
    server.algorithm = algorithm
    assert run_sync(SOURCE, tmp_path / "dst", server.environment()).status == 0
    assert tree(tmp_path / "dst") == OBJECTS
    assert grades(tmp_path / "dst") == {"A": 4}
    assert [target for method, target in server.requests if method == "HEAD"] == [f"/{BUCKET}/large"]


def test_objects_without_a_checksum_are_compared_with_an_etag_that_is_an_md5(server: StrictS3, tmp_path: Path) -> None:
    server.encryption = {"mid": "aws:kms", "small": "AES256"}
    assert run_sync(SOURCE, tmp_path / "dst", server.environment()).status == 0
    assert grades(tmp_path / "dst") == {"A": 3, "B": 1}
    assert receipt(tmp_path / "dst")["unverified"] == {"encrypted-etag": 1}
    assert run_sync(SOURCE, tmp_path / "light", server.environment(), "--integrity", "light").status == 0
    assert receipt(tmp_path / "light")["unverified"] == {"encrypted-etag": 1, "no-checksum": 3}
    assert tree(tmp_path / "dst") == tree(tmp_path / "light") == OBJECTS


def test_user_who_wants_no_checksums_is_not_sent_any(server: StrictS3, tmp_path: Path) -> None:
    server.algorithm = "crc32"
    environment = {**server.environment(), "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}
    assert run_sync(SOURCE, tmp_path / "dst", environment).status == 0
    assert grades(tmp_path / "dst") == {"B": 4}
    assert {method for method, _ in server.requests} == {"GET"}


@pytest.mark.parametrize("algorithm", ["", "crc64nvme", "sha256"])
@pytest.mark.parametrize(("key", "at"), [("small", 999), ("mid", 77), ("large", 5)])
def test_flipped_byte_is_found_and_fetched_again(
    server: StrictS3, proxy: FaultProxy, environment: dict[str, str], tmp_path: Path, key: str, at: int, algorithm: str
) -> None:
    """Without an algorithm, by the ETag."""
    server.algorithm = algorithm
    proxy.add(Fault(path=key, corrupt_at=at))
    done = run_sync(SOURCE, tmp_path / "dst", environment)
    assert (done.status, done.err) == (0, "")
    assert proxy.counts.faults == 1
    assert tree(tmp_path / "dst") == OBJECTS
    assert grades(tmp_path / "dst") == {"A": 4}


@pytest.mark.parametrize(("key", "answers"), [("small", 2), ("mid", 2), ("large", 4)])
def test_byte_flipped_each_time_is_an_integrity_error_that_names_the_object(
    server: StrictS3, proxy: FaultProxy, environment: dict[str, str], tmp_path: Path, key: str, answers: int
) -> None:
    """``answers`` are all that bring the object's bytes in two attempts."""
    server.algorithm = "crc32c"
    proxy.add(Fault(path=key, corrupt_at=5, times=100))
    done = run_sync(SOURCE, tmp_path / "dst", environment)
    assert done.status == 4
    assert len(done.err.splitlines()) == 1
    assert f"{SOURCE}{key}" in done.err
    assert "CRC32C" in done.err
    assert key not in tree(tmp_path / "dst")
    assert proxy.counts.faults == answers
    proxy.clear()
    assert run_sync(SOURCE, tmp_path / "dst", environment).status == 0
    assert tree(tmp_path / "dst") == OBJECTS


def test_question_for_the_checksum_that_is_cut_off_is_asked_again(
    server: StrictS3, proxy: FaultProxy, environment: dict[str, str], tmp_path: Path
) -> None:
    server.algorithm = "crc32"
    proxy.add(Fault(method="HEAD", path="large", cut_at=0))
    assert run_sync(SOURCE, tmp_path / "dst", environment).status == 0
    assert grades(tmp_path / "dst") == {"A": 4}


@pytest.mark.parametrize(("status", "grade"), [(403, "B"), (503, "A")])
def test_question_for_the_checksum_that_is_refused_is_none_and_a_busy_server_is_asked_again(
    server: StrictS3, tmp_path: Path, status: int, grade: str
) -> None:
    server.algorithm = "crc32"
    server.buckets[BUCKET] = {"large": OBJECTS["large"]}
    server.reply(Reply(method="HEAD", status=status, code="OnOrder"))
    assert run_sync(SOURCE, tmp_path / "dst", server.environment()).status == 0
    assert grades(tmp_path / "dst") == {grade: 1}


def fetched(server: S3Server, bucket: str, objects: Objects, destination: Path) -> dict[str, int]:
    server.make_bucket(bucket)
    server.fill(bucket, objects)
    assert run_sync(f"s3://{bucket}/", destination, server.environment()).status == 0
    assert tree(destination) == OBJECTS
    return grades(destination)


def test_checksum_that_rclone_sends_with_a_range_is_ignored(
    rclone: RcloneS3, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    assert sum(fetched(rclone, bucket_name(), OBJECTS, tmp_path / "dst").values()) == 4


def test_objects_of_moto_arrive(moto: MotoS3, bucket_name: Callable[[], str], tmp_path: Path) -> None:
    assert sum(fetched(moto, bucket_name(), OBJECTS, tmp_path / "dst").values()) == 4


def test_crc64nvme_that_seaweedfs_keeps_is_compared(
    weed: SeaweedFS, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    client = weed.client()
    for key, content in OBJECTS.items():
        client.put_object(Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="CRC64NVME")
    client.close()
    assert run_sync(f"s3://{bucket}/", tmp_path / "dst", weed.environment()).status == 0
    assert tree(tmp_path / "dst") == OBJECTS
    assert grades(tmp_path / "dst") == {"A": 4}
    with fault_proxy(weed.address) as proxy:
        through = replace(weed, endpoint_url=proxy.url).environment()
        proxy.add(Fault(path="large", corrupt_at=5), Fault(path="small", corrupt_at=0))
        assert run_sync(f"s3://{bucket}/", tmp_path / "again", through).status == 0
        assert proxy.counts.faults == 2
    assert tree(tmp_path / "again") == OBJECTS
