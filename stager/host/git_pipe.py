"""`git` as a child of a thread, on a repository of our own: native code reads what it writes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Final, Self

from stager.errors import HostError
from stager.host.git import GitFailure, local_command
from stager.host.git_limits import limited

__all__ = ["GitPipe"]

_TAIL_BYTES: Final = 16 << 10


class GitPipe:
    """One command. Use it in a ``with``, in one thread; `stop` may be called from another."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], stdin: bytes) -> None:
        """``environment``: of `local_environment`."""
        self._arguments = arguments
        self._environment = dict(environment)
        self._stdin = stdin
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._is_stopped = False

    def __enter__(self) -> Self:
        """Start it. What it is told lies in memory, so neither side ever waits for the other. `HostError`: no git."""
        with os.fdopen(os.memfd_create("stdin"), "w+b") as told:
            told.write(self._stdin)
            told.seek(0)
            self._said = os.fdopen(os.memfd_create("stderr"), "w+b")
            try:
                self._process = subprocess.Popen(
                    limited(local_command(*self._arguments), self._environment),
                    stdin=told, stdout=subprocess.PIPE, stderr=self._said,
                    env=self._environment, cwd="/", start_new_session=True, bufsize=0,
                )  # fmt: skip
            except BaseException as error:
                self._said.close()
                if isinstance(error, FileNotFoundError):
                    raise HostError("git is not installed", hint="install git 2.30 or later") from None
                raise
        if self._is_stopped:
            self.stop()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait for its end, which is now when an error leaves; else `GitFailure` for a status that is no success."""
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._said is not None
        with self._said, self._process.stdout:
            if kind is not None:
                self.stop()
            status = self._process.wait()
            self._said.seek(max(0, os.fstat(self._said.fileno()).st_size - _TAIL_BYTES))
            said = self._said.read().decode("utf-8", "replace")
        if status != 0 and kind is None:
            raise GitFailure(status, said)

    def fileno(self) -> int:
        """Where to read what it writes."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def stop(self) -> None:
        """End it, or do not let it begin; whoever reads from it finds the end."""
        self._is_stopped = True
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
