"""A server, as a process of its own, whose every answer is a failure: the last number of the path chooses which, or
the number of the port to which a tunnel is asked for.

Prints its port. Ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

WAYS = 8


class Failing(asyncio.Protocol):
    """Answers each GET or CONNECT with one way to fail."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data and not self.transport.is_closing():
            head, _, self.data = self.data.partition(b"\r\n\r\n")
            self.fail(int(head.split(b" ", 2)[1].rpartition(b"/")[2].rpartition(b":")[2]) % WAYS)

    def fail(self, way: int) -> None:
        match way:
            case 0:
                self.say("404 Not Found", b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>")
            case 1:
                self.say("503 Slow Down", b"<Error><Code>SlowDown</Code></Error>", "retry-after: 1\r\n")
            case 2:
                self.say("500 Internal Server Error", b"<html>" + b"no " * 10_000)
            case 3:
                self.say("200 OK", b"abc", 'etag: "other"\r\n')
            case 4:
                self.transport.write(b'HTTP/1.1 200 OK\r\ncontent-length: 3\r\netag: "e"\r\n\r\nab')
                self.transport.close()
            case 5:
                self.transport.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * (64 << 10))
                self.transport.close()
            case 6:
                connection = self.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.transport.abort()
            case _:
                self.say("200 OK", b"abcdef", 'etag: "e"\r\n')

    def say(self, status: str, body: bytes, fields: str = "") -> None:
        self.transport.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{fields}\r\n".encode() + body)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Failing, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
