"""The control groups of this process: cgroups(7), "/proc files"."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["groups_of"]


def groups_of(controller: str, proc: str = "/proc") -> Iterator[tuple[int, str]]:
    """(version, path below its mount) of each that limits this process: its own and those above it, the root ("") too.
    In a container that is the container's own group, and a path of the host is not there. Blocks. Never raises.
    """
    try:
        with open(f"{proc}/self/cgroup", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0" and not names:
            version = 2
        elif controller in names.split(","):
            version = 1
        else:
            continue
        while path.strip("/"):
            yield version, path
            path = os.path.dirname(path)
        yield version, ""
