"""The S3 servers of the tests, one by one: each does what `contract.s3_believed` says, and sync is right on it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from contract.s3_believed import BELIEVED, Believed, StrictServer
from model.launcher import Launcher, Run, launcher
from servers.s3 import Identity, S3Server, object_bytes
from servers.strict_s3 import strict_s3
from stager.sources.s3_order import lists_in_byte_order

ODD = [
    "a//b", "/lead", "a/../b", "a/./b", ".", "..", "n" * 256, "n" * 255, "line\nfeed", "\x01control", "back\\slash",
    "sp ace", "pl+us", "%41", "\u00e9", "e\u0301", "\U0001f600", "-rf", "trailing ", "q?u#e;r:y,'\"!*()&=~",
]  # fmt: skip
IN_ORDER = ["B", "a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "ab"]
"""In byte order, which is not that of directories: a-b < a.b < a/b."""
TEN = b"0123456789"
LARGE = object_bytes((16 << 20) + 3, 7)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One server with a bucket of its own. ``client`` is botocore's."""

    name: str
    server: S3Server
    believed: Believed
    client: Any
    new_bucket: Callable[[], str]

    def bucket(self, *keys: str, **objects: bytes) -> str:
        """A new one with these objects."""
        bucket = self.new_bucket()
        self.server.make_bucket(bucket)
        self.server.fill(bucket, {**{key: key.encode() for key in keys}, **objects})
        return bucket

    def keys(self, bucket: str, **how: Any) -> list[str]:
        return [row["Key"] for row in self.client.list_objects_v2(Bucket=bucket, **how).get("Contents", [])]

    def get(self, bucket: str, key: str, **how: Any) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers; of an error status, code and nothing."""
        try:
            answer = self.client.get_object(Bucket=bucket, Key=key, **how)
        except botocore.exceptions.ClientError as error:
            said = error.response
            return said["ResponseMetadata"]["HTTPStatusCode"], said["Error"]["Code"].encode(), {}
        body = answer["Body"].read()
        return answer["ResponseMetadata"]["HTTPStatusCode"], body, answer["ResponseMetadata"]["HTTPHeaders"]


@pytest.fixture(scope="module")
def strict_server() -> Iterator[StrictServer]:
    with strict_s3() as s3:
        yield StrictServer.of(s3)


@pytest.fixture(scope="module", params=list(BELIEVED))
def trial(request: pytest.FixtureRequest, bucket_name: Callable[[], str]) -> Iterator[Trial]:
    server = request.getfixturevalue("strict_server" if request.param == "strict" else request.param)
    client = server.client(attempts=1)
    yield Trial(
        name=request.param, server=server, believed=BELIEVED[request.param], client=client, new_bucket=bucket_name
    )
    client.close()


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with launcher(tmp_path_factory.mktemp("runs")) as made:
        yield made


def sync(starter: Launcher, trial: Trial, bucket: str, destination: Path, *options: str, prefix: str = "") -> Run:
    argv = ["sync", f"s3://{bucket}/{prefix}", str(destination), *options]
    return starter.run(argv, trial.server.environment())


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".stager" not in path.parts
    }


def held_together(trial: Trial) -> list[str]:
    """Those of IN_ORDER that the server can hold at a time."""
    holds = trial.believed.holds_file_and_directory
    return IN_ORDER if holds else [key for key in IN_ORDER if key != "a/b"]


def test_listing_is_complete_and_in_the_order_written_down(trial: Trial) -> None:
    keys = held_together(trial)
    bucket = trial.bucket(*keys)
    listed = trial.keys(bucket)
    assert sorted(listed) == keys
    assert (listed == keys) is trial.believed.in_byte_order
    assert not lists_in_byte_order(trial.server.address[0], bucket, "auto"), "only what is known is taken for granted"
    pages, token = [], {}
    for _ in keys:
        page = trial.client.list_objects_v2(Bucket=bucket, MaxKeys=2, **token)
        pages += [row["Key"] for row in page["Contents"]]
        if not page["IsTruncated"]:
            break
        token = {"ContinuationToken": page["NextContinuationToken"]}
    assert pages == listed
    assert sorted(trial.keys(bucket, Prefix="a")) == [key for key in keys if key.startswith("a")]
    assert sorted(trial.keys(bucket, Prefix="a/b/")) == ["a/b/c"]
    after = trial.keys(bucket, StartAfter="a.b")
    assert (sorted(after) == [key for key in keys if key > "a.b"]) is trial.believed.start_after_is_complete


def test_odd_names_are_taken_refused_or_changed_as_written_down(trial: Trial) -> None:
    refused: dict[str, int] = {}
    listed_as: dict[str, str] = {}
    bucket, before = trial.bucket(), set[str]()
    for name in ODD:
        try:
            if isinstance(trial.server, StrictServer):
                trial.server.fill(bucket, {name: TEN})
            else:
                trial.client.put_object(Bucket=bucket, Key=name, Body=TEN)
        except botocore.exceptions.ClientError as error:
            refused[name] = error.response["ResponseMetadata"]["HTTPStatusCode"]
            before = set(trial.keys(bucket))  # rclone has by then made a file of another name
            continue
        now = set(trial.keys(bucket))
        (key,) = now - before
        before = now
        if key != name:
            listed_as[name] = key
        assert trial.get(bucket, key)[:2] == (200, TEN)
    assert refused == trial.believed.refuses
    assert listed_as == trial.believed.changes


def test_answers_are_those_of_the_documentation_but_for_what_is_written_down(trial: Trial) -> None:
    believed = trial.believed
    bucket = trial.bucket(ten=TEN, empty=b"")
    status, body, headers = trial.get(bucket, "ten")
    assert (status, body, headers["content-length"]) == (200, TEN, "10")
    assert headers["etag"] == f'"{hashlib.md5(TEN).hexdigest()}"'
    status, body, headers = trial.get(bucket, "ten", Range="bytes=2-4")
    assert (status, body, headers["content-range"]) == (believed.status_of_range, b"234", "bytes 2-4/10")
    assert trial.get(bucket, "ten", Range="bytes=10-11")[:2] == (416, b"InvalidRange")
    assert trial.get(bucket, "empty")[:2] == (200, b"")
    assert trial.get(bucket, "empty", Range="bytes=0-0")[:2] == (416, b"InvalidRange")
    assert trial.get(bucket, "ten", IfMatch=headers["etag"])[0] == 200
    assert trial.get(bucket, "ten", IfMatch='"other"')[0] == (412 if believed.if_match else 200)
    assert trial.get(bucket, "nothing")[:2] == (404, b"NoSuchKey")
    assert trial.get("there-is-none", "x")[:2] == (404, b"NoSuchBucket")


@pytest.mark.parametrize(
    ("identity", "code"),
    [(lambda right: replace(right, secret_key="wrong"), "SignatureDoesNotMatch"),
     (lambda right: Identity("nobody", "wrong"), "InvalidAccessKeyId")],
    ids=["secret", "key"],
)  # fmt: skip
def test_wrong_credentials_are_refused_by_both(
    trial: Trial, starter: Launcher, tmp_path: Path, identity: Callable[[Identity], Identity], code: str
) -> None:
    bucket = trial.bucket(ten=TEN)
    wrong = identity(trial.server.identity)
    client = trial.server.client(identity=wrong)
    try:
        client.list_objects_v2(Bucket=bucket)
    except botocore.exceptions.ClientError as error:
        assert (error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]) == (403, code)
        assert trial.believed.checks_signatures
    else:
        assert not trial.believed.checks_signatures
    finally:
        client.close()
    done = starter.run(["sync", f"s3://{bucket}", str(tmp_path / "dst")], trial.server.environment(wrong))
    assert done.code == (3 if trial.believed.checks_signatures else 0)


def test_what_an_upload_in_parts_and_a_checksum_leave_is_as_written_down(trial: Trial) -> None:
    if isinstance(trial.server, StrictServer):
        trial.server.s3.algorithm = "crc32c"
        bucket = trial.bucket(checked=TEN)
    else:
        bucket = trial.bucket()
        trial.client.put_object(Bucket=bucket, Key="checked", Body=TEN, ChecksumAlgorithm="CRC32C")
        upload = {"Bucket": bucket, "Key": "parts"}
        upload["UploadId"] = trial.client.create_multipart_upload(**upload)["UploadId"]
        etags = [
            trial.client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
            for number, body in enumerate((bytes(5 << 20), b"end"), 1)
        ]
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        trial.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        etag = trial.client.head_object(Bucket=bucket, Key="parts")["ETag"]
        assert etag.endswith('-2"') is trial.believed.parts_show_in_etag
    told = trial.get(bucket, "checked", ChecksumMode="ENABLED")[2].get("x-amz-checksum-crc32c")
    assert told == ("KAwGng==" if trial.believed.checksum_told else None)


def test_sync_is_right_whatever_the_server_is_believed_on(trial: Trial, starter: Launcher, tmp_path: Path) -> None:
    """With --listing-order byte-order also on the one that does not list so: that is found out."""
    plain = {f"set/{key}": key.encode() for key in held_together(trial)}
    odd = {
        f"set/odd/{name}": b"odd"
        for name in ODD
        if name not in trial.believed.refuses and name not in trial.believed.changes and "/" not in name
        if name not in (".", "..") and len(name.encode()) < 256
    }
    objects = {**plain, **odd, "set/empty": b"", "set/large": LARGE}
    bucket = trial.bucket()
    trial.server.fill(bucket, {**objects, "set2/x": b"a neighbour", "set-x": b"another"})
    wanted = {key.removeprefix("set/"): content for key, content in objects.items()}
    if trial.believed.holds_file_and_directory:  # no file system does
        failed = sync(starter, trial, bucket, tmp_path / "dst", prefix="set")
        assert failed.code == 2
        assert "a/b: is a file and also a directory" in failed.err
        del wanted["a/b"]
    for order in ("auto", "byte-order"):
        options = ["--on-bad-key=skip", f"--listing-order={order}"]
        assert sync(starter, trial, bucket, tmp_path / order, *options, prefix="set").code == 0
        assert tree(tmp_path / order) == wanted
        assert "fetched 0 objects" in sync(starter, trial, bucket, tmp_path / order, *options, prefix="set").out
    trial.server.fill(bucket, {"set/empty": b"no longer", "set/ab": b"AB"})
    done = sync(starter, trial, bucket, tmp_path / "auto", "--on-bad-key=skip", prefix="set")
    assert "fetched 2 objects" in done.out, done
    assert tree(tmp_path / "auto") == {**wanted, "empty": b"no longer", "ab": b"AB"}


def test_more_keys_than_a_page_holds_are_all_there(
    trial: Trial, starter: Launcher, tmp_path: Path, soak: int
) -> None:
    is_slow = trial.name in ("juicefs", "moto")  # ten seconds for so many uploads
    names = [f"{number % 3}/{number:04d}" for number in range(20 if is_slow and soak == 1 else 1005)]
    bucket = trial.bucket()
    trial.server.fill(bucket, ((name, b"") for name in names))
    assert len(trial.keys(bucket)) == min(len(names), trial.believed.keys_a_page)
    assert f"would fetch {len(names)} objects" in sync(starter, trial, bucket, tmp_path / "dst", "--dry-run").out


def test_table_names_every_server_and_no_two_alike() -> None:
    assert all(one != other for one, other in itertools.combinations(BELIEVED.values(), 2))
