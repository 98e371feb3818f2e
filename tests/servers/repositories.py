"""Git repositories for the tests, made by the ``git`` program with nothing of this machine's configuration.

LFS objects are put into them as pointers made by hand; whoever serves them is given the objects apart.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

__all__ = [
    "GIT_ENVIRONMENT",
    "clone_with_lfs",
    "commit_files",
    "git",
    "lfs_pointer",
    "make_lfs_repository",
    "make_repository",
]

_LFS_FILTER = {
    "filter.lfs.process": "git-lfs filter-process",
    "filter.lfs.smudge": "git-lfs smudge -- %f",
    "filter.lfs.clean": "git-lfs clean -- %f",
    "filter.lfs.required": "true",
}

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


def lfs_pointer(content: bytes) -> bytes:
    """What git holds in place of an object: git-lfs, docs/spec.md, "The Pointer"."""
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()


def make_lfs_repository(directory: Path, files: Mapping[str, bytes], objects: Mapping[str, bytes]) -> str:
    """A new repository with plain ``files`` and with pointers to ``objects``, tracked one by one; the commit's id."""
    attributes = "".join(f'"{path}" filter=lfs diff=lfs merge=lfs -text\n' for path in objects).encode()
    pointers = {path: lfs_pointer(content) for path, content in objects.items()}
    return make_repository(directory, {".gitattributes": attributes, **files, **pointers})


def clone_with_lfs(url: str, directory: Path, environment: Mapping[str, str], *options: str) -> None:
    """What users do without stager: ``git clone --depth 1``, then ``git lfs pull``. CalledProcessError has their text.

    ``options`` are more of git's, as ``-c NAME=VALUE``.
    """
    filters = [word for name, value in _LFS_FILTER.items() for word in ("-c", f"{name}={value}")]
    everything = {**os.environ, **GIT_ENVIRONMENT, **environment, "GIT_LFS_SKIP_SMUDGE": "1"}
    for argv in (["clone", "-q", "--depth", "1", url, str(directory)], ["-C", str(directory), "lfs", "pull"]):
        subprocess.run(
            ["git", *filters, *options, *argv],
            env=everything, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
