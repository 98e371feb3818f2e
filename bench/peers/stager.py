"""stager itself: ``stager sync``, with listing, digests, temporary names, manifest and receipt.

Connections are its own choice. It starts a worker for each core that it may run on, so a client on one core has one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from peers import GitTarget, Target, Task
from peers.places import first_line

NAME = "stager"
TASKS: tuple[Task, ...] = ("copy", "resync", "list", "git")
BINARY = str(Path(sys.executable).parent / "stager")


def version() -> str:
    return first_line(BINARY, "--version")


def command(target: Target | GitTarget) -> list[str]:
    if isinstance(target, GitTarget):
        return [BINARY, "sync", f"git+{target.url}", target.out, "-q"]
    return [BINARY, *arguments(target)]


def arguments(target: Target) -> list[str]:
    """What follows the program's name."""
    secure = ["--ca-bundle", str(target.ca_file)] if target.ca_file is not None else []
    how = ["--dry-run", "--json"] if target.task == "list" else ["-q"]
    return ["sync", target.url, target.out, "--endpoint-url", target.endpoint, *secure, *how]


def keys_listed(output: str) -> int:
    """The events are JSON lines; "listed" has the totals."""
    for line in output.splitlines():
        event = json.loads(line)
        if event["event"] == "listed":
            return int(event["total"]["objects"])
    raise ValueError("no listing was told of")
