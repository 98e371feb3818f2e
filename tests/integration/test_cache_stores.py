"""Mirrors of Git repositories and LFS objects lie where the job lies, serve all jobs on the node, and go like trees."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.clone_disk import clone_disk
from integration.job_driver import Node
from servers.git_http import GitHttp
from servers.lfs_fixture import LfsFixture, lfs_fixture
from servers.repositories import lfs_pointer, make_repository

MIB = 1 << 20
OBJECTS = {f"{number}.bin": os.urandom(MIB + number) for number in range(3)}  # which no other test's store has


@pytest.fixture
def lfs() -> Iterator[LfsFixture]:
    with lfs_fixture() as server:
        yield server


@pytest.fixture
def node(git_server: GitHttp, lfs: LfsFixture, tmp_path: Path) -> Node:
    for content in OBJECTS.values():
        lfs.add(content)
    pointers = {name: lfs_pointer(content) for name, content in OBJECTS.items()}
    plain = {".gitattributes": b"*.bin filter=lfs -text\n", ".lfsconfig": f"[lfs]\n\turl = {lfs.url}\n".encode()}
    make_repository(git_server.root / "words", {**plain, **pointers})
    (tmp_path / "scratch").mkdir(mode=0o700)
    node = Node(tmp_path)
    node.write_job(f'[[dataset]]\nname = "o/n"\nsource = "git+{git_server.url("words")}/.git"\n')
    return node


def stage(node: Node, job: str, scratch: Path) -> dict[str, bytes]:
    done = node.stager("stage", "--no-cache", "--job-id", job, "--scratch", str(scratch), "JOB.toml")
    assert done.code == 0, done.err
    tree = scratch / "jobs" / job / "tree/data/o/n"
    return {path.name: path.read_bytes() for path in tree.glob("*.bin")}


def kept(node: Node, scratch: Path) -> dict[str, Any]:
    out = node.stager("cache", "ls", "--json", "--scratch", str(scratch)).out
    return {line["kind"]: line for line in map(json.loads, out.splitlines())}


@pytest.mark.root
def test_they_lie_in_the_jobs_scratch_and_serve_a_job_in_another(
    node: Node, git_server: GitHttp, lfs: LfsFixture, tmp_path: Path
) -> None:
    with clone_disk(tmp_path / "disk", tmp_path / "image") as disk:
        for name in ("one", "two"):
            (disk / name).mkdir(mode=0o700)
        assert stage(node, "first", disk / "one") == OBJECTS
        assert not (node.scratch / "mirrors").exists() and not (node.scratch / "lfs").exists()
        found = kept(node, disk / "one")
        assert set(found) == {"mirror", "lfs"}
        assert git_server.url("words") in found["mirror"]["source"]
        assert found["lfs"]["files"] == len(OBJECTS)
        assert found["lfs"]["bytes"] >= sum(map(len, OBJECTS.values()))
        lfs.requests.clear()
        assert stage(node, "second", disk / "two") == OBJECTS
        assert lfs.requests == []
        assert kept(node, disk / "two") == {}
        removed = node.stager("cache", "gc", "--keep", "0", "--json", "--scratch", str(disk / "one")).out
        assert {json.loads(line)["kind"] for line in removed.splitlines()} == {"mirror", "lfs"}
        assert kept(node, disk / "one") == {}
        assert stage(node, "third", disk / "two") == OBJECTS
        assert lfs.requests
        assert set(kept(node, disk / "two")) == {"mirror", "lfs"}


@pytest.mark.root
def test_quota_is_kept_to_by_them_too(node: Node, tmp_path: Path) -> None:
    with clone_disk(tmp_path / "disk", tmp_path / "image", size=400 * MIB) as disk:
        (disk / "scratch").mkdir(mode=0o700)
        assert stage(node, "first", disk / "scratch") == OBJECTS
        assert node.stager("teardown", "--discard-uncollected", "--scratch", str(disk / "scratch"), "first").code == 0
        quota = tmp_path / "config/stager/stager.toml"
        quota.parent.mkdir(parents=True)
        quota.write_text('[cache]\nmax_bytes = "0"\n')
        assert set(kept(node, disk / "scratch")) == {"mirror", "lfs"}
        done = node.stager(
            "stage", "--job-id", "next", "--scratch", str(disk / "scratch"), "JOB.toml",
            XDG_CONFIG_HOME=str(tmp_path / "config"),
        )  # fmt: skip
        assert done.code == 0, done.err
        assert set(kept(node, disk / "scratch")) == {"tree"}
