"""Starts `stager` many times a second: imports it once, and forks for each run.

A program of its own, single-threaded so that it may fork; `model.launcher` talks to it. A request is a JSON line on
standard input; what comes back are two lines, the child's process id when it has begun and its wait status when it has
ended.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

_IMPORTED = ("stager.cli.group", "stager.cli.sync", "stager.cli.render", "stager.sources.s3", "stager.sources.local")
_STEPS = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})


def die_at_step(number: int) -> Callable[[str, Any], None]:
    """An audit hook that kills this process before its n-th step: each os.open and what changes a directory.

    Source: Python library reference, "Audit events table". `open` with a mode is the interpreter's, or a plain read.
    """
    taken = 0

    def hook(event: str, arguments: Any) -> None:
        nonlocal taken
        if event in _STEPS or (event == "open" and arguments[1] is None):
            taken += 1
            if taken == number:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook


def run(request: dict[str, Any]) -> None:
    """Become one `stager`; does not return."""
    code = 70
    try:
        out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        err = os.open(request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((null, 0), (out, 1), (err, 2)):
            os.dup2(descriptor, number)
        os.closerange(3, 64)
        os.environ.clear()
        os.environ.update(request["environment"])
        if request["die_at_step"]:
            sys.addaudithook(die_at_step(request["die_at_step"]))
        code = importlib.import_module("stager.cli").main(request["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
