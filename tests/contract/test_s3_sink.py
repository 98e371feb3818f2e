"""Logs and results in S3: on several makes of it, and where the fixture misbehaves on order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from servers.s3 import S3Server
from stager.config import Remote
from stager.errors import HostError, StagerError
from stager.stages.collect import Collected, collect_tree
from stager.stages.collect_s3 import S3Sink
from stager.stages.collect_sink import Tally

LARGE = os.urandom(17 << 20) + b"end"  # three parts


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    path = tmp_path / "logs"
    (path / "run 1" / "deep").mkdir(parents=True)
    (path / "out.txt").write_bytes(b"result")
    (path / "empty").touch()
    (path / "run 1" / "deep" / "ünd+%&").write_bytes(b"events")
    (path / "large").write_bytes(LARGE)
    (path / "latest").symlink_to("run 1/deep")
    (path / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(path / "pipe")
    return path


@pytest.fixture(params=["weed", "moto", "juicefs"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    for name, value in found.environment().items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def client(server: S3Server) -> Iterator[Any]:
    with closing(server.client()) as opened:
        yield opened


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> str:
    name = f"kept-{abs(hash(request.node.name)) % 10**8}"
    client.create_bucket(Bucket=name)
    return name


@contextmanager
def sink_at(place: str) -> Iterator[S3Sink]:
    with closing(S3Sink(place, 2, Remote())) as opened:
        yield opened


def collect(logs: Path, place: str, token: str = "7 a", **tally: Any) -> Collected:
    with sink_at(place) as sink:
        return collect_tree(str(logs), sink, token=token, tally=Tally(**tally))


def objects(client: Any, bucket: str, prefix: str = "") -> dict[str, bytes]:
    rows = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {row["Key"]: client.get_object(Bucket=bucket, Key=row["Key"])["Body"].read() for row in rows}


def test_a14_prefix_holds_only_what_the_job_wrote_and_the_receipt_comes_last(
    logs: Path, client: Any, bucket: str
) -> None:
    found = collect(logs, f"s3://{bucket}/logs/7/0")
    kept = {"out.txt": b"result", "empty": b"", "run 1/deep/ünd+%&": b"events", "large": LARGE}
    assert objects(client, bucket, "logs/7/") == {f"logs/7/0/{name}": body for name, body in kept.items()}
    assert (found.total.objects, found.total.bytes) == (4, sum(map(len, kept.values())))
    assert [text.split(":")[0] for text in found.left_out] == ["pipe"] and found.is_whole
    system = objects(client, bucket, "logs/.stager/7/0/")
    assert set(system) == {"logs/.stager/7/0/job", "logs/.stager/7/0/receipt.json"}
    receipt = system["logs/.stager/7/0/receipt.json"].decode()
    assert '"state": "done"' in receipt and '"/etc/passwd"' in receipt and '"run 1/deep"' in receipt
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_collecting_again_brings_what_is_missing_and_writes_over_nothing_of_others(
    logs: Path, client: Any, bucket: str
) -> None:
    place = f"s3://{bucket}/logs/7/0"
    collect(logs, place)
    before = {row["Key"]: row["LastModified"] for row in client.list_objects_v2(Bucket=bucket)["Contents"]}
    client.delete_object(Bucket=bucket, Key="logs/7/0/empty")
    (logs / "out.txt").write_bytes(b"longer result")
    collect(logs, place)
    found = objects(client, bucket, "logs/7/")
    assert found["logs/7/0/empty"] == b"" and found["logs/7/0/out.txt"] == b"longer result"
    after = {row["Key"]: row["LastModified"] for row in client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert after["logs/7/0/large"] == before["logs/7/0/large"]
    with pytest.raises(HostError, match="another job"):
        collect(logs, place, "8 b")
    client.put_object(Bucket=bucket, Key="other/7/0/thesis", Body=b"precious")
    with pytest.raises(HostError, match="not this job's"):
        collect(logs, f"s3://{bucket}/other/7/0")
    client.put_object(Bucket=bucket, Key="logs/7/0/late", Body=b"of somebody else")
    (logs / "late").write_bytes(b"late")
    with pytest.raises(HostError, match="somebody else"):
        collect(logs, place)
    assert objects(client, bucket, "logs/7/0/late") == {"logs/7/0/late": b"of somebody else"}


def test_upload_that_a_killed_stager_began_is_forgotten(logs: Path, client: Any, bucket: str) -> None:
    place = f"s3://{bucket}/logs/7/0"
    with sink_at(place) as sink:
        assert sink.claim("7 a")
    client.create_multipart_upload(Bucket=bucket, Key="logs/7/0/large")
    client.create_multipart_upload(Bucket=bucket, Key="logs/7/1/large")
    collect(logs, place)
    left = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [upload["Key"] for upload in left] == ["logs/7/1/large"]


def test_mark_of_a_place_that_nothing_came_to_goes(client: Any, bucket: str) -> None:
    with sink_at(f"s3://{bucket}/logs/7/0") as sink:
        assert sink.claim("7 a") and not sink.claim("8 b")
        sink.release("8 b")
        assert objects(client, bucket) != {}
        sink.release("7 a")
    assert objects(client, bucket) == {}


def test_bucket_that_is_not_there_is_told(logs: Path, server: S3Server) -> None:
    with pytest.raises(StagerError, match="nobody-has-this"):
        collect(logs, "s3://nobody-has-this/logs/7/0")
