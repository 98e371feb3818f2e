"""The node's mirror of a repository serves whichever way that is reached: the same commit moves no pack, the next one
the difference, and a connection that breaks is tried again.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from contract.git_worlds import NAME, WAYS, GitWorld, git_world
from git_packs import generations
from integration.sync_driver import Sync, SyncHere, tree
from servers.certificates import Certificates
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.git_ssh import GitSsh, git_ssh
from servers.repositories import commit_files, git, make_repository

FILES = {"readme": b"read me\n", "data/a.txt": b"a\n", "data/deep/b.bin": random.Random(5).randbytes(300_000)}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = tmp_path / "repositories" / NAME
    make_repository(made, FILES)
    return made


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir(mode=0o700)
    return tmp_path / "scratch"


@pytest.fixture(params=[way for way in WAYS if way != "http"])
def world(request: pytest.FixtureRequest, repository: Path, certificates: Certificates) -> Iterator[GitWorld]:
    with git_world(request.param, repository.parents[1], certificates) as served:
        yield served


def again(url: str, tmp_path: Path, environment: Mapping[str, str], *options: str) -> dict[str, bytes]:
    """What the next job finds: a new destination, filled."""
    shutil.rmtree(tmp_path / "dst", ignore_errors=True)
    done = SyncHere(f"git+{url}", tmp_path / "dst", {**environment, "STAGER_SCRATCH": str(tmp_path / "scratch")}).run(
        *options
    )
    assert (done.code, done.err) == (0, "")
    return tree(tmp_path / "dst")


def packs(scratch: Path) -> dict[str, tuple[int, int]]:
    """Those of the mirror: name to inode and size."""
    (generation,) = generations(scratch)
    return {path.name: (path.stat().st_ino, path.stat().st_size) for path in generation.glob("*.pack")}


def test_same_commit_moves_no_pack_and_the_next_one_the_difference(
    world: GitWorld, repository: Path, tmp_path: Path, scratch: Path
) -> None:
    assert again(world.url, tmp_path, world.environment) == FILES
    first = packs(scratch)
    assert again(world.url, tmp_path, world.environment) == FILES
    assert packs(scratch) == first
    commit_files(repository, {"data/a.txt": b"another\n"}, "second")
    assert again(world.url, tmp_path, world.environment) == {**FILES, "data/a.txt": b"another\n"}
    both = packs(scratch)
    (new,) = both.keys() - first.keys()
    assert both.items() > first.items() and both[new][1] < 10_000


@pytest.fixture
def ssh(repository: Path) -> Iterator[GitSsh]:
    with git_ssh(repository.parents[1]) as server:
        yield server


@pytest.fixture
def line(ssh: GitSsh) -> Iterator[FaultProxy]:
    with fault_proxy(("127.0.0.1", ssh.port), raw=True) as proxy:
        yield proxy


def over(line: FaultProxy, ssh: GitSsh) -> tuple[str, dict[str, str]]:
    """The server's URL by way of the line, and what lets one in there."""
    environment = ssh.environment()
    environment["GIT_SSH_COMMAND"] += f" -oHostKeyAlias=[127.0.0.1]:{ssh.port}"
    url = urlsplit(ssh.url(NAME))
    return url._replace(netloc=f"{ssh.user}@127.0.0.1:{line.address[1]}").geturl(), environment


def test_commit_that_is_here_is_had_without_the_server(
    world: GitWorld, repository: Path, tmp_path: Path, scratch: Path
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert again(world.url, tmp_path, world.environment) == FILES
    repository.rename(repository.with_name("gone"))
    assert again(world.url, tmp_path, world.environment, "--ref", commit) == FILES


def test_two_at_once_over_ssh_fetch_once(
    ssh: GitSsh, line: FaultProxy, repository: Path, tmp_path: Path, scratch: Path
) -> None:
    url, environment = over(line, ssh)
    commit = git(repository, "rev-parse", "HEAD")
    syncs = [
        Sync(f"git+{url}@{commit}", tmp_path / f"dst{n}", {**environment, "STAGER_SCRATCH": str(scratch)})
        for n in range(2)
    ]
    line.add(Fault(stall_at=100_000))
    first = syncs[0].start()
    line.wait_stalled()
    second = syncs[1].start()
    line.release()
    for process, one in ((first, syncs[0]), (second, syncs[1])):
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert tree(one.destination) == FILES
    assert len(ssh.commands()) == 1


def test_ssh_connection_that_breaks_in_a_pack_is_tried_again(
    ssh: GitSsh, line: FaultProxy, tmp_path: Path, scratch: Path
) -> None:
    url, environment = over(line, ssh)
    line.add(Fault(times=1, cut_at=100_000), Fault(times=1, reset_at=200_000))
    assert again(url, tmp_path, environment) == FILES
    assert line.counts.faults == 2
