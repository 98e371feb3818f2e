"""Git datasets on small disks: full scratch, full destination, and both on one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.sync_driver import SyncHere, tree
from servers.git_http import GitHttp
from servers.lfs_fixture import LfsFixture, lfs_fixture
from servers.repositories import commit_files, lfs_pointer, make_repository
from servers.s3 import object_bytes

pytestmark = pytest.mark.root

NO_SPACE = 5
MIB = 1 << 20
FILES = {"readme": b"read me\n", **{f"d/{number}": object_bytes(MIB, number) for number in range(6)}}
OBJECT = object_bytes(9 * MIB, 77)
ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"


@contextlib.contextmanager
def memory(place: Path, *options: str) -> Iterator[Path]:
    """A tmpfs of its own, open to nobody else."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(("mode=0700", *options)), "small", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def remount(place: Path, *options: str) -> None:
    subprocess.run(["mount", "-o", ",".join(("remount", *options)), str(place)], check=True)


@pytest.fixture
def source(git_server: GitHttp) -> str:
    make_repository(git_server.root / "words", FILES)
    return f"git+{git_server.url('words')}/.git"


@pytest.fixture
def lfs() -> Iterator[LfsFixture]:
    with lfs_fixture() as server:
        yield server


def refused(sync: SyncHere, words: str) -> None:
    """It says in one line what is missing, and nothing is there."""
    done = sync.run("-q")
    assert (done.code, len(done.err.splitlines())) == (NO_SPACE, 1), done.err
    assert words in done.err
    assert tree(sync.destination) == {} if sync.destination.exists() else True


def completes(sync: SyncHere, expected: dict[str, bytes]) -> None:
    done = sync.run("-q")
    assert (done.code, done.err) == (0, "")
    assert tree(sync.destination) == expected


@pytest.mark.parametrize(
    ("small", "large", "words"),
    [("size=4m", "size=64m", "bytes are needed"), ("nr_inodes=12", "nr_inodes=1000", "inodes are needed")],
)
def test_tree_that_does_not_fit_is_refused_before_its_first_file(
    tmp_path: Path, source: str, small: str, large: str, words: str
) -> None:
    (tmp_path / "scratch").mkdir(mode=0o700)
    with memory(tmp_path / "disk", small) as disk:
        sync = SyncHere(source, disk / "dst", {"STAGER_SCRATCH": str(tmp_path / "scratch")})
        refused(sync, words)
        remount(disk, large)
        completes(sync, FILES)


def test_objects_that_do_not_fit_are_not_asked_for(
    tmp_path: Path, git_server: GitHttp, source: str, lfs: LfsFixture
) -> None:
    lfs.add(OBJECT)
    more = {".gitattributes": ATTRIBUTES, ".lfsconfig": f"[lfs]\n\turl = {lfs.url}\n".encode()}
    commit_files(git_server.root / "words", {**more, "large.bin": lfs_pointer(OBJECT)}, "with an object")
    (tmp_path / "scratch").mkdir(mode=0o700)
    with memory(tmp_path / "disk", "size=12m") as disk:
        sync = SyncHere(source, disk / "dst", {"STAGER_SCRATCH": str(tmp_path / "scratch")})
        refused(sync, "bytes are needed")
        assert lfs.requests == []
        remount(disk, "size=64m")
        completes(sync, {**FILES, **more, "large.bin": OBJECT})


@pytest.mark.parametrize("scratch", ["full", "read-only", "without inodes"])
def test_scratch_that_cannot_be_used_is_done_without(tmp_path: Path, source: str, scratch: str) -> None:
    options = {"full": "size=1m", "read-only": "size=64m", "without inodes": "nr_inodes=8"}
    with memory(tmp_path / "scratch", options[scratch]) as place:
        if scratch == "read-only":
            remount(place, "ro")
        sync = SyncHere(source, tmp_path / "dst", {"STAGER_SCRATCH": str(place)})
        completes(sync, FILES)
        assert os.listdir(tmp_path / "dst/.stager/") and not list((tmp_path / "dst/.stager").glob("git*"))
        completes(sync, FILES)


def test_one_disk_for_everything_says_what_is_missing(tmp_path: Path, source: str) -> None:
    """Neither the mirror nor a repository beside the destination has room for what is fetched."""
    with memory(tmp_path / "disk", "size=3m") as disk:
        (disk / "scratch").mkdir(mode=0o700)
        sync = SyncHere(source, disk / "dst", {"STAGER_SCRATCH": str(disk / "scratch")})
        refused(sync, "no space left for the repository")
        assert sum(path.stat().st_size for path in disk.rglob("*") if path.is_file()) < MIB
        remount(disk, "size=64m")
        completes(sync, FILES)
