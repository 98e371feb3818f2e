"""What a real docker client asks a daemon for: it parses its own command line, and here its request ends up."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

__all__ = ["docker_socket"]


class _Handler(BaseHTTPRequestHandler):
    """Answers as a daemon does until a container is to be created; that it notes and refuses (Docker Engine API)."""

    server: _Server

    def do_GET(self) -> None:
        self._answer(200, "{}")

    def do_HEAD(self) -> None:
        self._answer(200, "")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "/containers/create" in self.path:
            self.server.asked.append({"path": self.path, **json.loads(body)})
        self._answer(400, json.dumps({"message": "noted"}))

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Api-Version", "1.50")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self.asked: list[dict[str, Any]] = []


@contextmanager
def docker_socket(path: Path) -> Iterator[list[dict[str, Any]]]:
    """Listen at ``path``, for DOCKER_HOST=unix://PATH; the list gets each request for a container."""
    with _Server(str(path)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.asked
        finally:
            server.shutdown()
            thread.join()
