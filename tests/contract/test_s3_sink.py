"""Logs and results in S3: on several makes of it, and where the fixture misbehaves on order."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from servers.s3 import S3Server
from servers.strict_s3 import Reply, StrictS3
from stager.config import Remote
from stager.errors import AccessDeniedError, HostError, IntegrityError, NotFoundError, TransientError
from stager.stages.collect import Collected, collect_tree
from stager.stages.collect_s3 import S3Sink
from stager.stages.collect_sink import Tally

LARGE = os.urandom(9 << 20)  # two parts


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    path = tmp_path / "logs"
    (path / "run 1" / "deep").mkdir(parents=True)
    (path / "out.txt").write_bytes(b"result")
    (path / "empty").touch()
    (path / "run 1" / "deep" / "ünd+%&").write_bytes(b"events")
    return path


def use(server: S3Server | StrictS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["weed", "moto"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    use(found, monkeypatch)
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


@pytest.fixture
def kept(strict: StrictS3, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The objects of the bucket "kept" of the strict fixture."""
    use(strict, monkeypatch)
    strict.buckets["kept"] = {}
    return strict.buckets["kept"]


@contextmanager
def sink_at(place: str, remote: Remote | None = None) -> Iterator[S3Sink]:
    with closing(S3Sink(place, 2, remote or Remote())) as opened:
        yield opened


def collect(logs: Path, place: str, token: str = "7 a", **tally: Any) -> Collected:
    with sink_at(place) as sink:
        return collect_tree(str(logs), sink, token=token, tally=Tally(**tally))


def objects(client: Any, bucket: str, prefix: str = "") -> dict[str, bytes]:
    rows = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return {row["Key"]: client.get_object(Bucket=bucket, Key=row["Key"])["Body"].read() for row in rows}


