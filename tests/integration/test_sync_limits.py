"""The limits of a sync, as the server counts. Times are checked from below, which no slow machine can break."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration.sync_driver import Sync, tree, wait_until
from unit.scripted_http import Request, ScriptedServer, response, scripted

MIB = 1 << 20
LARGE = 18 * MIB + 5
BUSY = response(b"<Error><Code>SlowDown</Code></Error>", "503 Slow Down", None, retry_after="1")


def content(name: str, size: int) -> bytes:
    return (name.encode() + b".") * (size // (len(name) + 1)) + b"x" * (size % (len(name) + 1))


@dataclass
class Bucket:
    """Serves objects of a size each, and notes when what was asked and how many connections there were."""

    sizes: dict[str, int]
    refuse: set[str] = field(default_factory=set)  # once
    asked: list[tuple[str, float]] = field(default_factory=list)
    most_connections: int = 0
    think_s: float = 0.0  # before each object
    server: ScriptedServer | None = None

    def answer(self, request: Request, connection: socket.socket) -> None:
        assert self.server is not None
        self.most_connections = max(self.most_connections, len(self.server.open))
        if "list-type=2" in request.path:
            self.asked.append(("", time.monotonic()))
            connection.sendall(self.listing())
            return
        name = request.path.rpartition("/")[2]
        if request.method == "HEAD":
            connection.sendall(response(b"", content_length=str(self.sizes[name])))
            return
        self.asked.append((name, time.monotonic()))
        if name in self.refuse:
            self.refuse.discard(name)
            connection.sendall(BUSY)
            return
        time.sleep(self.think_s)
        body = content(name, self.sizes[name])
        if "range" not in request.headers:
            connection.sendall(response(body))
            return
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        part = {"content_range": f"bytes {first}-{last}/{len(body)}"}
        connection.sendall(response(body[first : last + 1], "206 Partial Content", **part))

    def listing(self) -> bytes:
        rows = "".join(
            f"<Contents><Key>p/{name}</Key><Size>{size}</Size><ETag>&quot;e&quot;</ETag></Contents>"
            for name, size in sorted(self.sizes.items())
        )
        return response(f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode())

    def sync(self, tmp_path: Path) -> Sync:
        assert self.server is not None
        return Sync(
            "s3://b/p",
            tmp_path / "dst",
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server.port}", "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            },
        )  # fmt: skip

    @property
    def listed_at(self) -> float:
        """Nothing was asked for before."""
        return self.asked[0][1]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    made = Bucket({})
    with scripted(made.answer) as made.server:
        yield made


def check(bucket: Bucket, sync: Sync) -> None:
    assert tree(sync.destination) == {name: content(name, size) for name, size in bucket.sizes.items()}


def test_requests_a_second_are_held_as_the_server_counts_them(bucket: Bucket, tmp_path: Path) -> None:
    bucket.sizes = {f"o{n}": 100 for n in range(120)}
    sync = bucket.sync(tmp_path)
    done = sync.run("--max-requests-per-second=100", "-v")
    assert done.code == 0
    assert "bottleneck: limit: a limit of requests" in done.err
    check(bucket, sync)
    objects = [at for name, at in bucket.asked if name]
    assert max(objects) - bucket.listed_at >= (len(objects) - 100 / 50) / 100


def test_server_that_thinks_long_is_named_as_what_held_the_run_up(bucket: Bucket, tmp_path: Path) -> None:
    bucket.sizes = {f"o{n}": 100 for n in range(40)}
    bucket.think_s = 0.2
    finished = bucket.sync(tmp_path).run("--json", "--max-connections=4").event("finished")
    assert finished["bottleneck"]["kind"] == "latency"
    assert finished["bottleneck"]["figures"]["answer_wait_s"] >= 0.9 * 40 * bucket.think_s


def test_bandwidth_is_held_over_parts_and_small_objects(bucket: Bucket, tmp_path: Path) -> None:
    bucket.sizes = {f"o{n}": 30_000 for n in range(40)} | {"large": LARGE}
    sync = bucket.sync(tmp_path)
    rate = 10 * MIB
    done = sync.run("--max-bandwidth=10M", "--stall-timeout=0.5", "-v")
    assert done.code == 0
    assert "bottleneck: limit: connections waited" in done.err
    assert time.monotonic() - bucket.listed_at >= (sum(bucket.sizes.values()) - rate / 20) / rate
    check(bucket, sync)


def test_server_never_sees_more_connections_than_the_maximum(bucket: Bucket, tmp_path: Path) -> None:
    bucket.sizes = {f"o{n}": 2000 for n in range(200)} | {"large": LARGE}
    sync = bucket.sync(tmp_path)
    assert sync.run("--max-connections=3").code == 0
    check(bucket, sync)
    assert 1 <= bucket.most_connections <= 3


def test_least_memory_is_enough_for_everything(bucket: Bucket, tmp_path: Path) -> None:
    bucket.sizes = {f"o{n}": n * 997 for n in range(100)} | {"large": LARGE}
    sync = bucket.sync(tmp_path)
    assert sync.run("--memory=1M").code == 0
    check(bucket, sync)


def test_retry_after_is_waited_for_and_the_rest_goes_on(bucket: Bucket, tmp_path: Path) -> None:
    bucket.sizes = {f"o{n}": 100 for n in range(50)}
    bucket.refuse = {"o7", "o31"}
    sync = bucket.sync(tmp_path)
    assert sync.run().code == 0
    check(bucket, sync)
    for name in ("o7", "o31"):
        first, second = (at for asked, at in bucket.asked if asked == name)
        assert second - first >= 1.0
    assert len(bucket.asked) == 1 + 50 + 2


@pytest.mark.parametrize("limit", ["--max-requests-per-second=1", "--max-bandwidth=2K"])
def test_what_a_limit_holds_up_ends_at_once_when_asked_to(bucket: Bucket, tmp_path: Path, limit: str) -> None:
    bucket.sizes = {f"o{n}": 5000 for n in range(100)}
    sync = bucket.sync(tmp_path)
    with sync.start(limit) as process:
        wait_until(lambda: len(bucket.asked) >= 2)
        done = sync.stop(process, signal.SIGTERM)
    assert done.code == 128 + signal.SIGTERM
    assert "run the same command again" in done.err
    assert set(tree(sync.destination)) < set(bucket.sizes)
