"""Objects that are asked for by targets of their own, as a Git LFS server gives them."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from stager import _native
from stager._native import Batch, Failure, Signer, Targets
from unit.scripted_http import Answer, Caller, Request, caller, drain_all, response, say, scripted

MIB = 1 << 20
GRADES = {"verified": "A", "pinned": "B", "unpinned": "C"}
Item = tuple[bytes, Sequence[tuple[str, str]], bytes]


def item(data: bytes, path: bytes = b"/o?sig=a%2Fb", headers: Sequence[tuple[str, str]] = ()) -> Item:
    return path, headers, hashlib.sha256(data).digest()


def fetch(call: Caller, rows: list[int], items: list[Item]) -> tuple[Batch, list[int], list[Failure]]:
    batch = call.engine.fetch_objects(
        call.template, call.table, rows, call.root_fd, call.tmp_fd, targets=Targets(items)
    )
    return batch, *drain_all(call.engine, batch)


def test_request_is_what_its_target_says(tmp_path: Path) -> None:
    signer = Signer(access_key="AKID", secret_key="secret", token="tok", region="eu-west-1")
    answer = say(response(b"abc", etag=None))
    with scripted(answer) as server, caller(tmp_path, server.port, signer=signer) as call:
        row = call.add(b"a/b", 3, b"blob lfs=oid")
        batch, done, failures = fetch(call, [row], [item(b"abc", headers=[("Authorization", "Basic eA=="), ("X", "")])])
        assert (done, failures) == ([0], [])
        entries = _native.Entries(call.table)
        entries.take(batch, done, **GRADES)
        assert (entries.recorded(row) or pytest.fail("gone"))[7] == "A"
    (request,) = server.requests
    assert request.path == "/o?sig=a%2Fb"
    assert request.headers["authorization"] == "Basic eA=="
    assert not {"if-match", "range", "x-amz-date", "x-amz-security-token"} & set(request.headers)
    assert (tmp_path / "a/b").read_bytes() == b"abc"


@pytest.mark.parametrize("size", [0, 7, 900_000, 3 * MIB])
def test_bytes_of_another_sha256_are_refused(tmp_path: Path, size: int) -> None:
    right, wrong = bytes(size), bytes(size - 1) + b"x" if size else b""

    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(response(wrong if request.path == "/wrong" else right, etag='"other"'))

    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        rows = [call.add(b"right", size), call.add(b"wrong", size)]
        promised = right if size else b"something"
        _, done, (failure,) = fetch(call, rows, [item(right, b"/right"), item(promised, b"/wrong")])
        assert done == [0]
        assert (failure.index, failure.kind, failure.where) == (1, "identity", "checksum")
        assert hashlib.sha256(promised).hexdigest() in failure.message
        assert sorted(path.name for path in tmp_path.iterdir()) == ["right", "tmp"]
        assert call.temporaries() == []


def ranged(request: Request, connection: socket.socket) -> None:
    first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
    body = bytes(last - first + 1)
    fields = {"content_range": f"bytes {first}-{last}/{20 * MIB}"}
    connection.sendall(response(body, "206 Partial Content", etag=None, **fields))


def test_ranges_of_one_target_come_without_an_etag(tmp_path: Path) -> None:
    with scripted(ranged) as server, caller(tmp_path, server.port) as call:
        row = call.add(b"k", 20 * MIB, b"blob lfs=oid")
        fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
        parts = [(0, 16 * MIB), (16 * MIB, 4 * MIB)]
        targets = Targets([item(b"", b"/x", [("X-Y", "z")])])
        batch = call.engine.fetch_ranges(call.template, call.table, row, parts, fd, targets=targets)
        done, failures = drain_all(call.engine, batch)
        os.close(fd)
        assert (sorted(done), failures) == ([0, 1], [])
        assert {(request.path, request.headers["x-y"]) for request in server.requests} == {("/x", "z")}


def plain(request: Request, connection: socket.socket) -> str:
    connection.sendall(response(bytes(20 * MIB), etag=None))
    return "close"


@pytest.mark.parametrize(
    ("answer", "where"),
    [
        (plain, "status"),
        (say(response(bytes(MIB), "206 Partial Content", content_range="bytes 0-1048575/20971520")), "content-range"),
        (say(response(bytes(MIB), "206 Partial Content", etag=None)), "content-range"),
    ],
)
def test_answer_that_is_not_the_range_is_refused(tmp_path: Path, answer: Answer, where: str) -> None:
    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        row = call.add(b"k", 20 * MIB)
        fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
        batch = call.engine.fetch_ranges(
            call.template, call.table, row, [(0, 8 * MIB)], fd, targets=Targets([item(b"")])
        )
        _, (failure,) = drain_all(call.engine, batch)
        os.close(fd)
        assert (failure.kind, failure.where) == ("identity", where)


def test_redirect_says_where_to_and_is_not_followed(tmp_path: Path) -> None:
    to = "https://store.example/x?sig=" + "s" * 2000
    answer = say(response(b"", "302 Found", etag=None, location=to))
    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        _, _, (failure,) = fetch(call, [call.add(b"k", 3)], [item(b"abc")])
        assert (failure.kind, failure.status, failure.location) == ("http", 302, to)
        assert "sss" not in repr(failure)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (b"", ()),
        (b"o", ()),
        (b"/a b", ()),
        (b"/a\r\nx", ()),
        (b"/a#b", ()),
        (b"/\xe9", ()),
        (b"/" + b"a" * 8192, ()),
        (b"/", [("", "x")]),
        (b"/", [("a b", "x")]),
        (b"/", [("a:", "x")]),
        (b"/", [("a", "x\r\ny: z")]),
        (b"/", [("a", "x\0")]),
        (b"/", [("a", "x\x1fy")]),
        (b"/", [("Host", "other")]),
        (b"/", [("RANGE", "bytes=0-1")]),
        (b"/", [("transfer-encoding", "chunked")]),
        (b"/", [("content-length", "7")]),
        (b"/", [("a", "x" * 8192)]),
        (b"/", [("a", "x")] * 200),
    ],
)
def test_what_cannot_be_sent_is_refused(path: bytes, headers: Sequence[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Targets([(path, headers, bytes(32))])


def test_targets_fit_their_objects_or_are_refused(tmp_path: Path) -> None:
    with scripted(say()) as server, caller(tmp_path, server.port) as call:
        row = call.add(b"k", 3)
        with pytest.raises(ValueError, match="target"):
            fetch(call, [row], [])
        with pytest.raises(ValueError, match="target"):
            fetch(call, [row], [item(b"abc"), item(b"abc")])
        with pytest.raises(ValueError, match="32 bytes"):
            Targets([(b"/", (), b"short")])
        assert server.requests == []


def test_copy_of_other_bytes_than_the_sha256_is_refused(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "from").write_bytes(data)
    (tmp_path / "tmp").mkdir()
    fd, tmp_fd = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path / "tmp", os.O_RDONLY)
    try:
        sha256 = hashlib.sha256(data).digest()
        size, digest, *_ = _native.copy_file(fd, b"from", tmp_fd, fd, b"d/to", 0o640, sha256=sha256)
        assert (size, digest) == (len(data), _native.digest_bytes(data))
        assert (tmp_path / "d/to").read_bytes() == data
        with pytest.raises(OSError, match=os.strerror(errno.EBADMSG)):
            _native.copy_file(fd, b"from", tmp_fd, fd, b"other", 0o640, sha256=bytes(32))
        assert not (tmp_path / "other").exists()
        assert os.listdir(tmp_fd) == []
    finally:
        os.close(fd)
        os.close(tmp_fd)
