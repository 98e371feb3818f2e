"""The HTTP server under the tests' own servers: threads, optional TLS, and an end that waits for nobody."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from servers.certificates import Certificates

__all__ = ["local_http"]


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(
        self,
        handler: type[BaseHTTPRequestHandler],
        certificates: Certificates | None,
        host: str,
        clients: ssl.VerifyMode,
    ) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, 0), handler)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.chain_file, certificates.key_file)
            context.verify_mode = clients
            context.load_verify_locations(certificates.ca_file)
            # The handshake happens at the first read, in the connection's own thread.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away or refuse our certificate: tests do both on purpose."""

    def hang_up(self) -> None:
        """End every connection that a client keeps open."""
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def local_http(
    handler: type[BaseHTTPRequestHandler],
    certificates: Certificates | None = None,
    host: str = "127.0.0.1",
    clients: ssl.VerifyMode = ssl.CERT_NONE,
) -> Iterator[str]:
    """Serve ``handler`` on a free port of ``host``; yields the base URL, https with certificates (as localhost).

    ``clients``: what is wanted of their certificates, which the same authority has to have issued.
    """
    server = _Server(handler, certificates, host, clients)
    port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        shown = f"[{host}]" if ":" in host else "localhost" if certificates else host
        yield f"{'https' if certificates else 'http'}://{shown}:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()
