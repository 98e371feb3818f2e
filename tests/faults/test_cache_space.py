"""Whatever room a disk has left when a job comes by way of the cache, it is enough or refused: nothing is half there,
what others have is untouched, removing needs no room, and with room the same command works.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.syncing import Synced, run_here
from integration.real_disks import disk
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

USER = 12_345
MIB = 1 << 20
BLOCK = 4096
NOT_FOUND, NO_SPACE = 3, 5
INODES = 256
FIRST = {"a": object_bytes(70_000, 1), "d/b": b"text\n"}
SECOND = {"e": object_bytes(90_000, 3), "f/g": object_bytes(20_000, 4), "f/h": b"", "i": b"short"}
ENDS = {"bytes": 200, "inodes": 60}
"""So much is enough: blocks, inodes."""


@dataclass
class Place:
    """A small disk with a scratch directory, and job files of two datasets; what is run there is run by ``run``."""

    root: Path
    run: Callable[..., Synced]

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    def tree(self, job: str) -> Path:
        return self.scratch / "jobs" / job / "tree/data/o/n"

    def kept(self) -> list[dict[str, bytes]]:
        """The kept trees, as far as they can be used."""
        shown = [json.loads(line) for line in self.run("cache", "ls", "--json").out.splitlines()]
        return [contents(Path(entry["tree"])) for entry in shown if entry["tree"]]

    def states(self) -> dict[str, str]:
        shown = [json.loads(line) for line in self.run("ls", "--json").out.splitlines()]
        return {job["id"]: job["state"] for job in shown}

    def fill(self, kind: str, left: int) -> None:
        """Take all but so many blocks, or inodes."""
        others = self.root / "others"
        others.mkdir()
        if kind == "inodes":
            with suppress(OSError):
                for number in itertools.count():
                    (others / str(number)).touch(exist_ok=False)
            for number in range(left):
                (others / str(number)).unlink()
            return
        with (others / "large").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(16 * BLOCK))
        with (others / "small").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(BLOCK))
        size = (others / "large").stat().st_size
        os.truncate(others / "large", size - left * BLOCK)
        subprocess.run(["sync", "-f", self.root], check=True)

    def give_back(self) -> None:
        shutil.rmtree(self.root / "others")


def contents(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


@pytest.fixture
def small_disk(kind: str) -> Iterator[Path]:
    """Where every user can reach it."""
    top = Path(tempfile.mkdtemp(prefix="stager-disk-"))
    top.chmod(0o755)
    try:
        if kind == "xfs":
            with disk(top / "disk", "xfs"):
                yield top / "disk"
        else:
            (top / "disk").mkdir()
            with (top / "image").open("wb") as file:
                file.truncate(24 * MIB)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", str(INODES), top / "image"], check=True)
            subprocess.run(["mount", "-o", "loop", top / "image", top / "disk"], check=True)
            try:
                yield top / "disk"
            finally:
                subprocess.run(["umount", top / "disk"], check=True)
    finally:
        shutil.rmtree(top)


def prepare(root: Path, sources: Mapping[str, str]) -> None:
    (root / "scratch").mkdir(mode=0o700)
    for name, source in sources.items():
        text = f'version = 1\n[job]\nname = "job"\n[[dataset]]\nname = "o/n"\nsource = "{source}"\n'
        (root / f"{name}.toml").write_text(text)


@pytest.fixture
def place(small_disk: Path, strict: StrictS3) -> Place:
    strict.buckets |= {"first": dict(FIRST), "second": dict(SECOND)}
    prepare(small_disk, {"first": "s3://first/", "second": "s3://second/"})
    environment = {**strict.environment(), "STAGER_SCRATCH": str(small_disk / "scratch")}

    def run(*argv: str) -> Synced:
        os.chdir(small_disk)
        try:
            return run_here(*argv, environment=environment)
        finally:
            os.chdir("/")

    return Place(small_disk, run)


def try_with(place: Place, kind: str, left: int) -> bool:
    """Whether a job that comes when so much is left gets its data."""
    place.fill(kind, left)
    job = f"second-{left}"
    done = place.run("stage", "--job-id", job, "second.toml")
    assert done.status in (0, NO_SPACE), (left, done.err)
    if done.status:
        assert "are needed" in done.err or "No space left" in done.err, (left, done.err)
        assert place.states().get(job) != "ready", left
    else:
        assert contents(place.tree(job)) == SECOND, left
    assert contents(place.tree("first")) == FIRST, left
    assert FIRST in place.kept(), left
    if left % 2:  # what one does when a disk is full
        removed = place.run("teardown", "--discard-uncollected", job)
        has_nothing = not contents(place.scratch / "jobs" / job / "tree")  # then there is no room for its record either
        assert removed.status == 0 or (removed.status in (NOT_FOUND, NO_SPACE) and has_nothing), (left, removed.err)
        emptied = place.run("cache", "gc", "--keep", "0")
        assert (emptied.status, place.kept()) == (0, [FIRST]), (left, emptied.err)
    place.give_back()
    if done.status:
        if job not in place.states():  # removed, or never begun
            job += "-again"
        again = place.run("stage", "--job-id", job, "second.toml")
        assert (again.status, contents(place.tree(job))) == (0, SECOND), (left, again.err)
    if job in place.states():
        assert place.run("teardown", "--discard-uncollected", job).status == 0
    for record in (place.scratch / "jobs").glob("second-*"):  # these stay, and the disk is small
        shutil.rmtree(record)
    assert place.run("cache", "gc", "--keep", "0").status == 0
    assert place.kept() == [FIRST]
    return done.status == 0


def try_all(place: Place, kind: str, amounts: list[int]) -> None:
    assert place.run("stage", "--job-id", "first", "first.toml").status == 0
    (line,) = place.run("cache", "ls", "--json").out.splitlines()
    assert place.run("cache", "pin", json.loads(line)["name"]).status == 0
    assert not try_with(place, kind, 0)
    for left in amounts:
        try_with(place, kind, left)
    assert try_with(place, kind, ENDS[kind])


@pytest.mark.parametrize("kind", ["ext4"])
@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_any_room_is_enough_or_refused(place: Place, what: str, soak: int) -> None:
    try_all(place, what, [7, 13, 20, 27, 36] if soak == 1 else list(range(1, ENDS[what])))
