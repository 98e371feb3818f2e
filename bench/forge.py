"""A forge for benches: repositories below a directory by the real `git http-backend`, LFS by the batch API.

    python bench/forge.py ROOT STORE OBJECTS_URL

Prints its port on 127.0.0.1. Nothing of a pack goes through this process: it writes the status line, and http-backend's
output is the connection itself, whose first lines are HTTP's own (RFC 3875, section 6.2). LFS objects are links to
OBJECTS_URL/OID (git-lfs, docs/api/batch.md); whether there is one, and its size, is looked up in STORE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BATCH = "/info/lfs/objects/batch"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root, store, objects_url = "", Path(), ""

    def do_GET(self) -> None:
        self._git(b"")

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith(BATCH):
            self._lfs(json.loads(body))
        else:
            self._git(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _git(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
        subprocess.run(["git", "http-backend"], input=body, stdout=self.connection, env=environment, check=False)

    def _lfs(self, asked: dict[str, Any]) -> None:
        rows = [self._row(str(one["oid"])) for one in asked["objects"]]
        answer = json.dumps({"transfer": "basic", "objects": rows}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.git-lfs+json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _row(self, oid: str) -> dict[str, Any]:
        try:
            size = (self.store / oid).stat().st_size
        except FileNotFoundError:
            return {"oid": oid, "size": 0, "error": {"code": 404, "message": "no such object"}}
        href = f"{self.objects_url}/{oid}"
        return {"oid": oid, "size": size, "actions": {"download": {"href": href, "expires_in": 3600}}}


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def main() -> None:
    Handler.root, Handler.store, Handler.objects_url = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
