"""URLs of submodules: git's own rules where they are relative, ours for what may be fetched at all; and versions."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from servers.repositories import GIT_ENVIRONMENT, git, make_repository
from stager.config import GitOptions
from stager.host.git_settings import GitSettings
from stager.sources.git_lfsconfig import to_record
from stager.sources.git_urls import submodule_url
from stager.sources.git_version import GitVersion, LfsSeen, Submodule
from stager.sources.lfs_choice import Configured

PARENTS = ["https://h:8/a/b.git", "https://h/a/b/", "ssh://git@h/a/b", "file:///srv/a/b"]
COMMIT = "c" * 40


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("url", ["../c", "./c.git", "../../c/d", ".././../c", "../c/"])
def test_relative_urls_are_resolved_as_git_does(tmp_path: Path, parent: str, url: str) -> None:
    """Asked of git itself: what `git submodule init` writes into the configuration."""
    make_repository(tmp_path / "r", {".gitmodules": f'[submodule "s"]\n path = s\n url = {url}\n'.encode()})
    git(tmp_path / "r", "update-index", "--add", "--cacheinfo", f"160000,{COMMIT},s")
    git(tmp_path / "r", "remote", "add", "origin", parent)
    subprocess.run(["git", "-C", str(tmp_path / "r"), "submodule", "--quiet", "init"], check=True,
                   env={**os.environ, **GIT_ENVIRONMENT})  # fmt: skip
    assert submodule_url(parent, url) == git(tmp_path / "r", "config", "submodule.s.url")


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("https://other/x.git", "https://other/x.git"),
        ("ssh://git@other:22/x", "ssh://git@other:22/x"),
        ("git@github.example:org/x.git", "ssh://git@github.example/org/x.git"),
        ("host.example:/abs/x", "ssh://host.example/abs/x"),
    ],
)
@pytest.mark.parametrize("parent", PARENTS)
def test_other_urls_are_https_or_ssh(parent: str, url: str, meant: str) -> None:
    assert submodule_url(parent, url) == meant


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("../../../c", "above the root"),
        ("../c/../../d", "no plain relative"),
        ("c", "neither"),
        ("..", "neither"),
        ("", "neither"),
        ("-u./x", "option"),
        ("--upload-pack=x", "option"),
        ("ext::sh -c x", "remote helper"),
        ("fd::17", "remote helper"),
        ("git://other/x", "kind"),
        ("http://other/x", "kind"),
        ("file:///srv/x", "kind"),
        ("/srv/x", "kind"),
        ("https://u@other/x", "user or a password"),
        ("https://u:p@other/x", "user or a password"),
        ("ssh://u:p@other/x", "user or a password"),
        ("ssh://-oProxyCommand=x/y", "'-'"),
        ("-oProxyCommand=x:y", "option"),
        ("ssh://-l@other/y", "'-'"),
        ("https:///x", "no host"),
        ("https://other:port/x", "no valid host"),
        ("https://127.0.0.1/x", "this host"),
        ("https://[::1]/x", "this host"),
        ("https://169.254.169.254/latest", "this host"),
        ("https://localhost/x", "this host"),
        ("https://0.0.0.0/x", "this host"),
        ("https://other/x%0ahost=y", "control"),
        ("https://other/x\ny", "control"),
    ],
)
def test_urls_that_are_not_followed(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        submodule_url("https://h/a/b", url)


def test_what_a_superproject_was_reached_by_its_submodules_may_be() -> None:
    assert submodule_url("file:///srv/a", "/srv/b") == "file:///srv/b"
    assert submodule_url("http://127.0.0.1:80/a", "http://127.0.0.1:81/b") == "http://127.0.0.1:81/b"
    for parent, url in (("http://127.0.0.1/a", "http://other/b"), ("file:///srv/a", "file:///srv/../b"),
                        ("file:///srv/a", "file://other/b")):  # fmt: skip
        with pytest.raises(ValueError, match="is "):
            submodule_url(parent, url)


@pytest.mark.parametrize(
    "version",
    [
        GitVersion.of(COMMIT, None, GitOptions()),
        GitVersion.of(COMMIT, "a:b?", GitOptions(paths=("b/", "/a", os.fsdecode(b"\xff")))),
        GitVersion.of("d" * 64, "s", GitOptions(lfs=False)),
        GitVersion(commit=COMMIT, left_out=(b"x\xff",)),
        GitVersion(
            commit=COMMIT, options=GitOptions(submodules=True, lfs_include=("*.bin",)),
            submodules=(
                Submodule(mount=b"v\xff/", root=b"r/", commit=COMMIT, url="https://h/x", lfsconfig=(("lfs.url", "x"),)),
            ),
        ),
        GitVersion(commit=COMMIT, lfs=LfsSeen(undeclared=2)),
        GitVersion(
            commit=COMMIT,
            lfs=LfsSeen(configured=Configured("a", os.fsdecode(b"\xff")), excluded=1,
                        lfsconfig=((os.fsdecode(b"lfs.\xff.access"), os.fsdecode(b"\xff")),)),
        ),
    ],
)  # fmt: skip
def test_version_is_read_as_it_was_written(version: GitVersion) -> None:
    assert GitVersion.parse(version.text) == version


def test_of_lfsconfig_what_leads_to_objects_is_recorded_and_no_password() -> None:
    leads = (("lfs.url", "https://h/x"), ("remote.o.r.lfsurl", "/x"), ("lfs.https://h/.access", "basic"))
    assert to_record(GitSettings((*leads, ("lfs.fetchexclude", "a"), ("url.x.insteadof", "y")))) == leads
    assert to_record(GitSettings((("lfs.url", "https://user:hunter2@h/x"),))) is None
    assert to_record(GitSettings((("lfs.https://user:hunter2@h/.access", "basic"),))) is None
    assert to_record(None) is None


@pytest.mark.parametrize("text", ["", "main:", "c" * 39 + ":", COMMIT, f"{COMMIT}?", f"{COMMIT}?[]", "?{}"])
def test_what_is_no_version_is_none(text: str) -> None:
    assert GitVersion.parse(text) is None


def test_version_is_of_what_was_asked_for() -> None:
    asked = GitVersion.of(COMMIT, None, GitOptions(submodules=True, paths=("b", "a")))
    found = GitVersion(
        commit=COMMIT, options=GitOptions(submodules=True, paths=("a", "b")), left_out=(b"x",),
        submodules=(Submodule(mount=b"s/", commit=COMMIT, url="https://h/x"),),
    )  # fmt: skip
    assert found.is_of(asked)
    assert not found.is_of(GitVersion.of(COMMIT, None, GitOptions(submodules=True)))
    assert not found.is_of(GitVersion.of(COMMIT, None, GitOptions(paths=("a", "b"))))
    assert not found.is_of(GitVersion.of("d" * 40, None, GitOptions(submodules=True, paths=("a", "b"))))
