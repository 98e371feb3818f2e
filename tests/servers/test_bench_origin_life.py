"""bench/origin under load and abuse: profiles, its limit, its counts, and bytes that are no requests.

Profiles are tested by counts and by order, never by time: a delay of an hour is one that has not ended.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from servers.bench_origin import BenchOrigin, bench_origin
from servers.certificates import Certificates

pytestmark = pytest.mark.xdist_group("bench_origin")

HOUR_MS = "3600000"
OBJECT = "/bench/set/0000/00000000"
REQUEST = b"GET " + OBJECT.encode() + b" HTTP/1.1\r\nHost: h\r\n\r\n"
FORMULA = ("10", "1000", "set/", "--formula")


@pytest.fixture
def origin(origin_program: str) -> Iterator[BenchOrigin]:
    with bench_origin(origin_program, *FORMULA) as server:
        yield server


def connect(server: BenchOrigin) -> socket.socket:
    return socket.create_connection(server.address, timeout=30)


def read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while part := connection.recv(65536):
        received += part
    return bytes(received)


def read_exactly(connection: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        part = connection.recv(length - len(received))
        assert part, bytes(received)
        received += part
    return bytes(received)


def test_requests_above_the_limit_get_slow_down_and_are_counted(origin_program: str) -> None:
    """Error responses, SlowDown: 503 "Please reduce your request rate." One token in 1,000 s is one for a test."""
    with bench_origin(origin_program, *FORMULA, "--gets-per-s", "0.001") as server:
        answers = [server.ask(OBJECT, method) for method in ("GET", "GET", "HEAD", "GET")]
        assert [answer.status for answer in answers] == [200, 503, 503, 503]
        assert b"<Code>SlowDown</Code>" in answers[1].body
        assert server.ask("/bench?list-type=2").status == 503
        stats = server.stats()
        assert {name: stats[name] for name in ("requests", "gets", "heads", "lists", "slow_down")} == {
            "requests": 5,
            "gets": 1,
            "heads": 0,
            "lists": 0,
            "slow_down": 4,
        }
        assert server.ask("/-/gets-per-s/0", "POST").status == 204
        assert [server.ask(OBJECT).status for _ in range(50)] == [200] * 50
        assert server.ask("/-/gets-per-s/0.001", "POST").status == 204
        assert [server.ask(OBJECT).status for _ in range(3)] == [200, 503, 503]


@pytest.mark.parametrize(
    "path", ["/-/gets-per-s/", "/-/gets-per-s/x", "/-/gets-per-s/1e9", "/-/nothing", "/-/gets-per-s/1.2.3"]
)
def test_wrong_control_changes_nothing(origin: BenchOrigin, path: str) -> None:
    assert origin.ask(path, "POST").status == 400
    assert origin.ask(OBJECT).status == 200


def test_stats_agree_with_what_was_received(origin: BenchOrigin) -> None:
    with connect(origin) as connection:
        connection.sendall(REQUEST * 3 + REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = read_all(connection)
        assert received.count(b"HTTP/1.1 200 OK\r\n") == 4
    stats = origin.stats()
    assert (stats["requests"], stats["gets"], stats["bytes_sent"]) == (4, 4, len(received))
    assert stats["connections"] == {"accepted": 2, "open": 1, "most_open": stats["connections"]["most_open"]}
    assert stats["connections"]["most_open"] in (1, 2)
    assert 0 < stats["cpu_s"] < 60


def test_late_first_byte_delays_its_own_connection_only(origin_program: str) -> None:
    with bench_origin(origin_program, *FORMULA, "--first-byte-ms", HOUR_MS) as server, ExitStack() as stack:
        waiting = [stack.enter_context(connect(server)) for _ in range(5)]
        for connection in waiting:
            connection.sendall(REQUEST)
        while server.stats()["requests"] < 5:
            pass
        assert server.stats()["bytes_sent"] < 5 * 1000
        assert select.select(waiting, [], [], 0)[0] == []


def test_tail_holds_its_share_of_answers_and_no_others(origin_program: str) -> None:
    count = 200
    tail = ("--tail-share", "0.25", "--tail-ms", HOUR_MS)
    with bench_origin(origin_program, *FORMULA, *tail) as server, ExitStack() as stack:
        waiting = {stack.enter_context(connect(server)) for _ in range(count)}
        for connection in waiting:
            connection.sendall(REQUEST)
        while server.stats()["requests"] < count:
            pass
        late = server.stats()["tail"]
        assert count / 8 < late < count / 2
        while len(waiting) > late:
            for connection in select.select(list(waiting), [], [])[0]:
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
                waiting.remove(connection)
        assert select.select(list(waiting), [], [], 0)[0] == []


def test_s3like_answers_late_and_a_hundredth_of_them_very_late(origin_program: str) -> None:
    """Draws follow the number of the answer, so the first thousand are the same in every run."""
    quick = ("--first-byte-ms", "0", "--tail-ms", "0", "--gets-per-s", "0")
    with bench_origin(origin_program, *FORMULA, "--profile", "s3like", *quick) as server, connect(server) as connection:
        connection.sendall(REQUEST * 999 + REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert read_all(connection).count(b"HTTP/1.1 200 OK\r\n") == 1000
        assert 5 <= server.stats()["tail"] <= 20
    late = ("--profile", "s3like", "--first-byte-ms", HOUR_MS)
    with bench_origin(origin_program, *FORMULA, *late) as server, connect(server) as connection:
        connection.sendall(REQUEST)
        while server.stats()["requests"] < 1:
            pass
        assert select.select([connection], [], [], 0)[0] == []


def test_paced_connection_gets_every_byte_and_holds_up_no_other(origin_program: str) -> None:
    with bench_origin(
        origin_program, "1", "3000000", "", "--formula", "--connection-bytes-per-s", "100000000"
    ) as server:
        paced = server.ask("/bench/0000/00000000").body
    with bench_origin(origin_program, "1", "3000000", "", "--formula", "--connection-bytes-per-s", "0") as server:
        assert server.ask("/bench/0000/00000000").body == paced
    with (
        bench_origin(origin_program, *FORMULA, "--connection-bytes-per-s", "1") as server,
        connect(server) as connection,
    ):
        connection.sendall(REQUEST)
        assert read_exactly(connection, 1) == b"H"
        before = server.stats()["bytes_sent"]
        assert before < 10_000
        assert read_exactly(connection, 2) == b"TT"


def test_connections_share_a_line_in_turn(origin_program: str) -> None:
    """100 kB a second, given out 64 KiB at a time: two answers that wait for it both move, and others do not wait."""
    with bench_origin(origin_program, "1", "3000000", "", "--formula", "--line-bytes-per-s", "100000000") as server:
        whole = server.ask("/bench/0000/00000000").body
        assert len(whole) == 3_000_000
    with ExitStack() as stack:
        slow = ("--line-bytes-per-s", "100000")
        server = stack.enter_context(bench_origin(origin_program, "1", "3000000", "", "--formula", *slow))
        both = [stack.enter_context(connect(server)) for _ in range(2)]
        for connection in both:
            connection.sendall(b"GET /bench/0000/00000000 HTTP/1.1\r\n\r\n")
        for head, _, body in (read_exactly(connection, 20_000).partition(b"\r\n\r\n") for connection in both):
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert body == whole[: len(body)]
        assert server.stats()["bytes_sent"] < 3_000_000
        for connection in both:
            connection.close()


def test_threads_share_the_limit_and_end_together(origin_program: str) -> None:
    with bench_origin(origin_program, *FORMULA, "--threads", "3", "--gets-per-s", "0.001") as server:
        statuses = [server.ask(OBJECT).status for _ in range(20)]
        assert sorted(statuses) == [200] + [503] * 19
        assert server.stats()["slow_down"] == 19


def test_pipelined_requests_are_answered_in_order(origin: BenchOrigin) -> None:
    numbers = [i % 10 for i in range(300)]
    paths = [f"/bench/set/0000/{number:08}" for number in numbers]
    bodies = [origin.ask(path).body for path in paths[:10]]
    with connect(origin) as connection:
        connection.sendall(b"".join(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() for path in paths))
        connection.shutdown(socket.SHUT_WR)
        received = read_all(connection)
    parts = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [part.partition(b"\r\n\r\n")[2] for part in parts] == [bodies[number] for number in numbers]


def test_request_in_single_bytes_is_answered(origin: BenchOrigin) -> None:
    with connect(origin) as connection:
        for byte in REQUEST:
            connection.sendall(bytes([byte]))
        assert read_exactly(connection, 15) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n", b"RequestHeaderSectionTooLarge"),
        (b"x" * 200_000, b"RequestHeaderSectionTooLarge"),
        (b"GET / HTTP/2.0\r\n\r\n", b"BadRequest"),
        (b"GET /\r\n\r\n", b"BadRequest"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"BadRequest"),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", b"BadRequest"),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", b"BadRequest"),
        (b"GET / HTTP/1.1\r\nA: \0\r\n\r\n", b"BadRequest"),
        (b"GET bench HTTP/1.1\r\n\r\n", b"BadRequest"),
        (b"\r\n\r\n", b"BadRequest"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(origin: BenchOrigin, head: bytes, code: bytes) -> None:
    """HeadObject: "Request headers are limited to 8 KB in size"."""
    with connect(origin) as connection:
        connection.sendall(head)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"<Code>" + code + b"</Code>" in answer
    assert b"Connection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1


def mutated(rng: random.Random) -> bytes:
    seeds = (
        REQUEST,
        b"GET /bench?list-type=2&prefix=s%65t&delimiter=/&max-keys=3&start-after=%00 HTTP/1.1\r\n\r\n",
        b"HEAD " + OBJECT.encode() + b'?partNumber=1 HTTP/1.1\r\nRange: bytes=1-2,3-\r\nIf-Match: "a", *\r\n\r\n',
        b"POST /-/gets-per-s/1000000 HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde",
        b"GET http://h" + OBJECT.encode() + b" HTTP/1.0\r\nIf-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT\r\n\r\n",
    )
    data = bytearray(rng.choice(seeds) * rng.choice((1, 1, 3)))
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[at] = rng.randrange(256)
            case 1:
                del data[at : at + rng.randrange(1, 9)]
            case 2:
                data[at:at] = bytes(rng.choice(b'\0\r\n %&=/-,"\xff09') for _ in range(rng.randrange(1, 20)))
            case _:
                data[at:at] = data[at : at + rng.randrange(1, 400)]
        data = data or bytearray(b"\r")
    return bytes(data)


def test_hostile_bytes_harm_nothing(origin_program: str, certificates: Certificates, seed: int, soak: int) -> None:
    """The sanitizers end the origin at the first wrong access, and at its end report every leak."""
    rng = random.Random(seed)
    tls = ("--tls", certificates.chain_file, certificates.key_file)
    context = ssl.create_default_context(cafile=certificates.ca_file)
    with bench_origin(origin_program, *FORMULA) as plain, bench_origin(origin_program, *FORMULA, *tls) as secure:
        for number in range(2000 * soak):
            with ExitStack() as stack:
                connection = stack.enter_context(connect(secure if number % 6 == 0 else plain))
                if number % 12 == 0:  # inside TLS; the other half of the sixth is no handshake
                    connection = stack.enter_context(context.wrap_socket(connection, server_hostname="localhost"))
                connection.sendall(mutated(rng))
                if rng.randrange(2):
                    connection.shutdown(socket.SHUT_WR)
                    read_until_closed(connection)
        assert plain.ask("/-/gets-per-s/0", "POST").status == 204
        assert plain.ask(OBJECT).status == 200
        assert certificates.handshakes(secure.address)


def read_until_closed(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):  # it closed without having read all: as good
        read_all(connection)


def test_clients_that_go_away_are_forgotten(origin_program: str) -> None:
    with bench_origin(origin_program, "1", str(64 << 20), "", "--formula") as server:
        for _ in range(20):
            with connect(server) as connection:
                connection.sendall(b"GET /bench/0000/00000000 HTTP/1.1\r\n\r\n")
                read_exactly(connection, 100_000)
        while server.stats()["connections"]["open"] > 1:
            pass
        assert server.stats()["connections"]["accepted"] > 20


def test_more_clients_than_descriptors_are_turned_away(origin_program: str) -> None:
    with bench_origin(origin_program, *FORMULA, descriptors=24) as server, ExitStack() as stack:
        several = [stack.enter_context(connect(server)) for _ in range(60)]
        for connection in several:
            connection.sendall(REQUEST)
        answers = [first_bytes(connection) for connection in several]
        assert 5 < sum(answer.startswith(b"HTTP/1.1 200 OK") for answer in answers) < 24
        assert all(answer == b"" or answer.startswith(b"HTTP/1.1 200 OK") for answer in answers)
        stack.close()
        assert server.ask(OBJECT).status == 200


def first_bytes(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def test_file_that_shrinks_ends_its_answer_and_nothing_else(origin_program: str, tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(100_000))
    (tmp_path / "gone").write_bytes(b"x")
    (tmp_path / "kept").write_bytes(b"kept")
    with bench_origin(origin_program, "--folder", str(tmp_path)) as server:
        (tmp_path / "short").write_bytes(bytes(10))
        (tmp_path / "gone").unlink()
        with connect(server) as connection:
            connection.sendall(b"GET /bench/short HTTP/1.1\r\n\r\n")
            assert len(read_all(connection)) < 100_000
        assert server.ask("/bench/gone").status == 500
        assert server.ask("/bench/kept").body == b"kept"


def test_verify_names_what_differs(origin_program: str, tmp_path: Path) -> None:
    def verify() -> tuple[int, str]:
        argv = [origin_program, "0", *FORMULA, "--verify", str(tmp_path)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        return done.returncode, done.stderr

    with bench_origin(origin_program, *FORMULA) as server:
        (tmp_path / "0000").mkdir()
        for number in range(10):
            (tmp_path / f"0000/{number:08}").write_bytes(server.ask(f"/bench/set/0000/{number:08}").body)
    for state in (".stager", ".git"):
        (tmp_path / state).mkdir()
        (tmp_path / state / "receipt").write_text("not an object")
    assert verify() == (0, "")
    changed = tmp_path / "0000/00000003"
    content = changed.read_bytes()
    for wrong, text in ((content[:-1], "has another size"), (content[:-1] + b"?", "has other bytes")):
        changed.write_bytes(wrong)
        assert verify() == (1, f"origin: {tmp_path}/0000/00000003 {text}\n")
    changed.unlink()
    assert verify() == (1, f"origin: {tmp_path}/0000/00000003 No such file or directory\n")
    changed.write_bytes(content)
    (tmp_path / "0000/more").touch()
    assert verify() == (1, f"origin: {tmp_path}/0000/more is not among the objects\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["0"],
        ["0", "1", "1", "p/"],
        ["0", "1", "1", "p/", "--formula", "--data", "x"],
        ["0", "1", "1", "p/", "--folder", "x"],
        ["0", "--formula"],
        ["0", "10000001", "1", "p/", "--formula"],
        ["0", "10000000", "9000000000000", "p/", "--formula"],
        ["0", "1", "1", "p/", "--formula", "--gets-per-s", "many"],
        ["0", "1", "1", "p/", "--formula", "--tail-share", "2"],
        ["0", "1", "1", "p/", "--formula", "--checksum", "md5"],
        ["0", "1", "1", "p/", "--formula", "--profile", "gcs"],
        ["0", "1", "1", "p/", "--formula", "--threads", "0"],
        ["65536", "1", "1", "p/", "--formula"],
        ["0", "-1", "1", "p/", "--formula"],
        ["0", "1", "1", "p/", "--formula", "--threads"],
    ],
)
def test_wrong_arguments_are_refused(origin_program: str, arguments: list[str]) -> None:
    done = subprocess.run([origin_program, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("origin: ")
