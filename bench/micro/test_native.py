"""What one native call costs. Run with ``python -m pytest bench/micro``; compare within one run, on one machine.

Each also asserts that its result is right: a function that does nothing would be very fast.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
from array import array
from pathlib import Path
from typing import Any

import pytest
import xxhash
from awscrt import checksums
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from building import COMPILER

from stager import _native

PAGE_QUERY = b"encoding-type=url&list-type=2&max-keys=1000&prefix=set%2F"
HANDED_OVER = 1000
HEADS = 1000
CSRC = Path(__file__).parents[2] / "csrc"
HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"x-amz-id-2: eftixk72aD6Ap51TnqcoF8eFidJG9Z/2mkiDFu8yU9AS1ed4OpIszj7UDNEHGran\r\n"
    b"x-amz-request-id: 318BC8BC148832E5\r\n"
    b"Date: Mon, 28 Sep 2026 22:32:00 GMT\r\n"
    b"Last-Modified: Wed, 12 Aug 2026 17:50:00 GMT\r\n"
    b'ETag: "fba9dede5f27731c9771645a39863328"\r\n'
    b"x-amz-checksum-crc64nvme: AAAAAAAAAAA=\r\n"
    b"Accept-Ranges: bytes\r\n"
    b"Content-Type: image/jpeg\r\n"
    b"Content-Length: 16384\r\n"
    b"Server: AmazonS3\r\n\r\n"
)


def _drain_all(engine: Any, count: int) -> int:
    """Wait for ``count`` completions; how many came."""
    poll = select.poll()
    poll.register(engine.fileno(), select.POLLIN)
    drained = 0
    while drained < count:
        poll.poll()
        drained += sum(len(done) + len(failures) for _, done, failures in engine.drain())
    return drained


def test_sign_one_get(benchmark: Any, signer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to what botocore's signer says."""
    path, etag = "/bench/set/0000/00000001", '"0123456789abcdef0123456789abcdef"'
    headers = [("host", "127.0.0.1:9000"), ("if-match", etag)]
    added = dict(benchmark(signer.sign, "GET", path.encode(), b"", headers, 1_700_000_000))
    request = AWSRequest(method="GET", url=f"http://127.0.0.1:9000{path}", headers={"If-Match": etag})
    request.context["timestamp"] = added["x-amz-date"]
    request.headers["X-Amz-Date"] = added["x-amz-date"]
    request.headers["X-Amz-Content-SHA256"] = added["x-amz-content-sha256"]
    oracle = S3SigV4Auth(Credentials("BENCHACCESSKEY", "benchsecretkey"), "s3", "us-east-1")
    signature = oracle.signature(oracle.string_to_sign(request, oracle.canonical_request(request)), request)
    assert added["authorization"].endswith(f"Signature={signature}")


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The response parser of csrc with a loop around it."""
    library = tmp_path_factory.mktemp("heads") / "heads.so"
    sources = [Path(__file__).with_name("heads.c"), *sorted(CSRC.glob("http*.c")), CSRC / "text.c"]
    flags = ["-O3", "-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC", f"-I{CSRC}"]
    subprocess.run([COMPILER[0], *flags, "-o", library, *sources], check=True)
    parse = ctypes.CDLL(str(library)).heads_parse
    parse.argtypes, parse.restype = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64), ctypes.c_int64
    return parse


def test_parse_1000_response_heads(benchmark: Any, heads: Any) -> None:
    assert benchmark(heads, HEAD, len(HEAD), HEADS) == 16_384 * HEADS


def test_digest_of_8_mib(benchmark: Any) -> None:
    data = os.urandom(_native.BLOCK_BYTES)
    assert benchmark(_native.digest_bytes, data) == xxhash.xxh3_128_digest(data)


@pytest.mark.parametrize("kind", ["crc32", "crc32c", "crc64nvme"])
def test_crc_of_8_mib(benchmark: Any, kind: str) -> None:
    data = os.urandom(_native.BLOCK_BYTES)
    assert benchmark(_native.crc_update, kind, 0, data) == getattr(checksums, kind)(data)


def test_combine_two_crcs(benchmark: Any) -> None:
    head, tail = os.urandom(5000), os.urandom(7000)
    a, b = checksums.crc64nvme(head), checksums.crc64nvme(tail)
    assert benchmark(_native.crc_combine, "crc64nvme", a, b, len(tail)) == checksums.crc64nvme(head + tail)


def test_combine_the_blocks_of_100_gib(benchmark: Any) -> None:
    blocks = os.urandom(16 * 12_800)
    assert benchmark(_native.combine_blocks, blocks) == xxhash.xxh3_128_digest(blocks)


def test_list_scan_of_1000_keys(benchmark: Any, engine: Any, template: Any) -> None:
    page = engine.list_page(template, PAGE_QUERY)
    _drain_all(engine, 1)

    def scan() -> Any:
        table = _native.KeyTable()
        page.scan_list(table, len("set/"))
        return table

    table = benchmark(scan)
    assert len(table) == 1000
    assert (table.key(999), table.size(999)) == (b"0000/00000999", 16)


def test_hand_over_and_back_of_1000_requests(benchmark: Any, engine: Any, template: Any, tmp_path: Path) -> None:
    """In and out of the rings and no network between: the batch is cancelled at once. Failure objects included."""
    table = _native.KeyTable()
    for number in range(HANDED_OVER):
        table.append(f"0000/{number:08}".encode(), 16, b"etag")
    rows = array("q", range(HANDED_OVER))
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    def hand_over() -> int:
        batch = engine.fetch_objects(template, table, rows, root, root)
        batch.cancel()
        return _drain_all(engine, HANDED_OVER)

    assert benchmark(hand_over) == HANDED_OVER
    os.close(root)
