"""git with git-lfs, 8 transfers at a time (its default); else as `git`.

As users are told to for many objects: no smudging while git checks out, `git lfs pull` after it. The filters are those
of `git lfs install`. It compares each object's SHA-256.
"""

from __future__ import annotations

from peers import GitTarget, Target, Task
from peers.git import lfs_script
from peers.places import first_line

NAME = "git_lfs_8"
TASKS: tuple[Task, ...] = ("git",)


def version() -> str:
    return f"{first_line('git', 'version')}, {first_line('git', 'lfs', 'version')}"


def command(target: Target | GitTarget) -> list[str]:
    assert isinstance(target, GitTarget)
    return ["sh", "-ec", lfs_script(target, transfers=8)]


def keys_listed(output: str) -> int:
    raise ValueError("git is not asked to list")
