"""Answers changed at random on their way: what is wrong never gets grade A, whatever checksum it is that is kept."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from faults.native_client import NativeClient
from faults.syncing import receipt, run_sync, tree
from servers.certificates import Certificates
from servers.fault_proxy import Fault, fault_proxy
from servers.strict_s3 import ALGORITHMS, Answer, StrictS3, strict_s3
from stager._native import Entries
from stager.config import Integrity, Remote, Retry
from stager.errors import StagerError
from stager.pipeline import SyncOptions, sync
from stager.transfer import Transfer
from stager.urls import parse_source

BUCKET = "bucket"
OBJECTS_A_KIND = 172  # with six kinds of checksums: a thousand answers changed
MIB = 1 << 20

Mutation = Callable[[random.Random, Answer], Answer]


def flip_a_bit(draw: random.Random, answer: Answer) -> Answer:
    body = bytearray(answer.body)
    body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
    return replace(answer, body=bytes(body))


def flip_many_bits(draw: random.Random, answer: Answer) -> Answer:
    for _ in range(draw.randrange(2, 50)):
        answer = flip_a_bit(draw, answer)
    return answer


def swap_two_spans(draw: random.Random, answer: Answer) -> Answer:
    body = bytearray(answer.body)
    span = draw.randrange(1, max(2, len(body) // 2))
    a, b = sorted(draw.randrange(len(body) - span + 1) for _ in range(2))
    body[a : a + span], body[b : b + span] = body[b : b + span], body[a : a + span]
    return replace(answer, body=bytes(body))


def zero_a_span(draw: random.Random, answer: Answer) -> Answer:
    start = draw.randrange(len(answer.body))
    end = min(len(answer.body), start + draw.randrange(1, 5000))
    return replace(answer, body=answer.body[:start] + bytes(end - start) + answer.body[end:])


def end_early(draw: random.Random, answer: Answer) -> Answer:
    return replace(answer, body=answer.body[: draw.randrange(len(answer.body))])


def send_less(draw: random.Random, answer: Answer) -> Answer:
    body = answer.body[: draw.randrange(len(answer.body))]
    return replace(answer, body=body, length=len(body))


def send_more(draw: random.Random, answer: Answer) -> Answer:
    body = answer.body + draw.randbytes(draw.randrange(1, 100))
    return replace(answer, body=body, length=draw.choice((len(body), answer.length)))


def shift(draw: random.Random, answer: Answer) -> Answer:
    by = draw.randrange(1, len(answer.body) + 1)
    return replace(answer, body=answer.body[by:] + draw.randbytes(by))


def send_another_body(draw: random.Random, answer: Answer) -> Answer:
    return replace(answer, body=draw.randbytes(len(answer.body)))


def change_the_etag(draw: random.Random, answer: Answer) -> Answer:
    etag = answer.headers["ETag"].translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
    return replace(answer, headers={**answer.headers, "ETag": draw.choice((etag, f"W/{etag}", '""'))})


def change_or_drop_the_checksum(draw: random.Random, answer: Answer) -> Answer:
    """And a byte: whatever is announced then, it is not of these bytes, but for what the pinned ETag says."""
    headers = dict(answer.headers)
    for name in [name for name in headers if name.startswith("x-amz-checksum-")]:
        if draw.randrange(2):
            del headers[name]
        else:
            headers[name] = "".join(draw.sample(headers[name], len(headers[name])))
    return replace(flip_a_bit(draw, answer), headers=headers)


MUTATIONS: tuple[Mutation, ...] = (
    flip_a_bit, flip_many_bits, swap_two_spans, zero_a_span, end_early, send_less, send_more, shift, send_another_body,
    change_the_etag, change_or_drop_the_checksum,
)  # fmt: skip


class Mutator:
    """Changes the first ``times`` answers of each target, each in a way that its target draws."""

    def __init__(self, seed: int, *, times: int = 1, mutations: tuple[Mutation, ...] = MUTATIONS) -> None:
        self._seed = seed
        self._times = times
        self._mutations = mutations
        self._met: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.changed: Counter[str] = Counter()
        self.intact: set[str] = set()  # keys that an answer was left as it is, or changed to the same

    def __call__(self, answer: Answer) -> Answer:
        with self._lock:
            self._met[answer.target] += 1
            if self._met[answer.target] > self._times:
                self.intact.add(answer.target.rpartition("/")[2])
                return answer
            draw = random.Random(f"{self._seed} {answer.target} {self._met[answer.target]}")
            mutation = draw.choice(self._mutations)
            changed = mutation(draw, answer)
            if changed == answer:
                self.intact.add(answer.target.rpartition("/")[2])
            self.changed[mutation.__name__] += changed != answer
            return changed


def some_objects(draw: random.Random, count: int) -> dict[str, bytes]:
    """Mostly small; every twentieth is larger than a receive buffer."""
    sizes = [draw.randrange(1, 30_000) if number % 20 else draw.randrange(260_000, 400_000) for number in range(count)]
    return {f"{number:04}": draw.randbytes(size) for number, size in enumerate(sizes)}


@pytest.fixture
def client(strict: StrictS3) -> Iterator[NativeClient]:
    port = urlsplit(strict.endpoint_url).port or 0
    with NativeClient(strict, ("127.0.0.1", port), connections=16) as client:
        yield client


@pytest.mark.parametrize("algorithm", ["", *ALGORITHMS])
def test_mutated_objects_are_never_taken_for_right_ones(
    strict: StrictS3, client: NativeClient, tmp_path: Path, algorithm: str, seed: int, soak: int
) -> None:
    """Every answer is changed, also to a request that is sent again: what is kept all the same is what was stored."""
    objects = some_objects(random.Random(seed), OBJECTS_A_KIND * soak)
    strict.buckets[BUCKET], strict.algorithm = objects, algorithm
    strict.alter = mutator = Mutator(seed, times=100)
    batch = client.fetch_objects(BUCKET, objects, tmp_path, checksums=True, etags="plain")
    failed = {failure.index for failure in client.wait(batch)}
    kept = [index for index in range(len(objects)) if index not in failed]
    entries = Entries(client.table(batch))
    entries.take(batch, kept, verified="A", pinned="B", unpinned="C")
    assert tree_of(tmp_path) == {f"{index:04}": objects[f"{index:04}"] for index in kept}
    assert entries.grades() == ({"A": len(kept)} if kept else {})
    assert {f"{index:04}" for index in kept} <= mutator.intact
    assert len(failed) > 0.97 * len(objects)
    assert set(mutator.changed) == {mutation.__name__ for mutation in MUTATIONS}


def test_mutated_bytes_that_nothing_can_tell_have_grade_b_and_a_reason(
    strict: StrictS3, client: NativeClient, tmp_path: Path, seed: int
) -> None:
    objects = some_objects(random.Random(seed), 60)
    strict.buckets[BUCKET] = objects
    strict.alter = Mutator(seed, mutations=(flip_a_bit,))
    batch = client.fetch_objects(BUCKET, objects, tmp_path, checksums=True)
    assert client.wait(batch) == []
    entries = Entries(client.table(batch))
    entries.take(batch, range(60), verified="A", pinned="B", unpinned="C")
    assert (entries.grades(), entries.whys()) == ({"B": 60}, {"no-checksum": 60})
    assert tree_of(tmp_path) != objects


def tree_of(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


def copy(server: StrictS3, root: Path, integrity: Integrity) -> dict[str, int]:
    """The grades of a sync in this process."""
    remote = Remote(endpoint_url=server.endpoint_url, region=server.region)

    async def run() -> dict[str, int]:
        async with Transfer(retry=Retry(attempts=3, base_s=0.0, cap_s=0.0)) as transfer:
            options = SyncOptions(remote=remote, integrity=integrity)
            done = await sync(parse_source(f"s3://{BUCKET}/"), str(root), transfer=transfer, options=options)
            return dict(done.grades)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("algorithm", "parts"),
    [("", []), ("", [6 * MIB, 5 * MIB]), ("crc64nvme", []), ("crc32", [7 * MIB, 6 * MIB, 4 * MIB]), ("sha256", [])],
)
def test_mutated_ranges_are_never_taken_for_right_ones(
    strict: StrictS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    algorithm: str, parts: list[int], seed: int, soak: int,
) -> None:  # fmt: skip
    for name, value in strict.environment().items():
        monkeypatch.setenv(name, value)
    content = random.Random(seed).randbytes(sum(parts) or 17 * MIB)
    strict.buckets[BUCKET], strict.algorithm = {"k": content}, algorithm
    if parts:
        strict.parts, strict.composites = {"k": parts}, {"k"}
    right = 0
    for turn in range(3 * soak):
        root = tmp_path / str(turn)
        strict.alter = mutator = Mutator(seed + turn, times=turn % 3 + 1)
        try:
            grades = copy(strict, root, Integrity(level="strict"))
        except StagerError as error:
            assert error.exit_code in (4, 7)
            assert not (root / "k").exists()
        else:
            assert (grades, (root / "k").read_bytes() == content) == ({"A": 1}, True)
            right += 1
        assert mutator.changed
    assert right


def test_tampering_with_https_is_refused_whatever_is_announced(
    certificates: Certificates, tmp_path: Path, seed: int, soak: int
) -> None:
    """At grade B too: each connection has a byte changed somewhere, and nothing of it is in the files."""
    draw = random.Random(seed)
    with strict_s3(certificates) as server:
        server.buckets[BUCKET] = objects = some_objects(draw, 80)
        address = ("127.0.0.1", urlsplit(server.endpoint_url).port or 0)
        with fault_proxy(address, raw=True) as proxy:
            proxy.add(*(Fault(corrupt_at=draw.randrange(6000, 200_000)) for _ in range(12 * soak)))
            environment = {**server.environment(), "AWS_ENDPOINT_URL": proxy.url}
            options = ("--integrity", "light", "--retries", "100", "--max-connections", "4")
            done = run_sync(f"s3://{BUCKET}/", tmp_path / "dst", environment, *options)
            assert proxy.counts.connections > 4
    assert (done.status, done.err) == (0, "")
    assert tree(tmp_path / "dst") == objects
    assert receipt(tmp_path / "dst")["unverified"] == {"no-checksum": 80}
