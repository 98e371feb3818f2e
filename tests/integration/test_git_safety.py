"""Nothing that a job left in its tree, or anybody in a mirror, is run: git is told what to read by stager alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from git_packs import generations, repository_mirror
from git_plant import plant
from integration.sync_driver import SyncHere, tree
from servers.git_http import GitHttp
from servers.repositories import commit_files, make_repository

PROGRAM = "import sys; from stager.cli import main; sys.exit(main())"
FILES = {".gitattributes": b"*.bat text eol=crlf\n", "readme": b"read me\n", "run.bat": b"a\nb\n", "data/a.txt": b"a\n",
         "data/deep/b.bin": bytes(range(256))}  # fmt: skip
STAGED = {**FILES, "run.bat": b"a\r\nb\r\n"}


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir(mode=0o700)
    return tmp_path / "scratch"


@pytest.fixture
def origin(git_server: GitHttp) -> Path:
    make_repository(git_server.root / "words", FILES)
    return git_server.root / "words"


@pytest.fixture
def sync(git_server: GitHttp, origin: Path, tmp_path: Path, scratch: Path) -> SyncHere:
    return SyncHere(f"git+{git_server.url('words')}/.git", tmp_path / "dst", {"STAGER_SCRATCH": str(scratch)})


def again(sync: SyncHere) -> dict[str, bytes]:
    """What the next job finds."""
    shutil.rmtree(sync.destination, ignore_errors=True)
    done = sync.run()
    assert (done.code, done.err) == (0, "")
    return tree(sync.destination)


def test_what_lies_in_a_mirror_beside_packs_and_records_is_never_read(
    sync: SyncHere, scratch: Path, origin: Path, tmp_path: Path
) -> None:
    again(sync)
    canary = tmp_path / "canary"
    for place in (scratch / "mirrors", repository_mirror(scratch), generations(scratch)[-1]):
        plant(place, canary)
        plant(place / ".git", canary)
        (place / "info").mkdir(exist_ok=True)
        (place / "info" / "alternates").write_text(f"{tmp_path}/evil/objects\n")
    assert again(sync) == STAGED
    commit_files(origin, {"data/a.txt": b"another\n"}, "second")
    assert again(sync) == {**STAGED, "data/a.txt": b"another\n"}
    assert not canary.exists()


def test_repository_planted_in_an_old_tree_runs_nothing(
    sync: SyncHere, origin: Path, tmp_path: Path
) -> None:
    """A job could write its copy: what it left there as a repository, above it or as a worktree's pointer, is none to
    stager, even when started in it.
    """
    again(sync)
    canary = tmp_path / "canary"
    for place in (sync.destination, sync.destination / "data", sync.destination / ".stager"):
        plant(place / ".git", canary)
    plant(tmp_path / ".git", canary)
    (sync.destination / "data" / "deep" / ".git").write_text(f"gitdir: {tmp_path}/.git\n")
    for name in ("readme", "run.bat"):
        (sync.destination / name).unlink()
    commit_files(origin, {"data/a.txt": b"another\n"}, "second")
    for command in (["sync", sync.source], ["sync", "--verify", sync.source], ["verify"]):
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *command, str(sync.destination)], cwd=sync.destination,
            env={**os.environ, **sync.environment}, check=True,
        )  # fmt: skip
    assert {name: data for name, data in tree(sync.destination).items() if ".git/" not in name} == {
        **STAGED, "data/a.txt": b"another\n", "data/deep/.git": f"gitdir: {tmp_path}/.git\n".encode()
    }  # fmt: skip
    assert not canary.exists()


def test_planted_repository_would_run_something(sync: SyncHere, tmp_path: Path, origin: Path) -> None:
    """That the two tests above could fail: git itself, in such a place, makes the canary."""
    canary = tmp_path / "canary"
    shutil.copytree(origin / ".git", tmp_path / "evil")
    plant(tmp_path / "evil", canary)
    subprocess.run(["git", "--git-dir", str(tmp_path / "evil"), "--work-tree", str(tmp_path), "status"], check=False)
    assert canary.exists()
