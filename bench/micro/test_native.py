"""What one native call costs. Run with ``python -m pytest bench/micro``; compare within one run, on one machine."""

from __future__ import annotations

import os
import select
from array import array
from pathlib import Path
from typing import Any

from stager import _native

PAGE_QUERY = b"encoding-type=url&list-type=2&max-keys=1000&prefix=set%2F"
HANDED_OVER = 1000


def _drain_all(engine: Any, count: int) -> None:
    poll = select.poll()
    poll.register(engine.fileno(), select.POLLIN)
    while count:
        poll.poll()
        count -= sum(len(done) + len(failures) for _, done, failures in engine.drain())


def test_sign_one_get(benchmark: Any, signer: Any) -> None:
    headers = [("host", "127.0.0.1:9000"), ("if-match", '"0123456789abcdef0123456789abcdef"')]
    assert benchmark(signer.sign, "GET", b"/bench/set/0000/00000001", b"", headers, 1_700_000_000)


def test_digest_of_8_mib(benchmark: Any) -> None:
    assert len(benchmark(_native.digest_bytes, os.urandom(_native.BLOCK_BYTES))) == 16


def test_list_scan_of_1000_keys(benchmark: Any, engine: Any, template: Any) -> None:
    page = engine.list_page(template, PAGE_QUERY)
    _drain_all(engine, 1)

    def scan() -> int:
        table = _native.KeyTable()
        page.scan_list(table, len("set/"))
        return len(table)

    assert benchmark(scan) == 1000


def test_hand_over_and_back_of_1000_requests(benchmark: Any, engine: Any, template: Any, tmp_path: Path) -> None:
    """In and out of the rings and no network between: the batch is cancelled at once. Failure objects included."""
    table = _native.KeyTable()
    for number in range(HANDED_OVER):
        table.append(f"0000/{number:08}".encode(), 16, b"etag")
    rows = array("q", range(HANDED_OVER))
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    def hand_over() -> None:
        batch = engine.fetch_objects(template, table, rows, root, root)
        batch.cancel()
        _drain_all(engine, HANDED_OVER)

    benchmark(hand_over)
    os.close(root)
