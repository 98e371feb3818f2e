"""How connections use the addresses of a host: in turn, bad ones left alone, new ones taken up."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from servers.certificates import Certificates
from unit.scripted_http import ScriptedServer, caller, loopback, response, say, scripted
from unit.test_native_tls import server_context

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
UNREACHABLE = (socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "2001:db8::1"))  # RFC 3849: nobody's


def has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6_loopback(), reason="this kernel has no ::1")


@contextmanager
def on_one_port(*hosts: str, certificates: Certificates | None = None) -> Iterator[list[ScriptedServer]]:
    """A server on each of these addresses, all on the same port; each keeps an answer back until it was asked."""
    tls = server_context(certificates) if certificates else None
    while True:
        with ExitStack() as stack:
            first = stack.enter_context(scripted(say(response(b"abc")), tls, host=hosts[0]))
            try:
                rest = [
                    stack.enter_context(scripted(say(response(b"abc")), tls, host=host, port=first.port))
                    for host in hosts[1:]
                ]
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise
            yield [first, *rest]
            return


@contextmanager
def hanging(port: int, host: str) -> Iterator[None]:
    """An address whose connections are never decided: a listener that accepts nobody and whose queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, port), backlog=0))
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield


@pytest.mark.parametrize("hosts", [HOSTS, pytest.param((*HOSTS, "::1"), marks=needs_ipv6)])
def test_connections_spread_evenly_over_all_addresses(tmp_path: Path, hosts: tuple[str, ...]) -> None:
    with (
        on_one_port(*hosts) as servers,
        caller(tmp_path, servers[0].port, addresses=loopback(*hosts), connections=4 * len(hosts), workers=1) as call,
    ):
        rows = [call.add(b"%d" % i, 3) for i in range(400)]
        _, done, failures = call.fetch(rows)
        assert (sorted(done), failures) == (rows, [])
        opened = call.engine.stats()["connections"]
        assert {server.accepted for server in servers} <= {opened // len(hosts), -(-opened // len(hosts))}


def test_address_that_refuses_is_tried_once_and_everything_arrives(tmp_path: Path) -> None:
    with (
        on_one_port("127.0.0.1", "127.0.0.3") as servers,
        caller(tmp_path, servers[0].port, addresses=loopback(*HOSTS), connections=8) as call,
    ):
        rows = [call.add(b"%d" % i, 3) for i in range(300)]
        _, done, failures = call.fetch(rows)
        assert (sorted(done), failures) == (rows, [])
        assert all(server.accepted for server in servers)


def test_network_that_is_not_there_costs_no_more_than_a_failed_connect(tmp_path: Path) -> None:
    with (
        on_one_port("127.0.0.1") as (server,),
        caller(tmp_path, server.port, addresses=[UNREACHABLE, *loopback()], connections=4) as call,
    ):
        rows = [call.add(b"%d" % i, 3) for i in range(50)]
        _, done, failures = call.fetch(rows)
        assert (sorted(done), failures) == (rows, [])


def test_address_that_hangs_is_left_without_waiting_for_the_connect_timeout(tmp_path: Path) -> None:
    """The connect timeout is longer than a test may take: whoever waited for it would fail."""
    with (
        on_one_port("127.0.0.1") as (server,),
        hanging(server.port, "127.0.0.2"),
        caller(
            tmp_path,
            server.port,
            addresses=loopback("127.0.0.2", "127.0.0.1"),
            connections=8,
            connect_timeout_ms=1_000_000,
        ) as call,
    ):
        rows = [call.add(b"%d" % i, 3) for i in range(300)]
        _, done, failures = call.fetch(rows)
        assert (sorted(done), failures) == (rows, [])


def test_address_whose_program_hangs_is_left_too(tmp_path: Path, certificates: Certificates) -> None:
    """Its kernel takes connections and nobody answers in the handshake."""
    with (
        on_one_port("127.0.0.1", certificates=certificates) as (server,),
        socket.create_server(("127.0.0.2", server.port), backlog=64),
        caller(
            tmp_path,
            server.port,
            tls=True,
            ca_file=certificates.ca_file,
            addresses=loopback("127.0.0.2", "127.0.0.1"),
            connections=4,
            connect_timeout_ms=1_000_000,
        ) as call,
    ):
        rows = [call.add(b"%d" % i, 3) for i in range(50)]
        _, done, failures = call.fetch(rows)
        assert (sorted(done), failures) == (rows, [])


def test_address_that_hangs_alone_is_waited_for_until_the_connect_timeout(tmp_path: Path) -> None:
    with (
        on_one_port("127.0.0.1") as (server,),
        hanging(server.port, "127.0.0.2"),
        caller(tmp_path, server.port, addresses=loopback("127.0.0.2"), connect_timeout_ms=100) as call,
    ):
        failure = call.fails()
    assert (failure.kind, failure.errno) == ("connect", errno.ETIMEDOUT)


def abc_and_close(request: object, connection: socket.socket) -> str:
    connection.sendall(response(b"abc"))
    return "close"


def test_new_addresses_move_new_connections(tmp_path: Path) -> None:
    with on_one_port("127.0.0.1", "127.0.0.2") as (old, new):
        old.answer = new.answer = abc_and_close
        with caller(tmp_path, old.port, addresses=loopback("127.0.0.1"), connections=2) as call:
            call.fetch([call.add(b"a%d" % i, 3) for i in range(10)])
            before = old.accepted
            call.endpoint.update(loopback("127.0.0.2"))
            call.fetch([call.add(b"b%d" % i, 3) for i in range(10)])
            assert (old.accepted, new.accepted) == (before, 10)


@pytest.mark.parametrize("update", [False, True])
def test_address_that_was_dropped_is_not_asked_again_soon(tmp_path: Path, update: bool) -> None:
    with on_one_port("127.0.0.1") as (good,):
        good.answer = abc_and_close
        addresses = loopback("127.0.0.2", "127.0.0.1")
        with caller(tmp_path, good.port, addresses=addresses, connections=1, workers=1) as call:
            call.fetch([call.add(b"a", 3)])  # refused by the first address
            if update:
                call.endpoint.update(addresses)
            with scripted(say(response(b"abc")), host="127.0.0.2", port=good.port) as back:
                _, done, _ = call.fetch([call.add(b"%d" % i, 3) for i in range(5)])
                assert len(done) == 5
                assert back.accepted == 0


def test_proxys_addresses_are_used_like_a_servers(tmp_path: Path) -> None:
    with (
        on_one_port("127.0.0.1", "127.0.0.3") as proxies,
        caller(
            tmp_path,
            9,
            host="origin.example",
            addresses=loopback(*HOSTS),
            proxy=(proxies[0].port, "", None),
            connections=8,
        ) as call,
    ):
        rows = [call.add(b"%d" % i, 3) for i in range(300)]
        _, done, failures = call.fetch(rows)
        assert (sorted(done), failures) == (rows, [])
        assert all(server.accepted for server in proxies)


@needs_ipv6
def test_server_on_an_ipv6_address_is_talked_to_by_that_name(tmp_path: Path, certificates: Certificates) -> None:
    with (
        on_one_port("::1") as (server,),
        caller(tmp_path, server.port, host="::1", addresses=loopback("::1")) as call,
    ):
        _, done, _ = call.fetch([call.add(b"k", 3)])
        assert len(done) == 1
        assert server.requests[0].headers["host"] == f"[::1]:{server.port}"
