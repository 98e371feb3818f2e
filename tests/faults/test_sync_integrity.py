"""Digests that do not combine, and those of parts: what is compared, what is not and why, and what is required."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from faults.syncing import receipt, run_sync, tree
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.s3 import object_bytes
from servers.seaweedfs import SeaweedFS
from servers.strict_s3 import StrictS3

MIB = 1 << 20
BUCKET = "bucket"
SOURCE = f"s3://{BUCKET}/"
EVEN, UNEVEN = [8 * MIB, 8 * MIB, 3 * MIB], [5 * MIB, 7 * MIB, 7 * MIB]
OBJECTS = {
    "even": object_bytes(sum(EVEN), seed=1),
    "one": object_bytes(6 * MIB, seed=2),
    "two": object_bytes(11 * MIB + 5, seed=3),
    "odd": object_bytes(sum(UNEVEN), seed=4),
}
PARTS = {"even": EVEN, "one": [6 * MIB], "two": [8 * MIB, 3 * MIB + 5], "odd": UNEVEN}


@pytest.fixture
def server(strict: StrictS3) -> StrictS3:
    """Objects that were uploaded in parts, with digests of parts."""
    strict.buckets[BUCKET] = dict(OBJECTS)
    strict.parts, strict.composites = dict(PARTS), set(PARTS)
    return strict


@pytest.fixture
def proxy(server: StrictS3) -> Iterator[FaultProxy]:
    with fault_proxy(("127.0.0.1", urlsplit(server.endpoint_url).port or 0)) as proxy:
        yield proxy


def parts_asked(server: StrictS3) -> dict[str, list[int]]:
    """Key to the numbers of stored parts that were asked for."""
    asked: dict[str, list[int]] = {}
    for method, target in server.requests:
        if found := re.fullmatch(rf"/{BUCKET}/(.*)\?partNumber=(\d+)", target):
            assert method == "HEAD"
            asked.setdefault(found[1], []).append(int(found[2]))
    return {key: sorted(numbers) for key, numbers in asked.items()}


@pytest.mark.parametrize("algorithm", ["crc32", "sha1", "sha256"])
def test_composites_are_recomputed_on_the_stored_parts(server: StrictS3, tmp_path: Path, algorithm: str) -> None:
    """All parts are asked for where the first one's length cannot be everybody's: not before it turns out wrong."""
    server.algorithm = algorithm
    assert run_sync(SOURCE, tmp_path / "dst", server.environment(), "--require-integrity", "A").status == 0
    assert tree(tmp_path / "dst") == OBJECTS
    assert receipt(tmp_path / "dst")["grades"] == {"A": 4}
    assert receipt(tmp_path / "dst")["unverified"] == {}
    assert parts_asked(server) == {"even": [1], "two": [1], "odd": [1, 1, 2, 3]}
    read_back = sum(len(OBJECTS[key]) for key in ("even", "two", "odd"))
    assert receipt(tmp_path / "dst")["read_back_bytes"] in (read_back, read_back + len(OBJECTS["odd"]))


def test_etags_of_parts_are_recomputed_when_integrity_is_strict(server: StrictS3, tmp_path: Path) -> None:
    del server.buckets[BUCKET]["even"]
    assert run_sync(SOURCE, tmp_path / "dst", server.environment()).status == 0
    assert receipt(tmp_path / "dst")["unverified"] == {"etag-of-parts": 3}
    assert parts_asked(server) == {}
    done = run_sync(SOURCE, tmp_path / "strict", server.environment(), "--integrity", "strict")
    assert (done.status, receipt(tmp_path / "strict")["grades"]) == (0, {"A": 3})
    assert tree(tmp_path / "dst") == tree(tmp_path / "strict") == server.buckets[BUCKET]


def test_parts_that_are_not_told_leave_grade_b_and_say_why(server: StrictS3, tmp_path: Path) -> None:
    server.algorithm, server.parts_told = "sha256", False
    server.buckets[BUCKET] = {key: OBJECTS[key] for key in ("one", "two")}
    done = run_sync(SOURCE, tmp_path / "dst", server.environment(), "-v")
    assert done.status == 0
    assert receipt(tmp_path / "dst")["grades"] == {"A": 1, "B": 1}
    assert receipt(tmp_path / "dst")["unverified"] == {"parts-unknown": 1}
    assert "1 object not of grade A: only a checksum of parts is announced" in done.err


@pytest.mark.parametrize(("key", "algorithm"), [("even", "crc32c"), ("two", "sha256"), ("odd", "crc32"), ("odd", "")])
def test_byte_flipped_in_a_part_is_found(
    server: StrictS3, proxy: FaultProxy, tmp_path: Path, key: str, algorithm: str
) -> None:
    server.algorithm, server.buckets[BUCKET] = algorithm, {key: OBJECTS[key]}
    environment = {**server.environment(), "AWS_ENDPOINT_URL": proxy.url}
    proxy.add(Fault(path=f"/{key}", method="GET", corrupt_at=99))
    assert run_sync(SOURCE, tmp_path / "dst", environment, "--integrity", "strict").status == 0
    assert proxy.counts.faults == 1
    assert tree(tmp_path / "dst") == {key: OBJECTS[key]}
    assert receipt(tmp_path / "dst")["grades"] == {"A": 1}
    proxy.add(Fault(path=f"/{key}", method="GET", corrupt_at=99, times=100))
    done = run_sync(SOURCE, tmp_path / "again", environment, "--integrity", "strict")
    assert done.status == 4
    assert f"{SOURCE}{key}" in done.err
    assert tree(tmp_path / "again") == {}


def test_objects_below_the_required_grade_are_not_fetched_and_named(server: StrictS3, tmp_path: Path) -> None:
    """Neither are those staged that an earlier run brought: they are asked for again, and may reach it now."""
    server.buckets[BUCKET] = {"two": OBJECTS["two"]} | {f"small-{number}": b"%d" % number for number in range(3)}
    server.parts |= {f"small-{number}": [1] for number in range(2)}
    server.parts_told = False
    assert run_sync(SOURCE, tmp_path / "dst", server.environment()).status == 0
    assert receipt(tmp_path / "dst")["grades"] == {"A": 1, "B": 3}
    server.requests.clear()
    done = run_sync(SOURCE, tmp_path / "dst", server.environment(), "--require-integrity", "A")
    assert done.status == 4
    assert "3 objects do not reach grade A" in done.err
    assert f"{SOURCE}small-0: cannot reach the grade that is required (no checksum is announced" in done.err
    assert "small-2" not in done.err
    assert not (tmp_path / "dst" / ".stager" / "receipt.json").exists()
    done = run_sync(SOURCE, tmp_path / "new", server.environment(), "--require-integrity", "A", "--json")
    assert (done.status, tree(tmp_path / "new")) == (4, {"small-2": b"2"})
    error = json.loads(done.out.splitlines()[-1])
    assert (error["class"], len(error["problems"])) == ("GradeError", 3)
    server.parts_told = True
    options = ("--require-integrity", "A", "--integrity", "strict")
    assert run_sync(SOURCE, tmp_path / "dst", server.environment(), *options).status == 0
    assert receipt(tmp_path / "dst")["grades"] == {"A": 4}
    assert receipt(tmp_path / "dst")["moved"]["objects"] == 3
    assert run_sync(SOURCE, tmp_path / "dst", server.environment(), *options).status == 0
    assert receipt(tmp_path / "dst")["moved"]["objects"] == 0


def test_thousands_below_the_required_grade_end_the_run_after_a_hundred(server: StrictS3, tmp_path: Path) -> None:
    server.buckets[BUCKET] = {f"{number:04}": b"x" for number in range(3000)}
    done = run_sync(
        SOURCE, tmp_path / "dst", server.environment(), "--require-integrity", "A", "--integrity", "light"
    )
    assert done.status == 4
    assert len(done.err.splitlines()) == 22
    assert 100 <= len(server.requests) < 3000


def test_local_source_is_refused_when_grade_a_is_required(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    done = run_sync(f"file://{tmp_path}/src", tmp_path / "dst", {}, "--require-integrity", "A")
    assert done.status == 4
    assert "reaches grade B, and A is required" in done.err
    assert not (tmp_path / "dst").exists()


def upload_in_parts(client: Any, bucket: str, key: str, **checksum: str) -> None:
    content, parts = OBJECTS[key], []
    upload = client.create_multipart_upload(Bucket=bucket, Key=key, **checksum)["UploadId"]
    for number, (start, end) in enumerate(pairwise([0, *accumulate(PARTS[key])]), 1):
        told = client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=content[start:end], **checksum
        )
        sums = {name: value for name, value in told.items() if name in ("ETag", "ChecksumSHA256", "ChecksumCRC32")}
        parts.append({"PartNumber": number, **sums})
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})


def test_digests_of_parts_that_seaweedfs_keeps_are_recomputed(
    weed: SeaweedFS, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    bucket, client = bucket_name(), weed.client()
    weed.make_bucket(bucket)
    upload_in_parts(client, bucket, "even", ChecksumAlgorithm="SHA256")
    upload_in_parts(client, bucket, "odd", ChecksumAlgorithm="CRC32")
    upload_in_parts(client, bucket, "two")
    client.close()
    options = ("--integrity", "strict", "--require-integrity", "A")
    assert run_sync(f"s3://{bucket}/", tmp_path / "dst", weed.environment(), *options).status == 0
    assert tree(tmp_path / "dst") == {key: OBJECTS[key] for key in ("even", "odd", "two")}
    assert receipt(tmp_path / "dst")["grades"] == {"A": 3}


def test_parts_of_a_version_are_those_that_are_asked_for(server: StrictS3, tmp_path: Path) -> None:
    server.algorithm, server.versions = "sha256", {"odd": {"v/1": OBJECTS["odd"]}}
    source = f"{SOURCE}odd?versionId=v/1"
    assert run_sync(source, tmp_path / "dst", server.environment(), "--require-integrity", "A").status == 0
    assert tree(tmp_path / "dst") == {"odd": OBJECTS["odd"]}
    asked = [target for method, target in server.requests if method == "HEAD" and "partNumber" in target]
    assert f"/{BUCKET}/odd?partNumber=3&versionId=v%2F1" in asked
