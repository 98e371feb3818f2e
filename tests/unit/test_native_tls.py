"""Who the engine talks to over TLS, and who it does not."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import struct
import threading
from pathlib import Path

import pytest

from servers.certificates import Certificates, make_certificates
from unit.scripted_http import Request, caller, response, say, scripted

MIB = 1 << 20


def server_context(certificates: Certificates, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain_file, certificates.key_file)
    if newest:
        context.maximum_version = newest
    return context


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_server_with_the_right_name_is_talked_to(
    tmp_path: Path, certificates: Certificates, host: str, newest: ssl.TLSVersion
) -> None:
    body = bytes(range(256)) * 4096 * 3
    with (
        scripted(say(response(body)), server_context(certificates, newest)) as server,
        caller(tmp_path, server.port, host=host, tls=True, ca_file=certificates.ca_file) as call,
    ):
        rows = [call.add(b"%d" % i, len(body)) for i in range(10)]
        _, done, failures = call.fetch(rows)
        assert (sorted(done), failures) == (rows, [])
        assert (tmp_path / "7").read_bytes() == body


def test_small_objects_share_tls_connections(tmp_path: Path, certificates: Certificates) -> None:
    with (
        scripted(say(response(b"abc")), server_context(certificates)) as server,
        caller(tmp_path, server.port, tls=True, ca_file=certificates.ca_file, connections=2) as call,
    ):
        _, done, _ = call.fetch([call.add(b"%d" % i, 3) for i in range(200)])
        assert len(done) == 200
        assert call.engine.stats()["connections"] <= 2


def test_server_with_another_name_is_refused(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_certificates(tmp_path_factory.mktemp("other"), "other.example", "10.0.0.1")
    for host in ("localhost", "127.0.0.1"):
        with (
            scripted(say(response(b"abc")), server_context(other)) as server,
            caller(tmp_path, server.port, host=host, tls=True, ca_file=other.ca_file) as call,
        ):
            failure = call.fails()
            assert server.requests == []
        assert (failure.kind, failure.where) == ("tls", "handshake")
        assert "mismatch" in failure.message


def test_server_of_a_stranger_is_refused(tmp_path: Path, certificates: Certificates) -> None:
    with (
        scripted(say(response(b"abc")), server_context(certificates)) as server,
        caller(tmp_path, server.port, host="localhost", tls=True, ca_file=certificates.stranger_ca_file) as call,
    ):
        failure = call.fails()
        assert server.requests == []
    assert failure.kind == "tls"
    assert failure.message.startswith("certificate: ")


def test_stranger_is_talked_to_only_when_asked_not_to_verify(tmp_path: Path, certificates: Certificates) -> None:
    with (
        scripted(say(response(b"abc")), server_context(certificates)) as server,
        caller(tmp_path, server.port, host="elsewhere.example", tls=True, verify=False) as call,
    ):
        _, done, _ = call.fetch([call.add(b"k", 3)])
        assert done == [0]


def test_what_comes_behind_an_answer_is_not_the_next_answer(tmp_path: Path, certificates: Certificates) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # two records, one segment
        connection.sendall(response(b"abc"))
        connection.sendall(response(b"xyz"))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    with (
        scripted(answer, server_context(certificates)) as server,
        caller(tmp_path, server.port, tls=True, ca_file=certificates.ca_file, connections=1) as call,
    ):
        rows = [call.add(b"%d" % i, 3) for i in range(5)]
        _, done, failures = call.fetch(rows)
        assert (sorted(done), failures) == (rows, [])
        assert {(tmp_path / str(i)).read_bytes() for i in rows} == {b"abc"}
        assert call.engine.stats()["connections"] == 5


def test_broken_record_is_not_blamed_on_a_certificate_nobody_asked_for(
    tmp_path: Path, certificates: Certificates
) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        with socket.socket(fileno=os.dup(connection.fileno())) as below:
            below.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))

    with (
        scripted(answer, server_context(certificates)) as server,
        caller(tmp_path, server.port, tls=True, verify=False) as call,
    ):
        failure = call.fails()
    assert failure.kind == "tls"
    assert "certificate" not in failure.message


@pytest.mark.parametrize("host", ["", ".example", "a\0b"])
def test_host_that_is_no_name_is_refused(tmp_path: Path, certificates: Certificates, host: str) -> None:
    with (
        pytest.raises(ValueError, match="host"),
        caller(tmp_path, 1, host=host, tls=True, ca_file=certificates.ca_file),
    ):
        pass


def test_plain_server_is_a_tls_failure(tmp_path: Path, certificates: Certificates) -> None:
    with (
        scripted(say(b"")) as server,
        caller(tmp_path, server.port, tls=True, ca_file=certificates.ca_file, connect_timeout_ms=300) as call,
    ):
        assert call.fails().kind in ("tls", "connect")


def test_reset_in_the_handshake_is_a_connect_failure(tmp_path: Path, certificates: Certificates) -> None:
    def reset_one(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        caller(tmp_path, listener.getsockname()[1], tls=True, ca_file=certificates.ca_file) as call,
    ):
        resetting = threading.Thread(target=reset_one, args=(listener,))
        resetting.start()
        failure = call.fails()
        resetting.join()
    assert (failure.kind, failure.errno) == ("connect", errno.ECONNRESET)


def test_body_cut_off_inside_tls_is_a_reset(tmp_path: Path, certificates: Certificates) -> None:
    def answer(request: object, connection: object) -> str:
        connection.sendall(response(b"x" * MIB)[:-10])  # type: ignore[attr-defined]
        return "close"

    with (
        scripted(answer, server_context(certificates)) as server,
        caller(tmp_path, server.port, tls=True, ca_file=certificates.ca_file) as call,
    ):
        assert call.fails(MIB).kind == "reset"


def test_ca_file_must_be_there_and_hold_certificates(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(FileNotFoundError), caller(tmp_path, 1, tls=True, ca_file=str(tmp_path / name)):
            pass
    with pytest.raises(ValueError, match="ca_file"), caller(tmp_path, 1, tls=True):
        pass


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate_of_the_client_is_shown_to_a_server_that_asks(
    tmp_path: Path, certificates: Certificates, newest: ssl.TLSVersion
) -> None:
    context = server_context(certificates, newest)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca_file)
    pairs = ((certificates.client_file, certificates.client_key_file), (certificates.client_both_file,) * 2)
    for pair in (*pairs, *[None] * 30):
        with (
            scripted(say(response(b"abc")), context) as server,
            caller(tmp_path, server.port, tls=True, ca_file=certificates.ca_file, certificate=pair) as call,
        ):
            if pair is not None:
                assert call.fetch([call.add(b"k", 3)])[1:] == ([0], [])
                (tmp_path / "k").unlink()
                continue
            failure = call.fails()
            assert server.requests == []
            # TLS 1.3 refuses behind the handshake, when a request is on its way: a reset precedes the alert's reading.
            assert failure.kind == "tls" and "alert" in failure.message, failure


def test_certificate_that_cannot_be_used_is_refused_and_no_password_asked_for(
    tmp_path: Path, certificates: Certificates
) -> None:
    shown = certificates.client_file
    for key, number in (
        ("missing.pem", errno.ENOENT),
        (certificates.client_locked_file, errno.EKEYREJECTED),
        (certificates.key_file, errno.EKEYREJECTED),  # of another certificate
        (certificates.ca_file, errno.EKEYREJECTED),  # no key
    ):
        with (
            pytest.raises(OSError, match=r"pem") as caught,
            caller(tmp_path, 1, tls=True, ca_file=certificates.ca_file, certificate=(shown, key)),
        ):
            pass
        assert caught.value.errno == number
