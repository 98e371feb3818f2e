"""awscrt, the C runtime under the AWS SDKs, writing to files itself. It has no listing: it is told the keys.

Connections are its own choice, by a target of 10 Gb/s (its fallback where it does not know the machine).
"""

from __future__ import annotations

from peers import Target, Task
from peers.places import driver, package_version

NAME = "awscrt"
TASKS: tuple[Task, ...] = ("copy",)


def version() -> str:
    return package_version("awscrt")


def command(target: Target) -> list[str]:
    return driver("awscrt_driver", target)


def keys_listed(output: str) -> int:
    raise ValueError("awscrt does not list")
