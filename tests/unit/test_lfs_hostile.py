"""A hostile Git LFS server, or one that a hostile commit names, with a recording victim beside it.

Both are on loopback, as everything in these tests; so where the attack is that something leads to this node, the
repository is given a name that resolves elsewhere for the check, or no connection is to be made at all.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.certificates import Certificates
from servers.lfs_fixture import MEDIA_TYPE, LfsFixture, Reply, Request, lfs_fixture
from stager.config import Timeouts
from stager.errors import AccessDeniedError, NoObjectsError, SourceError, StagerError, TransientError
from stager.sources import lfs_reach
from stager.sources.lfs_href import Action, Target, parse_target
from unit.lfs_asking import User, ask, pointers, repository_of, server

PASSWORD = "hunter2"
TOKEN = "aHVudGVyMw=="
QUICK_TIMES = Timeouts(connect_s=2.0, stall_s=0.12)


@pytest.fixture
def lfs() -> Iterator[LfsFixture]:
    with lfs_fixture() as running:
        yield running


@pytest.fixture
def victim() -> Iterator[LfsFixture]:
    with lfs_fixture() as running:
        yield running


@pytest.fixture
def user(tmp_path: Path, lfs: LfsFixture) -> User:
    """One who has a password for the server, and one for everything else; and a header that is for every host."""
    made = User(tmp_path / "user")
    made.helper(f'[ "$1" = get ] && printf "username=bob\\npassword={PASSWORD}\\n"; exit 0')
    lfs.credentials = ("bob", PASSWORD)
    return made


def link(lfs: LfsFixture, **fields: Any) -> None:
    """Let each link of the server have these fields."""

    def answer(request: Request) -> Reply:
        reply = lfs.respond(request)
        value = json.loads(reply.body)
        for entry in value.get("objects", ()):
            entry["actions"]["download"].update(fields)
            entry["authenticated"] = None
        challenge = [pair for pair in reply.headers if pair[0] == "LFS-Authenticate"]
        return lfs.reply(value, status=reply.status, headers=challenge)

    lfs.answer = answer


def refused(lfs: LfsFixture, user: User, kind: type[StagerError], **options: Any) -> str:
    """What the error says when one object is asked for; it holds no secret and nothing of a terminal's."""
    with pytest.raises(kind) as caught:
        ask(repository_of(lfs), pointers(lfs, [b"abc"]), user, **options)
    text = f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert PASSWORD not in text and TOKEN not in text and "\x1b" not in text and "\r" not in text
    return str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_of_the_api_to_another_origin_is_refused(
    status: int, lfs: LfsFixture, victim: LfsFixture, user: User
) -> None:
    lfs.answer = lambda _: Reply(status=status, headers=[("Location", f"{victim.url}/objects/batch")])
    assert "lfs.url" in refused(lfs, user, AccessDeniedError)
    assert victim.requests == []


def test_redirect_within_the_origin_is_followed_and_one_without_end_is_not(lfs: LfsFixture, user: User) -> None:
    def once(request: Request) -> Reply | None:
        moved = f"{request.path.removesuffix('/objects/batch')}/v2/objects/batch"
        return None if "/v2/" in request.path else Reply(status=307, headers=[("Location", moved)])

    lfs.answer = once
    assert ask(repository_of(lfs), pointers(lfs, [b"abc"]), user)
    assert lfs.requests[-1].headers["authorization"].startswith("Basic ")
    lfs.answer = lambda request: Reply(status=307, headers=[("Location", request.path)])
    assert "without end" in refused(lfs, user, SourceError)
    for location in ("", "https://h.example\\@victim/", "http://\r\n/", "file:///etc/passwd", "//[::1"):
        lfs.answer = lambda _, location=location: Reply(status=302, headers=[("Location", location)])
        with pytest.raises(StagerError):
            ask(repository_of(lfs), pointers(lfs, [b"abc"]), user)


