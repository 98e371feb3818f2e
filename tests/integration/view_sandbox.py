"""A mount namespace to play host in: a shared tmpfs with public, live and scratch directories anyone may write to.

Everybody may write so that what stops an attack is the view and not the permissions. The namespace belongs to a
`cat` that ends with the test process, and with it every mount.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

USER = 47011
PRINCIPALS = ("root", "user", "as-user")
"""Who starts stager, and whose the job is: "as-user" is root's stager on behalf of the user."""

_OF_USER = """
import runpy, sys
base, channel, allowed, program, *rest = sys.argv[1:]
sys.path.insert(0, base)
from stager.host import allowed_sources, brokered
from stager.host.principal_settings import PrincipalSettings
brokered.connect(int(channel))
allowed_sources.site_principals = lambda: PrincipalSettings(allowed_binds=(allowed,), allowed_public=(allowed,))
sys.argv = [program, *rest]
runpy.run_path(program)
"""
_FOR_USER = """
import sys
base, uid, allowed, of_user, *rest = sys.argv[1:]
sys.path.insert(0, base)
from stager.host import broker, broker_register
from stager.host.principal import Principal
from stager.host.principal_settings import PrincipalSettings
broker.site_principals = lambda: PrincipalSettings(allowed_binds=(allowed,), allowed_public=(allowed,))
broker._BOOT = of_user
broker_register.DIRECTORY = f"{allowed}/keepers"
user = Principal(int(uid), int(uid), (int(uid),), "user", "/", "/bin/sh")
sys.exit(broker.run_as(user, [allowed, *rest], {}))
"""
HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.join(os.path.dirname(os.path.dirname(HERE)), "stager")
CANARY = "untouched\n"


@dataclass
class Outcome:
    info: dict[str, Any]
    out: str
    err: str


