"""A server as a child process: started on free ports, ready when it answers, ended by its process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["ServerFailedError", "ServerProcess", "console_script", "free_ports", "http_status"]

READY_WITHIN_S = 60.0
ENDS_WITHIN_S = 10.0


class ServerFailedError(RuntimeError):
    """A server ended, or did not answer in time; the text ends with its log."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free together a moment ago.

    Nothing holds them until the server binds them, so a start that fails is tried again on others.
    """
    with ExitStack() as held:
        listeners = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


def console_script(name: str) -> str:
    """Path of a program that a package installed beside this interpreter."""
    return str(Path(sys.executable).with_name(name))


def http_status(address: tuple[str, int], method: str = "GET", path: str = "/", body: bytes | None = None) -> int:
    """Status of one plain request; 0 when the answer is not HTTP. OSError: no connection."""
    connection = HTTPConnection(*address, timeout=10)
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        answer.read()
    except HTTPException:
        return 0
    else:
        return answer.status
    finally:
        connection.close()


class ServerProcess:
    """One child with its log in a temporary file. Use: ``with ServerProcess(argv) as process: ...``.

    The kernel kills the child when the thread that started it ends, so a killed test run leaves nothing behind;
    start servers from the main thread.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: str | None = None) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._name = Path(argv[0]).name
        self._child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    def log(self, most: int = 64 << 10) -> str:
        """What it printed so far, of that the last ``most`` bytes."""
        size = os.fstat(self._log.fileno()).st_size
        start = max(0, size - most)
        return os.pread(self._log.fileno(), size - start, start).decode(errors="replace")

    def wait_ready(self, answers: Callable[[], bool], within_s: float = READY_WITHIN_S) -> None:
        """Ask until ``answers`` is true. `ServerFailedError`: the process ended first, or time ran out.

        A connection error in ``answers`` counts as not yet.
        """
        deadline = time.monotonic() + within_s
        why = "it answered, but not as a ready server does"
        while time.monotonic() < deadline:
            if (status := self._child.poll()) is not None:
                raise ServerFailedError(f"{self._name} ended with status {status}\n{self.log()}")
            try:
                if answers():
                    return
            except OSError as error:
                why = str(error)
            time.sleep(0.05)
        raise ServerFailedError(f"{self._name} did not answer within {within_s:.0f} s ({why})\n{self.log()}")

    def stop(self) -> None:
        """End it: SIGTERM, SIGKILL when that is not enough. Idempotent."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(ENDS_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._log.close()

    def terminate(self) -> tuple[int, str]:
        """SIGTERM; its exit status and its log. TimeoutExpired: it did not end."""
        self._child.terminate()
        return self._child.wait(ENDS_WITHIN_S), self.log()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._child.kill()
        self._child.wait()

    def pause(self) -> None:
        """Stop it where it is: connections stay open and say nothing."""
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.poll() is None:
            self.resume()
        self.stop()
