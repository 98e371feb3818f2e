"""What the engine says to a proxy, and what it makes of each answer one may give."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from servers.certificates import Certificates
from servers.process import free_ports
from stager._native import Endpoint, Engine, Signer
from unit.scripted_http import Answer, Caller, Request, caller, loopback, response, say, scripted
from unit.test_native_tls import server_context

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
ERROR_BODY = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
BASIC = "Basic dXNlcjpwYXNz"


@contextmanager
def behind(
    tmp_path: Path, answer: Answer, ca_file: str | None, host: str = "origin.example", **limits: int
) -> Iterator[tuple[Caller, list[Request]]]:
    """A caller of ``host`` (over TLS with a CA file) behind a proxy that answers as told."""
    with (
        scripted(answer) as server,
        caller(
            tmp_path,
            9000,
            host=host,
            tls=ca_file is not None,
            ca_file=ca_file,
            proxy=(server.port, BASIC, None),
            **limits,
        ) as call,
    ):
        yield call, server.requests


def test_plain_requests_go_to_the_proxy_with_the_whole_url_and_are_signed_without_its_password(tmp_path: Path) -> None:
    signer = Signer(access_key="AKID", secret_key="secret", token=None, region="eu-west-1")
    with (
        scripted(say(response(b"abc"))) as server,
        caller(
            tmp_path, 9000, host="origin.example", signer=signer, proxy=(server.port, BASIC, None), connections=1
        ) as call,
    ):
        _, done, _ = call.fetch([call.add(b"a b/%d" % i, 3) for i in range(20)])
        assert len(done) == 20
        assert server.accepted == 1
    first = server.requests[0]
    assert first.path.startswith("http://origin.example:9000/b/a%20b/")
    assert first.headers["host"] == "origin.example:9000"
    assert {request.headers["proxy-authorization"] for request in server.requests} == {BASIC}
    assert "SignedHeaders=host;if-match;x-amz-content-sha256;x-amz-date," in first.headers["authorization"]


def test_signature_is_the_same_with_and_without_a_proxy(tmp_path: Path) -> None:
    """The path is signed, not the URL that the proxy is told."""
    signer = Signer(access_key="AKID", secret_key="secret", token=None, region="eu-west-1")
    with (
        scripted(say(response(b"abc"))) as server,
        caller(tmp_path, 9000, host="origin.example", signer=signer, proxy=(server.port, "", None)) as call,
    ):
        call.fetch([call.add(b"k", 3)])
    (request,) = server.requests
    assert "proxy-authorization" not in request.headers
    signed = [(name, value) for name, value in request.headers.items() if name in ("host", "if-match")]
    moment = datetime.strptime(request.headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
    expected = dict(signer.sign("GET", b"/b/k", b"", signed, int(moment.timestamp())))
    assert request.headers["authorization"] == expected["authorization"]


@pytest.mark.parametrize(("host", "authority"), [("origin.example", "origin.example:9000"), ("::1", "[::1]:9000")])
def test_tunnel_is_asked_for_by_name_and_port_and_with_the_password(
    tmp_path: Path, certificates: Certificates, host: str, authority: str
) -> None:
    with behind(tmp_path, say(response(b"", "502 Bad Gateway")), certificates.ca_file, host) as (call, requests):
        call.fails()
    (request,) = requests
    assert request.path == authority
    assert request.headers == {"host": authority, "proxy-authorization": BASIC}


@pytest.mark.parametrize(
    ("status", "headers", "retry_after_s"),
    [
        ("407 Proxy Authentication Required", {"proxy_authenticate": 'Basic realm="x"'}, -1),
        ("403 Forbidden", {}, -1),
        ("404 Not Found", {}, -1),
        ("302 Found", {"location": "http://elsewhere.example/"}, -1),
        ("502 Bad Gateway", {}, -1),
        ("503 Busy", {"retry_after": "7"}, 7),
        ("504 Gateway Timeout", {}, -1),
    ],
)
def test_refused_tunnel_is_a_failure_of_the_proxy_with_its_status_and_reason(
    tmp_path: Path, certificates: Certificates, status: str, headers: dict[str, str], retry_after_s: int
) -> None:
    answer = response(b"<html>never shown</html>", status, **headers)
    with behind(tmp_path, say(answer), certificates.ca_file) as (call, _):
        failure = call.fails()
    number, _, reason = status.partition(" ")
    assert (failure.kind, failure.where, failure.status) == ("proxy", "tunnel", int(number))
    assert (failure.message, failure.retry_after_s) == (reason, retry_after_s)


NO_TUNNEL = {
    "garbage": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a tls record": b"\x15\x03\x01\x00\x02\x02\x16",
    "endless header": b"HTTP/1.1 200 OK\r\nx: " + b"y" * (1 << 20),
    "endless status line": b"HTTP/1.1 200 " + b"y" * (1 << 20),
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nx: 1\r\n folded\r\n\r\n",
    "speaks first": OPEN + b"x",
}


@pytest.mark.parametrize("name", NO_TUNNEL)
def test_what_is_no_proper_answer_opens_no_tunnel(tmp_path: Path, certificates: Certificates, name: str) -> None:
    with behind(tmp_path, say(NO_TUNNEL[name]), certificates.ca_file) as (call, _):
        failure = call.fails()
    assert (failure.kind, failure.where, failure.status, failure.errno) == ("proxy", "tunnel", 0, 0)
    assert failure.message


def test_proxy_that_ends_the_connection_is_a_failure_of_the_proxy(tmp_path: Path, certificates: Certificates) -> None:
    def answer(request: Request, connection: socket.socket) -> str:
        connection.sendall(b"HTTP/1.1 200 Conn")
        return "close"

    with behind(tmp_path, answer, certificates.ca_file) as (call, _):
        failure = call.fails()
    assert (failure.kind, failure.where) == ("proxy", "tunnel")
    assert "ended the connection" in failure.message


@pytest.mark.parametrize("trickle", [False, True])
def test_proxy_that_does_not_answer_is_given_up_after_the_connect_timeout(
    tmp_path: Path, certificates: Certificates, trickle: bool
) -> None:
    """The stall timeout is far away: a single byte now and then does not put the end off."""

    def answer(request: Request, connection: socket.socket) -> None:
        connection.settimeout(0.02)
        sent = b"HTTP/1.1 200 " if trickle else b""
        while True:
            connection.sendall(sent)
            sent = b"o" if trickle else b""
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue

    with behind(tmp_path, answer, certificates.ca_file, connect_timeout_ms=200, stall_timeout_ms=100_000) as (call, _):
        failure = call.fails()
    assert (failure.kind, failure.where) == ("proxy", "tunnel")
    assert "does not answer" in failure.message


@pytest.mark.parametrize("tls", [False, True])
def test_proxy_that_is_not_there_is_a_failure_of_the_proxy(
    tmp_path: Path, certificates: Certificates, tls: bool
) -> None:
    (port,) = free_ports(1)
    ca_file = certificates.ca_file if tls else None
    with caller(tmp_path, 9000, tls=tls, ca_file=ca_file, proxy=(port, "", None)) as call:
        failure = call.fails()
    assert (failure.kind, failure.where) == ("proxy", "connect")


def test_proxy_that_shows_another_name_is_not_told_the_password(tmp_path: Path, certificates: Certificates) -> None:
    with (
        scripted(say(response(b"abc")), server_context(certificates)) as server,
        caller(
            tmp_path, 9000, ca_file=certificates.ca_file, proxy=(server.port, BASIC, "proxy.example")
        ) as call,
    ):
        failure = call.fails()
        assert server.requests == []
    assert (failure.kind, failure.where) == ("proxy", "handshake")
    assert failure.message.startswith("certificate: ")


def test_plain_requests_go_over_tls_to_a_proxy_that_wants_it(tmp_path: Path, certificates: Certificates) -> None:
    with (
        scripted(say(response(b"abc")), server_context(certificates)) as server,
        caller(
            tmp_path, 9000, host="origin.example", ca_file=certificates.ca_file, proxy=(server.port, BASIC, "localhost")
        ) as call,
    ):
        _, done, _ = call.fetch([call.add(b"%d" % i, 3) for i in range(30)])
        assert len(done) == 30
        assert all(request.path.startswith("http://origin.example:9000/b/") for request in server.requests)


def test_server_that_hangs_up_in_the_tunnel_is_not_the_proxys_failure(
    tmp_path: Path, certificates: Certificates
) -> None:
    def answer(request: Request, connection: socket.socket) -> str:
        connection.sendall(OPEN)
        connection.recv(65536)  # the client's hello
        return "close"

    with behind(tmp_path, answer, certificates.ca_file) as (call, _):
        failure = call.fails()
    assert (failure.kind, failure.where) == ("reset", "handshake")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (response(b"<html>", "407 Proxy Authentication Required"), "proxy"),
        (response(b"", "504 Gateway Timeout"), "proxy"),
        (response(b"<html>", "403 Forbidden", x_amz_request_id="R"), "http"),
        (response(ERROR_BODY, "403 Forbidden"), "http"),
    ],
)
def test_error_without_a_sign_of_s3_is_the_proxys_own(tmp_path: Path, answer: bytes, kind: str) -> None:
    with behind(tmp_path, say(answer), None) as (call, _):
        failure = call.fails()
    assert (failure.kind, failure.status) == (kind, int(answer[9:12]))


def test_error_without_a_sign_of_s3_is_the_servers_where_there_is_no_proxy(tmp_path: Path) -> None:
    with scripted(say(response(b"", "403 Forbidden"))) as server, caller(tmp_path, server.port) as call:
        failure = call.fails()
    assert (failure.kind, failure.message) == ("http", "Forbidden")


@pytest.mark.parametrize(
    ("host", "authorization"), [("a b", ""), ("a\rb", ""), ("", ""), ("a", "x\ry"), ("a", "\0"), ("a", "x" * 5000)]
)
def test_what_cannot_be_said_to_a_proxy_is_refused(host: str, authorization: str) -> None:
    engine = Engine(workers=1, connections=1)
    with pytest.raises(ValueError, match="no name"):
        Endpoint(engine, host=host, port=1, tls=False, addresses=loopback(), proxy=(2, authorization, None))
    engine.close()
