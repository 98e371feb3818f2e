"""Every fault of the proxy, seen from a plain client in front of a plain server."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.http_scan import Scanner
from servers.local_http import local_http

BODY = bytes(range(256)) * 1024


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        if "chunked" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(BODY), 10_000):
                part = BODY[start : start + 10_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[tuple[str, int]]:
    with local_http(Handler) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        yield host, int(port)


@pytest.fixture
def proxy(origin: tuple[str, int]) -> Iterator[FaultProxy]:
    with fault_proxy(origin) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*proxy.address, timeout=30)
    yield connection
    connection.close()


def get(client: http.client.HTTPConnection, path: str = "/") -> bytes:
    client.request("GET", path)
    return client.getresponse().read()


def test_without_faults_requests_and_bytes_pass_and_are_counted(
    proxy: FaultProxy, client: http.client.HTTPConnection
) -> None:
    assert get(client, "/a") == BODY
    assert get(client, "/chunked") == BODY
    client.request("HEAD", "/b")
    client.getresponse().read()
    assert get(client, "/c") == BODY
    assert proxy.counts.targets == ["/a", "/chunked", "/b", "/c"]
    assert (proxy.counts.connections, proxy.counts.requests, proxy.counts.faults) == (1, 4, 0)
    assert proxy.counts.bytes_down > 3 * len(BODY)


@pytest.mark.parametrize("path", ["/", "/chunked"])
@pytest.mark.parametrize("at", [0, 1, 70_000, len(BODY) - 1])
def test_corrupt_changes_exactly_that_byte_of_the_body(
    proxy: FaultProxy, client: http.client.HTTPConnection, path: str, at: int
) -> None:
    proxy.add(Fault(corrupt_at=at))
    body = get(client, path)
    assert [index for index, pair in enumerate(zip(body, BODY, strict=True)) if pair[0] != pair[1]] == [at]
    assert get(client, path) == BODY


@pytest.mark.parametrize("at", [0, 1, 70_000])
def test_cut_ends_the_body_after_that_many_bytes(
    proxy: FaultProxy, client: http.client.HTTPConnection, at: int
) -> None:
    proxy.add(Fault(cut_at=at))
    with pytest.raises(http.client.IncompleteRead) as error:
        get(client)
    assert error.value.partial == BODY[:at]
    client.close()
    assert get(client) == BODY


def test_reset_ends_the_connection_with_an_error(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    proxy.add(Fault(reset_at=70_000))
    with pytest.raises(ConnectionResetError):
        get(client)


def test_stall_falls_silent_at_that_byte_until_released(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    proxy.add(Fault(stall_at=70_000))
    client.request("GET", "/")
    answer = client.getresponse()
    assert answer.read(70_000) == BODY[:70_000]
    proxy.wait_stalled()
    client.sock.settimeout(0)
    with pytest.raises(BlockingIOError):
        client.sock.recv(1)
    client.sock.settimeout(30)
    proxy.release()
    assert answer.read() == BODY[70_000:]


def test_delay_and_rate_change_nothing_but_the_time(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    proxy.add(Fault(delay_s=0.01, bytes_per_s=len(BODY) * 10))
    assert get(client) == BODY
    assert proxy.counts.faults == 1


def test_fault_is_for_its_path_and_its_number_of_times(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    proxy.add(Fault(path="/bad", times=2, corrupt_at=5))
    right = [get(client, path) == BODY for path in ("/good", "/bad", "/good", "/bad?x", "/bad")]
    assert right == [True, False, True, False, True]


def test_cleared_faults_do_nothing(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    proxy.add(Fault(corrupt_at=5, times=100))
    proxy.clear()
    assert get(client) == BODY


def test_refused_connections_are_reset_and_later_ones_are_not(
    proxy: FaultProxy, client: http.client.HTTPConnection
) -> None:
    proxy.refuse(1)
    with pytest.raises(OSError), socket.create_connection(proxy.address, timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        if connection.recv(1) == b"":
            raise ConnectionResetError
    assert get(client) == BODY
    assert (proxy.counts.connections, proxy.counts.refused) == (2, 1)


def test_raw_positions_count_bytes_of_the_connection(origin: tuple[str, int]) -> None:
    with fault_proxy(origin, raw=True) as proxy:
        proxy.add(Fault(cut_at=8))
        with socket.create_connection(proxy.address, timeout=30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b"".join(iter(lambda: connection.recv(100), b""))
        assert received == b"HTTP/1.1"


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_scanner_loses_no_byte_however_the_stream_is_cut(step: int) -> None:
    stream = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        b"10;x=y\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\n"
        b"HTTP/1.1 204 No Content\r\n\r\n"
        b"HTTP/1.1 200 OK\r\n\r\nto the end"
    )
    scanner = Scanner(lambda head: b" 204 " not in head)
    spans = [span for start in range(0, len(stream), step) for span in scanner.feed(stream[start : start + step])]
    assert b"".join(span.data for span in spans) == stream
    assert b"".join(span.data for span in spans if span.kind == "body") == b"helloabc0123456789abcdefto the end"
    assert sum(span.kind == "head" for span in spans) == 4
    assert scanner.rest() == b""
