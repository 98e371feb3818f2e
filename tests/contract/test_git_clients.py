"""The tree that stager makes of a commit is the one that git makes, whichever way the repository is reached."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.git_worlds import NAME, WAYS, GitWorld, git_world
from integration.sync_driver import SyncHere
from servers.certificates import Certificates
from servers.git_ssh import git_ssh
from servers.repositories import GIT_ENVIRONMENT, commit_files, git, make_repository

Described = dict[bytes, tuple[str, bytes]]

FILES = {
    "README": b"words\n",
    "empty": b"",
    "large": bytes(range(256)) * 4096,
    "deep/er/and/deeper/leaf": b"leaf",
    "sp ace/ünï \x01 code": b"name",
    "-rf": b"option-like",
    "tool": b"#!/bin/sh\n",
    "dos.bat": b"one\ntwo\n",
    "kept.bat": b"one\r\ntwo\n",
    "id": b"$Id$\n",
    "wide.txt": "wörter\n".encode(),
    "sub/.gitattributes": b"*.bat -text\n",
    "sub/unix.bat": b"one\ntwo\n",
    ".gitattributes": b"*.bat text eol=crlf\nkept.bat -text\nid ident\nwide.txt working-tree-encoding=UTF-16LE text\n",
}
LINKS = {"link": "README", "deep/up": "../sp ace", "dangling": "nowhere", "outside": "/etc/passwd"}


def described(root: Path, state: bytes) -> Described:
    """Every file, link and directory below ``root`` but for ``state`` at its top: path to (kind, content)."""
    found: Described = {}
    top = os.fsencode(root)
    for directory, names, files in os.walk(top):
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            key = os.path.relpath(path, top)
            if stat.S_ISLNK(mode):
                found[key] = ("link", os.readlink(path))
            elif stat.S_ISDIR(mode):
                found[key] = ("directory", b"")
            else:
                found[key] = ("program" if mode & stat.S_IXUSR else "file", Path(os.fsdecode(path)).read_bytes())
    return {key: what for key, what in found.items() if key.split(b"/")[0] != state}


def cloned(world: GitWorld, directory: Path) -> Described:
    """Git's own tree."""
    environment = {**os.environ, **GIT_ENVIRONMENT, **world.environment}
    argv = ["git", "clone", "-q", "--depth", "1", world.url, str(directory)]
    subprocess.run(argv, env=environment, check=True, capture_output=True)
    return described(directory, b".git")


def archived(repository: Path, directory: Path) -> Described:
    directory.mkdir()
    out = subprocess.run(
        ["git", "-C", str(repository), "archive", "--format=tar", "main"],
        env={**os.environ, **GIT_ENVIRONMENT}, capture_output=True, check=True,
    )  # fmt: skip
    subprocess.run(["tar", "-x", "-C", str(directory)], input=out.stdout, check=True)
    return described(directory, b"")


def commit_links(repository: Path, links: dict[str, str]) -> None:
    for path, target in links.items():
        (repository / path).unlink(missing_ok=True)
        (repository / path).symlink_to(target)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "links")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repositories" / NAME
    make_repository(made, FILES)
    (made / "tool").chmod(0o755)
    commit_links(made, LINKS)
    return made


@pytest.fixture(params=WAYS)
def world(request: pytest.FixtureRequest, repository: Path, certificates: Certificates) -> Iterator[GitWorld]:
    with git_world(request.param, repository.parents[1], certificates) as served:
        yield served


def test_tree_is_the_one_of_git_clone_and_of_git_archive(world: GitWorld, repository: Path, tmp_path: Path) -> None:
    sync = SyncHere(f"git+{world.url}", tmp_path / "dst", world.environment)
    done = sync.run("-q")
    assert (done.code, done.err) == (0, "")
    found = described(tmp_path / "dst", b".stager")
    assert found == cloned(world, tmp_path / "clone")
    assert found == archived(repository, tmp_path / "archive")
    assert found[b"dos.bat"] == ("file", b"one\r\ntwo\r\n")
    assert found[b"tool"][0] == "program"


def test_next_commit_makes_the_tree_of_a_fresh_clone(world: GitWorld, repository: Path, tmp_path: Path) -> None:
    sync = SyncHere(f"git+{world.url}", tmp_path / "dst", world.environment)
    assert sync.run("-q").code == 0
    (repository / "README").chmod(0o755)
    git(repository, "rm", "-q", "large", "deep/up")
    commit_files(
        repository, {"tool": b"#!/bin/bash\n", "new/file": b"new", "sub/.gitattributes": b"", "id": b"$Id$ 2\n"}, "2"
    )
    commit_links(repository, {"link": "tool", "empty": "README"})
    done = sync.run("-q", "--delete")
    assert (done.code, done.err) == (0, "")
    found = described(tmp_path / "dst", b".stager")
    assert found == cloned(world, tmp_path / "clone")
    assert found[b"sub/unix.bat"] == ("file", b"one\r\ntwo\r\n")  # other attributes, the same blob: a reset leaves it
    assert found[b"README"][0] == "program"


@pytest.mark.parametrize("entered_with", [{"key": "stranger"}, {"hosts": "strangers"}])
def test_ssh_that_does_not_let_in_or_is_not_who_it_was_is_access_denied(
    repository: Path, tmp_path: Path, entered_with: dict[str, str]
) -> None:
    with git_ssh(repository.parents[1]) as server:
        done = SyncHere(f"git+{server.url(NAME)}", tmp_path / "dst", server.environment(**entered_with)).run("-q")
    assert done.code == 3
    assert not (tmp_path / "dst" / "README").exists()
