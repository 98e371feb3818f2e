"""What the tests of the Git LFS API share: a server to ask, pointers, and an environment of the user's own."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from servers.lfs_fixture import LfsFixture
from stager.config import Retry
from stager.host.git_settings import parse_settings
from stager.sources.lfs_batch import LfsServer
from stager.sources.lfs_href import Action
from stager.sources.lfs_pointer import Pointer

__all__ = ["QUICK", "User", "ask", "pointer", "pointers", "repository_of", "server"]

QUICK = Retry(attempts=3, base_s=0.001, cap_s=0.002)


class User:
    """A home directory of a test's own; ``configure`` writes its git configuration."""

    def __init__(self, home: Path, **more: str) -> None:
        home.mkdir(exist_ok=True)
        self.home = home
        self.environ = {"HOME": str(home), "PATH": os.environ["PATH"], **more}

    def configure(self, text: str) -> None:
        (self.home / ".gitconfig").write_text(text)

    def helper(self, script: str) -> None:
        """A credential helper: ``script`` gets the verb as $1 and the question on its standard input.

        Each verb and question is kept in ~/asked.
        """
        program = self.home / "helper"
        program.write_text(f'#!/bin/sh\nexec 3>>"$HOME/asked"\nquestion=$(cat)\necho "$1: $question" >&3\n{script}\n')
        program.chmod(0o755)
        with (self.home / ".gitconfig").open("a") as config:
            config.write(f"[credential]\n\thelper = {program}\n")

    def asked(self) -> str:
        """What helpers were asked and told."""
        log = self.home / "asked"
        return log.read_text() if log.exists() else ""


def pointer(content: bytes) -> Pointer:
    return Pointer(hashlib.sha256(content).hexdigest(), len(content))


def pointers(fixture: LfsFixture, contents: Iterable[bytes]) -> list[Pointer]:
    """Pointers of objects that are then there."""
    return [Pointer(fixture.add(content), len(content)) for content in contents]


def repository_of(fixture: LfsFixture) -> str:
    """The repository whose LFS server the fixture is by default."""
    return fixture.url.removesuffix("/info/lfs")


def server(git_url: str, user: User, **options: Any) -> LfsServer:
    return LfsServer(git_url, environ=user.environ, **{"retry": QUICK, **options})


def ask(
    git_url: str,
    wanted: Sequence[Pointer],
    user: User,
    *,
    names: Mapping[str, str] | None = None,
    lfsconfig: bytes = b"",
    **options: Any,
) -> dict[str, Action]:
    """One question in a loop of its own; ``lfsconfig``: of the commit."""

    async def run() -> dict[str, Action]:
        committed = await parse_settings(lfsconfig, user.environ, where=".lfsconfig of the commit")
        async with server(git_url, user, committed=committed, **options) as lfs:
            return await lfs.actions(wanted, names)

    return asyncio.run(run())
