"""Runs `stager sync` as a user does: a process of its own, judged by exit code, output and what is on disk."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from servers.stagers import run_stager
from stager.cli.group import run

__all__ = ["KilledError", "Outcome", "Sync", "SyncHere", "run_killed_at", "tree", "wait_until"]

_PROGRAM = "import sys; from stager.cli import main; sys.exit(main())"
_WAIT_S = 60.0


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """What --json printed."""
        return [json.loads(line) for line in self.out.splitlines()]

    def event(self, name: str) -> dict[str, Any]:
        (found,) = [event for event in self.events if event["event"] == name]
        return found


@dataclass
class Sync:
    """``source`` into ``destination``, with ``environment`` on top of the test's own."""

    source: str
    destination: Path
    environment: Mapping[str, str]

    def run(self, *options: str, source: str | None = None, environment: Mapping[str, str] | None = None) -> Outcome:
        argv = ["sync", source or self.source, str(self.destination), *options]
        return Outcome(*run_stager(argv, {**os.environ, **self.environment, **(environment or {})}))

    def start(
        self,
        *options: str,
        source: str | None = None,
        environment: Mapping[str, str] | None = None,
        standard_input: int | None = None,
        argv: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """``argv``: another command line."""
        argv = argv or ["sync", source or self.source, str(self.destination), *options]
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *argv],
            env={**os.environ, **self.environment, **(environment or {})},
            stdin=standard_input,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self, process: subprocess.Popen[str], number: signal.Signals) -> Outcome:
        process.send_signal(number)
        out, err = process.communicate(timeout=_WAIT_S)
        return Outcome(process.returncode, out, err)


class SyncHere(Sync):
    """The same within this process, ten times as fast: for tests of what it does, not of how it starts and ends."""

    def run(self, *options: str, source: str | None = None, environment: Mapping[str, str] | None = None) -> Outcome:
        return self.command("sync", source or self.source, str(self.destination), *options, environment=environment)

    def command(self, *argv: str, environment: Mapping[str, str] | None = None) -> Outcome:
        """Any command line."""
        out, err = io.StringIO(), io.StringIO()
        set_here = {**self.environment, **(environment or {})}
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in set_here.items():
                patch.setenv(name, value)
            code = run(argv)
        return Outcome(code, out.getvalue(), err.getvalue())


def tree(root: Path) -> dict[str, bytes]:
    """Every file below ``root`` and its content, stager's state left out."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] != ".stager"
    }


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when it holds; TimeoutError after a minute."""
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


class KilledError(BaseException):
    """From here on this process does nothing more to the disk."""


def run_killed_at(sync: SyncHere, monkeypatch: pytest.MonkeyPatch, point: int, *options: str) -> bool:
    """Run, and be gone before the ``point``-th change of a name; whether it came to that."""
    changes = 0

    def dying(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **named: Any) -> Any:
            nonlocal changes
            changes += 1
            if changes > point:
                raise KilledError
            return change(*args, **named)

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("unlink", "rename", "rmdir"):
            patch.setattr(os, name, dying(getattr(os, name)))
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        with suppress(KilledError):
            sync.run(*options)
    return changes > point
