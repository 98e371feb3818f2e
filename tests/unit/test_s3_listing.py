"""A listing in parallel is the serial one, whatever the keys and wherever they are split; a lie is found out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stager._native import KeyTable
from stager.config import Remote
from stager.errors import AccessDeniedError, IntegrityError
from stager.sources import s3_list_parallel
from stager.sources.base import Snapshot
from stager.sources.s3 import S3Source
from stager.sources.s3_order import lists_in_byte_order
from stager.sources.s3_split import KeySpace
from stager.transfer import Transfer
from stager.urls import parse_source
from unit.list_model import Bucket, Page, listed_by, tree_order

FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
MANY_KEYS = frozenset(b"%04d/%08d" % (n // 10, n) for n in range(300))

any_key = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6
)
PIECES = (
    "a", "b", "/", "-", ".", "+", "%", "%41", " ", "&", "<",
    "\x01", "\x7f", "\x80", "ÿ", "\ud7ff", "\ue000", "\U0010ffff",
)  # fmt: skip
tricky_key = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
deep_key = st.integers(0, 3000).map(lambda n: "d" * 1000 + f"{n:04d}")
key_sets = st.one_of(
    st.sets(any_key, max_size=40),
    st.sets(tricky_key, max_size=60),
    st.sets(deep_key, max_size=40),
    st.sets(st.integers(0, 10**6).map(lambda n: f"{n // 7:06d}/{n:07d}.jpg"), max_size=60),
).map(lambda keys: frozenset(key.encode() for key in keys))


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page counts as slow, so listers are many from the second page on."""
    monkeypatch.setattr(s3_list_parallel, "_SLOW_PAGE_S", 0.0)
    monkeypatch.setattr(s3_list_parallel, "_PAGES_A_CUT", 0.01)


def snapshot(bucket: Bucket, location: str = "b", *, order: str = "byte-order") -> Snapshot:
    async def run() -> Snapshot:
        async with Transfer() as transfer:
            remote = Remote(
                endpoint_url=f"http://127.0.0.1:{server.port}",
                region="x",
                sign_requests=False,
                listing_order=order,
                addressing_style="path",
            )
            async with S3Source(parse_source(f"s3://{location}"), remote=remote, transfer=transfer) as source:
                return await source.snapshot()

    with listed_by(bucket) as server:
        return asyncio.run(run())


def rows(table: KeyTable) -> list[tuple[bytes, int, bytes]]:
    return [row[:3] for row in table.rows()]


def rows_of(keys: Any) -> list[tuple[bytes, int, bytes]]:
    return [(key, len(key), key.hex()[:64].encode()) for key in sorted(keys)]


def starts(bucket: Bucket) -> list[bytes]:
    return [query["start-after"] for query in bucket.queries if "start-after" in query]


@FEW
@given(keys=key_sets, page_keys=st.integers(1, 7), echo=st.booleans())
@example(keys=frozenset({b"a", b"a/", b"a/b", b"a-b", b"a.b", b"a0"}), page_keys=1, echo=True)
@example(keys=frozenset(bytes([n]) for n in range(1, 128)), page_keys=7, echo=False)
@example(keys=frozenset(("\U0010ffff" * n).encode() for n in range(1, 30)), page_keys=2, echo=True)
@example(keys=frozenset(), page_keys=1, echo=True)
def test_any_keys_are_listed_as_one_after_the_other(keys: frozenset[bytes], page_keys: int, echo: bool) -> None:
    found = snapshot(Bucket(set(keys), page_keys, echo))
    assert rows(found.table) == rows_of(keys)
    assert found.warnings == ()


class _Anywhere(KeySpace):
    """Cuts where a seed says."""

    draw = random.Random(0)
    pool: tuple[bytes, ...] = ()

    def even_cuts(self, low: bytes, upto: bytes | None, count: int, *, alike: bool) -> list[bytes]:
        fit = [key for key in self.pool if low < key and (upto is None or key < upto)]
        return sorted(self.draw.sample(fit, min(count, len(fit), self.draw.randrange(4))))

    def searching_cuts(self, first: bytes, last: bytes, upto: bytes | None, count: int) -> list[bytes]:
        return self.even_cuts(last, upto, count, alike=False)


