"""A TCP proxy that misbehaves on order: it delays, slows, cuts, resets, stalls and corrupts answers.

It understands just enough HTTP to aim: a `Fault` names the requests it is for, and its positions count bytes of the
answer's body. In front of a TLS server (``raw=True``) it sees no requests: a connection is one answer, a position
counts its bytes, and ``path`` stays empty. Interim answers (100 Continue) are not expected.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from servers.http_scan import Scanner, Span

__all__ = ["Counts", "Fault", "FaultProxy", "fault_proxy"]

_READ_BYTES = 64 << 10
_WAIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way to misbehave, for the next ``times`` answers to ``method`` requests whose target contains ``path``.

    ``delay_s``: wait before the answer's first byte. ``bytes_per_s``: limit the rate (0: do not).
    ``corrupt_at``: flip the bits of that byte. ``stall_at``: fall silent before that byte until
    `FaultProxy.release`. ``cut_at``, ``reset_at``: end the connection there with FIN or RST.
    """

    path: str = ""
    method: str = "GET"
    times: int = 1
    delay_s: float = 0.0
    bytes_per_s: int = 0
    corrupt_at: int | None = None
    stall_at: int | None = None
    cut_at: int | None = None
    reset_at: int | None = None


@dataclass
class Counts:
    """What has passed so far. ``faults`` counts answers that a fault was put on; ``targets`` are the requests."""

    connections: int = 0
    refused: int = 0
    requests: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    faults: int = 0
    targets: list[str] = field(default_factory=list)


