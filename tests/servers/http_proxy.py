"""A real HTTP proxy in its own process (package proxy.py): CONNECT and whole URLs, with or without a password.

It logs a line for each connection when that ends; `HttpProxy.log` tells by them what went through it. It drops idle
connections after some seconds.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from servers.certificates import Certificates
from servers.process import ServerProcess, free_ports, http_status

__all__ = ["HttpProxy", "http_proxy"]

_LOGGED_WITHIN_S = 20.0
_PROGRAM = """
import ctypes, os, signal, sys
os.register_at_fork(after_in_child=lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL))
from proxy import main
sys.exit(main())
"""
"""Its processes end when the first of them does (PR_SET_PDEATHSIG), as that one ends with the tests."""


@dataclass(frozen=True, kw_only=True)
class HttpProxy:
    """A running proxy. ``url`` has the user in it where one is asked for, percent-encoded."""

    port: int
    process: ServerProcess
    scheme: str = "http"
    user: str | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        who = f"{quote(self.user or '', safe='')}:{quote(self.password or '', safe='')}@" if self.user else ""
        return f"{self.scheme}://{who}127.0.0.1:{self.port}"

    @property
    def bare_url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables that lead all traffic of a child process here."""
        return {"http_proxy": self.url, "https_proxy": self.url}

    def carried(self, what: str) -> int:
        """How many connections so far were logged with ``what``: "CONNECT host:port", or "GET host:port"."""
        return len(re.findall(rf" - {re.escape(what)}", self.process.log()))

    def wait_carried(self, what: str) -> int:
        """The same once there is one at least; it is logged when the connection ends. AssertionError: there is none."""
        deadline = time.monotonic() + _LOGGED_WITHIN_S
        while not (count := self.carried(what)):
            assert time.monotonic() < deadline, f"nothing went through the proxy as {what}:\n{self.process.log()}"
            time.sleep(0.05)
        return count


@contextmanager
def http_proxy(
    user: str | None = None, password: str | None = None, certificates: Certificates | None = None
) -> Iterator[HttpProxy]:
    """A proxy on a free port of 127.0.0.1 that lets everybody, or only ``user``, go anywhere; with certificates it is
    itself reached over TLS.
    """
    (port,) = free_ports(1)
    argv = [
        *(sys.executable, "-c", _PROGRAM),
        *("--hostname", "127.0.0.1", "--port", str(port), "--num-acceptors", "1", "--num-workers", "1"),
        *(("--basic-auth", f"{user}:{password}") if user else ()),
        *(("--cert-file", certificates.chain_file, "--key-file", certificates.key_file) if certificates else ()),
    ]
    with ServerProcess(argv) as process:
        if certificates is not None:
            process.wait_ready(lambda: certificates.handshakes(("127.0.0.1", port)))
        else:
            process.wait_ready(lambda: http_status(("127.0.0.1", port)) == 400)
        scheme = "https" if certificates else "http"
        yield HttpProxy(port=port, process=process, scheme=scheme, user=user, password=password)
