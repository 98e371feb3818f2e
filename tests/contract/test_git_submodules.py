"""Submodules: part of the tree where they are wanted, at their pinned commits, as `git clone --recursive` has them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from contract.git_staging import described, stage
from integration.sync_driver import Sync, tree
from servers.git_http import GitHttp, git_http
from servers.repositories import GIT_ENVIRONMENT, commit_files, git, make_repository
from stager.config import GitOptions
from stager.errors import AccessDeniedError, BadKeysError, NotFoundError

ALL = GitOptions(submodules=True)
Described = dict[str, tuple[str, bytes]]


def add_submodule(repository: Path, path: str, url: str, commit: str, *, more: str = "") -> None:
    """As `git submodule add` records it, without fetching it."""
    modules = repository / ".gitmodules"
    old = modules.read_bytes() if modules.exists() else b""
    text = f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n{more}'
    modules.write_bytes(old + text.encode())
    git(repository, "add", ".gitmodules")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    git(repository, "commit", "-q", "-m", f"submodule {path}")


def cloned(url: str, root: Path) -> Described:
    subprocess.run(
        ["git", "-c", "protocol.file.allow=always", "clone", "-q", "--recursive", url, str(root)],
        env={**os.environ, **GIT_ENVIRONMENT}, check=True,
    )  # fmt: skip
    return {name: one for name, one in described(root).items() if ".git" not in name.split("/")}


@pytest.fixture
def forest(git_server: GitHttp) -> Path:
    """``super`` with ``vendor/one`` (which has ``deep/two``) and ``three``; ``one`` has moved on since."""
    root = git_server.root
    two = make_repository(root / "group/two", {"two": b"2", "x/y": b"y"})
    pinned = make_repository(root / "group/one", {"one": b"1\n", ".gitattributes": b"one eol=crlf\n"})
    add_submodule(root / "group/one", "deep/two", "../two", two)
    pinned = git(root / "group/one", "rev-parse", "HEAD")
    commit_files(root / "group/one", {"one": b"moved on"}, "later")
    three = make_repository(root / "three", {"3": b"three"})
    make_repository(root / "super", {"top": b"t\n", ".gitattributes": b"* eol=crlf\n"})
    add_submodule(root / "super", "vendor/one", "../group/one", pinned)
    add_submodule(root / "super", "three", git_server.url("three"), three)
    return root


def test_tree_is_the_one_of_a_recursive_clone(git_server: GitHttp, forest: Path, tmp_path: Path) -> None:
    snapshot, entries = stage(f"git+{git_server.url('super')}", tmp_path / "out", git=ALL)
    found = described(tmp_path / "out" / "tree")
    assert found == cloned(git_server.url("super"), tmp_path / "clone")
    assert found["vendor/one/deep/two/x/y"] == ("file", b"y")
    assert found["vendor/one/one"] == ("file", b"1\r\n")
    assert {entry.grade for entry in entries.values()} == {"A"}
    told = {one["path"]: (one["commit"], one["url"]) for one in snapshot.pinned["submodules"]}
    assert told == {
        "three": (git(forest / "three", "rev-parse", "HEAD"), git_server.url("three")),
        "vendor/one": (git(forest / "group/one", "rev-parse", "HEAD~1"), git_server.url("group/one")),
        "vendor/one/deep/two": (git(forest / "group/two", "rev-parse", "HEAD"), git_server.url("group/two")),
    }


def test_repositories_of_this_disk_have_submodules_too(forest: Path, tmp_path: Path) -> None:
    add_submodule(forest / "super", "by-path", str(forest / "three"), git(forest / "three", "rev-parse", "HEAD"))
    git(forest / "super", "rm", "-q", "--cached", "three")
    git(forest / "super", "commit", "-q", "-m", "without the one by http")
    stage(f"git+file://{forest}/super", tmp_path / "out", git=ALL)
    assert described(tmp_path / "out" / "tree") == cloned(f"file://{forest}/super", tmp_path / "clone")


def test_submodules_that_nobody_asked_for_are_left_out_and_named(
    git_server: GitHttp, forest: Path, tmp_path: Path
) -> None:
    sync = Sync(f"git+{git_server.url('super')}", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    for _ in range(2):  # the second run lists nothing
        done = sync.run()
        assert done.code == 0
        assert "submodules are left out: three, vendor/one; --submodules brings them" in done.err
        receipt = json.loads((sync.destination / ".stager" / "receipt.json").read_bytes())
        assert receipt["pinned"]["submodules_left_out"] == ["three", "vendor/one"]
    assert tree(sync.destination).keys() == {"top", ".gitattributes", ".gitmodules"}


def test_submodule_that_its_authors_do_not_update_is_left_out(git_server: GitHttp, tmp_path: Path) -> None:
    one = make_repository(git_server.root / "one", {"1": b"1"})
    make_repository(git_server.root / "super", {"top": b"t"})
    add_submodule(git_server.root / "super", "one", "../one", one, more="\tupdate = none\n")
    snapshot, _ = stage(f"git+{git_server.url('super')}", tmp_path / "out", git=ALL)
    assert snapshot.pinned["submodules_left_out"] == ["one"]
    assert described(tmp_path / "out" / "tree") == cloned(git_server.url("super"), tmp_path / "clone")


@pytest.mark.parametrize(
    ("paths", "wanted"),
    [
        (("vendor/one/deep",), {"vendor/one/deep/two/two", "vendor/one/deep/two/x/y"}),
        (("vendor/one/deep/two/x", "top"), {"vendor/one/deep/two/x/y", "top"}),
        (("three",), {"three/3"}),
    ],
)
def test_paths_lead_into_submodules(
    git_server: GitHttp, forest: Path, tmp_path: Path, paths: tuple[str, ...], wanted: set[str]
) -> None:
    stage(f"git+{git_server.url('super')}", tmp_path / "out", git=GitOptions(submodules=True, paths=paths))
    assert described(tmp_path / "out" / "tree").keys() == wanted


@pytest.mark.parametrize(
    ("subdir", "wanted"),
    [("vendor", {"one/one", "one/.gitattributes", "one/.gitmodules", "one/deep/two/two", "one/deep/two/x/y"}),
     ("vendor/one/deep/two", {"two", "x/y"}), ("vendor/one/deep/two/x", {"y"})],
)  # fmt: skip
def test_subdirectory_may_be_one_or_lie_in_one(
    git_server: GitHttp, forest: Path, tmp_path: Path, subdir: str, wanted: set[str]
) -> None:
    sync = Sync(f"git+{git_server.url('super')}#subdir={subdir}", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    assert sync.run("--submodules").code == 0
    assert tree(sync.destination).keys() == wanted
    for name in wanted:
        (sync.destination / name).unlink()
    assert f"fetched {len(wanted)} object" in sync.run("--submodules").out
    assert tree(sync.destination).keys() == wanted


def test_what_lies_in_a_submodule_is_not_there_without_submodules(
    git_server: GitHttp, forest: Path, tmp_path: Path
) -> None:
    for source, paths in (("", ("vendor/one/one",)), ("#subdir=vendor/one", ()), ("#subdir=three/x", ())):
        with pytest.raises(NotFoundError, match=r"in the submodule (vendor/one|three).*--submodules"):
            stage(f"git+{git_server.url('super')}{source}", tmp_path / "out", git=GitOptions(paths=paths))


def test_second_run_asks_no_submodule_and_mends_what_was_damaged(
    git_server: GitHttp, forest: Path, tmp_path: Path
) -> None:
    sync = Sync(f"git+{git_server.url('super')}", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path / "scratch")})
    assert sync.run("--submodules").code == 0
    whole = tree(sync.destination)
    git_server.forget()
    again = sync.run("--submodules")
    assert (again.code, again.err, "fetched 0 objects" in again.out) == (0, "", True)
    assert not [path for _, path in git_server.requests if "/super" not in path]
    (sync.destination / "vendor/one/one").write_bytes(b"damaged")
    (sync.destination / "vendor/one/deep/two/two").unlink()
    assert "fetched 2 objects" in sync.run("--submodules").out
    assert tree(sync.destination) == whole
    verified = sync.start(argv=["verify", "--repair", str(sync.destination)])
    assert verified.communicate()[1] == ""
    assert verified.returncode == 0


def test_what_is_missing_or_denied_is_named_all_at_once(git_server: GitHttp, forest: Path, tmp_path: Path) -> None:
    add_submodule(forest / "super", "gone/repository", "../nowhere", "d" * 40)
    add_submodule(forest / "super", "gone/commit", "../three", "e" * 40)
    with pytest.raises(NotFoundError) as caught:
        stage(f"git+{git_server.url('super')}", tmp_path / "out", git=ALL)
    assert "in the submodule gone/repository: " in str(caught.value)
    assert "in the submodule gone/commit: " in str(caught.value)
    assert described(tmp_path / "out" / "tree") == {}


def test_password_of_one_host_is_not_sent_to_another(
    git_server: GitHttp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    with git_http(tmp_path / "other") as other:
        one = make_repository(other.root / "one", {"1": b"1"})
        two = make_repository(git_server.root / "two", {"2": b"2"})
        make_repository(git_server.root / "super", {"top": b"t"})
        add_submodule(git_server.root / "super", "two", "../two", two)
        add_submodule(git_server.root / "super", "one", other.url("one"), one)
        git_server.credentials, other.credentials = ("alice", "hunter2"), ("bob", "swordfish")
        config = tmp_path / "gitconfig"
        helper = "!f() { echo username=alice; echo password=hunter2; }; f"
        config.write_text(f'[credential "{git_server.base_url}"]\n helper = "{helper}"\n')
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
        with pytest.raises(AccessDeniedError, match="in the submodule one: ") as caught:
            stage(f"git+{git_server.url('super')}", tmp_path / "out", git=ALL)
        assert other.requests
        assert other.authorizations == []
        assert "hunter2" not in str(caught.value)
        other.credentials = None
        stage(f"git+{git_server.url('super')}", tmp_path / "out2", git=ALL)
        assert other.authorizations == []
    assert described(tmp_path / "out2" / "tree").keys() == {"top", ".gitmodules", "one/1", "two/2"}


def test_urls_that_are_not_followed_are_all_named_before_anything_is_fetched(
    git_server: GitHttp, tmp_path: Path
) -> None:
    """Git's own fsck refuses some of them; here they lie in a commit that it lets pass."""
    origin = git_server.root / "super"
    commit = make_repository(origin, {"top": b"t"})
    canary = tmp_path / "canary"
    for number, bad in enumerate(
        [f"ext::sh -c touch% {canary}", "git://host/x", "/etc", "https://alice@host/x", "http://10.0.0.1/x"]
    ):
        add_submodule(origin, f"s{number}", bad, commit)
    git_server.forget()
    with pytest.raises(BadKeysError) as caught:
        stage(f"git+{git_server.url('super')}", tmp_path / "out", git=ALL)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["s0", "s1", "s2", "s3", "s4"]
    assert not canary.exists()
    assert "alice" not in str(caught.value)
    assert not [path for _, path in git_server.requests if "/super" not in path]


def test_submodule_of_itself_without_end_is_refused(git_server: GitHttp, tmp_path: Path) -> None:
    """As deep as its history is: each commit has the one before as a submodule."""
    origin = git_server.root / "super"
    commit = make_repository(origin, {"top": b"t"})
    add_submodule(origin, "inner", "./../super", commit)
    for _ in range(16):
        commit = git(origin, "rev-parse", "HEAD")
        git(origin, "update-index", "--cacheinfo", f"160000,{commit},inner")
        git(origin, "commit", "-q", "-m", "again")
    with pytest.raises(BadKeysError, match=r"inner/inner.*16 deep"):
        stage(f"git+{git_server.url('super')}", tmp_path / "out", git=ALL)
