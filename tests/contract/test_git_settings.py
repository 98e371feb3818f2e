"""What git's configuration says for a URL: git itself is the reference."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from stager.errors import SourceError, UsageError
from stager.host.git_settings import GitSettings, parse_settings, read_settings
from stager.sources.lfs_endpoint import discover

HOSTS = ("h.example", "a.h.example", "*.h.example", "H.example", "h.example:443", "h.example:8443", "bob@h.example")
PATHS = ("", "/", "/o", "/o/", "/o/x", "/o/x.git", "/ox")
PATTERNS = [f"{scheme}://{host}{path}" for scheme in ("https", "http") for host in HOSTS for path in PATHS]
URLS = [
    "https://h.example/o/x.git", "https://h.example", "https://h.example/o", "https://h.example:8443/o/x",
    "https://a.h.example/o/x", "https://b.h.example/ox", "http://h.example/o/x", "http://h.example:80/",
    "https://bob@h.example/o/x.git", "https://elsewhere.example/o/x",
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment with a git configuration of its own."""
    return {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": str(tmp_path / ".gitconfig")}


def configure(home: dict[str, str], text: str) -> None:
    Path(home["GIT_CONFIG_GLOBAL"]).write_text(text)


def read(home: dict[str, str], url: str = "https://h.example/o/x") -> GitSettings:
    return asyncio.run(read_settings(url, home))


def git(home: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], env={**home, "GIT_DIR": "/dev/null"}, capture_output=True, text=True)
    return done.stdout.strip()


def test_section_that_fits_a_url_best_is_the_one_that_git_takes(home: dict[str, str]) -> None:
    sections = [f'[http "{pattern}"]\n\tuserAgent = {number}\n' for number, pattern in enumerate(PATTERNS)]
    for text in (["[http]\n\tuserAgent = all\n", *sections], [*reversed(sections), "[http]\n\tuserAgent = all\n"]):
        configure(home, "".join(text))
        settings = read(home)
        theirs = [git(home, "config", "--get-urlmatch", "http.userAgent", url) for url in URLS]
        assert [settings.for_url("http", "useragent", url) for url in URLS] == theirs
        assert len(set(theirs)) > 5


def test_url_is_rewritten_as_git_rewrites_it(home: dict[str, str]) -> None:
    configure(
        home,
        '[url "https://mirror.example/"]\n\tinsteadOf = https://h.example/\n\tinsteadOf = gh:\n'
        '[url "https://other.example/deep/"]\n\tinsteadOf = https://h.example/o/\n'
        '[url "https://push.example/"]\n\tpushInsteadOf = https://p.example/\n',
    )
    settings = read(home)
    for url in ("https://h.example/x", "https://h.example/o/x", "gh:o/x", "https://p.example/x", "https://h.example"):
        assert settings.rewritten(url) == git(home, "ls-remote", "--get-url", url)


def test_values_that_add_up_are_cleared_by_an_empty_one(home: dict[str, str]) -> None:
    """git-config(1), "http.extraHeader"."""
    configure(
        home,
        "[http]\n\textraHeader = A: 1\n\textraHeader = B: 2\n"
        '[http "https://h.example/"]\n\textraHeader = C: 3\n'
        '[http "https://h.example/o"]\n\textraHeader =\n\textraHeader = D: 4\n',
    )
    settings = read(home)
    assert settings.all_for("http", "extraheader", "https://z.example/") == ["A: 1", "B: 2"]
    assert settings.all_for("http", "extraheader", "https://h.example/z") == ["A: 1", "B: 2", "C: 3"]
    assert settings.all_for("http", "extraheader", "https://h.example/z", named_only=True) == ["C: 3"]
    assert settings.all_for("http", "extraheader", "https://h.example/o/x") == ["D: 4"]


def test_configuration_of_no_repository_is_read(
    home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path / "r")], check=True)
    subprocess.run(["git", "-C", str(tmp_path / "r"), "config", "lfs.url", "https://evil.example/"], check=True)
    monkeypatch.chdir(tmp_path / "r")
    assert read(home).get("lfs.url") is None


