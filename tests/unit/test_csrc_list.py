"""The native list scanner against Python's own XML parser, on answers that moto made."""

from __future__ import annotations

import calendar
import http.client
import select
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from socket import AF_INET
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers.moto_s3 import MotoS3, moto_s3
from stager import _native

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
DEADLINE_S = 30
BUCKET = "listing"

# What XML can carry as it stands; a carriage return it cannot (readers make it a line feed), and moto's keys are text.
key_characters = st.characters(
    codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"
)
keys = st.text(key_characters, min_size=1, max_size=60).filter(
    lambda key: key.strip("/.") and "//" not in key
)
key_sets = st.dictionaries(keys, st.integers(0, 50), min_size=1, max_size=12)


@dataclass
class Listing:
    """What one listing said, page after page, whoever read it."""

    rows: list[tuple[bytes, int, bytes, int, int]] = field(default_factory=list)
    pages: list[tuple[int, bool, bool]] = field(default_factory=list)  # count, truncated, encoded
    tokens: list[bytes] = field(default_factory=list)


def _query(prefix: str, page_keys: int, token: bytes, encoded: bool) -> bytes:
    parameters = {b"list-type": b"2", b"max-keys": b"%d" % page_keys, b"prefix": prefix.encode()}
    if encoded:
        parameters[b"encoding-type"] = b"url"
    if token:
        parameters[b"continuation-token"] = token
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parameters.items()
    )
    return "&".join(f"{name}={value}" for name, value in pairs).encode()


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(NAMESPACE + name, "")


def _unix_ns(text: str) -> int:
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) * 10**9 + int(
        fraction.ljust(9, "0") or 0
    )


def _listed_by_expat(server: MotoS3, prefix: str, page_keys: int, encoded: bool) -> Listing:
    listing = Listing()
    token = b""
    host, port = server.address
    connection = http.client.HTTPConnection(host, port, timeout=DEADLINE_S)
    while True:
        query = _query(prefix, page_keys, token, encoded).decode()
        connection.request("GET", f"/{BUCKET}?{query}")
        root = ElementTree.fromstring(connection.getresponse().read())
        url = _text(root, "EncodingType") == "url"
        contents = root.findall(NAMESPACE + "Contents")
        for item in contents:
            key = _text(item, "Key")
            raw = unquote_to_bytes(key.replace("+", " ")) if url else key.encode()
            etag = _text(item, "ETag").strip('"').encode()
            modified = _unix_ns(_text(item, "LastModified"))
            listing.rows.append(
                (raw.removeprefix(prefix.encode()), int(_text(item, "Size")), etag, modified, 0)
            )
        truncated = _text(root, "IsTruncated") == "true"
        listing.pages.append((len(contents), truncated, url))
        token = _text(root, "NextContinuationToken").encode()
        listing.tokens.append(token)
        if not truncated:
            connection.close()
            return listing


def _wait(engine: _native.Engine) -> None:
    ready, _, _ = select.select([engine.fileno()], [], [], DEADLINE_S)
    assert ready, "no completion in time"
    for _, _, failures in engine.drain():
        assert not failures, failures[0].message


def _listed_by_engine(
    engine: _native.Engine, server: MotoS3, prefix: str, page_keys: int, encoded: bool
) -> Listing:
    host, port = server.address
    addresses = [(int(AF_INET), ip_address(host).packed)]
    endpoint = _native.Endpoint(engine, host=host, port=port, tls=False, addresses=addresses)
    template = _native.Template(
        endpoint,
        None,
        host_header=f"{host}:{port}",
        path_prefix=f"/{BUCKET}".encode(),
        key_prefix=prefix.encode(),
    )
    listing = Listing()
    table = _native.KeyTable()
    token = b""
    while True:
        batch = engine.list_page(template, _query(prefix, page_keys, token, encoded))
        _wait(engine)
        page = batch.scan_list(table, len(prefix.encode()))
        assert page.in_order
        listing.pages.append((page.count, page.truncated, page.encoded))
        listing.tokens.append(page.token)
        token = page.token
        if not page.truncated:
            listing.rows = list(table.rows())
            return listing


@contextmanager
def _engine() -> Iterator[_native.Engine]:
    engine = _native.Engine(workers=1, disk_threads=1)
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[_native.Engine]:
    with _engine() as running:
        yield running


def _fill(server: MotoS3, objects: dict[str, int], prefix: str) -> None:
    server.reset()
    server.make_bucket(BUCKET)
    server.fill(BUCKET, {prefix + key: b"x" * size for key, size in objects.items()})


@pytest.fixture(scope="module")
def own_moto() -> Iterator[MotoS3]:
    """A server of its own, because it is reset for every example."""
    with moto_s3() as server:
        yield server


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(objects=key_sets, prefix=st.sampled_from(["", "data/", "a b+c%2F/ü/"]), page_keys=st.integers(1, 5))
def test_any_listing_reads_as_with_expat(
    engine: _native.Engine, own_moto: MotoS3, objects: dict[str, int], prefix: str, page_keys: int
) -> None:
    _fill(own_moto, objects, prefix)
    for encoded in (True, False):
        wanted = _listed_by_expat(own_moto, prefix, page_keys, encoded)
        assert _listed_by_engine(engine, own_moto, prefix, page_keys, encoded) == wanted
        assert sorted(row[0] for row in wanted.rows) == sorted(key.encode() for key in objects)


def test_token_of_an_encoded_listing_is_kept_as_it_stands(engine: _native.Engine, own_moto: MotoS3) -> None:
    _fill(own_moto, {"a+b": 1, "a b": 2, "a%2Bb": 3}, "")
    wanted = _listed_by_expat(own_moto, "", 1, True)
    got = _listed_by_engine(engine, own_moto, "", 1, True)
    assert got.tokens == wanted.tokens
    assert [row[0] for row in got.rows] == [b"a b", b"a%2Bb", b"a+b"]
