"""The strict S3 takes what botocore sends, and refuses by the right code what S3 would refuse."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import botocore.config
import botocore.exceptions
import botocore.session
import pytest

from servers.certificates import Certificates
from servers.strict_s3 import Reply, StrictS3, strict_s3

KEYS = ["a b+c%41", "a-b", "a/b", "empty", "é"]


@pytest.fixture
def server() -> Iterator[StrictS3]:
    with strict_s3() as server:
        server.buckets["bucket"] = {key: key.encode() * 5 for key in KEYS} | {"empty": b""}
        yield server


def client(server: StrictS3, **changes: str) -> Any:
    chosen = {
        "region_name": server.region,
        "aws_access_key_id": server.identity.access_key,
        "aws_secret_access_key": server.identity.secret_key,
        "verify": server.ca_file,
    } | changes
    config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={})
    return botocore.session.Session().create_client("s3", endpoint_url=server.endpoint_url, config=config, **chosen)


def refusal(server: StrictS3, parameters: dict[str, Any] | None = None, **changes: str) -> str:
    with_changes = client(server, **changes)
    try:
        with pytest.raises(botocore.exceptions.ClientError) as error:
            with_changes.get_object(**({"Bucket": "bucket", "Key": "a-b"} | (parameters or {})))
    finally:
        with_changes.close()
    return str(error.value.response["Error"]["Code"])


def test_signed_listing_in_pages_and_every_object_are_served(server: StrictS3) -> None:
    server.page_size = 2
    reader = client(server)
    pages = reader.get_paginator("list_objects_v2").paginate(Bucket="bucket")
    assert [row["Key"] for page in pages for row in page["Contents"]] == KEYS
    for key in KEYS:
        assert reader.get_object(Bucket="bucket", Key=key)["Body"].read() == server.buckets["bucket"][key]
    part = reader.get_object(Bucket="bucket", Key="a-b", Range="bytes=3-5")
    assert (part["Body"].read(), part["ContentRange"]) == (b"a-b", "bytes 3-5/15")
    reader.close()


@pytest.mark.parametrize("algorithm", ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"])
def test_checksums_are_those_that_botocore_computes(server: StrictS3, algorithm: str) -> None:
    server.algorithm, server.composites, server.parts = algorithm, {"a/b"}, {"a/b": [7, 8]}
    reader = client(server)
    name = f"Checksum{algorithm.upper()}"
    for key, content in server.buckets["bucket"].items():
        answer = reader.get_object(Bucket="bucket", Key=key, ChecksumMode="ENABLED")
        assert answer["Body"].read() == content  # botocore compares it with a full object's checksum
        head = reader.head_object(Bucket="bucket", Key=key, ChecksumMode="ENABLED")
        assert (answer[name], answer["ChecksumType"]) == (head[name], head["ChecksumType"])
        assert answer["ChecksumType"] == ("COMPOSITE" if key == "a/b" else "FULL_OBJECT")
        assert answer[name].endswith("-2") is (key == "a/b")
    assert name not in reader.head_object(Bucket="bucket", Key="a-b")
    assert name not in reader.get_object(Bucket="bucket", Key="a-b", Range="bytes=0-1")
    reader.close()


def test_heads_of_parts_tell_where_they_lie(server: StrictS3) -> None:
    server.parts = {"a-b": [5, 7, 3]}
    reader = client(server)
    heads = [reader.head_object(Bucket="bucket", Key="a-b", PartNumber=number) for number in (1, 2, 3)]
    assert [head["ContentLength"] for head in heads] == [5, 7, 3]
    assert [head["ContentRange"] for head in heads] == ["bytes 0-4/15", "bytes 5-11/15", "bytes 12-14/15"]
    assert {head["PartsCount"] for head in heads} == {3}
    assert "PartsCount" not in reader.head_object(Bucket="bucket", Key="a/b", PartNumber=1)
    with pytest.raises(botocore.exceptions.ClientError, match="416"):
        reader.head_object(Bucket="bucket", Key="a-b", PartNumber=4)
    reader.close()


def test_https_serves_the_same(certificates: Certificates) -> None:
    with strict_s3(certificates) as server:
        server.buckets["bucket"] = {"k": b"v"}
        reader = client(server)
        assert reader.get_object(Bucket="bucket", Key="k")["Body"].read() == b"v"
        reader.close()


@pytest.mark.parametrize(
    ("parameters", "changes", "code"),
    [
        ({}, {"aws_secret_access_key": "wrong"}, "SignatureDoesNotMatch"),
        ({}, {"aws_access_key_id": "nobody"}, "InvalidAccessKeyId"),
        ({}, {"aws_session_token": "old"}, "ExpiredToken"),
        ({}, {"aws_session_token": "strange"}, "InvalidAccessKeyId"),
        ({"Key": "none"}, {}, "NoSuchKey"),
        ({"Bucket": "none"}, {}, "NoSuchBucket"),
        ({"Key": "empty", "Range": "bytes=0-0"}, {}, "InvalidRange"),
        ({"IfMatch": '"other"'}, {}, "PreconditionFailed"),
    ],
)
def test_wrong_request_is_refused_with_the_code_of_s3(
    server: StrictS3, parameters: dict[str, str], changes: dict[str, str], code: str
) -> None:
    server.expired_tokens.add("old")
    assert refusal(server, parameters, **changes) == code


def test_bucket_of_another_region_names_it_so_that_botocore_signs_again(server: StrictS3) -> None:
    server.buckets["far"], server.regions["far"] = {"k": b"v"}, "eu-west-1"
    reader = client(server)
    assert reader.get_object(Bucket="far", Key="k")["Body"].read() == b"v"
    reader.close()
    assert server.requests == [("GET", "/far/k")] * 2


def test_request_signed_at_another_time_is_refused(server: StrictS3) -> None:
    server.clock_offset_s = 3600
    assert refusal(server) == "RequestTimeTooSkewed"


def test_replies_on_order_come_first_and_end(server: StrictS3) -> None:
    server.reply(Reply(path="a-b", status=503, code="SlowDown"))
    assert refusal(server) == "SlowDown"
    reader = client(server)
    assert reader.get_object(Bucket="bucket", Key="a-b")["Body"].read()
    reader.close()


def test_objects_of_a_customers_key_want_it_over_https_with_its_md5(certificates: Certificates) -> None:
    key = bytes(range(32))
    asked = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key}
    with strict_s3(certificates) as server:
        server.buckets["bucket"], server.customer_keys = {"a-b": b"secret", "plain": b""}, {"a-b": key}
        reader = client(server)
        answer = reader.get_object(Bucket="bucket", Key="a-b", **asked)
        assert (answer["Body"].read(), answer["SSECustomerAlgorithm"]) == (b"secret", "AES256")
        listed = reader.list_objects_v2(Bucket="bucket")["Contents"][0]["ETag"]
        assert listed == answer["ETag"] == reader.head_object(Bucket="bucket", Key="a-b", **asked)["ETag"]
        assert listed.strip('"') != hashlib.md5(b"secret").hexdigest()
        reader.close()
        assert refusal(server) == "InvalidRequest"
        assert refusal(server, {**asked, "Key": "plain"}) == "InvalidRequest"
        assert refusal(server, {**asked, "SSECustomerKey": bytes(32)}) == "AccessDenied"
        wrong = {"SSECustomerKey": base64.b64encode(key).decode(), "SSECustomerKeyMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
        assert refusal(server, {**asked, **wrong}) == "InvalidArgument"


def test_who_pays_and_whose_the_bucket_is_are_conditions(server: StrictS3) -> None:
    server.requester_pays, server.owners = {"bucket"}, {"bucket": "123456789012"}
    assert refusal(server) == "AccessDenied"
    assert refusal(server, {"RequestPayer": "requester", "ExpectedBucketOwner": "0" * 12}) == "AccessDenied"
    reader = client(server)
    answer = reader.get_object(
        Bucket="bucket", Key="a-b", RequestPayer="requester", ExpectedBucketOwner="123456789012"
    )
    assert answer["RequestCharged"] == "requester"
    reader.close()


def test_archived_objects_are_listed_with_their_restores_and_read_when_these_are_done(server: StrictS3) -> None:
    server.storage_classes = dict.fromkeys(KEYS, "GLACIER") | {"empty": "INTELLIGENT_TIERING/ARCHIVE_ACCESS"}
    server.restored = {"a/b": True, "é": False}
    reader = client(server)
    rows = reader.list_objects_v2(Bucket="bucket", OptionalObjectAttributes=["RestoreStatus"])["Contents"]
    told = {row["Key"]: row["RestoreStatus"]["IsRestoreInProgress"] for row in rows if "RestoreStatus" in row}
    assert told == {"a/b": False, "é": True}
    assert [row["StorageClass"] for row in rows] == ["GLACIER"] * 3 + ["INTELLIGENT_TIERING", "GLACIER"]
    assert not any("RestoreStatus" in row for row in reader.list_objects_v2(Bucket="bucket")["Contents"])
    assert reader.get_object(Bucket="bucket", Key="a/b")["Body"].read()
    assert reader.head_object(Bucket="bucket", Key="a-b")["StorageClass"] == "GLACIER"
    reader.close()
    for key in ("a-b", "é", "empty"):
        assert refusal(server, {"Key": key}) == "InvalidObjectState"


def test_token_ends_by_the_clock_or_after_its_uses(server: StrictS3) -> None:
    server.token_ends = {"past": time.time() - 1, "twice": time.time() + 3600}
    server.token_uses = {"twice": 2}
    assert refusal(server, aws_session_token="past") == "ExpiredToken"
    reader = client(server, aws_session_token="twice")
    for _ in range(2):
        reader.head_object(Bucket="bucket", Key="a-b")
    reader.close()
    assert refusal(server, aws_session_token="twice") == "ExpiredToken"
