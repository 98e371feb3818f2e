"""A small Git LFS server, scripted: the batch API and basic downloads, and every departure from them on request.

What it does by itself follows the Git LFS documentation; each rule names the place. What a hostile or broken server
does is put into `LfsFixture.answer`, which sees each request to the batch API and may answer instead. Every request is
recorded, headers and body, by which a test sees what reached it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from servers.certificates import Certificates
from servers.local_http import local_http

__all__ = ["MEDIA_TYPE", "LfsFixture", "Reply", "Request", "lfs_fixture"]

MEDIA_TYPE = "application/vnd.git-lfs+json"  # api/batch.md, headers of requests


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    certificate: str = ""  # the first name in the client's, as far as one was asked for

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(kw_only=True)
class Reply:
    """``pieces`` instead of ``body``: sent one after the other, without a length, until the client is gone."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    pieces: Iterator[bytes] | None = None


@dataclass
class LfsFixture:
    """A running server. All but ``url`` may be changed while it runs.

    ``objects`` by oid; ``credentials`` (user, password) are asked for when set; ``expires_in`` and ``action_headers``
    go into every link; ``most`` objects are taken in one batch; ``answer`` may stand in for the batch API's own answer.
    """

    url: str  # the endpoint: where objects/batch is below
    objects: dict[str, bytes] = field(default_factory=dict)
    credentials: tuple[str, str] | None = None
    expires_in: int | None = None
    action_headers: dict[str, str] = field(default_factory=dict)
    authenticated: bool | None = True
    most: int = 1000
    answer: Callable[[Request], Reply | None] | None = None
    requests: list[Request] = field(default_factory=list)

    def add(self, content: bytes) -> str:
        """Store an object; its oid (spec.md, "The Pointer")."""
        oid = hashlib.sha256(content).hexdigest()
        self.objects[oid] = content
        return oid

    @property
    def batches(self) -> list[Request]:
        return [request for request in self.requests if request.path.endswith("/objects/batch")]

    def respond(self, request: Request) -> Reply:
        """The answer to a batch, as api/batch.md says."""
        if self.credentials is not None and request.headers.get("authorization") != _basic(*self.credentials):
            # "HTTP 401 responses should include an LFS-Authenticate header"
            challenge = [("LFS-Authenticate", 'Basic realm="fixture"')]
            return self.reply({"message": "Credentials needed", "request_id": "1"}, status=401, headers=challenge)
        if not request.headers.get("accept", "").startswith(MEDIA_TYPE):
            return self.reply({"message": "Accept"}, status=406)
        asked = request.json
        if asked["operation"] != "download" or asked.get("transfers", ["basic"]) != ["basic"]:
            return self.reply({"message": "not supported"}, status=422)
        if len(asked["objects"]) > self.most:
            return self.reply({"message": "too many objects"}, status=413)
        return self.reply({"transfer": "basic", "objects": [self.entry(one) for one in asked["objects"]]})

    def entry(self, asked: dict[str, Any]) -> dict[str, Any]:
        """One object of an answer: its link, or "per-object errors"."""
        oid, size = asked["oid"], asked["size"]
        if oid not in self.objects:
            return {"oid": oid, "size": size, "error": {"code": 404, "message": "Object does not exist"}}
        if len(self.objects[oid]) != size:
            return {"oid": oid, "size": size, "error": {"code": 422, "message": "Wrong size"}}
        link: dict[str, Any] = {"href": f"{self.url}/data/{oid}", "header": dict(self.action_headers)}
        if self.expires_in is not None:
            link["expires_in"] = self.expires_in
        found = {"oid": oid, "size": size, "actions": {"download": link}}
        return found if self.authenticated is None else {**found, "authenticated": self.authenticated}

    @staticmethod
    def reply(value: Any, *, status: int = 200, headers: list[tuple[str, str]] | None = None) -> Reply:
        """A JSON answer."""
        return Reply(status=status, headers=[("Content-Type", MEDIA_TYPE), *(headers or [])], body=_json(value))


@contextmanager
def lfs_fixture(
    certificates: Certificates | None = None, host: str = "127.0.0.1", clients: ssl.VerifyMode = ssl.CERT_NONE
) -> Iterator[LfsFixture]:
    """An LFS server without objects on a free port, at ``/repository.git/info/lfs``; with certificates over https.

    ``clients``: as of `local_http`.
    """
    state = LfsFixture("")
    with local_http(type("Handler", (_Handler,), {"state": state}), certificates, host, clients) as base:
        state.url = f"{base}/repository.git/info/lfs"
        yield state


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    wbufsize = -1  # head and body in one packet
    state: ClassVar[LfsFixture]

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """The requests are recorded, not printed."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(method=self.command, path=self.path, headers=headers, body=body,
                          certificate=self._certificate())  # fmt: skip
        self.state.requests.append(request)
        is_batch = self.command == "POST" and self.path.endswith("/objects/batch")
        reply = self.state.answer(request) if is_batch and self.state.answer else None
        if reply is None:
            reply = self.state.respond(request) if is_batch else self._object()
        self._answer(reply)

    def _certificate(self) -> str:
        shown: Any = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
        return str(shown["subjectAltName"][0][1]) if shown else ""

    def _object(self) -> Reply:
        """api/basic-transfers.md, "Downloads"."""
        content = self.state.objects.get(self.path.rpartition("/")[2])
        if self.command != "GET" or content is None:
            return Reply(status=404, body=b"<html>not here</html>", headers=[("Content-Type", "text/html")])
        return Reply(body=content, headers=[("Content-Type", "application/octet-stream")])

    def _answer(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        if not any(name == "Date" for name, _ in reply.headers):
            self.send_header("Date", self.date_time_string())
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.pieces is None:
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            return
        self.close_connection = True
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in reply.pieces:
            self.wfile.write(piece)
            self.wfile.flush()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