def test_text_of_a_commit_is_read_by_itself(home: dict[str, str], tmp_path: Path) -> None:
    configure(home, "[lfs]\n\turl = https://user.example/\n")
    (tmp_path / "more").write_text("[lfs]\n\turl = https://included.example/\n")
    text = f"[include]\n\tpath = {tmp_path}/more\n[lfs]\n\tfetchexclude = a\n\tpruneverify\n"
    settings = asyncio.run(parse_settings(text.encode(), home, where=".lfsconfig"))
    assert settings.get("lfs.url") is None
    assert settings.get("lfs.fetchexclude") == "a" and settings.get("lfs.pruneverify") == "true"
    assert asyncio.run(parse_settings(b"", home, where=".lfsconfig")).items == ()
    with pytest.raises(SourceError, match=r"\.lfsconfig"):
        asyncio.run(parse_settings(b"[lfs\n=\n", home, where=".lfsconfig"))


def test_flag_that_is_neither_true_nor_false_is_refused(home: dict[str, str]) -> None:
    configure(home, "[http]\n\tsslVerify = perhaps\n")
    with pytest.raises(UsageError, match=r"http\.sslverify"):
        read(home).flag_for("http", "sslverify", "https://h.example/", True)


DISCOVERED = [
    *((url, "", "") for url in (
        "https://h.example/o/x", "https://h.example/o/x.git", "https://h.example/o/x/", "https://h.example/o/x.git/",
        "https://h.example:8443/o/x", "http://h.example/x", "https://h.example/x.y", "https://h.example/a%20b",
        "https://h.example/x.git/.git", "ssh://git@h.example/o/x.git", "ssh://git@h.example:2222/o/x.git",
        "ssh://h.example/~u/x", "file:///srv/x.git", "file:///srv/x",
    )),
    ("https://h.example/o/x", "[lfs]\n\turl = https://l.example/a", ""),
    ("https://h.example/o/x", "[lfs]\n\turl = ssh://git@l.example:7/a", ""),
    ("https://h.example/o/x", "[lfs]\n\turl = git@l.example:a/b", ""),
    ("https://h.example/o/x", "[lfs]\n\turl = file:///srv/lfs.git", ""),
    ("https://h.example/o/x", '[remote "origin"]\n\tlfsurl = https://l.example/a', ""),
    ("https://h.example/o/x",
     '[lfs]\n\turl = https://l.example/a\n[remote "origin"]\n\tlfsurl = https://m.example/', ""),
    ("https://h.example/o/x", "", "[lfs]\n\turl = https://c.example/a"),
    ("https://h.example/o/x", "[lfs]\n\turl = https://l.example/a", "[lfs]\n\turl = https://c.example/a"),
    ("https://h.example/o/x", '[remote "origin"]\n\tlfsurl = https://l.example/a', "[lfs]\n\turl = https://c.example/a"),
    ("https://h.example/o/x", "", '[remote "origin"]\n\tlfsurl = https://c.example/a'),
    ("https://h.example/o/x", '[remote "origin"]\n\tlfsurl = https://l.example/a',
     '[remote "origin"]\n\tlfsurl = https://c.example/a'),
    ("https://h.example/o/x", '[url "https://z.example/"]\n\tinsteadOf = https://h.example/', ""),
    ("https://h.example/o/x", '[url "ssh://git@z.example/"]\n\tinsteadOf = https://h.example/', ""),
    ("https://h.example/o/x", '[url "https://z.example/"]\n\tinsteadOf = https://c.example/',
     "[lfs]\n\turl = https://c.example/a"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "own", "committed"), DISCOVERED)
def test_endpoint_is_the_one_that_git_lfs_finds(
    url: str, own: str, committed: str, home: dict[str, str], tmp_path: Path
) -> None:
    repository = tmp_path / "r"
    configure(home, f"{own}\n")
    subprocess.run(["git", "init", "-q", str(repository)], env=home, check=True)
    subprocess.run(["git", "-C", str(repository), "remote", "add", "origin", url], env=home, check=True)
    (repository / ".lfsconfig").write_text(f"{committed}\n")
    said = subprocess.run(
        ["git", "-C", str(repository), "lfs", "env"], env=home, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    theirs = next(line for line in said if line.startswith("Endpoint")).partition("=")[2].removesuffix(" (auth=none)")
    place = next((line.partition("=")[2] for line in said if line.startswith("  SSH=")), "")
    committed_settings = asyncio.run(parse_settings(committed.encode(), home, where=".lfsconfig"))
    found = discover(url, read(home, url), committed_settings)
    assert found.url == theirs
    ours = found.ssh
    assert (f"{ours.user + '@' if ours.user else ''}{ours.host}:{ours.path}" if ours else "") == place