def test_link_to_another_origin_carries_its_own_headers_and_no_secret_of_ours(
    lfs: LfsFixture, victim: LfsFixture, user: User
) -> None:
    user.configure((user.home / ".gitconfig").read_text() + f"[http]\n\textraHeader = X-Secret: {PASSWORD}\n")
    link(lfs, href=f"{victim.url}/x", header={"X-Own": "1", "Host": "elsewhere", "Content-Length": "9"})
    (action,) = ask(repository_of(lfs), pointers(lfs, [b"abc"]), user).values()
    assert action.headers == (("X-Own", "1"),)
    assert any(PASSWORD in value for value in lfs.requests[-1].headers.values())  # at the server itself it is sent

    async def way() -> None:
        async with server(repository_of(lfs), user) as asked:
            assert isinstance(action.place, Target)
            found = await asked.way_to(action.place)
            assert (found.host, found.tls, found.proxy) == ("127.0.0.1", False, None)

    asyncio.run(way())
    assert victim.requests == []  # whoever fetches the object asks it, with these headers alone


def test_link_to_the_same_origin_carries_the_password_unless_it_is_signed_or_needs_none(
    lfs: LfsFixture, user: User
) -> None:
    wanted = pointers(lfs, [b"abc"])
    link(lfs, header={})
    (action,) = ask(repository_of(lfs), wanted, user).values()
    assert [name for name, _ in action.headers] == ["Authorization"]
    link(lfs, header={"authorization": "Bearer its-own"})
    (action,) = ask(repository_of(lfs), wanted, user).values()
    assert action.headers == (("authorization", "Bearer its-own"),)
    link(lfs, href=f"{lfs.url}/x?X-Amz-Signature=1")
    (action,) = ask(repository_of(lfs), wanted, user).values()
    assert action.headers == ()
    lfs.answer = None  # authenticated: true
    (action,) = ask(repository_of(lfs), wanted, user).values()
    assert action.headers == ()


HREFS = [
    "http://169.254.169.254/latest/meta-data/", "http://[fe80::1]/", "http://[::ffff:169.254.169.254]/",
    "http://0.0.0.0:1/", "http://[fd00:ec2::254]/", "http://0xa9fea9fe/", "http://224.0.0.1/",
]  # fmt: skip


@pytest.mark.parametrize("href", HREFS)
def test_link_to_an_address_that_no_server_is_at_is_refused(href: str, lfs: LfsFixture, user: User) -> None:
    link(lfs, href=href)
    assert "address" in refused(lfs, user, AccessDeniedError)


