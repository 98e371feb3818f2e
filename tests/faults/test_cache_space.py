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

from faults.syncing import Synced, run, run_here
from integration.other_user import python_for, readable_copy
from integration.real_disks import disk
from servers.repositories import make_repository
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

USER = 12_345
MIB = 1 << 20
BLOCK = 4096
NOT_FOUND, NO_SPACE = 3, 5
INODES = 400
FIRST = {"a": object_bytes(70_000, 1), "d/b": b"text\n"}
SECOND = {"e": object_bytes(90_000, 3), "f/g": object_bytes(20_000, 4), "f/h": b"", "i": b"short"}


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
        """What is in the kept trees, whole or not."""
        return [contents(tree) for tree in self.scratch.glob("cache/*/*/*/tree")]

    def states(self) -> dict[str, str]:
        records = [json.loads(path.read_bytes()) for path in self.scratch.glob("jobs/*/job.json")]
        return {job["id"]: job["state"] for job in records if job["state"] != "removed"}

    def fill(self, what: str, left: int) -> None:
        """Take all but so many blocks, or inodes."""
        others = self.root / "others"
        others.mkdir()
        if what == "inodes":
            with suppress(OSError):
                for number in itertools.count():
                    (others / str(number)).touch(exist_ok=False)
            for number in range(left):
                (others / str(number)).unlink()
            return
        with (others / "large").open("wb", buffering=0) as file:
            for size in (16 * BLOCK, BLOCK, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
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


def try_with(place: Place, what: str, left: int) -> bool:
    """Whether a job that comes when so much is left gets its data."""
    place.fill(what, left)
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


def try_all(place: Place, what: str, amounts: list[int], enough: int) -> None:
    assert place.run("stage", "--job-id", "first", "first.toml").status == 0
    kept = map(json.loads, place.run("cache", "ls", "--json").out.splitlines())
    (name,) = [one["name"] for one in kept if one["kind"] == "tree"]
    assert place.run("cache", "pin", name).status == 0
    assert not try_with(place, what, 0)
    for left in amounts:
        try_with(place, what, left)
    assert try_with(place, what, enough)


@pytest.mark.parametrize(("kind", "what", "amounts", "enough"), [
    ("ext4", "bytes", (13,), 200), ("ext4", "inodes", (20,), 60), ("xfs", "bytes", (), 400),
])  # fmt: skip
def test_any_room_is_enough_or_refused(
    place: Place, what: str, amounts: tuple[int, ...], enough: int, soak: int
) -> None:
    try_all(place, what, list(amounts) if soak == 1 else list(range(1, enough)), enough)


@pytest.mark.parametrize("kind", ["ext4"])
def test_ordinary_user_is_refused_alike(small_disk: Path, soak: int) -> None:
    python = python_for(USER, readable_copy(small_disk.parent / "library"))
    for name, objects in (("first", FIRST), ("second", SECOND)):
        make_repository(small_disk.parent / name, objects)
        subprocess.run(["chown", "-R", f"{USER}:{USER}", small_disk.parent / name], check=True)
    prepare(small_disk, {name: f"git+file://{small_disk.parent}/{name}" for name in ("first", "second")})
    os.chown(small_disk / "scratch", USER, USER)
    path = f"sys.path.insert(0, '{small_disk.parent}/library')"
    program = f"import sys; {path}; from stager.cli import main; sys.exit(main())"

    def run(*argv: str) -> Synced:
        done = subprocess.run(
            [python, "-I", "-c", program, *argv], user=USER, group=USER, extra_groups=[], cwd=small_disk,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "STAGER_SCRATCH": str(small_disk / "scratch")},
            capture_output=True, text=True,
        )  # fmt: skip
        return Synced(status=done.returncode, out=done.stdout, err=done.stderr)

    try_all(Place(small_disk, run), "inodes", [] if soak == 1 else list(range(1, 120, 7)), 120)


@pytest.mark.parametrize("kind", ["ext4"])
def test_job_that_fills_the_disk_over_a_kept_tree_has_its_exit_code(place: Place, strict: StrictS3) -> None:
    environment = {**strict.environment(), "STAGER_SCRATCH": str(place.scratch)}
    fill = "cat /data/o/n/e | wc -c; dd if=/dev/zero of=/data/o/n/e bs=1000 2>/dev/null; exit 9"
    command = ("run", "--job-id", "one", str(place.root / "second.toml"), "--", "sh", "-c", fill)
    done = run(*command, environment=environment)
    assert (done.status, done.out) == (9, "90000\n"), done.err
    assert place.kept() == [SECOND]
    assert place.run("teardown", "--discard-uncollected", "one").status == 0
