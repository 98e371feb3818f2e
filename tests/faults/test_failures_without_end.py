"""However often requests fail, and in whichever way, nothing of them stays."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faults import failing_server
from servers.certificates import Certificates
from unit.scripted_http import Caller, caller

AT_ONCE = 2000
TUNNELS_AT_ONCE = 500
FAILURES = 8000  # x 20 with --soak
GROWTH_BYTES = 2 << 20  # buffers touched for the first time and the allocator's own; it does not grow with the count


@contextmanager
def failing() -> Iterator[int]:
    argv = [sys.executable, failing_server.__file__]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield int(process.stdout.readline())
        process.stdin.close()


def anonymous_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon:"))


def fail_often(call: Caller, rows: list[int]) -> Counter[str]:
    _, done, failures = call.fetch(rows)
    assert done == []
    return Counter(failure.kind for failure in failures)


@pytest.mark.timeout(600)
def test_failures_of_every_kind_leave_no_memory_descriptor_thread_or_file(tmp_path: Path, soak: int) -> None:
    with failing() as port, caller(tmp_path, port, connections=32) as call:
        rows = [call.add(b"%d" % i, 3) for i in range(AT_ONCE)]
        kinds = fail_often(call, rows)
        eighth = AT_ONCE // failing_server.WAYS
        assert kinds == {"http": 3 * eighth, "identity": 2 * eighth, "reset": 2 * eighth, "protocol": eighth}
        fail_often(call, rows)
        gc.collect()
        memory, threads = anonymous_bytes(), len(os.listdir("/proc/self/task"))
        for _ in range(FAILURES * soak // AT_ONCE):
            assert fail_often(call, rows) == kinds
        gc.collect()
        assert anonymous_bytes() - memory < GROWTH_BYTES
        assert len(os.listdir("/proc/self/task")) == threads
        open_sockets = [fd for fd in os.listdir("/proc/self/fd") if is_socket(fd)]
        assert len(open_sockets) <= 32
        assert call.temporaries() == []


@pytest.mark.parametrize("way", [1, 4, 5, 6])
@pytest.mark.timeout(600)
def test_tunnels_that_never_open_leave_no_memory_descriptor_thread_or_file(
    way: int, tmp_path: Path, soak: int, certificates: Certificates
) -> None:
    target = failing_server.WAYS * 1000 + way
    with (
        failing() as port,
        caller(tmp_path, target, tls=True, ca_file=certificates.ca_file, proxy=(port, "Basic eDp5", None)) as call,
    ):
        rows = [call.add(b"%d" % i, 3) for i in range(TUNNELS_AT_ONCE)]
        assert fail_often(call, rows) == {"proxy": len(rows)}
        gc.collect()
        memory, threads = anonymous_bytes(), len(os.listdir("/proc/self/task"))
        for _ in range(3 * soak):
            assert fail_often(call, rows) == {"proxy": len(rows)}
        gc.collect()
        assert anonymous_bytes() - memory < GROWTH_BYTES
        assert len(os.listdir("/proc/self/task")) == threads
        assert call.temporaries() == []


def is_socket(fd: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
    except FileNotFoundError:
        return False
