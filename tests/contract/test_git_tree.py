"""The files of a commit, byte for byte: as `git archive` writes them, whatever a repository holds."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from contract.git_staging import archived, described, stage
from integration.sync_driver import Sync, tree
from servers.git_http import GitHttp
from servers.repositories import GIT_ENVIRONMENT, commit_files, git, make_repository
from stager.errors import BadKeysError

NASTY = {
    "empty": b"",
    "d/" * 40 + "deep": b"deep",
    "n" * 255: b"long name",
    "new\nline\ttab \\ \"quoted\"": b"odd name",
    "-n": b"like an option",
    ":(glob)*": b"like a pathspec",
    "*": b"like a glob",
    " ": b"a blank",
    "dos.txt": b"a\nb\n",
    "mixed.txt": b"a\r\nb\n",
    "binary.txt": b"\0\n\n",
    "plain.bin": b"a\nb\n",
    "sub/dos.txt": b"not here\n",
    "sub/unix.sh": b"#!\n",
    "legacy.old": b"x\ny\n",
    "macro.m": b"m\n",
    "ident.c": b"/* $Id$ */\n",
    "sub/ident.c": b"$Id: stale $\n",
    "wide.txt16": "ä ö\n".encode("utf-16le"),  # git keeps it as UTF-8
    "large": b"0123456789abcdef" * 40_000,
    "info/attributes": b"* eol=crlf\n",
    ".gitattributes": b"[attr]dos text eol=crlf\n*.txt dos\n*.bin -text eol=crlf\n*.old crlf eol=crlf\n*.c ident\n"
    b"*.m dos\nbinary.txt -text\n*.txt16 text working-tree-encoding=UTF-16LE\nempty dos\n",
    "sub/.gitattributes": b"*.txt !text -text\n*.sh text eol=lf\nident.c -ident\n",
}
LINKS = {"to-file": "empty", "up": "../../../etc/passwd", "abs": "/dev/null", "loop": "loop", "sub/odd": "a\nb \\",
         "long": "x/" * 2047, "not-utf8": os.fsdecode(b"\xff\xfe")}  # fmt: skip


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    root = tmp_path / "origin"
    make_repository(root, NASTY)
    for name, target in LINKS.items():
        (root / name).symlink_to(target)
    (root / os.fsdecode(b"latin-\xe9")).write_bytes(b"not UTF-8")
    for name in ("sub/unix.sh", "dos.txt", "empty"):
        (root / name).chmod(0o755)
    (root / ".git/info/attributes").write_text("* eol=crlf\n")  # of the origin alone: no clone has it
    commit_files(root, {}, "links and modes")
    (root / ".git/info/attributes").unlink()
    return root


def test_nasty_tree_equals_git_archive(nasty: Path, tmp_path: Path) -> None:
    snapshot, entries = stage(f"git+file://{nasty}", tmp_path / "out")
    found = described(tmp_path / "out" / "tree")
    assert found == archived(nasty, snapshot.pinned["commit"], tmp_path / "archive")
    assert found["dos.txt"] == ("program", b"a\r\nb\r\n")
    assert found["plain.bin"][1] == found["sub/dos.txt"][1].replace(b"not here", b"a\nb") == b"a\nb\n"
    assert found["ident.c"][1].startswith(b"/* $Id: ")
    assert found["wide.txt16"][1] == "ä ö\n".encode("utf-16le")
    assert len(found) == len(NASTY) + len(LINKS) + 1
    assert {entry.grade for entry in entries.values()} == {"A"}
    for name, entry in entries.items():
        where = tmp_path / "out" / "tree" / name
        assert entry.size == os.lstat(where).st_size
        assert stat.S_ISLNK(entry.mode) == (name in LINKS)


def test_nasty_tree_is_known_again_and_mended(nasty: Path, tmp_path: Path) -> None:
    sync = Sync(f"git+file://{nasty}", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    assert sync.run().code == 0
    whole = described(sync.destination)
    assert "fetched 0 objects" in sync.run().out
    for name in ("dos.txt", "ident.c", "long", "large", "d/" * 40 + "deep"):
        (sync.destination / name).unlink()
    assert "fetched 5 objects" in sync.run().out
    ours = {name: one for name, one in described(sync.destination).items() if not name.startswith(".stager/")}
    assert ours == {name: one for name, one in whole.items() if not name.startswith(".stager/")}


def test_attributes_of_the_mirror_and_of_the_run_are_not_those_of_the_commit(nasty: Path, tmp_path: Path) -> None:
    """info/attributes counts in no repository of ours: there is none in it, and git is told of no other file."""
    planted = tmp_path / "attributes"
    planted.write_text("* ident eol=crlf\n")
    home = tmp_path / "home"
    (home / ".config/git").mkdir(parents=True)
    (home / ".config/git/attributes").write_text("* ident eol=crlf\n")
    sync = Sync(f"git+file://{nasty}", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path), "HOME": str(home)})
    assert sync.run().code == 0
    found = {name: one for name, one in described(sync.destination).items() if not name.startswith(".stager/")}
    assert found == archived(nasty, "main", tmp_path / "archive")


def test_permissions_follow_the_umask_as_gits_do(nasty: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        stage(f"git+file://{nasty}", tmp_path / "out")
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((tmp_path / "out" / "tree" / name).stat().st_mode) for name in ("large", "sub/unix.sh")}
    assert modes == {"large": 0o600, "sub/unix.sh": 0o700}


def test_filters_are_all_named_wherever_they_are_set(git_server: GitHttp, tmp_path: Path) -> None:
    make_repository(
        git_server.root / "r",
        {
            ".gitattributes": b"[attr]sealed filter=crypt\n*.enc sealed\n*.off filter=crypt\n",
            "a.enc": b"a", "sub/b.enc": b"b", "sub/.gitattributes": b"c filter=other\n*.off -filter\n", "sub/c": b"c",
            "sub/d.off": b"d", "e": b"e", "f.off": b"f",
        },
    )  # fmt: skip
    with pytest.raises(BadKeysError) as caught:
        stage(f"git+{git_server.url('r')}", tmp_path / "out")
    assert sorted(problem.partition(":")[0] for problem in caught.value.problems) == [
        "a.enc", "f.off", "sub/b.enc", "sub/c"
    ]  # fmt: skip
    assert "filter=other" in str(caught.value)
    assert caught.value.exit_code == 2


def test_path_as_deep_as_a_path_may_be_is_staged(tmp_path: Path) -> None:
    """1,500 directories, one in the other: no walk of ours recurses that deep."""
    origin = tmp_path / "origin"
    make_repository(origin, {".gitattributes": b"*.crlf eol=crlf\n"})
    fast = b"commit refs/heads/main\ncommitter a <a@b> 1 +0000\ndata 1\nx\nfrom refs/heads/main^0\n"
    for name in (b"f", b"f.crlf"):
        fast += b"M 100644 inline " + b"d/" * 1500 + name + b"\ndata 2\nx\n\n"
    subprocess.run(["git", "-C", str(origin), "fast-import", "--quiet", "--force"], input=fast, check=True,
                   env={**os.environ, **GIT_ENVIRONMENT})  # fmt: skip
    sync = Sync(f"git+file://{origin}", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    assert sync.run().err == ""
    fd = os.open(sync.destination, os.O_RDONLY)
    try:
        for _ in range(1500):
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        assert sorted(os.listdir(fd)) == ["f", "f.crlf"]
    finally:
        os.close(fd)
    subprocess.run(["rm", "-rf", str(sync.destination)], check=True)  # pytest's own would recurse


def test_files_that_git_converts_and_others_of_one_blob_are_told_apart(tmp_path: Path) -> None:
    make_repository(tmp_path / "origin", {"a.txt": b"x\n", "b": b"x\n", ".gitattributes": b"*.txt eol=crlf\n"})
    sync = Sync(f"git+file://{tmp_path}/origin", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    assert sync.run().code == 0
    assert tree(sync.destination) == {"a.txt": b"x\r\n", "b": b"x\n", ".gitattributes": b"*.txt eol=crlf\n"}
    commit_files(tmp_path / "origin", {".gitattributes": b""}, "no longer")
    assert "fetched 2 objects" in sync.run().out
    assert tree(sync.destination)["a.txt"] == b"x\n"
    assert git(tmp_path / "origin", "status", "--porcelain") == ""
