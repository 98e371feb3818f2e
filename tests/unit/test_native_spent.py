"""What the engine says it spent its time on is what the test made it spend it on."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from servers.certificates import Certificates
from servers.slow_fuse import SlowFuse
from unit.scripted_http import Request, caller, response, say, scripted
from unit.test_native_tls import server_context

MIB = 1 << 20
WAIT_S = 0.3


def test_wait_for_an_answer_and_for_its_rest_are_told_apart(tmp_path: Path) -> None:
    between = threading.Event()

    def answer(request: Request, connection: socket.socket) -> None:
        between.wait(WAIT_S)
        whole = response(b"abc")
        connection.sendall(whole[:-1])
        between.wait(2 * WAIT_S)
        connection.sendall(whole[-1:])

    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        _, done, _ = call.fetch([call.add(b"k", 3)])
        spent = call.engine.stats()
    assert done == [0]
    assert spent["answers"] == 1
    assert spent["answer_wait_ms"] >= 0.9 * WAIT_S * 1000
    assert spent["body_ms"] >= 0.9 * 2 * WAIT_S * 1000
    assert spent["paused_ms"] == spent["throttled_ms"] == 0


def test_limit_of_bytes_is_time_throttled(tmp_path: Path) -> None:
    with (
        scripted(say(response(b"x" * 4 * MIB))) as server,
        caller(tmp_path, server.port, bytes_per_second=16 * MIB, workers=1) as call,
    ):
        _, done, _ = call.fetch([call.add(b"%d" % i, 4 * MIB) for i in range(6)])
        spent = call.engine.stats()
    assert len(done) == 6
    assert spent["throttled_ms"] > spent["body_ms"] + spent["answer_wait_ms"]


def test_limit_of_requests_is_time_in_which_they_are_held(tmp_path: Path) -> None:
    with (
        scripted(say(response(b"x"))) as server,
        caller(tmp_path, server.port, requests_per_second=50.0, workers=1) as call,
    ):
        _, done, _ = call.fetch([call.add(b"%d" % i, 1) for i in range(20)])
        spent = call.engine.stats()
    assert len(done) == 20
    assert spent["held_ns"] >= 0.2e9  # 19 of them waited, 20 ms each


def test_threads_account_for_tls_digests_and_storing(tmp_path: Path, certificates: Certificates) -> None:
    with (
        scripted(say(response(b"x" * 4 * MIB)), server_context(certificates)) as server,
        caller(tmp_path, server.port, tls=True, ca_file=certificates.ca_file) as call,
    ):
        call.fetch([call.add(b"large%d" % i, 4 * MIB) for i in range(8)])
        spent = call.engine.stats()
        assert (spent["workers"], spent["disk_threads"]) == (2, 2)
        assert spent["store_ns"] > 0
        assert spent["disk_ns"] == 0  # a local disk is written by who received
        assert 0 < spent["digest_ns"] < spent["tls_ns"]
        assert spent["worker_cpu_ns"] > spent["digest_ns"]
    ended = call.engine.stats()
    assert ended["worker_cpu_ns"] >= spent["worker_cpu_ns"]  # the threads are gone, what they did is not


@pytest.mark.root
def test_disk_that_may_hang_is_written_by_the_disk_threads(slow_disk: SlowFuse) -> None:
    with scripted(say(response(b"x" * 4 * MIB))) as server, caller(slow_disk.mountpoint, server.port) as call:
        call.fetch([call.add(b"large%d" % i, 4 * MIB) for i in range(4)])
        spent = call.engine.stats()
    assert spent["disk_ns"] > 0
    assert spent["store_ns"] == 0
