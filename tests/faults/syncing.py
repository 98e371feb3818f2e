"""``stager sync`` as a user runs it: a process of its own, with nothing in its environment but the server."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from servers.stagers import run_stager
from stager.cli.group import run as run_command_line

__all__ = ["Synced", "receipt", "run", "run_here", "run_sync", "sync_here", "tree"]

_WITHIN_S = 90
_STATE = ".stager"


@dataclass(frozen=True, kw_only=True)
class Synced:
    """How a run ended."""

    status: int
    out: str
    err: str


def run_sync(source: str, destination: Path, environment: Mapping[str, str], *options: str) -> Synced:
    """Run it to its end. TimeoutExpired: it hung."""
    return run("sync", source, str(destination), *options, environment=environment)


def run(*arguments: str, environment: Mapping[str, str]) -> Synced:
    """Run any command of stager to its end. TimeoutExpired: it hung."""
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment}
    done = run_stager(arguments, variables, within_s=_WITHIN_S)
    return Synced(status=done.code, out=done.out, err=done.err)


def run_here(*arguments: str, environment: Mapping[str, str]) -> Synced:
    """Run a command in this process, for tests that are about what it does and not about how it ends."""
    out, err = io.StringIO(), io.StringIO()
    variables = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment}
    with (
        mock.patch.dict(os.environ, variables, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = run_command_line(arguments)
    return Synced(status=status, out=out.getvalue(), err=err.getvalue())


def sync_here(source: str, destination: Path, environment: Mapping[str, str], *options: str) -> Synced:
    """`run_sync` in this process."""
    return run_here("sync", source, str(destination), *options, environment=environment)


def tree(root: Path) -> dict[str, bytes]:
    """Every file of a destination by its path, stager's own state left out."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.relative_to(root).parts[0] != _STATE
    }


def receipt(root: Path) -> Any:
    """The receipt of the last complete sync; FileNotFoundError: there is none."""
    return json.loads((root / _STATE / "receipt.json").read_text())
