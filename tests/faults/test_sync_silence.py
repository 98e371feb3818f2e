"""Servers that announce nothing of what was uploaded in parts: they are soon no longer asked, and no grade is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults.syncing import receipt, sync_here, tree
from servers.fault_proxy import fault_proxy
from servers.s3 import object_bytes
from servers.seaweedfs import SeaweedFS
from servers.strict_s3 import Answer, StrictS3

MIB = 1 << 20
BUCKET = "bucket"
PARTS = [5 * MIB, 7]
BODY = object_bytes(sum(PARTS), seed=9)
SILENT = [f"a{number:02}" for number in range(36)]
ASKED_AT_MOST = 16 + 8  # the answers that are believed, and one more under way for each that waited for them


@pytest.fixture
def server(strict: StrictS3) -> StrictS3:
    """Objects in parts without a checksum."""
    strict.buckets[BUCKET] = dict.fromkeys(SILENT, BODY)
    strict.parts = dict.fromkeys(SILENT, PARTS)
    strict.unsummed = set(SILENT)
    return strict


def heads(server: StrictS3) -> list[str]:
    return [target for method, target in server.requests if method == "HEAD"]


def upload(client: Any, bucket: str, key: str) -> None:
    upload_id = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    told, start = [], 0
    for number, size in enumerate(PARTS, 1):
        part = client.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=BODY[start : start + size]
        )
        told.append({"PartNumber": number, "ETag": part["ETag"]})
        start += size
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": told})


def test_seaweedfs_without_checksums_is_not_asked_of_each_object(
    weed: SeaweedFS, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    bucket, client = bucket_name(), weed.client()
    weed.make_bucket(bucket)
    for key in SILENT:
        upload(client, bucket, key)
    client.close()
    with fault_proxy(weed.address) as proxy:
        environment = {**weed.environment(), "AWS_ENDPOINT_URL": proxy.url}
        assert sync_here(f"s3://{bucket}", tmp_path / "dst", environment).status == 0
        targets = [target.partition("?")[0] for target in proxy.counts.targets if "list-type" not in target]
    assert tree(tmp_path / "dst") == dict.fromkeys(SILENT, BODY)
    assert receipt(tmp_path / "dst")["unverified"] == {"etag-of-parts": len(SILENT)}
    assert len(SILENT) < len(targets) <= len(SILENT) + ASKED_AT_MOST


@pytest.mark.parametrize("composite", [True, False])
def test_first_object_that_has_a_checksum_after_many_without_one_is_compared_with_it(
    server: StrictS3, tmp_path: Path, composite: bool
) -> None:
    """One of its parts breaks the silence; one of the whole comes with the object."""
    told = [f"b{number:02}" for number in range(10)]
    server.buckets[BUCKET] |= dict.fromkeys(told, BODY)
    server.parts |= dict.fromkeys(told, PARTS)
    server.algorithm = "sha256"
    server.composites = set(told) if composite else set()
    assert sync_here(f"s3://{BUCKET}", tmp_path / "dst", server.environment()).status == 0
    assert tree(tmp_path / "dst") == dict.fromkeys([*SILENT, *told], BODY)
    assert receipt(tmp_path / "dst")["grades"] == {"A": len(told), "B": len(SILENT)}
    asked = [target.partition("?")[0] for target in heads(server)]
    assert sum(f"/{BUCKET}/{key}" in asked for key in SILENT) <= ASKED_AT_MOST
    assert sum(f"/{BUCKET}/{key}" in asked for key in told) == (len(told) if composite else 0)


def test_digest_of_parts_that_breaks_the_silence_is_not_taken_on_trust(server: StrictS3, tmp_path: Path) -> None:
    server.buckets[BUCKET]["b"], server.parts["b"] = BODY, PARTS
    server.algorithm, server.composites = "sha256", {"b"}
    damaged = b"\0" + BODY[1:]

    def alter(answer: Answer) -> Answer:
        return replace(answer, body=damaged) if answer.target.startswith(f"/{BUCKET}/b") else answer

    server.alter = alter
    done = sync_here(f"s3://{BUCKET}", tmp_path / "dst", server.environment())
    assert done.status == 4
    assert f"s3://{BUCKET}/b" in done.err
    assert "b" not in tree(tmp_path / "dst")


def test_required_grade_is_asked_for_object_by_object(server: StrictS3, tmp_path: Path) -> None:
    server.buckets[BUCKET] = dict.fromkeys(SILENT[:20], BODY)
    done = sync_here(f"s3://{BUCKET}", tmp_path / "dst", server.environment(), "--require-integrity", "A")
    assert done.status == 4
    assert len(heads(server)) == 20
    assert tree(tmp_path / "dst") == {}
