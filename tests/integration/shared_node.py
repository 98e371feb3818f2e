"""Several stagers on one node: a site's configuration of the test's own, and a bucket that answers when it is told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from integration.sync_driver import Outcome
from stager.host.board import Board, Claimed, Record, Taking
from unit.scripted_http import Request, ScriptedServer, response

__all__ = ["Gated", "Site", "another_user", "moving"]

_PROGRAM = """
import sys
from stager.host import scratch, site
site.SITE_FILE, scratch.DEFAULT_TOP = sys.argv.pop(1), sys.argv.pop(1)
from stager.cli import main
sys.exit(main())
"""
_WAIT_S = 60


@dataclass
class Gated:
    """Objects below any prefix, alike: ``names`` of ``size`` bytes. Those that are not ``open`` wait for `open_all`."""

    names: Sequence[str]
    size: int
    listings: threading.Barrier | None = None  # as many wait for one another
    opened: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    server: ScriptedServer | None = None
    _gate: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: Request, connection: socket.socket) -> None:
        prefix, _, name = request.path.removeprefix("/bucket/").rpartition("/")
        if "list-type=2" in request.path:
            if self.listings is not None:
                self.listings.wait(_WAIT_S)
            prefix = request.path.partition("prefix=")[2].partition("&")[0].replace("%2F", "/").strip("/")
            rows = "".join(
                f"<Contents><Key>{prefix}/{each}</Key><Size>{self.size}</Size><ETag>&quot;e&quot;</ETag></Contents>"
                for each in self.names
            )
            connection.sendall(
                response(f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode())
            )
            return
        self.asked.append(f"{prefix}/{name}")
        if name not in self.opened:
            self._gate.wait(_WAIT_S)
        connection.sendall(response(self.content(name)))

    def content(self, name: str) -> bytes:
        return (name.encode() * self.size)[: self.size]

    def open_all(self) -> None:
        self._gate.set()

    @property
    def tree(self) -> dict[str, bytes]:
        return {name: self.content(name) for name in self.names}


@dataclass
class Site:
    """``text`` is its site.toml, ``top`` its /var/tmp. Every stager is a process of its own."""

    root: Path
    text: str
    port: int = 0
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.driver.write_text(_PROGRAM)
        self.top.mkdir()
        self.top.chmod(0o1777)
        self.says(self.text)

    def says(self, text: str) -> Site:
        """From now on."""
        self.text = text
        self.file.write_text(text)
        return self

    @property
    def file(self) -> Path:
        return self.root / "site.toml"

    @property
    def driver(self) -> Path:
        return self.root / "driver.py"

    @property
    def top(self) -> Path:
        return self.root / "top"

    @property
    def argv(self) -> list[str]:
        """Of a stager that takes this for the site's configuration."""
        return [sys.executable, str(self.driver), str(self.file), str(self.top)]

    def start(self, *argv: str) -> subprocess.Popen[str]:
        aws = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }  # fmt: skip
        process = subprocess.Popen(
            [*self.argv, *argv], env={**os.environ, "PYTHONPATH": os.getcwd(), **aws}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> Outcome:
        with process:
            out, err = process.communicate(timeout=_WAIT_S)
        return Outcome(process.returncode, out, err)

    def claims_of(self, process: subprocess.Popen[str]) -> list[Claimed]:
        """What it has reserved, where the site says nothing."""
        directory = self.top / f"stager-{os.geteuid()}" / "node"
        if not directory.exists():
            return []
        board = Board(str(directory))
        records = [record for record in board.look() if record.who.pid == process.pid]
        board.close()
        return [record.says for record in records if isinstance(record.says, Claimed)]

    def end_all(self) -> None:
        """Those that a test which failed left running."""
        for process in self.started:
            if process.returncode is None:
                process.kill()
                self.end(process)

    def stager(self, *argv: str) -> Outcome:
        return self.end(self.start(*argv))


def moving(directory: Path) -> list[tuple[Record, Taking]]:
    """Who says that it moves data."""
    return [(each, each.says) for each in Board(str(directory)).look() if isinstance(each.says, Taking)]


@contextmanager
def another_user(uid: int, work: Callable[[], object], *, again_s: float = 3600.0) -> Iterator[int]:
    """A process of this user that has done ``work``, does it again now and then, and stays until the end."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            work()
            os.write(told, b"x")
            while True:
                time.sleep(again_s)
                work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(told)
    try:
        assert os.read(ready, 1) == b"x"
        yield pid
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
