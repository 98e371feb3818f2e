"""aiobotocore on uvloop. Checks the length, and a checksum where the origin announces one that it knows."""

from __future__ import annotations

from peers import Target, Task
from peers.places import driver, figures, package_version

NAME = "aiobotocore"
TASKS: tuple[Task, ...] = ("copy", "list")


def version() -> str:
    return package_version("aiobotocore", "uvloop")


def command(target: Target) -> list[str]:
    return driver("aiobotocore_driver", target)


def keys_listed(output: str) -> int:
    return int(figures(output).get("keys", -1))
