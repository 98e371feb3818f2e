"""What the engine makes of each answer a server may give."""

from __future__ import annotations

import os
import socket
import threading
from array import array
from pathlib import Path

import pytest

from stager import _native
from stager._native import Signer
from unit.scripted_http import Answer, Request, caller, drain_all, loopback, response, say, scripted

MIB = 1 << 20
ERROR_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>no &amp; never</Message>'
    b"<RequestId>REQ7</RequestId><HostId>h</HostId></Error>"
)


GRADES = {"verified": "A", "pinned": "B", "unpinned": "C"}


def content(number: int, size: int) -> bytes:
    return bytes([number & 255]) * size


def objects(request: Request, connection: socket.socket) -> None:
    """Serves /b/.../NUMBER.SIZE, whole or in ranges."""
    number, size = map(int, request.path.rsplit("/", 1)[1].split("."))
    if "range" not in request.headers:
        connection.sendall(response(content(number, size)))
        return
    first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
    head = response(b"", "206 Partial Content", content_range=f"bytes {first}-{last}/{size}", content_length="")
    connection.sendall(head[:-2] + f"content-length: {last - first + 1}\r\n\r\n".encode())
    connection.sendall(content(number, last - first + 1))


def test_objects_of_all_sizes_arrive_under_their_keys(tmp_path: Path) -> None:
    sizes = [0, 1, 17, 262_143, 262_144, 300_000, 3 * MIB, 9 * MIB, *range(0, 60_000, 997)]
    with scripted(objects) as server, caller(tmp_path, server.port) as call:
        rows = [call.add(f"d{i % 5}/e/{i}.{size}".encode(), size) for i, size in enumerate(sizes)]
        batch, done, failures = call.fetch(rows)
        assert sorted(done) == rows
        assert failures == []
        entries = _native.Entries(call.table)
        assert list(entries.take(batch, done, **GRADES)) == list(done)
        for row in done:
            key, size, identity, digest, mtime_ns, ctime_ns, mode, grade = entries.recorded(row) or pytest.fail("gone")
            path = tmp_path / os.fsdecode(key)
            data, seen = path.read_bytes(), path.stat()
            assert data == content(row, sizes[row])
            assert (key, size, identity, grade) == (call.table.key(row), sizes[row], b"e", "B")
            assert digest == _native.digest_bytes(data)
            assert (mtime_ns, ctime_ns, mode) == (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_mode & 0o7777)
        with pytest.raises(IndexError):
            entries.take(batch, [len(sizes)], **GRADES)
        with pytest.raises(IndexError):
            entries.take(batch, [-1], **GRADES)
        assert call.temporaries() == []
        assert call.engine.stats()["requests"] == len(sizes)


def test_whole_object_is_asked_for_without_range_and_with_the_pinned_etag(tmp_path: Path) -> None:
    with scripted(say(response(b"abc"))) as server, caller(tmp_path, server.port, headers=[("X-Extra", "1")]) as call:
        call.fetch([call.add(b"a b/\xff", 3)])
        (request,) = server.requests
    assert request.path == "/b/a%20b/%FF"
    assert "range" not in request.headers
    assert request.headers["if-match"] == '"e"'
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["x-extra"] == "1"
    assert "authorization" not in request.headers


def test_signed_request_carries_what_the_signer_gives_for_it(tmp_path: Path) -> None:
    signer = Signer(access_key="AKID", secret_key="secret", token="tok", region="eu-west-1")
    with scripted(say(response(b"abc"))) as server, caller(tmp_path, server.port, signer=signer) as call:
        call.fetch([call.add(b"k", 3)])
        (request,) = server.requests
    assert request.headers["x-amz-security-token"] == "tok"
    authorization = request.headers["authorization"]
    assert "SignedHeaders=host;if-match;x-amz-content-sha256;x-amz-date;x-amz-security-token" in authorization


def test_clock_skew_moves_the_signed_date(tmp_path: Path) -> None:
    signer = Signer(access_key="AKID", secret_key="secret", token=None, region="eu-west-1")
    signer.set_clock_skew(-(10**9))
    with scripted(say(response(b"abc"))) as server, caller(tmp_path, server.port, signer=signer) as call:
        call.fetch([call.add(b"k", 3)])
    assert server.requests[0].headers["x-amz-date"] < "2010"


