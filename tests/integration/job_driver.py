"""Runs the job commands as a user does: a process of its own, judged by exit code, output and what is on disk."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from servers.stagers import run_stager
from stager.cli.group import run

__all__ = ["PROGRAM", "Node", "Outcome"]

PROGRAM = "import sys; from stager.cli import main; sys.exit(main())"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    def event(self, name: str) -> dict[str, Any]:
        """The one JSON event of this name on stdout."""
        lines = [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]
        (found,) = [line for line in lines if line["event"] == name]
        return found


@dataclass
class Node:
    """A scratch directory, and a place for job files and sources beside it."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    def start(self, *argv: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *argv],
            env={**os.environ, "STAGER_SCRATCH": str(self.scratch), **self.environment, **environment},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stager(self, *argv: str, **environment: str) -> Outcome:
        variables = {**os.environ, "STAGER_SCRATCH": str(self.scratch), **self.environment, **environment}
        return Outcome(*run_stager(argv, variables, cwd=str(self.root)))

    def ask(self, *argv: str) -> Outcome:
        """A command that only looks, in this process: a process of its own takes longer than all that it does."""
        out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
        environment = {"STAGER_SCRATCH": str(self.scratch), **self.environment}
        with (
            mock.patch.dict(os.environ, environment), contextlib.chdir(self.root),
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        ):  # fmt: skip
            code = run(argv)
        out.flush()
        return Outcome(code, out.buffer.getvalue().decode(), err.getvalue())  # type: ignore[attr-defined]

    def write_job(self, text: str, name: str = "JOB.toml") -> str:
        (self.root / name).write_text(f'version = 1\n[job]\nname = "job"\n{text}')
        return name

    def tree(self, job: str) -> Path:
        return self.scratch / "jobs" / job / "tree"

    def receipt(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.scratch / "jobs" / job / "receipt.json").read_text())
        return found

    def state(self, job: str) -> str:
        """What `stager ls` says of a job; empty when it does not know it."""
        lines = self.ask("ls", "--all", "--json").out.splitlines()
        states = {record["id"]: record["state"] for record in map(json.loads, lines)}
        return states.get(job, "")
