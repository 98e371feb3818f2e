"""A node to mount in: a mount namespace whose root is a small tmpfs with the host's directories below it, all shared.

Shared as systemd has it: what is mounted here shows whether it is kept from where it does not belong. /run is its own,
and /data, /public, /code and the like are missing. It belongs to a `cat` that ends with the test process.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from integration.other_user import python_for, readable_copy

__all__ = ["USER", "OwnRoot", "Told", "own_root"]

USER = 65534
"""nobody: an account that every node has."""
_ZYGOTE = Path(__file__).with_name("own_root_zygote.py")

_MAKE = r"""
set -e
mount -t tmpfs -o mode=0755 root "$1"
cd "$1"
for top in $(ls /); do
    if [ -L "/$top" ]; then cp -P "/$top" .
    elif [ "$top" = run ] || [ "$top" = mnt ]; then mkdir "$top"
    elif [ -d "/$top" ]; then
        case "$top" in data|public|code|logs|task*) ;; *) mkdir "$top"; mount --rbind "/$top" "$top";; esac
    fi
done
mount -t tmpfs -o mode=0755 run run
mkdir old
mount --make-rprivate .
pivot_root . old
cd /
umount -l old
rmdir old
mount --make-rshared /
exec cat
"""


class Told(NamedTuple):
    """How a stager ended, and all that it said."""

    code: int
    text: str


class OwnRoot:
    """``run`` and ``sh`` work in it, and ``stager``; ``python`` and ``library`` are those of every user.

    It must come from a directory that every user can pass.
    """

    def __init__(self, root: str, library: Path) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _MAKE, "sh", root],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.write(b"\n")  # what cat answers proves that the root is made
        self._holder.stdin.flush()
        assert self._holder.stdout.read(1) == b"\n"
        self.library = library
        self.python = python_for(USER, library)
        self._out = f"{root}.out"
        self._zygote = subprocess.Popen(
            self.enter("env", f"PYTHONPATH={library}", self.python, str(_ZYGOTE)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def enter(self, *argv: str) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--mount", *argv]

    def run(self, *argv: str, user: int | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command as root, or as ``user``."""
        become = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        done = subprocess.run(self.enter(*become, *argv), capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done

    def sh(self, script: str, *arguments: str) -> str:
        return self.run("sh", "-ec", script, "sh", *arguments).stdout

    def stager(self, *argv: str, user: int | None = None) -> Told:
        """As root, or as ``user``."""
        assert self._zygote.stdin is not None and self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps({"argv": argv, "uid": user, "out": self._out}) + "\n")
        self._zygote.stdin.flush()
        code = int(self._zygote.stdout.readline())
        return Told(code, Path(self._out).read_text())

    def mounted(self) -> list[str]:
        """The mount points, in the order of the table."""
        rows = Path(f"/proc/{self._holder.pid}/mountinfo").read_text().splitlines()
        return [row.split()[4] for row in rows]

    def close(self) -> None:
        for process in (self._zygote, self._holder):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()
            process.wait()


@contextmanager
def own_root() -> Iterator[OwnRoot]:
    """Only root can have one."""
    if os.geteuid() != 0:
        pytest.skip("playing host takes root")
    with tempfile.TemporaryDirectory(prefix="stager-root-") as directory:
        os.chmod(directory, 0o755)
        os.mkdir(f"{directory}/root")
        root = OwnRoot(f"{directory}/root", readable_copy(Path(directory, "library")))
        try:
            yield root
        finally:
            root.close()
