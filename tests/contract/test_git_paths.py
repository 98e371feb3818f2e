"""Some of a repository: only its blobs are sent where the server allows that, and the files are the same everywhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from contract.git_staging import archived, described, make_tree, stage
from integration.sync_driver import Sync, tree
from servers.git_http import GitHttp
from servers.repositories import commit_files, git, make_repository
from stager.config import GitOptions
from stager.errors import NotFoundError
from stager.urls import parse_source

BIG = 300_000
FILES = {
    ".gitattributes": b"*.bat text eol=crlf\n",
    "big": os.urandom(BIG),
    "other/big": os.urandom(BIG),
    "a/b/.gitattributes": b"id ident\n",
    "a/b/id": b"$Id$\n",
    "a/b/x.bat": b"x\ny\n",
    "a/b/deep/y": b"y",
    "a/c": b"c",
    "ab": b"not below a",
}


@pytest.fixture
def origin(git_server: GitHttp) -> Path:
    root = git_server.root / "r"
    make_repository(root, FILES)
    (root / "a/link").symlink_to("c")
    commit_files(root, {}, "with a link")
    git(root, "config", "uploadpack.allowFilter", "true")
    return root


def only(found: dict[str, tuple[str, bytes]], *paths: str) -> dict[str, tuple[str, bytes]]:
    return {name: one for name, one in found.items() if any(f"{name}/".startswith(f"{path}/") for path in paths)}


@pytest.mark.parametrize("paths", [("a/",), ("a/b/deep", "a/c"), ("a/b/x.bat",), ("ab", "a/b/id", "a/link")])
def test_paths_are_what_git_archive_has_there_and_nothing_else_is_sent(
    git_server: GitHttp, origin: Path, tmp_path: Path, paths: tuple[str, ...]
) -> None:
    stage(f"git+{git_server.url('r')}", tmp_path / "out", git=GitOptions(paths=paths))
    assert git_server.bytes_sent < BIG
    whole = archived(origin, "main", tmp_path / "archive")
    assert described(tmp_path / "out" / "tree") == only(whole, *(path.strip("/") for path in paths))


def test_subdirectory_is_fetched_without_the_other_blobs(git_server: GitHttp, origin: Path, tmp_path: Path) -> None:
    stage(f"git+{git_server.url('r')}#subdir=a", tmp_path / "out", git=GitOptions(paths=("b",)))
    assert git_server.bytes_sent < BIG
    assert described(tmp_path / "out" / "tree").keys() == {"b/.gitattributes", "b/id", "b/x.bat", "b/deep/y"}


def test_blobs_are_asked_for_together(git_server: GitHttp, tmp_path: Path) -> None:
    root = git_server.root / "r"
    make_repository(root, {f"d/{n}": f"{n}".encode() for n in range(500)} | {"e": b"e"})
    git(root, "config", "uploadpack.allowFilter", "true")
    stage(f"git+{git_server.url('r')}#subdir=d", tmp_path / "out")
    assert len(described(tmp_path / "out" / "tree")) == 500
    assert len(git_server.requests) < 12


@pytest.mark.parametrize("lacking", ["filters", "objects by id", "leniency"])
def test_server_that_sends_no_parts_sends_everything(
    git_server: GitHttp, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """Protocol 0 gives no objects that no ref leads to; git has no exceptions for what it judges in part."""
    if lacking == "filters":
        git(origin, "config", "uploadpack.allowFilter", "false")
    elif lacking == "objects by id":
        config = tmp_path / "gitconfig"
        config.write_text("[protocol]\n version = 0\n")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    else:
        rows = [("100644", "blob", b"ab", git(origin, "rev-parse", "main:ab"))]
        rows += [("100644", "blob", b"big", git(origin, "rev-parse", "main:big"))]
        padded = make_tree(origin, ("040000", "tree", b"a", git(origin, "rev-parse", "main:a")), *rows)
        git(origin, "update-ref", "refs/heads/main", git(origin, "commit-tree", "-m", "padded", padded))
    stage(f"git+{git_server.url('r')}", tmp_path / "out", git=GitOptions(paths=("a/c", "ab")))
    assert git_server.bytes_sent > BIG
    assert described(tmp_path / "out" / "tree") == {"a/c": ("file", b"c"), "ab": ("file", b"not below a")}


@pytest.mark.parametrize("paths", [("a/none", "a/c", "gone"), ("a/none", "gone"), ("a/none", "gone*")])
def test_paths_where_nothing_lies_are_all_named(
    git_server: GitHttp, origin: Path, tmp_path: Path, paths: tuple[str, ...]
) -> None:
    with pytest.raises(NotFoundError, match="nothing at a/none, gone") as caught:
        stage(f"git+{git_server.url('r')}", tmp_path / "out", git=GitOptions(paths=paths))
    assert (caught.value.exit_code, "no patterns" in caught.value.hint) == (3, "gone*" in paths)


def test_part_of_a_commit_that_the_node_has_is_not_fetched_again(
    git_server: GitHttp, origin: Path, tmp_path: Path
) -> None:
    commit = git(origin, "rev-parse", "main")
    stage(parse_source(f"git+{git_server.url('r')}", ref=commit), tmp_path / "out")
    git_server.forget()
    ref = parse_source(f"git+{git_server.url('r')}", ref=commit)
    stage(ref, tmp_path / "part", git=GitOptions(paths=("a",)))
    assert git_server.requests == []
    assert described(tmp_path / "part" / "tree") == only(described(tmp_path / "out" / "tree"), "a")


@pytest.fixture
def sync(git_server: GitHttp, origin: Path, tmp_path: Path) -> Sync:
    return Sync(f"git+{git_server.url('r')}", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})


def test_new_commit_brings_only_the_blobs_that_it_changed(sync: Sync, git_server: GitHttp, origin: Path) -> None:
    commit_files(origin, {"a/big": os.urandom(BIG)}, "a large one in the part")
    assert sync.run("--path", "a").code == 0
    commit_files(origin, {"a/c": b"changed"}, "later")
    git_server.forget()
    again = sync.run("--path", "a")
    assert (again.code, "fetched 1 object" in again.out) == (0, True), again
    assert git_server.bytes_sent < BIG
    assert (sync.destination / "a/c").read_bytes() == b"changed"


def test_same_commit_moves_nothing_and_what_was_damaged_is_put_right(sync: Sync, git_server: GitHttp) -> None:
    assert sync.run("--path", "a", "--path", "ab").code == 0
    whole = tree(sync.destination)
    git_server.forget()
    again = sync.run("--path", "ab", "--path", "a/")
    assert (again.code, "fetched 0 objects" in again.out, git_server.bytes_sent < 2_000) == (0, True, True), again
    (sync.destination / "a/b/x.bat").write_bytes(b"damaged")
    (sync.destination / "a/b/id").unlink()
    (sync.destination / "a/link").unlink()
    assert "fetched 3 objects" in sync.run("--path", "a", "--path", "ab").out
    assert tree(sync.destination) == whole
    receipt = json.loads((sync.destination / ".stager" / "receipt.json").read_bytes())
    assert receipt["pinned"]["paths"] == ["a", "ab"]


def test_other_paths_of_the_same_commit_are_another_tree(sync: Sync) -> None:
    assert sync.run("--path", "a/b").code == 0
    assert "fetched 1 object" in sync.run("--path", "a/b", "--path", "ab").out
