"""The tree that stager makes of a commit with LFS objects is the one of ``git clone`` and ``git lfs pull``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contract.git_worlds import NAME, GitWorld, git_world
from integration.sync_driver import SyncHere
from servers.certificates import Certificates
from servers.giftless_lfs import Giftless
from servers.git_http import GitHttp
from servers.lfs_fixture import lfs_fixture
from servers.repositories import clone_with_lfs, commit_files, git, keep_lfs_objects, lfs_pointer, make_lfs_repository
from servers.s3 import object_bytes

FILES = {"README": b"words\n", "dos.bat": b"one\ntwo\n"}
OBJECTS = {
    "data/parts.bin": object_bytes((17 << 20) + 5, 1),  # more than two blocks of 8 MiB
    "data/small.bin": b"small",
    "data/the same.bin": b"small",
    "empty.bin": b"",
    "tool.bin": b"#!/bin/sh\n",
    "sp ace/ünï.bin": object_bytes(100_000, 2),
}
WITHOUT_RANGES, WITH_RANGES = ("https", "lfs_streaming"), ("http", "lfs_in_s3")
WORLDS = (WITHOUT_RANGES, WITH_RANGES, ("https", "lfs_in_s3_tls"), ("ssh", "lfs_streaming"), ("file", None))


@dataclass(frozen=True)
class Served:
    world: GitWorld
    repository: Path
    lfs: Giftless | None  # None: the objects lie in the repository

    def offer(self, contents: dict[str, bytes]) -> None:
        """Have objects where the server looks for them."""
        if self.lfs is None:
            keep_lfs_objects(self.repository, contents.values())
        else:
            self.lfs.put(NAME, contents.values())

    def sent(self) -> int:
        """Objects that giftless itself has sent, or links to them that it has given."""
        return sum(one.status == 200 for one in self.lfs.requests()) if self.lfs is not None else 0


@pytest.fixture(params=WORLDS, ids=lambda param: "-".join(filter(None, param)))
def served(request: pytest.FixtureRequest, certificates: Certificates, tmp_path: Path) -> Iterator[Served]:
    way, kind = request.param
    lfs: Giftless | None = request.getfixturevalue(kind) if kind is not None else None
    repository = tmp_path / "repositories" / NAME
    make_lfs_repository(repository, FILES, OBJECTS)
    (repository / "tool.bin").chmod(0o755)
    git(repository, "commit", "-q", "-a", "-m", "mode")
    with git_world(way, tmp_path / "repositories", certificates, lfs) as world:
        made = Served(world, repository, lfs)
        made.offer(OBJECTS)
        yield made


def described(root: Path, state: str) -> dict[str, tuple[bool, bytes]]:
    """Every file but for ``state`` at the top: path to (executable, content)."""
    files = [path for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] != state]
    return {str(path.relative_to(root)): (bool(path.stat().st_mode & 0o100), path.read_bytes()) for path in files}


def test_tree_is_the_one_of_git_lfs_pull_and_stays_it(served: Served, tmp_path: Path) -> None:
    sync = SyncHere(f"git+{served.world.url}", tmp_path / "dst", served.world.environment)
    done = sync.run("-q", "--require-integrity", "A")
    assert (done.code, done.err) == (0, "")
    clone_with_lfs(served.world.url, tmp_path / "clone", served.world.environment)
    found = described(tmp_path / "dst", ".stager")
    assert found == described(tmp_path / "clone", ".git")
    assert {path: found[path][1] for path in OBJECTS} == OBJECTS
    assert found["tool.bin"][0]
    before = served.sent()
    assert sync.run("-q").code == 0
    assert moved(tmp_path / "dst") == {"objects": 0, "bytes": 0}
    assert served.sent() == before


@pytest.mark.parametrize("served", [WITHOUT_RANGES, WITH_RANGES], ids="-".join, indirect=True)
def test_next_commit_brings_its_own_objects_and_no_other(served: Served, tmp_path: Path) -> None:
    sync = SyncHere(f"git+{served.world.url}", tmp_path / "dst", served.world.environment)
    assert sync.run("-q").code == 0
    before = served.sent()
    new = {"data/small.bin": b"another", "data/new.bin": object_bytes(50_000, 3)}
    served.offer(new)
    attributes = (served.repository / ".gitattributes").read_bytes() + b"data/new.bin filter=lfs -text\n"
    commit_files(
        served.repository,
        {".gitattributes": attributes, **{path: lfs_pointer(content) for path, content in new.items()}},
        "second",
    )
    assert sync.run("-q").code == 0
    assert moved(tmp_path / "dst")["objects"] == len(new) + 1
    found = described(tmp_path / "dst", ".stager")
    assert {path: found[path][1] for path in OBJECTS | new} == OBJECTS | new
    from_giftless = 0 if served.lfs is not None and served.lfs.s3 is not None else len(new)
    assert served.sent() - before == 1 + from_giftless  # one batch


def moved(destination: Path) -> Any:
    return json.loads((destination / ".stager" / "receipt.json").read_text())["moved"]


LISTS = (
    # the user's lfs.fetchinclude and lfs.fetchexclude, those of .lfsconfig
    ((None, None), ("data", None)),
    ((None, None), (None, "/data/, *.png\\\\")),
    (("a.bin", None), ("data", "x")),
    (("", "b.bin"), ("data", "data")),
    (("/data//deep/, a.???,,", None), (None, None)),
    ((" . ,data/../a.bin,!a.bin", None), (None, None)),
    ((None, "**/deep"), ("data", "a.bin")),
    (("  ", "  "), ("x", "a.bin")),
)


def test_what_git_lfs_is_configured_to_leave_out_stays_a_pointer_and_is_told(
    certificates: Certificates, tmp_path: Path
) -> None:
    """Of the same commit and the next, with each configuration: git-lfs-config(5), "LFSCONFIG"."""
    names = ("a.bin", "b.bin", "data/a.bin", "data/c.bin", "x/data/a.bin", "data/deep/z.bin", "p.png")
    objects = {name: name.encode() for name in names}
    repository, config, root = tmp_path / "repositories" / NAME, tmp_path / "gitconfig", tmp_path / "dst"
    make_lfs_repository(repository, FILES, objects)
    keep_lfs_objects(repository, objects.values())
    left = set()
    with git_world("file", tmp_path / "repositories", certificates) as world:
        environment = {**world.environment, "GIT_CONFIG_GLOBAL": str(config)}
        sync = SyncHere(f"git+{world.url}", root, environment)
        committed: tuple[str | None, str | None] = (None, None)
        for number, (users, commits) in enumerate(LISTS):
            config.write_text(_lists(users))
            if commits != committed:
                commit_files(repository, {".lfsconfig": _lists(commits).encode()}, "lists")
                committed = commits
            clone_with_lfs(world.url, tmp_path / f"clone{number}", environment)
            expected = described(tmp_path / f"clone{number}", ".git")
            pointers = [name for name in names if expected[name][1] != objects[name]]
            for _ in range(2):  # the second has the listing of the first
                done = sync.run("-q")
                assert done.code == 0, done.err
                assert described(root, ".stager") == expected, (users, commits)
                assert ("lfs.fetchinclude" in done.err) == bool(pointers)
                counted = json.loads((root / ".stager/receipt.json").read_text())["pinned"]["lfs"]
                assert counted.get("excluded", 0) == len(pointers)
                assert counted.get("objects", 0) == len(names) - len(pointers)
            left.add(len(pointers))
        done = sync.run("-q", "--lfs-include", "*")
        assert (done.code, done.err) == (0, "")
        assert {name: described(root, ".stager")[name][1] for name in names} == objects
    assert len(left) > len(LISTS) // 2  # the lists do not all say the same


def test_each_submodule_is_left_out_of_as_its_own_lfsconfig_says_and_repaired_from_its_own_server(
    git_server: GitHttp, tmp_path: Path
) -> None:
    """Paths of lfs.fetchexclude are meant from the root of the repository that they are of; so git-lfs has it there."""
    with lfs_fixture() as first, lfs_fixture() as second:
        inner = {"a.bin": b"inner a", "data/b.bin": b"inner b", "sub/c.bin": b"inner c"}
        outer = {"a.bin": b"outer a", "data/b.bin": b"outer b"}
        made = (("inner", second, inner, "/data"), ("outer", first, outer, "/sub, a.bin"))
        for name, server, objects, exclude in made:
            config = f'[lfs]\n\turl = {server.url}\n\tfetchexclude = "{exclude}"\n'
            make_lfs_repository(git_server.root / name, {".lfsconfig": config.encode()}, objects)
            for content in objects.values():
                server.add(content)
        commit = git(git_server.root / "inner", "rev-parse", "HEAD")
        (git_server.root / "outer/.gitmodules").write_text('[submodule "sub"]\n\tpath = sub\n\turl = ../inner\n')
        git(git_server.root / "outer", "add", "-A")
        git(git_server.root / "outer", "update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
        git(git_server.root / "outer", "commit", "-q", "-m", "with a submodule")
        scratch = tmp_path / "scratch"
        scratch.mkdir(mode=0o700)
        source, root = f"git+{git_server.url('outer')}", tmp_path / "dst"
        sync = SyncHere(source, root, {"STAGER_SCRATCH": str(scratch)})
        done = sync.run("-q", "--submodules")
        assert done.code == 0 and "2 files stay pointers" in done.err, done.err
        expected = {**outer, **{f"sub/{name}": content for name, content in inner.items()}}
        expected |= {name: lfs_pointer(expected[name]) for name in ("a.bin", "sub/data/b.bin")}
        found = described(root, ".stager")
        assert {name: found[name][1] for name in expected} == expected
        for name in expected:
            (root / name).unlink()
        shutil.rmtree(scratch)
        scratch.mkdir(mode=0o700)
        done = sync.command("verify", str(root), "--repair")
        assert done.code == 0, done.err
        assert described(root, ".stager") == found


def _lists(values: tuple[str | None, str | None]) -> str:
    named = zip(("fetchinclude", "fetchexclude"), values, strict=True)
    return "\n\t".join(["[lfs]", *(f'{name} = "{value}"' for name, value in named if value is not None)]) + "\n"
