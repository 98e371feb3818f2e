"""The plain C loop: what the work costs at least. Digests with XXH3-128, keeps the sum of the digests only."""

from __future__ import annotations

import os

from peers import Target
from peers.places import native

NAME = "ceiling"


def version() -> str:
    os.stat(native(NAME))
    return "bench/ceiling.c"


def command(target: Target) -> list[str]:
    return [
        *(native(NAME), str(target.port), str(target.objects), str(target.object_bytes), target.prefix, target.out),
        *("--connections", str(target.connections)),
    ]
