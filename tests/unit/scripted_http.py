"""A server that answers each request as a test's function says, and an engine's caller in a few lines."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stager._native import Batch, Endpoint, Engine, Failure, KeyTable, Signer, Template

WAIT_S = 60


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    connection: int  # how many the server had accepted before
    turn: int  # how many requests this connection had brought before
    method: str = "GET"


Answer = Callable[[Request, socket.socket], object]
"""Sends what it likes. Returns "close" to end the connection, "reset" to break it; anything else keeps it."""


def response(body: bytes, status: str = "200 OK", etag: str | None = '"e"', **headers: str) -> bytes:
    """A plain answer; ``headers`` come with _ for - and replace the usual ones, "" leaves one out."""
    fields = {"content_length": str(len(body)), "etag": etag or ""} | headers
    lines = [f"HTTP/1.1 {status}"] + [f"{k.replace('_', '-')}: {v}" for k, v in fields.items() if v]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class ScriptedServer:
    answer: Answer
    listener: socket.socket
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    accepted: int = 0
    threads: list[threading.Thread] = field(default_factory=list)
    open: set[socket.socket] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept_all(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError as error:
                if error.errno == errno.EMFILE:  # a test has taken every descriptor for a while
                    time.sleep(0.01)
                    continue
                return
            thread = threading.Thread(target=self.serve, args=(connection, self.accepted), daemon=True)
            self.accepted += 1
            with self.lock:
                self.open.add(connection)
                thread.start()
                self.threads.append(thread)

    def serve(self, connection: socket.socket, number: int) -> None:
        plain = connection
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            how = self.converse(connection, number)
            if how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(plain)
            connection.close()

    def converse(self, connection: socket.socket, number: int) -> object:
        data = b""
        turn = 0
        while True:
            while b"\r\n\r\n" not in data:
                more = connection.recv(65536)
                if not more:
                    return None
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines)
            method, path, _ = first.split(" ")
            request = Request(path, fields, number, turn, method)
            with self.lock:
                self.requests.append(request)
            how = self.answer(request, connection)
            if how in ("close", "reset"):
                return how
            turn += 1

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for connection in self.open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        for thread in self.threads:
            thread.join(WAIT_S)


@contextmanager
def scripted(
    answer: Answer, tls: ssl.SSLContext | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[ScriptedServer]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=256)
    server = ScriptedServer(answer, listener, tls)
    acceptor = threading.Thread(target=server.accept_all, daemon=True)
    acceptor.start()
    try:
        yield server
    finally:
        server.close()
        acceptor.join(WAIT_S)


def say(*answers: bytes) -> Answer:
    """Sends the same bytes to everybody."""

    def answer(request: Request, connection: socket.socket) -> None:
        for part in answers:
            connection.sendall(part)

    return answer


def loopback(*hosts: str) -> list[tuple[int, bytes]]:
    families = {host: socket.AF_INET6 if ":" in host else socket.AF_INET for host in hosts or ("127.0.0.1",)}
    return [(family, socket.inet_pton(family, host)) for host, family in families.items()]


def drain_all(engine: Engine, batch: Batch, count: int | None = None) -> tuple[list[int], list[Failure]]:
    """Wait until every request of ``batch`` (or ``count`` of them) has completed."""
    done: list[int] = []
    failures: list[Failure] = []
    while len(done) + len(failures) < (len(batch) if count is None else count):
        readable, _, _ = select.select([engine.fileno()], [], [], WAIT_S)
        assert readable, "no completion within a minute"
        for of, finished, failed in engine.drain():
            assert of is batch
            done += finished
            failures += failed
    return done, failures


@dataclass
class Caller:
    """An engine, a template for one server, a table, and a destination."""

    engine: Engine
    endpoint: Endpoint
    template: Template
    table: KeyTable
    root: Path
    root_fd: int
    tmp_fd: int

    def add(self, key: bytes, size: int, identity: bytes = b"e", mode: int = 0) -> int:
        return self.table.append(key, size, identity, mode=mode)

    def start(self, rows: Sequence[int]) -> Batch:
        return self.engine.fetch_objects(self.template, self.table, array("q", rows), self.root_fd, self.tmp_fd)

    def fetch(self, rows: Sequence[int]) -> tuple[Batch, list[int], list[Failure]]:
        batch = self.start(rows)
        return batch, *drain_all(self.engine, batch)

    def fails(self, size: int = 3, identity: bytes = b"e") -> Failure:
        """Fetch one object, which must fail and leave nothing."""
        _, done, failures = self.fetch([self.add(b"key", size, identity)])
        assert not done
        assert not (self.root / "key").exists()
        assert self.temporaries() == []
        return failures[0]

    def temporaries(self) -> list[str]:
        return os.listdir(self.tmp_fd)


@contextmanager
def caller(
    root: Path,
    port: int,
    *,
    host: str = "127.0.0.1",
    addresses: list[tuple[int, bytes]] | None = None,
    ca_file: str | None = None,
    tls: bool = False,
    verify: bool = True,
    signer: Signer | None = None,
    headers: Sequence[tuple[str, str]] = (),
    proxy: tuple[int, str, str | None] | None = None,
    certificate: tuple[str, str] | None = None,
    **limits: int,
) -> Iterator[Caller]:
    (root / "tmp").mkdir(exist_ok=True)
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    tmp_fd = os.open(root / "tmp", os.O_RDONLY | os.O_DIRECTORY)
    engine = Engine(**({"workers": 2, "connections": 8, "memory_bytes": 8 << 20} | limits))
    try:
        endpoint = Endpoint(
            engine,
            host=host,
            port=port,
            tls=tls,
            addresses=addresses or loopback(),
            ca_file=ca_file,
            verify=verify,
            proxy=proxy,
            certificate=certificate,
        )
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        template = Template(endpoint, signer, host_header=authority, path_prefix=b"/b/", headers=headers)
        yield Caller(engine, endpoint, template, KeyTable(), root, root_fd, tmp_fd)
    finally:
        engine.close()
        os.close(root_fd)
        os.close(tmp_fd)
