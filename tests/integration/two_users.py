"""A node with two users and root, in a mount namespace: users, site configuration, homes and scratch of its own.

Alice and Bob are users of this node only, so everything is asked in the same way as on a real one: names and groups
of /etc/passwd and /etc/group, the site of /etc/stager/site.toml. The namespace belongs to a `cat` that ends with the
test process, and with it every mount.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiobotocore
import pytest

import stager
from integration.job_driver import Outcome

__all__ = ["ALICE", "BOB", "LAB", "SECRET_OF_ROOT", "TwoUsers", "User", "two_users"]

PROGRAM = 'import sys; sys.path.insert(0, "{}"); from stager.cli import main; sys.exit(main())'
SECRET_OF_ROOT = "only-root-knows"
"""In variables of root's stager."""

_LIMIT_S = 60


@dataclass(frozen=True)
class User:
    name: str
    uid: int


ALICE, BOB = User("alice", 47021), User("bob", 47022)
LAB = 47030
"""A group that both are in."""


class TwoUsers:
    def __init__(self, base: Path) -> None:
        self.base = base
        self.fs = base / "fs"
        self.library = base / "library"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.write(b"\n")
        self._holder.stdin.flush()
        self._holder.stdout.read(1)  # unshare is done
        self.program = PROGRAM.format(self.library)
        self._furnish()
        self.python = self._interpreter()

    def _furnish(self) -> None:
        packages, package = (Path(module.__file__ or "").parent for module in (aiobotocore, stager))
        fs, empty = self.fs, self.base / "empty"
        (empty / "stager").mkdir(parents=True)
        users = "".join(f"{user.name}:x:{user.uid}:{user.uid}::{self.home(user)}:/bin/sh\\n" for user in (ALICE, BOB))
        groups = "".join(f"{user.name}:x:{user.uid}:\\n" for user in (ALICE, BOB))
        self.root(
            "sh", "-ec",
            f"""
            mkdir {fs} {self.library}
            mount -t tmpfs -o mode=0755 tmpfs {fs}
            mkdir {fs}/etc {fs}/work {fs}/home {fs}/tmp
            mount -t overlay -o lowerdir=/etc,upperdir={fs}/etc,workdir={fs}/work overlay /etc
            mount -t overlay -o lowerdir={packages.parent}:{empty} overlay {self.library}
            mount --bind {package} {self.library}/stager
            chmod 1777 {fs}/tmp
            mount --bind {fs}/tmp /var/tmp
            mount -t tmpfs -o mode=0755 tmpfs /run
            printf '{users}' >> /etc/passwd
            printf '{groups}lab:x:{LAB}:alice,bob\\n' >> /etc/group
            mkdir -p /etc/stager
            for user in alice bob; do install -d -m 0700 -o $user -g $user {fs}/home/$user; done
            """,
        )  # fmt: skip

    def _interpreter(self) -> str:
        program = f"import sys; sys.path.insert(0, '{self.library}'); import stager.job.order, aiobotocore"
        for python in (sys.executable, os.path.realpath(sys.executable), "/usr/bin/python3"):
            if self.as_user(ALICE, f'{python} -I -c "{program}" && echo can').endswith("can\n"):
                return python
        pytest.skip("no Python with stager's dependencies that an ordinary user can execute")

    def home(self, user: User) -> Path:
        return self.fs / "home" / user.name

    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--mount"]

    def root(self, *argv: str) -> str:
        """A command of root's on this node."""
        done = subprocess.run([*self._enter(), *argv], cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def as_user(self, user: User, script: str) -> str:
        """What a shell of the user's says, also of its errors."""
        with self.popen(user, "sh", "-c", script) as process:
            return process.communicate()[0]

    def popen(self, user: User, *argv: str) -> subprocess.Popen[str]:
        """A process of the user's; its errors are in its output."""
        ids = ["setpriv", f"--reuid={user.uid}", f"--regid={user.uid}", "--init-groups"]
        argv = (*ids, "env", f"HOME={self.home(user)}", *argv)
        return subprocess.Popen([*self._enter(), *argv], cwd="/", stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def site(self, text: str) -> None:
        self.write("/etc/stager/site.toml", text)

    def write(self, path: str | Path, text: str, owner: User | None = None, mode: str = "0644") -> None:
        script = f"cat > {path} && chmod {mode} {path}" + (f" && chown {owner.name}: {path}" if owner else "")
        subprocess.run([*self._enter(), "sh", "-ec", script], input=text, text=True, check=True)

    def start(
        self, *argv: str, cwd: str = "/", through: Sequence[str] = (), stdin: int = subprocess.DEVNULL,
        **environment: str,
    ) -> subprocess.Popen[str]:
        """Root's stager; ``through``: a command of root's that executes it."""
        where = [*through, "env", f"--chdir={cwd}"]
        return subprocess.Popen(
            [*self._enter(), *where, self.python, "-I", "-c", self.program, *argv],
            env={**os.environ, "AWS_SECRET_ACCESS_KEY": SECRET_OF_ROOT, "TOKEN": SECRET_OF_ROOT, **environment},
            cwd="/", stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def stager(self, *argv: str, cwd: str = "/", through: Sequence[str] = (), **environment: str) -> Outcome:
        with self.start(*argv, cwd=cwd, through=through, **environment) as process:
            out, err = process.communicate(timeout=_LIMIT_S)
        return Outcome(process.returncode, out, err)

    def for_alice(self, *argv: str, **environment: str) -> Outcome:
        """Root's stager on Alice's behalf."""
        return self.stager("--as-user", "alice", *argv, **environment)

    def close(self) -> None:
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait()


@contextlib.contextmanager
def two_users() -> Iterator[TwoUsers]:
    base = Path(tempfile.mkdtemp(prefix="stager-users-", dir="/tmp"))
    base.chmod(0o755)
    try:
        here = TwoUsers(base)
        try:
            yield here
        finally:
            here.close()
    finally:
        shutil.rmtree(base)