@FEW
@given(keys=key_sets, more=key_sets, page_keys=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_any_split_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, keys: frozenset[bytes], more: frozenset[bytes], page_keys: int, seed: int
) -> None:
    monkeypatch.setattr(_Anywhere, "draw", random.Random(seed))
    monkeypatch.setattr(_Anywhere, "pool", tuple(sorted(keys | more)))  # at keys and between them
    monkeypatch.setattr(s3_list_parallel, "KeySpace", _Anywhere)
    found = snapshot(Bucket(set(keys), page_keys))
    assert (rows(found.table), found.warnings) == (rows_of(keys), ())


def test_parallel_listing_splits_and_has_the_digest_of_the_serial_one() -> None:
    bucket, serial = Bucket(set(MANY_KEYS), 10), Bucket(set(MANY_KEYS), 10)
    one, other = snapshot(bucket), snapshot(serial, order="unordered")
    assert len(starts(bucket)) > 3
    assert starts(serial) == []
    assert len(serial.queries) == 30
    assert rows(one.table) == rows(other.table) == rows_of(MANY_KEYS)
    assert one.pinned["listing"] == other.pinned["listing"]


def test_prefix_is_kept_out_of_names_but_not_out_of_starts() -> None:
    inside = {b"p/" + key for key in MANY_KEYS}
    bucket = Bucket(inside | {b"o", b"p", b"p!", b"p0"}, 10)
    found = snapshot(bucket, "b/p")
    assert rows(found.table) == [(key[2:], size, etag) for key, size, etag in rows_of(inside)]
    assert starts(bucket)
    assert all(start.startswith(b"p/") for start in starts(bucket))


def test_unknown_endpoint_is_listed_one_page_after_the_other() -> None:
    bucket = Bucket(set(MANY_KEYS), 10)
    assert rows(snapshot(bucket, order="auto").table) == rows_of(MANY_KEYS)
    assert starts(bucket) == []


def swap(page: Page) -> None:
    page.keys[:2] = reversed(page.keys[:2])