class FaultProxy:
    """A running proxy; every method may be called from any thread, at any time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, upstream: tuple[str, int], *, raw: bool) -> None:
        self.counts = Counts()
        self.address = ("127.0.0.1", 0)
        self._loop = loop
        self._upstream = upstream
        self._raw = raw
        self._lock = threading.Lock()
        self._faults: list[tuple[Fault, int]] = []
        self._to_refuse = 0
        self._released = asyncio.Event()
        self._stalled = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.address[1]}" if self._raw else f"http://127.0.0.1:{self.address[1]}"

    def add(self, *faults: Fault) -> None:
        """Faults for answers to come; the first that fits an answer is put on it."""
        with self._lock:
            self._faults += [(fault, fault.times) for fault in faults]

    def clear(self) -> None:
        """Forget faults that no answer has met; those at work go on."""
        with self._lock:
            self._faults.clear()
            self._to_refuse = 0

    def refuse(self, connections: int) -> None:
        """Reset that many new connections as soon as they are made."""
        with self._lock:
            self._to_refuse = connections

    def wait_stalled(self) -> None:
        """Return when one more answer has fallen silent. TimeoutError: none did within a minute."""
        if not self._stalled.acquire(timeout=_WAIT_S):
            raise TimeoutError("no answer stalled")

    def release(self) -> None:
        """Let every stalled answer go on, and those that would stall later."""
        self._loop.call_soon_threadsafe(self._released.set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts.connections += 1
        if self._takes_refusal():
            self.counts.refused += 1
            _reset(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            _reset(writer)
            return
        connection = _Connection(self, self._raw)
        tasks = [
            asyncio.create_task(connection.carry_up(reader, up_writer)),
            asyncio.create_task(connection.carry_down(up_reader, writer)),
        ]
        try:
            await tasks[1]  # the answer's end is the connection's end
        except OSError:
            pass
        finally:
            for task in tasks:
                task.cancel()
            for side in (up_writer, writer):  # before anything is waited for: the proxy's end cancels that
                side.close()
            await asyncio.gather(*tasks, return_exceptions=True)
            for side in (up_writer, writer):
                with suppress(OSError):
                    await side.wait_closed()

    def take_fault(self, method: str, target: str) -> Fault | None:
        with self._lock:
            for index, (fault, left) in enumerate(self._faults):
                if fault.path in target and fault.method == method:
                    self._faults[index] = (fault, left - 1)
                    if left <= 1:
                        del self._faults[index]
                    self.counts.faults += 1
                    return fault
        return None

    async def stall(self) -> None:
        self._stalled.release()
        await self._released.wait()

    def _takes_refusal(self) -> bool:
        with self._lock:
            self._to_refuse -= 1
            return self._to_refuse >= 0


class _ConnectionEndedError(OSError):
    """A fault has ended the connection."""


class _Connection:
    """One client's connection: requests going up, answers coming down, the fault of the answer under way."""

    def __init__(self, proxy: FaultProxy, raw: bool) -> None:
        self._proxy = proxy
        self._raw = raw
        self._requests: deque[tuple[str, str]] = deque()
        self._fault: Fault | None = proxy.take_fault("GET", "") if raw else None
        self._position = 0

    async def carry_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        scanner = Scanner(lambda head: True)
        while data := await reader.read(_READ_BYTES):
            self._proxy.counts.bytes_up += len(data)
            if not self._raw:
                for span in scanner.feed(data):
                    if span.kind == "head":
                        self._note_request(span.data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def carry_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        scanner = Scanner(self._answer_has_body)
        if self._raw:
            await self._before_answer()
        while data := await reader.read(_READ_BYTES):
            for span in [Span("body", data)] if self._raw else scanner.feed(data):
                if span.kind == "head":
                    self._next_answer()
                    await self._before_answer()
                if span.kind == "body":
                    await self._body(span.data, writer)
                else:
                    await self._send(span.data, writer)
                    if span.kind == "head":
                        await self._body(b"", writer)  # faults at byte 0 of an answer whose body is late
        await self._send(scanner.rest(), writer)

    def _note_request(self, head: bytes) -> None:
        method, target = head.split(b" ", 2)[:2]
        self._requests.append((method.decode("latin-1"), target.decode("latin-1")))
        self._proxy.counts.requests += 1
        self._proxy.counts.targets.append(target.decode("latin-1"))

    def _next_answer(self) -> None:
        self._position = 0
        self._fault = self._proxy.take_fault(self._method, self._target)

    def _answer_has_body(self, head: bytes) -> bool:
        self._method, self._target = self._requests.popleft()
        status = head.split(b" ", 2)[1][:3]
        return self._method != "HEAD" and status not in (b"204", b"304")

    async def _before_answer(self) -> None:
        if self._fault is not None and self._fault.delay_s:
            await asyncio.sleep(self._fault.delay_s)

    async def _body(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Send body bytes, stopping at every position where the fault has something to do."""
        fault = self._fault
        if fault is None:
            await self._send(data, writer)
            return
        end = self._position + len(data)
        start = self._position
        for position in sorted(
            {at for at in (fault.stall_at, fault.cut_at, fault.reset_at) if at is not None and start <= at <= end}
        ):
            await self._send_span(data, start, position, writer)
            await self._act(fault, position, writer)
        await self._send_span(data, start, end, writer)

    async def _send_span(self, data: bytes, start: int, until: int, writer: asyncio.StreamWriter) -> None:
        """Send ``data`` (which begins at body position ``start``) from where we are up to position ``until``."""
        part = bytearray(data[self._position - start : until - start])
        assert self._fault is not None
        corrupt_at = self._fault.corrupt_at
        if corrupt_at is not None and self._position <= corrupt_at < until:
            part[corrupt_at - self._position] ^= 0xFF
        self._position = until
        rate = self._fault.bytes_per_s
        step = max(1, rate // 20) if rate else max(1, len(part))
        for offset in range(0, len(part), step):
            piece = bytes(part[offset : offset + step])
            await self._send(piece, writer)
            if rate:
                await asyncio.sleep(len(piece) / rate)

    async def _act(self, fault: Fault, position: int, writer: asyncio.StreamWriter) -> None:
        if position == fault.stall_at:
            self._fault = _without_stall(fault)
            await self._proxy.stall()
        if position == fault.reset_at:
            _reset(writer)
            raise _ConnectionEndedError
        if position == fault.cut_at:
            raise _ConnectionEndedError

    async def _send(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        self._proxy.counts.bytes_down += len(data)
        writer.write(data)
        await writer.drain()


def _without_stall(fault: Fault) -> Fault:
    """What is left of a fault after its stall, so that the same position does not stall twice."""
    return Fault(
        path=fault.path,
        method=fault.method,
        bytes_per_s=fault.bytes_per_s,
        corrupt_at=fault.corrupt_at,
        cut_at=fault.cut_at,
        reset_at=fault.reset_at,
    )


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: lingering for zero seconds discards what is unsent (socket(7))."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def fault_proxy(upstream: tuple[str, int], *, raw: bool = False) -> Iterator[FaultProxy]:
    """A proxy on a free port of 127.0.0.1 in front of ``upstream``, in a thread of its own."""
    loop = asyncio.new_event_loop()
    proxy = FaultProxy(loop, upstream, raw=raw)
    started, stop = threading.Event(), asyncio.Event()

    async def main() -> None:
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(proxy.serve(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)
            task.add_done_callback(lambda _: writer.close())  # one that is cancelled at once never ran

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        proxy.address = server.sockets[0].getsockname()[:2]
        started.set()
        await stop.wait()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()

    thread = threading.Thread(target=_run, args=(loop, main()), name="fault-proxy")
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _run(loop: asyncio.AbstractEventLoop, main: Coroutine[None, None, None]) -> None:
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()
