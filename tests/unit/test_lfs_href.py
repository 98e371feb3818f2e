"""URLs, headers, addresses and times that a Git LFS server may say: what is taken, and what never is."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stager.errors import AccessDeniedError, NotFoundError
from stager.host.proxies import Proxy
from stager.sources import lfs_reach
from stager.sources.lfs_expiry import expiry_s
from stager.sources.lfs_href import Action, Target, parse_target, sendable
from stager.sources.lfs_reach import Reach, kind_of

TAKEN = [
    ("https://h.example/a?b=c#d", Target("https", "h.example", 443, "/a?b=c")),
    ("HTTPS://H.Example", Target("https", "h.example", 443, "/")),
    ("http://h.example:8080/a b/\u00e9?q=\u00e9 \"<>'",
     Target("http", "h.example", 8080, "/a%20b/%C3%A9?q=%C3%A9%20%22%3C%3E'")),
    ("https://h.example:443/a%2Fb//c/../d?x=%00&y=/?", Target("https", "h.example", 443, "/a%2Fb//c/../d?x=%00&y=/?")),
    ("https://[2001:DB8::1]:7/a", Target("https", "2001:db8::1", 7, "/a")),
    ("https://under_score.example./a", Target("https", "under_score.example.", 443, "/a")),
    ("https://h.example?a", Target("https", "h.example", 443, "/?a")),
]  # fmt: skip


@pytest.mark.parametrize(("url", "target"), TAKEN)
def test_url_is_taken_apart(url: str, target: Target) -> None:
    found = parse_target(url)
    assert found == target
    assert parse_target(found.url) == target  # and stays as it is


REFUSED = [
    "", "x", "/a", "//h.example/a", "ftp://h.example/a", "file:///etc/passwd", "javascript:1", "https:h.example",
    "https://", "https:///a", "https://user@h.example/", "https://u:p@h.example/", "https://@h.example/",
    "https://h.example:0/", "https://h.example:99999/", "https://h.example:x/", "https://h.example:-1/",
    "https://h.example/\r\nX: y", "https://h.example/a\nb", "https://h.example/a\tb", "https://h.example/\0",
    "https://h.ex\nample/", "https://h.example\\@victim.example/", "https://h.example\\.victim/", "https://h%00.example/",
    "https://h example/", "https://h\u00e9.example/", "https://\u2100.example/", "https://-h.example/", "https://h..example/",
    "https://.example/", "https://" + "a" * 64 + ".example/", "https://" + "a." * 130 + "example/", "https://[::1", "https://::1/",
    "https://[h.example]/", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[127.0.0.1]/",
    "https://h.example/" + "a" * 9000, "https://*/", "https://h.example:80:80/",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_url_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"^is ") as caught:
        parse_target(url)
    assert len(url) < 12 or url not in str(caught.value)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=80))
def test_whatever_is_taken_can_stand_in_a_request(text: str) -> None:
    for url in (text, f"https://{text}", f"https://h.example/{text}", f"http://h.example:{text}", f"https://h.example?{text}"):
        try:
            target = parse_target(url)
        except ValueError:
            continue
        assert target.path.startswith("/") and target.path.isascii()
        assert not set(target.path + target.host_header) & set(" \r\n\t\0\x7f#")
        assert parse_target(target.url) == target


def test_what_is_shown_of_a_url_or_action_holds_no_signature_and_no_header() -> None:
    target = parse_target("https://h.example/a?X-Amz-Signature=hunter2")
    action = Action(target, (("Authorization", "Basic hunter3"),))
    assert "hunter" not in f"{target!r} {target.shown} {action!r}"
    assert "Authorization" in repr(action)


def test_headers_of_the_request_itself_are_left_out() -> None:
    given_ = {"Authorization": "Basic x", "X-Other": " a\tb ", "Empty": "", "Accept": "a/b"}
    ours = dict.fromkeys(
        ("Host", "Content-Length", "transfer-encoding", "Range", "CONNECTION", "Accept-Encoding", "If-Match", "Expect",
         "Proxy-Authorization", "TE", "Trailer", "Upgrade", "User-Agent", "If-Range"), "x",
    )  # fmt: skip
    assert dict(sendable({**ours, **given_}.items())) == {**given_, "X-Other": "a\tb"}


@pytest.mark.parametrize(
    "header",
    [
        ("A", "b\r\nEvil: 1"), ("A", "b\nEvil: 1"), ("A", "b\r"), ("A", "\0"), ("A", "\u00e9"), ("A", "\x7f"),
        ("A", "\x1b[31m"),
        ("A\r\nEvil", "b"), ("A:", "b"), ("A b", "b"), ("", "b"), ("\u00c4", "b"), ("A" * 300, "b"), ("A", "b" * 9000),
    ],
)  # fmt: skip
def test_header_that_cannot_be_sent_is_refused(header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^holds") as caught:
        sendable([header])
    assert "Evil: 1" not in str(caught.value)


def test_header_twice_and_too_many_headers_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        sendable([("A", "1"), ("a", "2")])
    with pytest.raises(ValueError, match="too many"):
        sendable([(f"A{number}", "1") for number in range(30)])


KINDS = {
    "": ("93.184.216.34", "10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "2606:4700::1", "fd12::1"),
    "loopback": (
        "127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::127.0.0.1",
    ),
    "link-local": ("169.254.169.254", "169.254.0.1", "fe80::1", "febf::1", "::ffff:169.254.169.254"),
    "metadata-service": ("fd00:ec2::254", "100.100.100.200", "168.63.129.16"),
    "unspecified": ("0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"),
    "multicast or reserved": ("224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1"),
}  # fmt: skip


def test_kinds_of_addresses() -> None:
    found = {kind: tuple(text for text in texts if kind_of(ipaddress.ip_address(text)) == kind)
             for kind, texts in KINDS.items()}  # fmt: skip
    assert found == KINDS


def reached(url: str, *, proxy: Proxy | None = None, allow: str | None = None) -> object:
    async def run() -> object:
        reach = Reach()
        if allow is not None:
            await reach.allow(allow, 443)
        return await reach.addresses(parse_target(url), proxy, where="a link")

    return asyncio.run(run())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost",
             "a.localhost", "169.254.169.254", "[fe80::1]", "0.0.0.0", "0"],
)  # fmt: skip
def test_host_of_this_node_is_refused_in_every_spelling_with_and_without_a_proxy(host: str) -> None:
    for proxy in (None, Proxy(scheme="http", host="127.0.0.1", port=1, user=None, setting="x")):
        with pytest.raises(AccessDeniedError, match="address"):
            reached(f"https://{host}/", proxy=proxy)


def test_host_of_the_kind_that_the_repository_is_at_may_be_reached() -> None:
    assert reached("https://127.0.0.1/", allow="localhost") == ((2, b"\x7f\x00\x00\x01"),)
    with pytest.raises(AccessDeniedError, match="link-local"):
        reached("https://169.254.169.254/", allow="localhost")


def test_name_that_leads_to_this_node_is_refused_and_what_was_checked_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that has been given another address by the next question (DNS rebinding)."""
    answers = {"good.example": ["93.184.216.34"], "mixed.example": ["93.184.216.34", "127.0.0.1"],
               "evil.example": ["169.254.169.254"]}  # fmt: skip

    async def find(host: str, port: int) -> list[tuple[int, bytes]]:
        if host not in answers:
            raise NotFoundError("no such host", where=host)
        return [(int(socket.AF_INET), socket.inet_aton(text)) for text in answers[host]]

    monkeypatch.setattr(lfs_reach, "resolve", find)
    assert reached("https://good.example/") == ((2, b"\x5d\xb8\xd8\x22"),)
    for name in ("mixed.example", "evil.example"):
        with pytest.raises(AccessDeniedError, match=name):
            reached(f"https://{name}/")
    with pytest.raises(NotFoundError):
        reached("https://gone.example/")


EXPIRES = [
    (None, None, math.inf),
    (0, None, math.inf),
    (3600, "2000-01-01T00:00:00Z", 1_000_000_000 + 3600),
    (-5, None, 1_000_000_000 - 5),
    (None, "0001-01-01T00:00:00Z", math.inf),
    (None, "", math.inf),
    (None, "2001-09-09T01:46:40Z", 1_000_000_000 - 7),
    (None, "2001-09-09T03:46:40.5+02:00", 1_000_000_000.5 - 7),
]


@pytest.mark.parametrize(("in_s", "at", "expected"), EXPIRES)
def test_expiry_is_told_by_this_clock(in_s: int | None, at: str | None, expected: float) -> None:
    assert expiry_s(in_s, at, now_s=1_000_000_000.0, ahead_s=7.0) == expected


@pytest.mark.parametrize(
    ("in_s", "at"), [(2**31, None), (None, "tomorrow"), (None, "2001-13-09T01:46:40Z"), (None, "2001")]
)
def test_expiry_that_is_none_is_refused(in_s: int | None, at: str | None) -> None:
    with pytest.raises(ValueError, match="expires_"):
        expiry_s(in_s, at, now_s=0.0)