@pytest.mark.parametrize(
    "changes",
    [{"heed": False}, {"skip": False}, {"order": tree_order}, {"order": lambda key: key[::-1]}, {"lie": swap}],
    ids=["start-after ignored", "start-after inclusive", "by folder", "by last character", "swapped in a page"],
)
def test_server_that_lists_in_another_order_is_found_out_and_listed_one_page_after_the_other(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {key.replace(b"/", separator) for key in MANY_KEYS for separator in (b"/", b"-")}
    monkeypatch.setattr(_Anywhere, "pool", tuple(sorted(keys)))  # an inclusive start-after shows itself at keys only
    monkeypatch.setattr(s3_list_parallel, "KeySpace", _Anywhere)
    found = snapshot(Bucket(set(keys), 10, **changes))
    assert sorted(rows(found.table)) == rows_of(keys)
    (warning,) = found.warnings
    assert "byte order" in warning


@FEW
@given(keys=key_sets, page_keys=st.integers(1, 4), seed=st.integers(0, 2**32))
@example(keys=frozenset({b"a/b", b"c", b"d", b"e"}), page_keys=1, seed=0)
def test_what_a_server_by_folders_loses_is_never_lost(
    monkeypatch: pytest.MonkeyPatch, keys: frozenset[bytes], page_keys: int, seed: int
) -> None:
    monkeypatch.setattr(_Anywhere, "draw", random.Random(seed))
    monkeypatch.setattr(_Anywhere, "pool", tuple(sorted(keys | {key.replace(b"/", b".") for key in keys})))
    monkeypatch.setattr(s3_list_parallel, "KeySpace", _Anywhere)
    found = snapshot(Bucket(set(keys), page_keys, order=tree_order))
    assert sorted(rows(found.table)) == rows_of(keys)


def without_token(page: Page) -> None:
    page.token = b""


def same_token(page: Page) -> None:
    page.token = b"00" if page.truncated else b""


@pytest.mark.parametrize("lie", [without_token, same_token])
@pytest.mark.parametrize("order", ["byte-order", "unordered"])
def test_token_that_is_missing_or_does_not_advance_is_an_error(lie: Any, order: str) -> None:
    with pytest.raises(IntegrityError):
        snapshot(Bucket(set(MANY_KEYS), 10, lie=lie), order=order)


def test_pages_without_end_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: Iterator[int] = iter(range(10**6))

    def endless(page: Page) -> None:
        page.keys, page.truncated, page.token = [], True, b"%08d" % next(numbers)

    monkeypatch.setattr(s3_list_parallel, "PAGES_WITHOUT_A_KEY", 20)
    with pytest.raises(IntegrityError, match="does not go on"):
        snapshot(Bucket(set(MANY_KEYS), 10, lie=endless))


@pytest.mark.parametrize("order", ["byte-order", "unordered"])
def test_sizes_that_add_up_to_more_than_can_be_are_an_error_also_over_parts(order: str) -> None:
    ends = (min(MANY_KEYS), max(MANY_KEYS))
    bucket = Bucket(set(MANY_KEYS), 10, size=lambda key: 2**62 if key in ends else 1)
    with pytest.raises(IntegrityError, match="sizes that add up to more than"):
        snapshot(bucket, order=order)
    assert bool(starts(bucket)) == (order == "byte-order")


def test_keys_shown_twice_are_shown_twice_to_who_judges_names() -> None:
    def double(page: Page) -> None:
        page.keys = sorted(page.keys * 2)

    found = snapshot(Bucket(set(MANY_KEYS), 10, lie=double))
    assert found.warnings
    assert len(found.table) == 2 * len(MANY_KEYS)


@FEW
@given(page_keys=st.integers(1, 30), seed=st.integers(0, 2**32))
def test_keys_that_come_and_go_meanwhile_harm_no_other(page_keys: int, seed: int) -> None:
    draw = random.Random(seed)
    passing = draw.sample(sorted(MANY_KEYS), 60)
    bucket = Bucket(set(MANY_KEYS), page_keys)

    def change() -> None:
        bucket.keys = bucket.keys ^ {draw.choice(passing)}  # a new set: other requests go through the old one

    bucket.before = change
    found = [row[0] for row in rows(snapshot(bucket).table)]
    assert found == sorted(set(found))
    assert MANY_KEYS - set(passing) <= set(found) <= MANY_KEYS


def test_failing_page_of_many_is_the_error_of_the_listing() -> None:
    with pytest.raises(AccessDeniedError):
        snapshot(Bucket(set(MANY_KEYS), 10, refuse_after=12))


@pytest.mark.parametrize(
    ("host", "bucket", "known"),
    [
        ("s3.amazonaws.com", "b", True),
        ("b.s3.eu-west-1.amazonaws.com", "b", True),
        ("b.c.s3.dualstack.us-gov-west-1.amazonaws.com", "b.c", True),
        ("b.s3.cn-north-1.amazonaws.com.cn", "b", True),
        ("s3-fips.us-east-1.amazonaws.com", "b", True),
        ("b.s3-accelerate.amazonaws.com", "b", True),
        ("s3-us-west-2.amazonaws.com", "b", True),
        ("bucket.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com", "b", True),
        ("a-123456789012.accesspoint.vpce-1a2b-3c.s3.us-east-1.vpce.amazonaws.com", "a", False),
        ("b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", "b--use1-az4--x-s3", False),
        ("s3.us-east-1.amazonaws.com", "b--use1-az4--x-s3", False),
        ("a-1-s3alias.s3.us-east-1.amazonaws.com", "a-1-s3alias", False),
        ("a-123456789012.s3-accesspoint.us-east-1.amazonaws.com", "a", False),
        ("a-123456789012.s3-object-lambda.us-east-1.amazonaws.com", "a", False),
        ("a-123456789012.op-1.s3-outposts.us-east-1.amazonaws.com", "a", False),
        ("s3.amazonaws.com.example", "b", False),
        ("evils3.amazonaws.com", "b", False),
        ("ec2.us-east-1.amazonaws.com", "b", False),
        ("127.0.0.1", "b", False),
    ],
)
def test_only_plain_buckets_of_amazon_are_known_to_list_in_byte_order(host: str, bucket: str, known: bool) -> None:
    assert lists_in_byte_order(host, bucket, "auto") is known
    assert lists_in_byte_order(host, bucket, "byte-order")
    assert not lists_in_byte_order(host, bucket, "unordered")
