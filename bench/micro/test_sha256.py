"""What SHA-256 costs where large LFS objects are hashed, beside openssl's on the same core in the same minute."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studies.sha256 import GIB, SAMPLE_BYTES, SPEED, hash_in_steps, speed_in

ROUNDS = 2
MOST = 1.5  # of openssl's CPU: reading from the page cache is in it


@pytest.fixture
def one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})  # and the openssl that is started from here
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.skipif(shutil.which(SPEED[0]) is None, reason="openssl is not installed")
@pytest.mark.usefixtures("one_core")
def test_sha256_of_64_mib_beside_openssl(benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In CPU seconds a GiB, of the best round of each."""
    content = os.urandom(SAMPLE_BYTES)
    (tmp_path / "object").write_bytes(content)
    ours, theirs = [], []
    with (tmp_path / "object").open("rb") as file:
        for _ in range(ROUNDS):
            value, cpu_s = hash_in_steps(file, SAMPLE_BYTES)
            assert value == hashlib.sha256(content).digest()
            ours.append(cpu_s)
            done = subprocess.run(SPEED, capture_output=True, text=True, check=True)
            theirs.append(GIB / speed_in(done.stdout))
        ours.append(benchmark.pedantic(hash_in_steps, args=(file, SAMPLE_BYTES), rounds=ROUNDS)[1])
    ratio = min(ours) / min(theirs)
    benchmark.extra_info.update(cpu_s_per_gib=min(ours), openssl_cpu_s_per_gib=min(theirs), ratio=ratio)
    with capsys.disabled():
        print(f"\nSHA-256: {min(ours):.3f} CPU s/GiB, {min(theirs):.3f} by openssl speed: {ratio:.2f} of its")
    assert ratio < MOST
