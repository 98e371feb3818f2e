"""A small git server over http and https: our own HTTP around the real ``git http-backend``.

What it adds to the real thing: basic authentication, a connection that dies in the middle of a pack, and a record of
the requests and bytes, by which a test sees that nothing was ever pushed and how much was moved. With a giftless behind
it, it is a forge: repositories and their LFS endpoints on one origin, with one password.
"""

from __future__ import annotations

import base64
import http.client
import os
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import IO, Any, ClassVar

from servers.certificates import Certificates
from servers.giftless_lfs import Giftless
from servers.local_http import local_http

__all__ = ["GitHttp", "git_http"]

_COPY_BYTES = 64 << 10
_LAST_CHUNK = b"0\r\n\r\n"
_HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


@dataclass
class GitHttp:
    """A running server. What is not marked fixed may be changed while it runs.

    ``root`` (fixed) holds the repositories; ``credentials`` (user, password) are asked for when set; ``lfs`` answers
    what is asked below a repository's ``.git/info/lfs``; ``cut_pack_after_bytes`` ends an upload-pack answer longer
    than that many bytes there, ``cuts_left`` times (choose more bytes than the refs take).
    """

    root: Path
    base_url: str
    ca_file: str | None = None
    credentials: tuple[str, str] | None = None
    cut_pack_after_bytes: int = 0
    cuts_left: int = 0
    lfs: Giftless | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)  # what requests had of them
    bytes_received: int = 0  # of bodies of requests, as they came
    bytes_sent: int = 0  # of bodies of answers
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, *, received: int = 0, sent: int = 0) -> None:
        with self._lock:
            self.bytes_received += received
            self.bytes_sent += sent

    def forget(self) -> None:
        """Begin the record of requests and bytes again."""
        with self._lock:
            self.requests.clear()
            self.bytes_received = self.bytes_sent = 0

    def url(self, name: str) -> str:
        """URL of the repository ``root / name``."""
        return f"{self.base_url}/{urllib.parse.quote(name)}"


@contextmanager
def git_http(root: Path, certificates: Certificates | None = None, *, lfs: Giftless | None = None) -> Iterator[GitHttp]:
    """Serve every repository below ``root``; with certificates over https. ``lfs``: a giftless over plain http."""
    state = GitHttp(root=root, base_url="", ca_file=certificates.ca_file if certificates else None, lfs=lfs)
    with local_http(type("Handler", (_Handler,), {"state": state}), certificates) as state.base_url:
        yield state


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    state: ClassVar[GitHttp]

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self._body())

    def do_PUT(self) -> None:
        self._serve(self._body())

    def log_message(self, format: str, *args: Any) -> None:
        """The requests are recorded, not printed."""

    def _serve(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        self.state.requests.append((self.command, self.path))
        self.state.count(received=len(body))
        self.close_connection = True
        repository, below, rest = path.removeprefix("/").partition(".git/info/lfs/")
        if below and self.state.lfs is not None and (self._may_enter() or rest.startswith("objects/storage/")):
            self._forward(self.state.lfs, repository, body)
            return
        if not self._may_enter():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            return
        with subprocess.Popen(
            ["git", "http-backend"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._cgi_environment(urllib.parse.unquote(path), query, len(body)),
        ) as backend:
            assert backend.stdin is not None
            assert backend.stdout is not None
            feeder = threading.Thread(target=_feed, args=(backend.stdin, body))
            feeder.start()
            try:
                self._answer(backend.stdout, is_pack=path.endswith("/git-upload-pack"))
            finally:
                backend.kill()
                feeder.join()

    def _may_enter(self) -> bool:
        if told := self.headers.get("Authorization"):
            self.state.authorizations.append(told)
        if self.state.credentials is None:
            return True
        expected = base64.b64encode(":".join(self.state.credentials).encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _forward(self, lfs: Giftless, repository: str, body: bytes) -> None:
        """Ask giftless, in the name of whoever entered; links to its objects bring a token of their own.

        Absolute links are made of X-Forwarded-Host and -Proto: giftless's documentation, "Using a proxy".
        """
        origin = urllib.parse.urlsplit(self.state.base_url)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers |= {"X-Forwarded-Host": origin.netloc, "X-Forwarded-Proto": origin.scheme}
        if self._may_enter() and "objects/storage/" not in self.path:
            headers["Authorization"] = f"Bearer {lfs.token(repository, actions='read,write,verify')}"
        connection = http.client.HTTPConnection(*lfs.address, timeout=30)
        try:
            connection.request(self.command, self.path, body=body or None, headers=headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP | {"date", "server"}:
                    self.send_header(name, value)
            self._begin_chunks()
            while part := answer.read1(_COPY_BYTES):
                self._chunk(part)
            self.wfile.write(_LAST_CHUNK)
        finally:
            connection.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _cgi_environment(self, path: str, query: str, length: int) -> dict[str, str]:
        """RFC 3875, section 4.1, as far as git-http-backend(1) reads it."""
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.state.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(length),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        if self.state.credentials is not None:
            environment["REMOTE_USER"] = self.state.credentials[0]
        return environment

    def _answer(self, backend: IO[bytes], *, is_pack: bool) -> None:
        headers = []
        while line := backend.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        status = next((value for name, value in headers if name.lower() == "status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in headers:
            if name.lower() != "status":
                self.send_header(name, value)
        self._begin_chunks()
        sent = 0
        while part := backend.read1(_COPY_BYTES):  # type: ignore[attr-defined]
            if is_pack and self.state.cuts_left > 0 and sent + len(part) > self.state.cut_pack_after_bytes:
                self.state.cuts_left -= 1
                self._chunk(part[: self.state.cut_pack_after_bytes - sent])
                return  # no last chunk: the client sees the connection end inside the body
            sent += len(part)
            self._chunk(part)
        self.wfile.write(_LAST_CHUNK)

    def _begin_chunks(self) -> None:
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()

    def _chunk(self, part: bytes) -> None:
        if part:
            self.state.count(sent=len(part))
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))


def _feed(pipe: IO[bytes], body: bytes) -> None:
    try:
        with pipe:
            pipe.write(body)
    except BrokenPipeError:
        pass  # the backend had enough
