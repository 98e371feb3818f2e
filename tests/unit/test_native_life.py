"""Cancelling, closing, forking, full disks, planted links, slow disks, and what thousands of failures leave."""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
import subprocess
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.slow_fuse import SlowFuse
from stager._native import Engine
from unit.scripted_http import WAIT_S, Caller, Request, caller, drain_all, response, say, scripted

MIB = 1 << 20


class Gate:
    """Answers the first requests, then holds every other until it is opened."""

    def __init__(self, body: bytes, free: int) -> None:
        self.answer_bytes, self.free = response(body), free
        self.held, self.opened = threading.Event(), threading.Event()
        self.lock = threading.Lock()

    def __call__(self, request: Request, connection: socket.socket) -> None:
        with self.lock:
            self.free -= 1
            hold = self.free < 0
        if hold:
            connection.sendall(self.answer_bytes[: len(self.answer_bytes) // 2])
            self.held.set()
            self.opened.wait(WAIT_S)
        else:
            connection.sendall(self.answer_bytes)


@pytest.mark.parametrize("size", [40_000, 300_000])
def test_half_of_more_answers_than_there_are_buffers_holds_nobody_up(tmp_path: Path, size: int) -> None:
    """One buffer is the worker's own, seven are for all: twenty answers stop in the middle, then all go on."""
    count, stopped, go_on = 20, threading.Semaphore(0), threading.Event()

    def content(path: str) -> bytes:
        return path.encode().ljust(16) * (size // 16)

    def answer(request: Request, connection: socket.socket) -> None:
        whole = response(content(request.path))
        connection.sendall(whole[: len(whole) // 2])
        stopped.release()
        assert go_on.wait(WAIT_S)
        connection.sendall(whole[len(whole) // 2 :])

    buffers = {"buffer_bytes": 64 << 10, "memory_bytes": 8 * (64 + 16) << 10}
    with scripted(answer) as server, caller(tmp_path, server.port, workers=1, connections=count, **buffers) as call:
        batch = call.start([call.add(b"%d" % i, size) for i in range(count)])
        for _ in range(count):
            assert stopped.acquire(timeout=WAIT_S)
        go_on.set()
        done, failures = drain_all(call.engine, batch)
        assert (len(done), failures) == (count, [])
    for i in range(count):
        assert (tmp_path / str(i)).read_bytes() == content(f"/b/{i}")


@pytest.mark.parametrize("size", [1000, 4 * MIB])
def test_cancelled_batch_reports_every_request_and_leaves_no_temporary(tmp_path: Path, size: int) -> None:
    gate = Gate(b"x" * size, 3)
    with scripted(gate) as server, caller(tmp_path, server.port) as call:
        rows = [call.add(b"%d" % i, size) for i in range(50)]
        batch = call.start(rows)
        assert gate.held.wait(WAIT_S)
        batch.cancel()
        done, failures = drain_all(call.engine, batch)
        gate.opened.set()
        assert sorted(done + [failure.index for failure in failures]) == rows
        assert {failure.kind for failure in failures} == {"cancelled"}
        assert sorted(os.listdir(tmp_path)) == sorted(["tmp", *(str(i) for i in done)])
        assert call.temporaries() == []
        batch.cancel()


def test_other_batches_go_on_when_one_is_cancelled(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        if "held" not in request.path:
            connection.sendall(response(b"abc"))

    with scripted(answer) as server, caller(tmp_path, server.port, connections=4) as call:
        held = call.start([call.add(b"held%d" % i, 3) for i in range(2)])
        good = call.start([call.add(b"good%d" % i, 3) for i in range(20)])
        assert len(drain_all(call.engine, good)[0]) == 20
        held.cancel()
        assert len(drain_all(call.engine, held)[1]) == 2


@pytest.mark.parametrize("size", [1000, 4 * MIB])
def test_close_in_the_middle_reports_the_rest_and_leaves_no_temporary(tmp_path: Path, size: int) -> None:
    gate = Gate(b"x" * size, 3)
    with scripted(gate) as server, caller(tmp_path, server.port) as call:
        rows = [call.add(b"%d" % i, size) for i in range(50)]
        batch = call.start(rows)
        assert gate.held.wait(WAIT_S)
        call.engine.close()
        call.engine.close()
        done, failures = drain_all(call.engine, batch)
        gate.opened.set()
        assert sorted(done + [failure.index for failure in failures]) == rows
        assert call.temporaries() == []
        with pytest.raises(RuntimeError, match="closed"):
            call.start(rows)
        assert call.engine.drain() == []


def test_engine_dropped_without_close_ends_its_threads(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/task"))
    engine = Engine(workers=3, disk_threads=2)
    assert len(os.listdir("/proc/self/task")) == before + 6, "one more for another disk"
    del engine
    gc.collect()
    assert len(os.listdir("/proc/self/task")) == before


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_may_not_use_the_engine(tmp_path: Path) -> None:
    with scripted(say(response(b"abc"))) as server, caller(tmp_path, server.port) as call:
        row = call.add(b"k", 3)
        pid = os.fork()
        if pid == 0:
            refused = 0
            for use in (
                lambda: call.start([row]),
                call.engine.drain,
                lambda: call.engine.list_page(call.template, b""),
            ):
                try:
                    use()
                except RuntimeError:
                    refused += 1
            call.engine.close()
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        assert call.fetch([row])[1] == [0]


def test_thousands_of_failures_leave_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> str | None:
        turn = int(request.path.rsplit("/", 1)[1]) % 4
        if turn == 0:
            connection.sendall(response(b"<Error><Code>NoSuchKey</Code></Error>", "404 Not Found", None))
        elif turn == 1:
            connection.sendall(response(b"abc", etag='"other"'))
        elif turn == 2:
            connection.sendall(response(b"abc")[:-1])
            return "close"
        else:
            connection.sendall(response(b"abc"))
        return None

    def resources() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    with caller(tmp_path, 1) as call:
        call.fails()
    gc.collect()  # what earlier tests left behind
    before = resources()
    with scripted(answer) as server, caller(tmp_path, server.port) as call:
        _, done, failures = call.fetch([call.add(b"%d" % i, 3) for i in range(4000)])
        assert (len(done), len(failures)) == (1000, 3000)
        assert {failure.kind for failure in failures} == {"http", "identity", "reset"}
        assert call.temporaries() == []
        del call
    gc.collect()
    assert resources() == before


def test_finished_batch_holds_no_descriptor_of_its_destination(tmp_path: Path) -> None:
    with scripted(say(response(b"abc"))) as server, caller(tmp_path, server.port) as call:
        call.fetch([call.add(b"a/b%d/c" % i, 3) for i in range(40)])
        links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        ours = [link for link in links if link.startswith(str(tmp_path))]
        assert sorted(ours) == sorted([str(tmp_path), str(tmp_path / "tmp")])


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "tiny"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("size", [200_000, 3 * MIB])
def test_full_disk_is_an_errno_failure_and_frees_what_was_written(tiny_disk: Path, size: int) -> None:
    with scripted(say(response(b"x" * size))) as server, caller(tiny_disk, server.port) as call:
        _, done, failures = call.fetch([call.add(b"%d" % i, size) for i in range(12)])
        assert len(failures) == 12 - len(done) > 0
        assert {(f.kind, f.errno, f.where) for f in failures} == {("errno", errno.ENOSPC, "write")}
        assert call.temporaries() == []


def test_link_planted_as_a_directory_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "d").symlink_to(outside)
    (root / "inside").symlink_to("tmp")
    with scripted(say(response(b"abc"))) as server, caller(root, server.port) as call:
        _, done, failures = call.fetch([call.add(b"d/f", 3), call.add(b"inside/f", 3), call.add(b"d/e/f", 3)])
        assert done == []
        assert {(f.errno, f.where) for f in failures} == {(errno.ELOOP, "rename")}
        assert os.listdir(outside) == []
        assert call.temporaries() == []


def test_link_planted_under_the_final_name_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    root = tmp_path / "root"
    victim.write_text("precious")
    root.mkdir()
    (root / "f").symlink_to(victim)
    with scripted(say(response(b"abc"))) as server, caller(root, server.port) as call:
        assert call.fetch([call.add(b"f", 3)])[1] == [0]
    assert victim.read_text() == "precious"
    assert not (root / "f").is_symlink()
    assert (root / "f").read_text() == "abc"


@pytest.mark.parametrize("key", [b"../f", b"/f", b"a/../../f", b"a//f", b"./f", b"a/", b"f\0g", b"x" * 300])
def test_key_that_is_no_name_below_the_root_is_refused(tmp_path: Path, key: bytes) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with scripted(say(response(b"abc"))) as server, caller(root, server.port) as call:
        _, done, (failure,) = call.fetch([call.add(key, 3)])
        assert done == []
        assert failure.errno in (errno.EINVAL, errno.ENAMETOOLONG)
        assert sorted(os.listdir(tmp_path)) == ["root"]
        assert call.temporaries() == []


def test_directory_in_the_place_of_a_file_is_an_errno_failure(tmp_path: Path) -> None:
    (tmp_path / "f" / "g").mkdir(parents=True)
    with scripted(say(response(b"abc"))) as server, caller(tmp_path, server.port) as call:
        _, _, (failure,) = call.fetch([call.add(b"f", 3)])
        assert (failure.kind, failure.errno) == ("errno", errno.EISDIR)
        assert call.temporaries() == []


@pytest.mark.root
@pytest.mark.parametrize("size", [1000, 2 * MIB])
def test_disk_that_hangs_does_not_time_out_anybody(tmp_path: Path, slow_disk: SlowFuse, size: int) -> None:
    body = b"x" * size
    limit_ms = 300
    with (
        scripted(say(response(body))) as server,
        caller(slow_disk.mountpoint, server.port, stall_timeout_ms=limit_ms) as call,
        slow_disk.holding("write"),
    ):
        batch = call.start([call.add(b"%d" % i, size) for i in range(30)])
        slow_disk.wait_held("write")
        threading.Event().wait(4 * limit_ms / 1000)
        slow_disk.clear("write")
        done, failures = drain_all(call.engine, batch)
        assert (len(done), failures) == (30, [])


def fetch_elsewhere(call: Caller, rows: array[int], root: Path) -> list[int]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        batch = call.engine.fetch_objects(call.template, call.table, rows, descriptor, descriptor)
        return drain_all(call.engine, batch)[0]
    finally:
        os.close(descriptor)


@pytest.mark.root
def test_disk_that_proved_slow_does_not_hold_up_another(tmp_path: Path, slow_disk: SlowFuse) -> None:
    with (
        scripted(say(response(b"abc"))) as server,
        caller(slow_disk.mountpoint, server.port, workers=1, connections=40) as slow,
    ):
        slow_disk.sleep("write", 0.1)
        assert len(slow.fetch([slow.add(b"first%d" % i, 3) for i in range(3)])[1]) == 3
        with slow_disk.holding("write"):
            held = slow.start([slow.add(b"%d" % i, 3) for i in range(20)])
            slow_disk.wait_held("write")
            rows = array("q", range(len(slow.table)))
            assert len(fetch_elsewhere(slow, rows, tmp_path)) == len(rows)
        assert len(drain_all(slow.engine, held)[0]) == 20


@pytest.mark.root
def test_files_of_a_disk_that_hangs_leave_a_thread_to_another(tmp_path: Path, slow_disk: SlowFuse) -> None:
    size = 2 * MIB
    with (
        scripted(say(response(b"x" * size))) as server,
        caller(slow_disk.mountpoint, server.port, workers=1, disk_threads=2, connections=20) as slow,
    ):
        with slow_disk.holding("write"):
            held = slow.start([slow.add(b"%d" % i, size) for i in range(4)])
            slow_disk.wait_held("write")
            assert len(fetch_elsewhere(slow, array("q", range(4)), tmp_path)) == 4
        assert len(drain_all(slow.engine, held)[0]) == 4


@pytest.fixture
def last_descriptors(tmp_path: Path) -> Iterator[list[int]]:
    """Every descriptor this process may still open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(tmp_path, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.dup(taken[0]))
        yield taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)


def test_want_of_descriptors_is_this_hosts_failure_and_no_addresss(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with scripted(say(response(b"abc"))) as server, caller(tmp_path, server.port) as call:
        taken = request.getfixturevalue("last_descriptors")
        for fd in (taken.pop(), taken.pop()):  # for the two the batch keeps
            os.close(fd)
        failure = call.fails()
        assert (failure.kind, failure.errno, failure.where) == ("errno", errno.EMFILE, "open a connection")
        while taken:
            os.close(taken.pop())
        _, done, _ = call.fetch([call.add(b"k", 3)])
        assert list(done) == [0]


def test_late_answer_is_asked_for_again_once_over_another_connection(tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    def answer(request: Request, connection: socket.socket) -> None:
        seen[request.path] = seen.get(request.path, 0) + 1
        if "slow" in request.path and seen[request.path] == 1:
            connection.recv(1)  # until the other side gives up
        else:
            connection.sendall(response(b"abc"))

    with scripted(answer) as server, caller(tmp_path, server.port, workers=1, connections=4) as call:
        usual = [call.add(b"usual%d" % n, 3) for n in range(60)]
        assert call.fetch(usual)[2] == []
        slow = [call.add(b"slow%d" % n, 3) for n in range(2)]
        _, done, failures = call.fetch(slow)
        assert (sorted(done), failures) == ([0, 1], [])
        assert call.engine.stats()["late_retries"] == 2
    assert {path: count for path, count in seen.items() if count > 1} == {"/b/slow0": 2, "/b/slow1": 2}


def test_late_answer_is_waited_for_where_a_limit_lets_no_other_request_go(tmp_path: Path) -> None:
    given_up: list[bytes] = []

    def answer(request: Request, connection: socket.socket) -> None:
        if "slow" in request.path:
            connection.settimeout(1.5)  # five times as long as it takes to be late
            try:
                given_up.append(connection.recv(1))
            except TimeoutError:
                connection.settimeout(WAIT_S)
        connection.sendall(response(b"abc"))

    with scripted(answer) as server, caller(tmp_path, server.port, workers=1, connections=4) as call:
        assert call.fetch([call.add(b"usual%d" % n, 3) for n in range(60)])[2] == []
        call.endpoint.pace(connections=4, requests_per_second=0.1)
        _, done, failures = call.fetch([call.add(b"slow", 3)])
        assert (list(done), failures, given_up) == ([0], [], [])
        assert call.engine.stats()["late_retries"] == 0
