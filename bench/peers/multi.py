"""A libcurl multi loop doing the ceiling's work, signing and digesting alike: the check on the ceiling."""

from __future__ import annotations

import os

from peers import Target, Task
from peers.ceiling import loop_command
from peers.places import first_line, native

NAME = "multi"
TASKS: tuple[Task, ...] = ("copy",)


def version() -> str:
    os.stat(native(NAME))
    return "bench/multi.c, " + first_line("curl-config", "--version")


def command(target: Target) -> list[str]:
    return loop_command(NAME, target)


def keys_listed(output: str) -> int:
    raise ValueError("the libcurl loop does not list")
