"""Where messages, heads and bodies lie in one direction of an HTTP/1.1 connection (RFC 9112), for the fault proxy.

It trusts its input: it reads what real clients and servers send, and is no judge of hostile messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["Scanner", "Span"]

_HEAD, _LENGTH, _UNTIL_CLOSE, _CHUNK_SIZE, _CHUNK, _CHUNK_END, _TRAILER = range(7)


@dataclass(frozen=True)
class Span:
    """A piece of the stream. ``kind`` is "head" (always whole), "body", or "frame" (chunk sizes and line ends)."""

    kind: str
    data: bytes


class Scanner:
    """Cuts a byte stream into `Span` objects that, joined, are the stream.

    ``has_body`` is asked once per head whether a body may follow it.
    """

    def __init__(self, has_body: Callable[[bytes], bool]) -> None:
        self._has_body = has_body
        self._state = _HEAD
        self._left = 0
        self._pending = b""

    def feed(self, data: bytes) -> Iterator[Span]:
        """Spans of ``data`` and of what was kept back before; an unfinished line or head is kept."""
        self._pending += data
        while span := self._next():
            self._pending = self._pending[len(span.data) :]
            yield span

    def rest(self) -> bytes:
        """What was kept back when the stream ended."""
        return self._pending

    def _next(self) -> Span | None:
        if not self._pending:
            return None
        if self._state == _UNTIL_CLOSE:
            return Span("body", self._pending)
        if self._state in (_LENGTH, _CHUNK):
            return self._counted()
        end = self._pending.find(b"\r\n\r\n" if self._state == _HEAD else b"\r\n")
        if end < 0:
            return None
        if self._state == _HEAD:
            head = self._pending[: end + 4]
            self._enter_body(head)
            return Span("head", head)
        line = self._pending[: end + 2]
        self._after_line(line)
        return Span("frame", line)

    def _counted(self) -> Span:
        data = self._pending[: self._left]
        self._left -= len(data)
        if self._left == 0:
            self._state = _HEAD if self._state == _LENGTH else _CHUNK_END
        return Span("body", data)

    def _enter_body(self, head: bytes) -> None:
        fields = _fields(head)
        if not self._has_body(head):
            return
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._state = _CHUNK_SIZE
        elif b"content-length" in fields:
            self._left = int(fields[b"content-length"])
            self._state = _LENGTH if self._left else _HEAD
        elif head.startswith(b"HTTP/"):
            self._state = _UNTIL_CLOSE

    def _after_line(self, line: bytes) -> None:
        if self._state == _CHUNK_SIZE:
            self._left = int(line.split(b";")[0], 16)
            self._state = _CHUNK if self._left else _TRAILER
        elif self._state == _CHUNK_END:
            self._state = _CHUNK_SIZE
        elif line == b"\r\n":
            self._state = _HEAD


def _fields(head: bytes) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
