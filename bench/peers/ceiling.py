"""The plain C loop: what the work costs at least. Digests with XXH3-128, keeps the sum of the digests only.

One thread, whatever the cores. It is told names and sizes and lists nothing.
"""

from __future__ import annotations

import os

from peers import Target, Task
from peers.places import native

NAME = "ceiling"
TASKS: tuple[Task, ...] = ("copy",)


def version() -> str:
    os.stat(native(NAME))
    return "bench/ceiling.c"


def command(target: Target) -> list[str]:
    return loop_command(NAME, target)


def loop_command(name: str, target: Target) -> list[str]:
    """The command line that ceiling and multi share."""
    shape = [str(target.objects), str(target.object_bytes), target.prefix, target.out]
    listing = ["--list", str(target.listing)] if target.object_bytes == 0 else []
    secure = ["--tls", str(target.ca_file)] if target.ca_file is not None else []
    return [native(name), str(target.port), *shape, "--connections", str(target.connections), *listing, *secure]


def keys_listed(output: str) -> int:
    raise ValueError("the ceiling does not list")