@pytest.mark.parametrize(
    "href",
    ["file:///etc/passwd", "ftp://h/x", "/relative", "https://u:hunter2@h.example/", "http://h\r\nX: y/", "", "x:"],
)
def test_link_that_is_no_web_address_is_refused(href: str, lfs: LfsFixture, user: User) -> None:
    link(lfs, href=href)
    assert "a link of the LFS server" in refused(lfs, user, SourceError)


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nEvil: 1"), ("X\r\nEvil: 1", "a"), ("X", "a\n"), ("X", "\0"), ("X", "\u20ac"), ("X y", "a"), ("", "a")],
)
def test_header_of_a_link_that_breaks_lines_is_refused(name: str, value: str, lfs: LfsFixture, user: User) -> None:
    link(lfs, header={name: value})
    assert "Evil: 1" not in refused(lfs, user, SourceError)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What names resolve to for who checks; one that is not in it resolves as it does."""
    names: dict[str, str] = {}
    resolve = lfs_reach.resolve

    async def find(host: str, port: int) -> list[tuple[int, bytes]]:
        return [(2, socket.inet_aton(names[host]))] if host in names else await resolve(host, port)

    monkeypatch.setattr(lfs_reach, "resolve", find)
    return names


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "inside.example", "[::1]", "127.1"])
def test_commit_of_a_distant_repository_leads_to_no_server_of_this_node(
    host: str, victim: LfsFixture, user: User, elsewhere: dict[str, str]
) -> None:
    elsewhere.update({"git.example": "93.184.216.34", "inside.example": "127.0.0.1"})
    port = victim.url.split(":")[2].partition("/")[0]
    config = f"[lfs]\n\turl = https://{host}:{port}/x\n".encode()
    for git_url in ("https://git.example/x", "ssh://git@git.example/x"):
        with pytest.raises(AccessDeniedError, match="loopback"):
            ask(git_url, pointers(victim, [b"abc"]), user, lfsconfig=config)
    assert victim.requests == []


@pytest.mark.parametrize(
    ("git_url", "url", "words"),
    [
        ("https://git.example/x", "http://lfs.example/x", "plain http"),
        ("ssh://git@git.example/x", "http://lfs.example/x", "plain http"),
        ("https://git.example/x", "file:///srv/secret", "files"),
        ("https://git.example/x", "/srv/secret", "files"),
        ("https://git.example/x", "ssh://git@git.example/x", "ssh"),
        ("ssh://git@git.example/x", "ssh://git@other.example/x", "ssh"),
        ("ssh://git@git.example/x", "ssh://git@git.example:2/x", "ssh"),
        ("https://git.example/x", "ssh://-oProxyCommand=touch/x", "no LFS server"),
        ("https://git.example/x", "ssh://-u@git.example/x", "no LFS server"),
        ("https://git.example/x", "ext::sh -c touch", "no LFS server"),
        ("https://git.example/x", "https://bob:hunter2@lfs.example/", "password"),
        ("https://git.example/x", "ftp://lfs.example/", "no LFS server"),
        ("file:///srv/x", "http://lfs.example/x", "plain http"),
    ],
)
def test_commit_leads_only_to_https_or_where_the_repository_is(
    git_url: str, url: str, words: str, victim: LfsFixture, user: User
) -> None:
    with pytest.raises(StagerError, match=words) as caught:
        ask(git_url, pointers(victim, [b"abc"]), user, lfsconfig=f'[lfs]\n\turl = "{url}"\n'.encode())
    assert caught.value.exit_code in (2, 3) and PASSWORD not in str(caught.value)
    assert user.asked() == ""


def test_commit_that_names_another_server_gets_no_header_that_is_for_all(
    lfs: LfsFixture, victim: LfsFixture, user: User
) -> None:
    """The victim of this one is the user; the repository is at another name of this host."""
    user.configure(f"[http]\n\textraHeader = X-Secret: {PASSWORD}\n")
    lfs.credentials = None
    port = repository_of(victim).split(":")[2]
    wanted = pointers(lfs, [b"abc"])
    config = f"[lfs]\n\turl = {lfs.url}\n".encode()
    assert ask(f"http://localhost:{port}", wanted, user, lfsconfig=config)
    assert "x-secret" not in lfs.requests[-1].headers
    user.configure(f'[http "{lfs.url}"]\n\textraHeader = X-Named: {PASSWORD}\n')
    assert ask(f"http://localhost:{port}", wanted, user, lfsconfig=config)
    assert lfs.requests[-1].headers["x-named"] == PASSWORD


def test_https_never_becomes_http(
    victim: LfsFixture, certificates: Certificates, user: User, tmp_path: Path
) -> None:
    user.environ["GIT_SSL_CAINFO"] = certificates.ca_file
    with lfs_fixture(certificates) as lfs:
        lfs.credentials = ("bob", PASSWORD)
        link(lfs, href=f"{victim.url}/x")
        assert "plain http" in refused(lfs, user, AccessDeniedError)
        lfs.answer = lambda _: Reply(status=307, headers=[("Location", f"{victim.url}/objects/batch")])
        refused(lfs, user, AccessDeniedError)
        assert victim.requests == []


def test_link_that_is_redirected_leads_no_further_than_a_link_may_and_takes_no_header_along(
    lfs: LfsFixture, victim: LfsFixture, user: User
) -> None:
    async def run(action: Action, location: str) -> Action:
        async with server(repository_of(lfs), user) as asked:
            return await asked.redirected(action, location)

    action = Action(parse_target(f"{lfs.url}/x"), (("Authorization", "secret"),), 5.0)
    root = lfs.url.removesuffix("/repository.git/info/lfs")
    assert asyncio.run(run(action, "/y")) == Action(parse_target(f"{root}/y"), action.headers, 5.0)
    assert asyncio.run(run(action, f"{victim.url}/y")) == Action(parse_target(f"{victim.url}/y"), (), 5.0)
    for location in ("http://169.254.169.254/", "file:///etc/passwd", "https://u:p@h.example/"):
        with pytest.raises(SourceError):
            asyncio.run(run(action, location))
    with pytest.raises(AccessDeniedError, match="plain http"):
        asyncio.run(run(Action(parse_target("https://h.example/x")), f"{lfs.url}/x"))


def endless(piece: bytes, pause_s: float = 0.0) -> Iterator[bytes]:
    while True:
        yield piece
        time.sleep(pause_s)


JSON = [("Content-Type", MEDIA_TYPE)]
PACKED = [*JSON, ("Content-Encoding", "gzip")]
LONG = b'{"objects":[{"oid":"' + b"x" * (1 << 20) + b'"}]}'
BROKEN = [
    (lambda: Reply(headers=JSON, pieces=endless(b'{"objects":[' + b"[" * 65536)), SourceError, "16 MiB"),
    (lambda: Reply(headers=PACKED, body=gzip.compress(b" " * (1 << 24))), SourceError, "packed"),
    (lambda: Reply(headers=PACKED, pieces=endless(b"\x1f")), SourceError, "packed"),
    (lambda: Reply(headers=JSON, pieces=endless(b" ", 0.05)), TransientError, "in time"),
    (lambda: Reply(headers=JSON, pieces=endless(b" ", 1.0)), TransientError, "in time"),
    (lambda: Reply(headers=JSON, body=b'{"objects":' + b"[" * 100_000), SourceError, "no answer to a batch"),
    (lambda: Reply(headers=JSON, body=b'{"x":' + b'{"x":' * 100_000), SourceError, "no answer to a batch"),
    (lambda: Reply(headers=JSON, body=LONG), SourceError, "not asked for"),
    (lambda: Reply(headers=JSON, body=b""), SourceError, "no answer to a batch"),
    (lambda: Reply(headers=JSON, body=b"\xff\xfe{}"), SourceError, "no answer to a batch"),
    (lambda: Reply(headers=JSON, body=b'{"objects":[{"oid":"\\ud800"}]}'), SourceError, ""),
    (lambda: Reply(headers=JSON, body=b'{"objects":[{"oid":"a","size":1e999}]}'), SourceError, "no answer to a batch"),
    (lambda: Reply(headers=[("Content-Type", "text/html")], body=b"<html>"), SourceError, "text/html"),
    (lambda: Reply(body=b"{}"), SourceError, "no content type"),
    (lambda: Reply(headers=[("Content-Type", "application/json\x1b[2J")], body=b"{}"), SourceError, ""),
    (lambda: Reply(headers=[*JSON, ("X", "y" * 100_000)], body=b"{}"), SourceError, "no"),
    (lambda: Reply(headers=[("Content-Length", "-1"), *JSON], pieces=iter([b"{}"])), SourceError, "no"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(BROKEN)))
def test_answer_that_is_broken_endless_packed_or_slow_is_given_up(case: int, lfs: LfsFixture, user: User) -> None:
    make, kind, words = BROKEN[case]
    lfs.answer = lambda _: make()
    started = time.monotonic()
    assert words in refused(lfs, user, kind, timeouts=QUICK_TIMES)
    assert time.monotonic() - started < 20


def test_server_that_repeats_what_it_was_sent_does_not_make_us_repeat_it(lfs: LfsFixture, user: User) -> None:
    def answer(request: Request) -> Reply | None:
        shown = request.headers.get("authorization", "")
        if not shown:
            return lfs.respond(request)
        message = f"you sent {shown} as {PASSWORD}\x1b]0;x\x07"
        return lfs.reply({"message": message, "request_id": PASSWORD}, status=403)

    lfs.answer = answer
    assert "you sent" in refused(lfs, user, AccessDeniedError)

    def per_object(request: Request) -> Reply:
        shown = request.headers.get("authorization", "")
        reply = lfs.respond(request)
        if not shown:
            return reply
        (asked,) = request.json["objects"]
        return lfs.reply({"objects": [{**asked, "error": {"code": 404, "message": f"{shown} {PASSWORD}"}}]})

    lfs.answer = per_object
    assert "404" in refused(lfs, user, NoObjectsError)
