"""A ``.git`` directory beside objects of Git LFS, in a job, and of servers that lie about their refs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from contract.git_worlds import NAME, Way, git_world
from integration.clone_disk import clone_disk, used_bytes
from integration.job_driver import Node
from integration.sync_driver import SyncHere
from servers.certificates import Certificates
from servers.local_http import local_http
from servers.raw_packs import RawPack
from servers.repositories import (
    GIT_ENVIRONMENT,
    commit_files,
    git,
    keep_lfs_objects,
    lfs_pointer,
    make_lfs_repository,
    make_repository,
)
from stager.host import git_history
from stager.host.git_look import look_at, what_changed

OBJECTS = {"a.bin": b"first object\n" * 999, "d/b.bin": os.urandom(100_000), "d/empty.bin": b""}
ID = "1" * 40


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir(mode=0o700)
    return tmp_path / "scratch"


def git_lfs(directory: Path, *arguments: str) -> str:
    """Of a user who has set git-lfs up."""
    filters = ["-c", "filter.lfs.clean=git-lfs clean -- %f", "-c", "filter.lfs.smudge=git-lfs smudge -- %f",
               "-c", "filter.lfs.process=git-lfs filter-process", "-c", "filter.lfs.required=true"]  # fmt: skip
    argv = ["git", "-C", str(directory), *filters, *arguments]
    environment = {**os.environ, **GIT_ENVIRONMENT}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout


def changes(directory: Path) -> list[str]:
    fd = os.open(directory, os.O_RDONLY)
    try:
        mark = look_at(fd).mark
        assert mark is not None
        return what_changed(fd, mark)
    finally:
        os.close(fd)


@pytest.mark.parametrize("way", ["ssh", "file"])
def test_history_comes_whichever_way_the_repository_is_reached_and_git_goes_on_there(
    way: Way, tmp_path: Path, scratch: Path, certificates: Certificates
) -> None:
    """By http and https: tests/integration/test_git_history.py."""
    bare = tmp_path / "repositories" / NAME
    make_repository(tmp_path / "seed", {"a": b"a\n"})
    git(tmp_path / "seed", "branch", "side")
    commit_files(tmp_path / "seed", {"b": b"b\n"}, "second")
    git(tmp_path, "clone", "-q", "--bare", str(tmp_path / "seed"), str(bare))
    with git_world(way, tmp_path / "repositories", certificates) as world:
        sync = SyncHere(f"git+{world.url}", tmp_path / "dst", {**world.environment, "STAGER_SCRATCH": str(scratch)})
        assert sync.run("--history").code == 0
        told = git(sync.destination, "for-each-ref", "--format=%(objectname) %(refname)")
        assert [line.split("/", 1)[1] for line in told.splitlines()] == [
            "heads/main", "remotes/origin/HEAD", "remotes/origin/main", "remotes/origin/side"
        ]  # fmt: skip
        assert git(sync.destination, "remote", "get-url", "origin") == world.url
        commit = commit_files(tmp_path / "seed", {"c": b"c\n"}, "third")
        git(tmp_path / "seed", "push", "-q", str(bare), "main")
        environment = {**os.environ, **GIT_ENVIRONMENT, **world.environment}
        subprocess.run(["git", "-C", str(sync.destination), "pull", "-q"], env=environment, check=True)
    assert git(sync.destination, "rev-parse", "HEAD") == commit
    assert git(sync.destination, "fsck", "--full", "--strict") == ""


def test_status_is_clean_beside_lfs_objects_with_their_filter_and_without(tmp_path: Path, scratch: Path) -> None:
    origin = tmp_path / "origin"
    make_lfs_repository(origin, {"plain": b"plain\n"}, OBJECTS)
    keep_lfs_objects(origin, OBJECTS.values())
    sync = SyncHere(f"git+file://{origin}", tmp_path / "dst", {"STAGER_SCRATCH": str(scratch)})
    assert sync.run("--history").code == 0
    assert (sync.destination / "a.bin").read_bytes() == OBJECTS["a.bin"]
    assert len(list((sync.destination / ".git").glob("lfs/objects/??/??/*"))) in (0, 2)  # all, or none
    assert git(sync.destination, "status", "--porcelain") == ""
    told = git_lfs(sync.destination, "lfs", "ls-files").splitlines()
    assert [line.split(" ", 1)[1] for line in told] == ["* a.bin", "* d/b.bin"]
    assert git_lfs(sync.destination, "status", "--porcelain") == ""
    git_lfs(sync.destination, "lfs", "fsck", "--pointers")
    assert changes(sync.destination) == []
    (sync.destination / "a.bin").unlink()
    assert sync.run("--history").code == 0
    assert git(sync.destination, "status", "--porcelain") == ""
    (sync.destination / "d/b.bin").write_bytes(b"")
    assert sync.command("verify", "--repair", str(sync.destination)).code == 0
    assert git(sync.destination, "status", "--porcelain") == ""
    commit_files(origin, {"plain": b"changed\n", "d/b.bin": lfs_pointer(b"other")}, "second")
    keep_lfs_objects(origin, [b"other"])
    assert sync.run("--history").code == 0
    assert git(sync.destination, "status", "--porcelain") == ""
    assert (sync.destination / "d/b.bin").read_bytes() == b"other"
    os.utime(sync.destination / "a.bin")  # now git has to read it
    assert git_lfs(sync.destination, "status", "--porcelain") == ""


@pytest.mark.root
def test_objects_are_there_for_git_lfs_and_take_no_space_where_files_can_be_cloned(tmp_path: Path) -> None:
    large = os.urandom(8 << 20)
    origin = tmp_path / "origin"
    make_lfs_repository(origin, {}, {"large.bin": large, "again.bin": large})
    keep_lfs_objects(origin, [large])
    commit_files(origin, {"more": os.urandom(4 << 20)}, "second")
    with clone_disk(tmp_path / "disk", tmp_path / "image") as disk:
        (disk / "scratch").mkdir(mode=0o700)
        sync = SyncHere(f"git+file://{origin}", disk / "dst", {"STAGER_SCRATCH": str(disk / "scratch")})
        assert sync.run().code == 0
        before = used_bytes(disk)
        assert sync.run("--history").code == 0
        assert used_bytes(disk) - before < 7 << 20  # the mirror's pack alone, which `.git` shares
        shutil.rmtree(origin)
        git_lfs(sync.destination, "lfs", "fsck")
        git_lfs(sync.destination, "checkout", "-q", "HEAD~1")
        (sync.destination / "large.bin").unlink()
        git_lfs(sync.destination, "checkout", "-q", "main", "--", "large.bin")
        assert (sync.destination / "large.bin").read_bytes() == large


def test_status_is_clean_beside_pointers_that_were_left(tmp_path: Path, scratch: Path) -> None:
    make_lfs_repository(tmp_path / "origin", {}, OBJECTS)
    sync = SyncHere(f"git+file://{tmp_path}/origin", tmp_path / "dst", {"STAGER_SCRATCH": str(scratch)})
    assert sync.run("--history", "--no-lfs").code == 0
    assert git(sync.destination, "status", "--porcelain") == ""


def test_job_works_with_the_history_of_its_data_and_what_it_committed_is_told_before_it_goes(tmp_path: Path) -> None:
    commit = make_repository(tmp_path / "origin", {"a": b"a\n"})
    node = Node(tmp_path, environment=GIT_ENVIRONMENT)
    job = node.write_job(
        f"""command = ["sh", "-ec", '''
cd /data/a/idle && git status --porcelain && git log --format=%H
cd /data/a/busy && git status --porcelain && echo b > a && git commit -qam mine && git log --format=%s
''']
[[dataset]]
name = "a/busy"
source = "git+file://{tmp_path}/origin"
history = true
[[dataset]]
name = "a/idle"
source = "git+file://{tmp_path}/origin"
history = true
access = "read-only"
"""
    )
    done = node.stager("run", "--job-id", "j", job)
    assert (done.code, done.out) == (0, f"{commit}\nmine\nfirst\n")
    assert ".git (refs/heads/main is at another commit" in done.err
    assert "changed in /data/a/idle" not in done.err


def test_history_that_cannot_be_is_told_of_a_job_file_with_its_place(tmp_path: Path) -> None:
    node = Node(tmp_path)
    job = node.write_job(
        '[[dataset]]\nname = "a/b"\nsource = "git+https://h.example/r#subdir=x"\nhistory = true\nsubmodules = true\n'
        '[[dataset]]\nname = "a/c"\nsource = "s3://bucket/x"\nhistory = true\n'
        '[[dataset]]\nname = "a/d"\nsource = "git+https://h.example/r"\nhistory = true\ninclude = ["*.jpg"]\n'
    )
    told = node.stager("stage", job)
    assert told.code == 2
    for text in ("with a #subdir", "with submodules", "is for git sources", "chooses files"):
        assert text in told.err


def test_history_with_commits_as_old_tools_wrote_them_comes(tmp_path: Path, scratch: Path) -> None:
    pack = RawPack()
    tree = pack.tree((b"100644", b"a", pack.add("blob", b"a\n"))).hex().encode()
    whos = (b"a 1 +0000", b"<a@b> 1 +0000", b"a<a@b> 1 +0000", b"a <a@b> 01 +0000", b"a <a@b> 1 +0000")
    parent = b""
    for who in whos:
        body = b"tree %b\n%bauthor %b\ncommitter %b\n\nx\n" % (tree, parent, who, whos[-1])
        parent = b"parent %b\n" % pack.add("commit", body).hex().encode()
    commit = parent.split()[1].decode()
    pack.write(tmp_path / "origin", commit)
    sync = SyncHere(f"git+file://{tmp_path}/origin", tmp_path / "dst", {"STAGER_SCRATCH": str(scratch)})
    assert sync.run("--history").err == ""
    assert len(git(sync.destination, "rev-list", "HEAD").split()) == len(whos)


# Servers that lie


@contextmanager
def lying(refs: Mapping[bytes, str] | Sequence[tuple[bytes, str]], pack: bytes = b"") -> Iterator[str]:
    """A server that announces these refs (gitprotocol-http(5), version 0), and gives the pack for whatever is asked."""
    rows = list(refs.items()) if isinstance(refs, Mapping) else list(refs)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            lines = [b"# service=git-upload-pack\n", b""]
            for number, (name, identity) in enumerate(rows):
                more = b"" if number else b"\0symref=HEAD:refs/heads/main agent=lying"
                lines.append(identity.encode() + b" " + name + more + b"\n")
            lines.append(b"")
            packets = [b"%04x%b" % (len(line) + 4, line) if line else b"0000" for line in lines]
            self.answer("advertisement", b"".join(packets))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer("result", b"0008NAK\n" + pack)

        def answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with local_http(Handler, None) as url:
        yield f"git+{url}/evil"


def brought(url: str, tmp_path: Path, scratch: Path) -> tuple[int, str]:
    done = SyncHere(url, tmp_path / "dst", {"STAGER_SCRATCH": str(scratch)}).run("--history")
    assert not (tmp_path / "dst").exists()
    return done.code, done.err


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"refs/heads/../../x", "refs/heads/../../x"), (b"refs/heads/a\x1b[2J", r"refs/heads/a\x1b[2J"),
        (b"refs/tags/x.lock", "refs/tags/x.lock"), (b"refs/heads/.git/config", ".git/config"),
        (b"refs/heads/main/below", "refs/heads/main/below"),
    ],
)  # fmt: skip
def test_ref_that_can_be_none_is_named(tmp_path: Path, scratch: Path, name: bytes, shown: str) -> None:
    with lying({b"HEAD": ID, b"refs/heads/main": ID, name: ID}) as url:
        code, told = brought(url, tmp_path, scratch)
    assert (code, "the server has refs that can be none" in told, shown in told) == (4, True, True), told
    assert "\x1b" not in told


@pytest.mark.parametrize("name", [b"refs/heads/a b", b"refs/heads/a\nb"])
def test_ref_that_gits_own_helper_cannot_carry_ends_the_run(tmp_path: Path, scratch: Path, name: bytes) -> None:
    with lying({b"HEAD": ID, b"refs/heads/main": ID, name: ID}) as url:
        code, told = brought(url, tmp_path, scratch)
    assert code in (3, 4), told


def test_default_branch_whose_name_can_be_none_is_refused(tmp_path: Path, scratch: Path) -> None:
    rows = [(b"HEAD\0symref=HEAD:refs/heads/../../config", ID), (b"refs/heads/main", ID)]
    with lying(rows) as url:
        code, told = brought(url, tmp_path, scratch)
    assert code in (3, 4), told


def test_more_refs_than_anybody_has_are_refused(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = {b"HEAD": ID, b"refs/heads/main": ID, **{b"refs/tags/%d" % number: ID for number in range(2_000)}}
    monkeypatch.setattr(git_history, "_REFS_MAX", 1_000)
    with lying(refs) as url:
        assert "over 1,000 refs" in brought(url, tmp_path, scratch)[1]
        monkeypatch.setattr(git_history, "_REFS_MAX_BYTES", 10_000)
        code, told = brought(url, tmp_path, scratch)
    assert (code, "more than 10000 bytes" in told) == (3, True)


def test_ref_to_what_is_not_sent_is_an_error(tmp_path: Path, scratch: Path) -> None:
    """The commit is there, its tree is not."""
    whole, part = RawPack(), RawPack()
    commit = whole.commit(whole.tree((b"100644", b"a", whole.add("blob", b"x"))))
    assert part.commit(whole.tree((b"100644", b"a", whole.add("blob", b"x")))) == commit
    with lying({b"HEAD": commit, b"refs/heads/main": commit}, part.body()) as url:
        code, told = brought(url, tmp_path, scratch)
    assert code == 4, told


def test_names_that_differ_in_case_or_look_like_options_are_no_trap(
    tmp_path: Path, scratch: Path
) -> None:
    pack = RawPack()
    commit = pack.commit(pack.tree((b"100644", b"a", pack.add("blob", b"x"))))
    refs = {b"HEAD": commit, b"refs/heads/main": commit}
    names = (b"refs/heads/MAIN", b"refs/heads/-x", b"refs/heads/HEAD", b"refs/tags/main")
    with lying({**refs, **dict.fromkeys(names, commit)}, pack.body()) as url:
        sync = SyncHere(url, tmp_path / "dst", {"STAGER_SCRATCH": str(scratch)})
        assert sync.run("--history").code == 0
        assert git(sync.destination, "rev-parse", "origin/MAIN", "origin/-x", "tags/main").split() == [commit] * 3
        assert git(sync.destination, "fsck", "--full") == ""
        shutil.rmtree(sync.destination)


def test_shallow_repository_is_refused(tmp_path: Path, scratch: Path) -> None:
    make_repository(tmp_path / "origin", {"a": b"1\n"})
    commit_files(tmp_path / "origin", {"a": b"2\n"}, "second")
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", f"file://{tmp_path}/origin", str(tmp_path / "shallow")],
        env={**os.environ, **GIT_ENVIRONMENT}, check=True,
    )  # fmt: skip
    code, told = brought(f"git+file://{tmp_path}/shallow", tmp_path, scratch)
    assert (code, "only a part of its history" in told) == (3, True)
