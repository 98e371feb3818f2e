"""What SHA-256 costs where large LFS objects are hashed, beside openssl's on the same core in the same minute."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studies.sha256 import SPEED, speed_in

from stager import _native

BYTES = 64 << 20
STEPS = 8  # the file grows between them, as it does while an object is received
ROUNDS = 3
GIB = 1 << 30
MOST = 1.5  # of openssl's CPU: reading from the page cache is in it


@pytest.fixture
def one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})  # and the openssl that is started from here
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.skipif(shutil.which(SPEED[0]) is None, reason="openssl is not installed")
@pytest.mark.usefixtures("one_core")
def test_frontier_sha256_beside_openssl(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In CPU seconds a GiB, of the best round of each."""
    content = os.urandom(BYTES)
    (tmp_path / "object").write_bytes(content)
    ours_s, openssl_s = [], []
    with (tmp_path / "object").open("rb") as file:

        def hash_it() -> bytes:
            frontier = _native.Frontier("sha256", [])
            began = time.thread_time()
            for step in range(1, STEPS + 1):
                frontier.advance(file.fileno(), BYTES * step // STEPS)
            ours_s.append(time.thread_time() - began)
            return frontier.finish()

        for _ in range(ROUNDS):
            assert hash_it() == hashlib.sha256(content).digest()
            done = subprocess.run(SPEED, capture_output=True, text=True, check=True)
            openssl_s.append(GIB / speed_in(done.stdout))
        benchmark.pedantic(hash_it, rounds=ROUNDS)
    ours, theirs = min(ours_s) * GIB / BYTES, min(openssl_s)
    benchmark.extra_info.update(cpu_s_per_gib=ours, openssl_cpu_s_per_gib=theirs, ratio=ours / theirs)
    with capsys.disabled():
        print(f"\nSHA-256: {ours:.3f} CPU s/GiB by the frontier, {theirs:.3f} by openssl speed: {ours / theirs:.2f}")
    assert ours / theirs < MOST
