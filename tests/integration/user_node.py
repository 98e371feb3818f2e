"""A node on which an ordinary user runs stager, from a copy that every user can read."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from integration.job_driver import PROGRAM, Node, Outcome
from integration.other_user import python_for, readable_copy

__all__ = ["USER", "UserNode", "user_node"]

USER = 47012


class UserNode(Node):
    def __init__(self, root: Path, python: str, library: Path) -> None:
        super().__init__(root)
        self.python = python
        self.library = library

    def start(self, *argv: str, **environment: str) -> subprocess.Popen[str]:
        program = f"import sys; sys.path.insert(0, {str(self.library)!r}); {PROGRAM}"
        own = {"PATH": "/usr/bin:/bin", "HOME": str(self.root), "STAGER_SCRATCH": str(self.scratch)}
        return subprocess.Popen(
            [self.python, "-c", program, *argv], user=USER, group=USER, extra_groups=[], cwd=self.root, text=True,
            env={**own, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def stager(self, *argv: str, **environment: str) -> Outcome:
        with self.start(*argv, **environment) as process:
            out, err = process.communicate(timeout=60)
        return Outcome(process.returncode, out, err)

    def ask(self, *argv: str) -> Outcome:
        """Always a process of its own: this one is root."""
        return self.stager(*argv)


@contextlib.contextmanager
def user_node() -> Iterator[UserNode]:
    top = Path(tempfile.mkdtemp(prefix="stager-node-", dir="/tmp"))
    try:
        top.chmod(0o755)
        (top / "library").mkdir()
        library = readable_copy(top / "library")
        (top / "node").mkdir()
        shutil.chown(top / "node", USER, USER)
        yield UserNode(top / "node", python_for(USER, library), library)
    finally:
        shutil.rmtree(top)
