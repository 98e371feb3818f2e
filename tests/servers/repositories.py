"""Git repositories for the tests, made by the ``git`` program with nothing of this machine's configuration."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = ["GIT_ENVIRONMENT", "commit_files", "git", "make_repository"]

GIT_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_AUTHOR_NAME": "author",
    "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_COMMITTER_NAME": "author",
    "GIT_COMMITTER_EMAIL": "author@example.org",
}


def git(directory: Path, *arguments: str) -> str:
    """Run git in ``directory``; its output without the last newline. CalledProcessError carries its stderr."""
    return subprocess.run(
        ["git", "-C", str(directory), *arguments],
        env={**os.environ, **GIT_ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.rstrip("\n")


def make_repository(directory: Path, files: Mapping[str, bytes]) -> str:
    """A new repository with one commit on ``main``; the commit's id."""
    directory.mkdir(parents=True)
    git(directory, "init", "-q", "-b", "main")
    return commit_files(directory, files, "first")


def commit_files(directory: Path, files: Mapping[str, bytes], message: str) -> str:
    """Write files into the work tree and commit everything in it; the commit's id."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", message)
    return git(directory, "rev-parse", "HEAD")
