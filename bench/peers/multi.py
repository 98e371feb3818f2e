"""A libcurl multi loop doing the ceiling's work, signing and digesting alike: the check on the ceiling."""

from __future__ import annotations

import os

from peers import Target
from peers.places import first_line, native

NAME = "multi"


def version() -> str:
    os.stat(native(NAME))
    return "bench/multi.c, " + first_line("curl-config", "--version")


def command(target: Target) -> list[str]:
    return [
        *(native(NAME), str(target.port), str(target.objects), str(target.object_bytes), target.prefix, target.out),
        *("--connections", str(target.connections)),
    ]
