"""Runs `stager` in the mount namespace this process lives in: imports it once, and forks for each run.

A request is a JSON line on standard input (``argv``, ``uid`` or null, ``out``: a file for both outputs); the answer is
the exit code, a line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any


def run(request: dict[str, Any]) -> None:
    """Become one `stager`; does not return."""
    code = 70
    try:
        out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, number in ((null, 0), (out, 1), (out, 2)):
            os.dup2(descriptor, number)
        os.closerange(3, 64)
        if request["uid"] is not None:
            os.setgroups([])
            os.setresgid(*[request["uid"]] * 3)
            os.setresuid(*[request["uid"]] * 3)
        code = importlib.import_module("stager.cli").main(request["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    for name in ("group", "stage", "mount", "umount", "ls", "collect", "teardown", "render"):
        importlib.import_module(f"stager.cli.{name}")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


main()
