"""stager itself: ``stager sync``, with listing, digests, temporary names, manifest and receipt."""

from __future__ import annotations

import sys
from pathlib import Path

from peers import Target
from peers.places import first_line

NAME = "stager"
_BINARY = str(Path(sys.executable).parent / "stager")


def version() -> str:
    return first_line(_BINARY, "--version")


def command(target: Target) -> list[str]:
    return [_BINARY, "sync", target.url, target.out, "--endpoint-url", target.endpoint, "-q"]
