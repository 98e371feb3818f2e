"""obstore: Rust's object_store under Python. Checks nothing of a download but its length.

Listing in pages of 1,000 (its default of 50 costs a third more), 8 objects or parts at once.
"""

from __future__ import annotations

from peers import Target, Task
from peers.places import driver, figures, package_version

NAME = "obstore"
TASKS: tuple[Task, ...] = ("copy", "list")


def version() -> str:
    return package_version("obstore")


def command(target: Target) -> list[str]:
    return driver("obstore_driver", target)


def keys_listed(output: str) -> int:
    return int(figures(output).get("keys", -1))