def test_a14_c20_prefix_holds_only_what_the_job_wrote_and_the_rest_comes_the_next_time(
    logs: Path, client: Any, bucket: str
) -> None:
    (logs / "large").write_bytes(LARGE)
    (logs / "latest").symlink_to("run 1/deep")
    (logs / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(logs / "pipe")
    place = f"s3://{bucket}/logs/7/0"
    with sink_at(place) as sink:
        assert sink.claim("7 a") and not sink.claim("8 b")
    for rank in (0, 1):
        client.create_multipart_upload(Bucket=bucket, Key=f"logs/7/{rank}/large")
    found = collect(logs, place)
    files = {"out.txt": b"result", "empty": b"", "run 1/deep/ünd+%&": b"events", "large": LARGE}
    assert objects(client, bucket, "logs/7/") == {f"logs/7/0/{name}": body for name, body in files.items()}
    assert (found.total.objects, found.total.bytes) == (4, sum(map(len, files.values())))
    assert [text.split(":")[0] for text in found.left_out] == ["pipe"] and found.is_whole
    system = objects(client, bucket, "logs/.stager/7/0/")
    assert set(system) == {"logs/.stager/7/0/job", "logs/.stager/7/0/receipt.json"}
    receipt = json.loads(system["logs/.stager/7/0/receipt.json"])
    assert receipt["symlinks"] == [["latest", "run 1/deep"], ["passwd", "/etc/passwd"]]
    left = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [upload["Key"] for upload in left] == ["logs/7/1/large"]
    before = client.head_object(Bucket=bucket, Key="logs/7/0/large")["LastModified"]
    client.delete_object(Bucket=bucket, Key="logs/7/0/empty")
    (logs / "out.txt").write_bytes(b"longer result")
    collect(logs, place)
    assert objects(client, bucket, "logs/7/0/empty") == {"logs/7/0/empty": b""}
    assert objects(client, bucket, "logs/7/0/out") == {"logs/7/0/out.txt": b"longer result"}
    assert client.head_object(Bucket=bucket, Key="logs/7/0/large")["LastModified"] == before


def test_nothing_of_anybody_else_is_written_over(logs: Path, strict: StrictS3, kept: dict[str, bytes]) -> None:
    collect(logs, "s3://kept/logs/7/0")
    with pytest.raises(HostError, match="another job"):
        collect(logs, "s3://kept/logs/7/0", "8 b")
    kept["other/7/0/thesis"] = b"precious"
    with pytest.raises(HostError, match="not this job's"):
        collect(logs, "s3://kept/other/7/0")
    (logs / "late").write_bytes(b"late")

    def somebody_is_quicker(method: str, target: str) -> None:
        if method == "PUT" and target.endswith("/late"):
            kept.setdefault("logs/7/0/late", b"of somebody else")

    strict.on_request = somebody_is_quicker
    with pytest.raises(HostError, match="somebody else"):
        collect(logs, "s3://kept/logs/7/0")
    assert kept["logs/7/0/late"] == b"of somebody else"


def test_mark_of_a_place_that_nothing_came_to_goes(strict: StrictS3, kept: dict[str, bytes]) -> None:
    strict.requester_pays, strict.owners = {"kept"}, {"kept": "1" * 12}
    with sink_at("s3://kept/7/0") as sink, pytest.raises(AccessDeniedError):
        sink.claim("7 a")
    with sink_at("s3://kept/7/0", Remote(request_payer=True, expected_bucket_owner="1" * 12)) as sink:
        assert sink.claim("7 a")
        sink.release("8 b")
        assert set(kept) == {".stager/7/0/job"}
        sink.release("7 a")
    assert kept == {}


def test_q8_completion_that_answers_200_with_an_error_is_a_failure(
    logs: Path, strict: StrictS3, kept: dict[str, bytes]
) -> None:
    (logs / "large").write_bytes(LARGE)
    strict.reply(Reply(path="large?uploadId", method="POST", times=9, status=200, code="InternalError"))
    with pytest.raises(TransientError, match="InternalError"):
        collect(logs, "s3://kept/7/0")
    assert "7/0/large" not in kept and ".stager/7/0/receipt.json" not in kept
    assert strict.uploads == {}


def test_damage_on_the_way_is_refused_and_what_a_server_lost_is_noticed(
    logs: Path, strict: StrictS3, kept: dict[str, bytes]
) -> None:
    def lose(method: str, target: str) -> None:
        if method == "HEAD" and target.endswith("/out.txt"):
            kept["7/0/out.txt"] = b"rEsult"

    strict.on_request, strict.conditions = lose, False  # and one that knows no conditional writes
    strict.sums = _Forgetful()
    with pytest.raises(IntegrityError, match=r"out\.txt.*not what was written"):
        collect(logs, "s3://kept/7/0")
    assert ".stager/7/0/receipt.json" not in kept
    strict.on_request = None
    assert collect(logs, "s3://kept/7/0").is_whole
    receipt = json.loads(kept[".stager/7/0/receipt.json"])
    assert receipt["proved"] == {"B": 3}  # read back, for this server announces no checksum
    assert kept["7/0/out.txt"] == b"result"


class _Forgetful(dict[str, dict[str, str]]):
    """A server that keeps no checksum."""

    def __setitem__(self, key: str, value: dict[str, str]) -> None:
        """Nothing is kept."""


def test_what_an_object_store_cannot_hold_is_missing_and_said(logs: Path, kept: dict[str, bytes]) -> None:
    (logs / "hollow").touch()
    os.truncate(logs / "hollow", 1 << 40)
    (logs / os.fsdecode(b"latin-\xe9")).touch()
    found = collect(logs, "s3://kept/7/0")
    assert len(found.missing) == 2 and not found.is_whole
    assert "hollow: is 1099511627776 bytes long and holds 0" in found.missing[0]
    assert json.loads(kept[".stager/7/0/receipt.json"])["state"] == "partial"


def test_a_stop_ends_an_upload_and_leaves_none_behind(logs: Path, strict: StrictS3, kept: dict[str, bytes]) -> None:
    (logs / "large").write_bytes(LARGE)
    begun, ended = threading.Event(), threading.Event()

    def hold_parts(_method: str, target: str) -> None:
        if "partNumber=" in target:
            begun.set()
            ended.wait(60)

    strict.on_request = hold_parts
    with pytest.raises(HostError, match="stopped before"):
        collect(logs, "s3://kept/7/0", stopped=begun.is_set)
    ended.set()
    assert strict.uploads == {} and "7/0/large" not in kept


def test_bucket_that_is_not_there_is_told(logs: Path, kept: dict[str, bytes]) -> None:
    with pytest.raises(NotFoundError, match="nobody-has-this"):
        collect(logs, "s3://nobody-has-this/logs/7/0")