class Sandbox:
    def __init__(self, base: str, principal: str) -> None:
        self.base = base
        self.principal = principal
        self.fs = f"{base}/fs"
        self.public = f"{self.fs}/public/imagenet"
        self.live = f"{self.fs}/live"
        self.scratch = f"{self.fs}/scratch"
        self.job = f"{self.scratch}/job-1"
        self.canary = f"{self.public}/train.txt"
        self.uid = 0 if principal == "root" else USER
        self.library = _library()
        self.python = _interpreter(self.uid, self.library)
        self.count = 0
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._greet()
        self._furnish()

    def _greet(self) -> None:
        """What cat answers proves that unshare is done."""
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.write(b"\n")
        self._holder.stdin.flush()
        self._holder.stdout.read(1)

    def _furnish(self) -> None:
        os.mkdir(self.fs)
        self.host("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", self.fs)
        self.host("mount", "--make-shared", self.fs)
        for directory in (
            self.public,
            f"{self.public}/sub",
            f"{self.public}/later",
            self.live,
            f"{self.job}/data/mnist",
            f"{self.job}/code",
            f"{self.job}/logs",
            f"{self.scratch}/job-2/data",
        ):
            self.host("mkdir", "-p", directory)
        self.host("sh", "-c", f"printf '{CANARY}' | tee {self.canary} > {self.scratch}/job-2/data/secret")
        self.open_up()

    def open_up(self) -> None:
        self.host("chmod", "-R", "a+rwX", self.fs)
        if self.principal == "as-user":  # whose staged trees are the user's own
            self.host("chown", "-R", str(self.uid), self.scratch)

    def close(self) -> None:
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait()

    def enter(self, *argv: str) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--mount", *argv]

    def host(self, *argv: str) -> str:
        """Run a command as the host's root, beside the view."""
        done = subprocess.run(self.enter(*argv), capture_output=True, text=True)
        assert done.returncode == 0 or argv[0] == "grep", done.stderr
        return done.stdout

    def driver(self, *argv: str) -> list[str]:
        """The process of the principal's that does what stager does; with root's part of it where there is one."""
        if self.principal != "as-user":
            return self.as_principal(self.python, "-I", *argv)
        return self.enter(self.python, "-I", "-c", _FOR_USER, self.library, str(self.uid), self.base, _OF_USER, *argv)

    def as_principal(self, *argv: str) -> list[str]:
        if self.uid == 0:
            return self.enter(*argv)
        ids = [f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        return self.enter("setpriv", *ids, *argv)

    def mounts(self) -> list[dict[str, Any]]:
        return [
            {"kind": "copy", "source": f"{self.job}/data/mnist", "target": "/data/alice/mnist"},
            {"kind": "copy", "source": f"{self.job}/code", "target": "/code"},
            {"kind": "bind", "source": self.live, "target": "/data/lab/scans"},
            {"kind": "public", "source": self.public, "target": "/public/imagenet"},
            {"kind": "own", "source": f"{self.job}/logs", "target": "/logs"},
        ]

    def all_mounts(self) -> list[dict[str, Any]]:
        """Those of a job that has everything; what is made for them is made here."""
        own = {"task": "/task", "tmp": "/task_tmp", "local": "/mnt/local_storage"}
        kept = f"{self.scratch}/cache/tree"
        self.host("mkdir", "-p", kept, *(f"{self.job}/{below}" for below in own))
        self.host("cp", self.canary, kept)
        self.open_up()
        mounts = [{"kind": "own", "source": f"{self.job}/{below}", "target": target} for below, target in own.items()]
        mounts.append({"kind": "copy", "source": kept, "target": "/data/kept/tree", "read_only": True})
        return [*self.mounts(), *mounts]

    def start(
        self,
        *argv: str,
        environment: Mapping[str, str] | None = None,
        workdir: str = "/",
        mounts: Sequence[dict[str, Any]] | None = None,
        stdin: Any = subprocess.PIPE,
        **extra: Any,
    ) -> Run:
        self.count += 1
        asked = {
            "package": self.library,
            "argv": list(argv),
            "environment": {"PATH": "/usr/bin:/bin"} if environment is None else dict(environment),
            "workdir": workdir,
            "mounts": self.mounts() if mounts is None else list(mounts),
            "masked": [self.scratch],
            "inherit": [],
            "rename": [],
            "symlink": [],
            "mkdir": [],
            **extra,
        }
        question, answer = f"{self.base}/results/{self.count}.in", f"{self.base}/results/{self.count}.out"
        with open(question, "w", encoding="utf-8") as file:
            json.dump(asked, file)
        os.chmod(question, 0o644)
        driver = subprocess.Popen(
            self.driver(f"{self.library}/view_driver.py", question, answer),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Run(driver, answer)

    def run(self, *argv: str, **options: Any) -> Outcome:
        return self.start(*argv, **options).finish()

    def attack(self, name: str, *arguments: str, **options: Any) -> dict[str, str]:
        """What each attempt of `view_attacker` met: an errno's name, or "done"."""
        outcome = self.run(*self.attacker(name, *arguments), **options)
        assert outcome.info.get("status") == 0, (outcome.info, outcome.err)
        met: dict[str, str] = json.loads(outcome.out)
        return met

    def attacker(self, name: str, *arguments: str) -> list[str]:
        return [self.python, "-I", "-S", f"{self.library}/view_attacker.py", name, *arguments]

    def assert_untouched(self) -> None:
        assert self.host("cat", self.canary) == CANARY
        assert self.host("cat", f"{self.scratch}/job-2/data/secret") == CANARY


class Run:
    """A driver that was started: `finish` waits for it."""

    def __init__(self, driver: subprocess.Popen[str], answer: str) -> None:
        self.driver = driver
        self._answer = answer

    def line(self) -> str:
        assert self.driver.stdout is not None
        line = self.driver.stdout.readline().strip()
        assert line, self.finish()
        return line

    def drain(self) -> None:
        """Read to the end of the output, which comes with the end of the job; standard input stays open."""
        assert self.driver.stdout is not None
        self.driver.stdout.read()

    def say(self, text: str = "") -> None:
        assert self.driver.stdin is not None
        self.driver.stdin.write(text + "\n")
        self.driver.stdin.flush()

    def finish(self) -> Outcome:
        out, err = self.driver.communicate()
        with open(self._answer, encoding="utf-8") as file:
            return Outcome(json.load(file), out, err)


@functools.cache
def _library() -> str:
    """Stager's own modules, what they import and the programs of these tests, where every user can read them.

    Made once: a checkout may lie where only its owner can reach it.
    """
    top = tempfile.mkdtemp(prefix="stager-view-library-", dir="/tmp")
    atexit.register(shutil.rmtree, top, ignore_errors=True)
    shutil.copytree(PACKAGE, f"{top}/stager", ignore=lambda _, names: [name for name in names if _is_foreign(name)])
    shutil.copytree(os.path.dirname(msgspec.__file__), f"{top}/msgspec")
    for name in ("view_driver.py", "view_attacker.py"):
        shutil.copy(os.path.join(HERE, name), top)
    subprocess.run(["chmod", "-R", "a+rX", top], check=True)
    return top


@functools.cache
def _interpreter(uid: int, library: str) -> str:
    """A Python that this uid can execute and that loads what lies in ``library``.

    A virtual environment may rest on one in another user's home.
    """
    program = f"import ctypes, sys; sys.path.insert(0, {library!r}); import msgspec"
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            probe = subprocess.run(
                [python, "-I", "-S", "-c", program],
                user=uid,
                group=uid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
            )
        except OSError:
            continue
        if probe.returncode == 0:
            subprocess.run([python, "-I", "-S", "-m", "compileall", "-q", library], check=True)
            return python
    pytest.skip(f"no Python like this one that uid {uid} can execute")


@contextlib.contextmanager
def sandbox(principal: str) -> Iterator[Sandbox]:
    if os.geteuid() != 0:
        pytest.skip("playing host takes root")
    base = tempfile.mkdtemp(prefix="stager-view-", dir="/tmp")
    try:
        os.chmod(base, 0o755)
        os.mkdir(f"{base}/results")
        os.chmod(f"{base}/results", 0o777)
        here = Sandbox(base, principal)
        try:
            yield here
        finally:
            here.close()
    finally:
        shutil.rmtree(base)


def _is_foreign(name: str) -> bool:
    return ("." in name and not name.endswith(".py")) or name == "__pycache__"