def test_mode_of_a_row_is_the_mode_of_its_file(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        with scripted(say(response(b"abc"))) as server, caller(tmp_path, server.port) as call:
            batch, done, _ = call.fetch([call.add(b"x", 3, mode=0o755), call.add(b"y", 3)])
            entries = _native.Entries(call.table)
            entries.take(batch, done, **GRADES)
            assert [(entries.recorded(row) or pytest.fail("gone"))[6] for row in range(2)] == [0o755, 0o644]
    finally:
        os.umask(before)


def test_ranges_of_a_large_object_give_its_bytes_and_blocks(tmp_path: Path) -> None:
    size = 37 * MIB + 5
    with scripted(objects) as server, caller(tmp_path, server.port) as call:
        row = call.add(f"7.{size}".encode(), size)
        ranges = [(at, min(16 * MIB, size - at)) for at in range(0, size, 16 * MIB)]
        fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
        batch = call.engine.fetch_ranges(call.template, call.table, row, ranges, fd)
        done, failures = drain_all(call.engine, batch)
        assert (sorted(done), failures) == ([0, 1, 2], [])
        blocks = b"".join(batch.blocks(i) for i in range(3))
        assert _native.combine_blocks(blocks) == _native.digest_bytes(content(7, size))
        assert _native.digest_fd(fd) == (size, _native.digest_bytes(content(7, size)))
        with pytest.raises(ValueError, match="objects"):
            _native.Entries(call.table).take(batch, [1], **GRADES)
        os.close(fd)


def test_range_that_is_the_whole_object_goes_without_range(tmp_path: Path) -> None:
    with scripted(objects) as server, caller(tmp_path, server.port) as call:
        row = call.add(b"7.1000", 1000)
        fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
        batch = call.engine.fetch_ranges(call.template, call.table, row, [(0, 1000)], fd)
        assert drain_all(call.engine, batch) == ([0], [])
        assert "range" not in server.requests[0].headers
        assert batch.blocks(0) == _native.digest_bytes(content(7, 1000))
        os.close(fd)


RANGE = "206 Partial Content"
BAD_RANGE_ANSWERS = {
    "ignored": response(b"x" * MIB, "200 OK"),
    "other first": response(b"x" * MIB, RANGE, content_range=f"bytes 1-{8 * MIB}/{9 * MIB}"),
    "other total": response(b"x" * MIB, RANGE, content_range=f"bytes {8 * MIB}-{9 * MIB - 1}/{9 * MIB + 1}"),
    "unknown total": response(b"x" * MIB, RANGE, content_range=f"bytes {8 * MIB}-{9 * MIB - 1}/*"),
    "no content-range": response(b"x" * MIB, RANGE),
    "other etag": response(b"x" * MIB, RANGE, '"f"', content_range=f"bytes {8 * MIB}-{9 * MIB - 1}/{9 * MIB}"),
    "short": response(b"x" * 5, RANGE, content_range=f"bytes {8 * MIB}-{9 * MIB - 1}/{9 * MIB}"),
}


@pytest.mark.parametrize("name", BAD_RANGE_ANSWERS)
def test_range_answer_that_is_not_the_one_asked_for_is_an_identity_failure(tmp_path: Path, name: str) -> None:
    with scripted(say(BAD_RANGE_ANSWERS[name])) as server, caller(tmp_path, server.port) as call:
        row = call.add(b"k", 9 * MIB)
        fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
        batch = call.engine.fetch_ranges(call.template, call.table, row, [(8 * MIB, MIB)], fd)
        done, failures = drain_all(call.engine, batch)
        assert (done, failures[0].kind) == ([], "identity")
        assert os.fstat(fd).st_size == 0
        os.close(fd)


CHUNKED = b'HTTP/1.1 200 OK\r\netag: "e"\r\ntransfer-encoding: chunked\r\n\r\n'
BAD_ANSWERS: dict[str, tuple[str, bytes]] = {
    "wrong etag": ("identity", response(b"abc", etag='"f"')),
    "weak etag": ("identity", response(b"abc", etag='W/"e"')),
    "no etag": ("identity", response(b"abc", etag=None)),
    "partial": ("identity", response(b"abc", "206 Partial Content", content_range="bytes 0-2/3")),
    "encoded": ("identity", response(b"abc", content_encoding="gzip")),
    "shorter": ("identity", response(b"ab")),
    "longer": ("identity", response(b"abcd")),
    "chunked shorter": ("identity", CHUNKED + b"2\r\nab\r\n0\r\n\r\n"),
    "chunked longer": ("identity", CHUNKED + b"4\r\nabcd\r\n0\r\n\r\n"),
    "no length": ("identity", b'HTTP/1.1 200 OK\r\netag: "e"\r\n\r\nabc'),
    "two lengths": ("protocol", response(b"abc", x="1\r\ncontent-length: 4")),
    "length and coding": ("protocol", response(b"3\r\nabc\r\n0\r\n\r\n", transfer_encoding="chunked")),
    "bad chunk": ("protocol", CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n"),
    "extra bytes": ("protocol", response(b"abc") + b"HTTP/1.1 200 OK\r\n"),
    "no status line": ("protocol", b"hello\r\n\r\n"),
    "folded header": ("protocol", response(b"abc", x="1\r\n folded")),
    "switching": ("protocol", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_bad_answer_fails_and_leaves_no_file(tmp_path: Path, name: str) -> None:
    kind, answer = BAD_ANSWERS[name]
    with scripted(say(answer)) as server, caller(tmp_path, server.port) as call:
        assert call.fails().kind == kind


def test_object_stored_with_a_coding_is_refused_by_name(tmp_path: Path) -> None:
    answer = response(b"abc", content_encoding="gzip")
    with scripted(say(answer)) as server, caller(tmp_path, server.port) as call:
        assert call.fails().where == "content-encoding"


def test_endless_headers_are_a_protocol_failure(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"x-more: and more\r\n" * 100)

    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        assert call.fails().kind == "protocol"


def test_good_chunked_answer_is_taken(tmp_path: Path) -> None:
    data = os.urandom(400_000)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (data[i : i + 999] for i in range(0, 400_000, 999)))
    with (
        scripted(say(CHUNKED + chunks + b"0;ext=1\r\ntrailer: 1\r\n\r\n")) as server,
        caller(tmp_path, server.port) as call,
    ):
        _, done, failures = call.fetch([call.add(b"k", len(data))])
        assert (done, failures) == ([0], [])
        assert (tmp_path / "k").read_bytes() == data


@pytest.mark.parametrize("size", [1000, 5 * MIB])
def test_body_that_is_cut_off_is_a_reset(tmp_path: Path, size: int) -> None:
    def answer(request: Request, connection: socket.socket) -> str:
        connection.sendall(response(b"x" * size)[:-5])
        return "close"

    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        failure = call.fails(size)
    assert (failure.kind, failure.where) == ("reset", "body")


def test_broken_connection_is_a_reset(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> str:
        connection.sendall(response(b"x" * 1000)[:-5])
        return "reset"

    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        assert call.fails(1000).kind == "reset"


def test_error_answer_brings_its_code_and_the_connection_serves_on(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        if request.path == "/b/bad":
            error = response(ERROR_BODY, "403 Forbidden", None, x_amz_bucket_region="eu-north-1", date="D")
            connection.sendall(error)
        else:
            connection.sendall(response(b"abc"))

    with scripted(answer) as server, caller(tmp_path, server.port, workers=1, connections=1) as call:
        _, done, (failure,) = call.fetch([call.add(b"bad", 3), call.add(b"good", 3)])
        assert done == [1]
        assert server.accepted == 1
    assert (failure.index, failure.kind, failure.status, failure.code) == (0, "http", 403, "AccessDenied")
    assert (failure.message, failure.request_id, failure.region) == ("no & never", "REQ7", "eu-north-1")
    assert (failure.date, failure.retry_after_s) == ("D", -1)


def test_slow_down_brings_its_retry_after(tmp_path: Path) -> None:
    body = b"<Error><Code>SlowDown</Code></Error>"
    with (
        scripted(say(response(body, "503 Slow Down", None, retry_after="7"))) as server,
        caller(tmp_path, server.port) as call,
    ):
        failure = call.fails()
    assert (failure.status, failure.code, failure.retry_after_s) == (503, "SlowDown", 7)


def test_endless_error_body_is_read_only_so_far(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 500 Oops\r\ncontent-length: 99999999999\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        failure = call.fails()
    assert (failure.kind, failure.status, failure.code) == ("http", 500, "")


def test_error_body_that_is_cut_off_still_brings_the_status(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> str:
        connection.sendall(response(ERROR_BODY, "503 Busy", None, content_length="9999"))
        return "close"

    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        failure = call.fails()
    assert (failure.kind, failure.status, failure.code) == ("http", 503, "AccessDenied")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", response(b"abc")[:-1]])
def test_silence_is_a_stall(tmp_path: Path, sent: bytes) -> None:
    with scripted(say(sent)) as server, caller(tmp_path, server.port, stall_timeout_ms=200) as call:
        assert call.fails().kind == "stall"


def test_trickle_longer_than_the_stall_timeout_arrives(tmp_path: Path) -> None:
    answer_bytes = response(b"x" * 40)
    between = threading.Event()

    def answer(request: Request, connection: socket.socket) -> None:
        for byte in answer_bytes:
            connection.sendall(bytes([byte]))
            between.wait(0.02)

    limit_ms = 500
    assert len(answer_bytes) * 20 > 2 * limit_ms
    with scripted(answer) as server, caller(tmp_path, server.port, stall_timeout_ms=limit_ms) as call:
        _, done, _ = call.fetch([call.add(b"k", 40)])
        assert done == [0]


@pytest.mark.parametrize("started", [b"HTTP/1.1 200 OK\r\nx: ", response(b"", content_length="100000")])
def test_trickle_that_is_next_to_nothing_is_a_stall(tmp_path: Path, started: bytes) -> None:
    """Without it one byte a minute would hold an object for ever."""
    given_up = threading.Event()

    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(started)
        while not given_up.is_set():
            connection.sendall(b"H")
            given_up.wait(0.2)

    with scripted(answer) as server, caller(tmp_path, server.port, stall_timeout_ms=800) as call:
        try:
            failure = call.fails(100_000)
        finally:
            given_up.set()
    assert (failure.kind, failure.message) == ("stall", "next to nothing for 1 s")


def test_body_without_end_is_cut_where_the_object_ends(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(CHUNKED)
        while True:
            connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        assert call.fails(3 * MIB).kind == "identity"


def test_connection_that_went_stale_is_retried_once_uncounted(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> str | None:
        if request.turn:
            return "close"
        connection.sendall(response(b"abc"))
        return None

    with scripted(answer) as server, caller(tmp_path, server.port, workers=1, connections=1) as call:
        rows = [call.add(b"%d" % i, 3) for i in range(5)]
        _, done, failures = call.fetch(rows)
        assert (sorted(done), failures) == (rows, [])
        assert call.engine.stats()["stale_retries"] == 4


def test_server_that_closes_behind_large_bodies_harms_nothing(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> str:
        objects(request, connection)
        return "close"

    sizes = [(1 + i % 12) * MIB + i * 1000 for i in range(24)]
    with scripted(answer) as server, caller(tmp_path, server.port, workers=1, connections=4) as call:
        rows = [call.add(f"{i}.{size}".encode(), size) for i, size in enumerate(sizes)]
        _, done, failures = call.fetch(rows)
    assert (sorted(done), failures) == (rows, [])


def test_fresh_connection_that_ends_before_an_answer_is_not_retried(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> str:
        return "close"

    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        failure = call.fails()
        assert len(server.requests) == 1
    assert (failure.kind, failure.where) == ("reset", "head")


def test_connection_closed_by_announcement_is_not_used_again(tmp_path: Path) -> None:
    with (
        scripted(say(response(b"abc", connection="close"))) as server,
        caller(tmp_path, server.port, workers=1, connections=1) as call,
    ):
        _, done, _ = call.fetch([call.add(b"%d" % i, 3) for i in range(4)])
        assert len(done) == 4
        assert call.engine.stats()["stale_retries"] == 0


def test_refused_connection_is_a_connect_failure(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with caller(tmp_path, port) as call:
        failure = call.fails()
    assert (failure.kind, failure.errno) == ("connect", 111)


def test_dead_address_is_passed_over_for_the_next(tmp_path: Path) -> None:
    addresses = loopback("127.0.0.9", "127.0.0.1", "127.0.0.8")
    with (
        scripted(say(response(b"abc"))) as server,
        caller(tmp_path, server.port, addresses=addresses, connections=6) as call,
    ):
        rows = [call.add(b"%d" % i, 3) for i in range(50)]
        _, done, failures = call.fetch(rows)
        assert (len(done), failures) == (50, [])
        call.endpoint.update(loopback("127.0.0.1"))


def test_listing_is_scanned_into_a_table(tmp_path: Path) -> None:
    page = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        b"<Contents><Key>a</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
        b"<Size>5</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
    )
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(page), page)
    with scripted(say(chunked)) as server, caller(tmp_path, server.port) as call:
        batch = call.engine.list_page(call.template, b"list-type=2")
        with pytest.raises(ValueError, match="not a finished listing"):
            batch.scan_list(call.table, 0)
        assert drain_all(call.engine, batch) == ([0], [])
        found = batch.scan_list(call.table, 0)
        assert server.requests[0].path == "/b?list-type=2"
    assert (found.count, found.truncated, found.token, found.in_order) == (1, True, b"t", True)
    assert [row[:3] for row in call.table.rows()] == [(b"a", 5, b"e")]


def test_arguments_that_cannot_work_are_refused(tmp_path: Path) -> None:
    answer: Answer = say(response(b"abc"))
    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        row = call.add(b"k", 20 * MIB)
        with pytest.raises(IndexError):
            call.start([1])
        with pytest.raises(IndexError):
            call.start([-1])
        with pytest.raises(ValueError, match="empty"):
            call.start([])
        for ranges in ([], [(1, 5)], [(0, 5)], [(0, 21 * MIB)], [(0, 0)]):
            with pytest.raises(ValueError, match="range"):
                call.engine.fetch_ranges(call.template, call.table, row, ranges, call.root_fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            call.engine.fetch_objects(call.template, call.table, array("q", [row]), -1, -1)
    with pytest.raises(ValueError, match="limit"):
        _native.Engine(memory_bytes=1000)
