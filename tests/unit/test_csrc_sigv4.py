"""The native signer, byte for byte against botocore's S3SigV4Auth."""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager._native import Signer

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEPT//////////wEaDK+token/with=signs=="
REGION = "eu-central-1"
MOMENT = 1_700_000_000

HOSTILE_KEYS = (
    b"plain.txt", b"a b", b" lead", b"trail ", b"a+b", b"a%20b", b"%", b"a//b", b"/", b"..", b"../x", b"a/./b",
    b"~tilde~", b"!*'();:@&=$,?#[]", b"\"<>\\^`{|}", "ü/日本/😀".encode(), b"\xff\xfe", b"\x00\x01\x7f", b"a\r\nb: c",
    b"a=b&c=d", b"x" * 1024,
)  # fmt: skip


def _botocore_headers(
    monkeypatch: pytest.MonkeyPatch,
    *,
    method: str,
    path: str,
    query: str,
    headers: Sequence[tuple[str, str]],
    token: str | None,
    unix_s: int,
) -> dict[str, str]:
    moment = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
    host = dict(headers)["host"]
    request = botocore.awsrequest.AWSRequest(method, f"http://{host}{path}{'?' if query else ''}{query}")
    for name, value in headers:
        request.headers[name] = value
    credentials = botocore.credentials.Credentials(ACCESS_KEY, SECRET_KEY, token)
    with monkeypatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: moment)
        botocore.auth.S3SigV4Auth(credentials, "s3", REGION).add_auth(request)
    given_names = {name for name, _ in headers}
    return {name.lower(): value for name, value in request.headers.items() if name.lower() not in given_names}


def _signer(token: str | None) -> Signer:
    return Signer(access_key=ACCESS_KEY, secret_key=SECRET_KEY, token=token, region=REGION)


def _check(
    monkeypatch: pytest.MonkeyPatch,
    *,
    path: str = "/",
    query: str = "",
    headers: Sequence[tuple[str, str]] = (("host", "bucket.s3.eu-central-1.amazonaws.com"),),
    token: str | None = None,
    method: str = "GET",
    unix_s: int = MOMENT,
    their_query: str | None = None,
) -> None:
    wanted = _botocore_headers(
        monkeypatch,
        method=method,
        path=path,
        query=query if their_query is None else their_query,
        headers=headers,
        token=token,
        unix_s=unix_s,
    )
    assert dict(_signer(token).sign(method, path.encode(), query.encode(), headers, unix_s)) == wanted


def _canonical_query(parameters: Sequence[tuple[str, str]]) -> str:
    encoded = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parameters)
    return "&".join(f"{name}={value}" for name, value in encoded)


@pytest.mark.parametrize("token", [None, TOKEN], ids=["key", "token"])
@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_object_request_with_a_hostile_key_is_signed_as_botocore_does(
    monkeypatch: pytest.MonkeyPatch, key: bytes, token: str | None
) -> None:
    _check(monkeypatch, path="/bucket/" + quote(key, safe="/-_.~"), token=token)


@pytest.mark.parametrize("token", [None, TOKEN], ids=["key", "token"])
def test_listing_is_signed_as_botocore_does(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    parameters = [
        ("list-type", "2"),
        ("prefix", "a b/ü+%/&=?"),
        ("encoding-type", "url"),
        ("max-keys", "1000"),
        ("continuation-token", "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J+wm36Hy4vbOwM="),
        ("start-after", ""),
    ]
    query = _canonical_query(parameters)
    shuffled = query.split("&")
    random.Random(3).shuffle(shuffled)
    _check(monkeypatch, path="/bucket", query=query, token=token, their_query="&".join(shuffled))


def test_extra_headers_are_signed_as_botocore_does(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [
        ("x-amz-request-payer", "requester"),
        ("if-match", '"d41d8cd98f00b204e9800998ecf8427e-2"'),
        ("host", "127.0.0.1:9000"),
        ("range", "bytes=8388608-16777215"),
        ("x-amz-checksum-mode", "ENABLED"),
        ("x-amz-meta-blanks", "  a \t  b  "),
        ("accept-encoding", "identity"),
    ]
    _check(monkeypatch, path="/bucket/key", headers=headers, token=TOKEN)
    _check(monkeypatch, path="/bucket/key", headers=headers[::-1], method="HEAD")


@pytest.mark.parametrize(
    "unix_s", [0, 951_782_399, 951_782_400, 1_709_164_800, 4_107_542_400, 253_402_300_799]
)
def test_every_day_has_its_key(monkeypatch: pytest.MonkeyPatch, unix_s: int) -> None:
    _check(monkeypatch, unix_s=unix_s)


def test_update_changes_the_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer(access_key="other", secret_key="other", token="other", region=REGION)
    headers = (("host", "h"),)
    signer.sign("GET", b"/", b"", headers, MOMENT)
    signer.update(access_key=ACCESS_KEY, secret_key=SECRET_KEY, token=None)
    wanted = _botocore_headers(
        monkeypatch, method="GET", path="/", query="", headers=headers, token=None, unix_s=MOMENT
    )
    assert dict(signer.sign("GET", b"/", b"", headers, MOMENT)) == wanted


@given(
    key=st.binary(min_size=1, max_size=200),
    parameters=st.lists(
        st.tuples(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8")))
    ),
    token=st.none() | st.just(TOKEN),
    unix_s=st.integers(0, 253_402_300_799),
)
def test_any_request_is_signed_as_botocore_does(
    key: bytes, parameters: list[tuple[str, str]], token: str | None, unix_s: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        _check(
            monkeypatch,
            path="/bucket/" + quote(key, safe="/-_.~"),
            query=_canonical_query(parameters),
            token=token,
            unix_s=unix_s,
        )


@pytest.mark.parametrize(
    "bad",
    [
        {"path": b"/a b"},
        {"path": b"/a\r\nx: y"},
        {"path": "/ü".encode()},
        {"path": b"relative"},
        {"query": b"a b"},
        {"headers": [("host", "h"), ("x", "a\r\nb")]},
        {"headers": [("host", "h"), ("x-amz-date", "20200101T000000Z")]},
        {"unix_s": -1},
    ],
)
def test_request_that_cannot_be_sent_is_refused(bad: dict[str, Any]) -> None:
    request: dict[str, Any] = {
        "path": b"/",
        "query": b"",
        "headers": [("host", "h")],
        "unix_s": MOMENT,
        **bad,
    }
    with pytest.raises(ValueError):
        _signer(None).sign(
            "GET",
            request["path"],
            request["query"],
            request["headers"],
            request["unix_s"],
        )
