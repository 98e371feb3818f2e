"""git itself: ``git clone --depth 1``, afterwards ``git fetch --depth 1`` and a reset to what was fetched.

It keeps nothing on the node that a second clone could use. It checks the ids of what it receives, as always.
"""

from __future__ import annotations

import shlex

from peers import GitTarget, Target, Task
from peers.places import first_line

NAME = "git"
TASKS: tuple[Task, ...] = ("git",)


def version() -> str:
    return first_line("git", "version")


def command(target: Target | GitTarget) -> list[str]:
    assert isinstance(target, GitTarget)
    return ["sh", "-ec", script(target)]


def script(target: GitTarget) -> str:
    url, out = shlex.quote(target.url), shlex.quote(target.out)
    if target.step in ("cold", "second"):
        return f"git clone -q --depth 1 {url} {out}"
    return f"git -C {out} fetch -q --depth 1 origin main && git -C {out} reset -q --hard FETCH_HEAD"


def lfs_script(target: GitTarget, transfers: int) -> str:
    """`script`, and the objects after it."""
    pull = f"git -C {shlex.quote(target.out)} -c lfs.concurrenttransfers={transfers} lfs pull"
    return f"git lfs install --skip-repo > /dev/null; export GIT_LFS_SKIP_SMUDGE=1; {script(target)}; {pull}"


def keys_listed(output: str) -> int:
    raise ValueError("git is not asked to list")
