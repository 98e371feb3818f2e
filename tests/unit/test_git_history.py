"""Pieces of a .git directory against git itself: names of refs, indexes, and what counts as work in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from servers.repositories import git, make_repository
from stager.errors import IntegrityError
from stager.host import git_reader
from stager.host.git_index import fill_index, index_rows, index_summary
from stager.host.git_refs import is_ref_name, packed_refs, parse_packed

NAMES = (
    b"main", b"a/b", b"-x", b"@", b"a@b", b"a@{b", b"a.", b".a", b"a/.b", b"a..b", b"a//b", b"a/", b"/a", b"a.lock",
    b"a.lock/b", b"a.lockb", b"a b", b"a\nb", b"a\x7fb", b"a~", b"a^", b"a:b", b"a?", b"a*", b"a[", b"a]", b"a\\b",
    b"../../x", b"\xc3\xbc", b"\xff", b"a{", b"HEAD", b"a/../b", b"a./b",
)  # fmt: skip


def test_name_is_one_where_git_says_so() -> None:
    for name in NAMES:
        argv = ["git", "check-ref-format", b"refs/heads/" + name]
        assert is_ref_name(b"refs/heads/" + name) == (subprocess.run(argv, check=False).returncode == 0), name
    assert not is_ref_name(b"HEAD")


def test_packed_refs_are_gits(tmp_path: Path) -> None:
    commit = make_repository(tmp_path / "r", {"a": b"a"})
    refs = [(commit, name) for name in (b"refs/tags/z", b"refs/heads/b", b"refs/heads/a-b", b"refs/heads/a/b")]
    (tmp_path / "r/.git/packed-refs").write_bytes(packed_refs(refs))
    told = git(tmp_path / "r", "for-each-ref", "--format=%(objectname) %(refname)").encode().splitlines()
    assert set(told) >= {b"%b %b" % (one.encode(), name) for one, name in refs}
    git(tmp_path / "r", "tag", "-a", "-m", "x", "annotated")
    git(tmp_path / "r", "pack-refs", "--all")
    found = parse_packed((tmp_path / "r/.git/packed-refs").read_bytes())
    told = git(tmp_path / "r", "for-each-ref", "--format=%(objectname) %(refname)").encode().splitlines()
    assert [b"%b %b" % (value, name) for name, value in sorted(found.items())] == told


@pytest.fixture(params=["sha1", "sha256"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Names of many lengths, an added path without content, one that is not looked at."""
    root = tmp_path / "r"
    root.mkdir()
    git(root, "init", "-q", "-b", "main", f"--object-format={request.param}")
    for number in range(1, 40):
        (root / ("n" * number)).write_bytes(b"%d\n" % number)
    (root / "run").write_bytes(b"x")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("run")
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(b"f\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def id_bytes(repository: Path) -> int:
    return len(git(repository, "rev-parse", "HEAD")) // 2


@pytest.mark.parametrize("version", [2, 3, 4])
def test_index_is_read_as_git_writes_it(repository: Path, version: int) -> None:
    if version > 2:
        (repository / "later").write_bytes(b"later\n")
        git(repository, "add", "-N", "later")
        git(repository, "update-index", "--index-version", str(version))
    data = (repository / ".git/index").read_bytes()
    assert data[7] == version
    rows = list(index_rows(data, id_bytes(repository)))
    told = git(repository, "ls-files", "--stage", "-z").encode().split(b"\0")[:-1]
    assert [b"%o %b %d\t%b" % (r.mode, r.blob.hex().encode(), r.flags >> 12 & 3, r.name) for r in rows] == told
    assert [row.name for row in rows if row.flags >> 16] == ([b"later"] if version > 2 else [])


def test_summary_is_of_what_is_staged_and_not_of_when_it_was_looked_at(repository: Path) -> None:
    def summary() -> str:
        return index_summary((repository / ".git/index").read_bytes(), id_bytes(repository))

    first = summary()
    os.utime(repository / "run", ns=(1, 1))
    git(repository, "status")
    git(repository, "update-index", "--index-version", "4")
    assert summary() == first
    git(repository, "update-index", "--assume-unchanged", "run")
    assert summary() != first
    git(repository, "update-index", "--no-assume-unchanged", "run")
    assert summary() == first
    git(repository, "rm", "-q", "--cached", "link")
    assert summary() != first


def test_filled_index_lets_git_read_no_file(repository: Path) -> None:
    """Another content of the same size under the same times is not seen: nothing was read."""
    git(repository, "config", "core.trustctime", "false")
    git(repository, "read-tree", "HEAD")
    index, run = repository / ".git/index", repository / "run"
    before = run.stat()
    filled = fill_index(
        index.read_bytes(), id_bytes(repository), lambda row: os.lstat(repository / os.fsdecode(row.name))
    )
    index.write_bytes(filled)
    os.utime(index, (before.st_mtime + 10, before.st_mtime + 10))
    run.write_bytes(b"y")
    os.utime(run, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert git(repository, "diff-files", "--name-only") == ""
    os.utime(run, (before.st_mtime - 10, before.st_mtime - 10))
    assert git(repository, "diff-files", "--name-only") == "run"
    git(repository, "fsck", "--strict")


@pytest.mark.parametrize("damage", [b"", b"DIRC", b"DIRC\0\0\0\5\0\0\0\1", b"DIRC\0\0\0\2\0\0\0\1" + bytes(62)])
def test_what_is_no_index_is_an_error(damage: bytes) -> None:
    with pytest.raises(ValueError, match="no index"):
        list(index_rows(damage, 20))


def test_object_that_git_cannot_read_is_damage() -> None:
    """What `git ls-tree --long` says then."""
    with pytest.raises(IntegrityError, match="cannot be read"):
        git_reader._row(b"100644 blob " + b"1" * 40 + b"     BAD\tname")
