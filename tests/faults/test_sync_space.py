"""Small file systems: what cannot fit is refused beforehand; what others take meanwhile ends a run cleanly."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from faults.syncing import receipt, run_sync, tree
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3
from stager.host.syscalls import sync_file_system

pytestmark = pytest.mark.root

NO_SPACE = 5
BUCKET = "bucket"
SOURCE = f"s3://{BUCKET}/"
MIB = 1 << 20
BYTES, INODES = 28 * MIB, 120
LARGE = {"large": object_bytes(17 * MIB, 9)}
MIDDLE = {f"d/{number}": object_bytes(MIB, number) for number in range(8)}
TINY = {f"t{number % 3}/{number}": b"%d" % number for number in range(60)}


def _mount_tmpfs(place: Path, _: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BYTES},nr_inodes={INODES}", "small", str(place)], check=True)


def _mount_ext4(place: Path, image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", str(INODES), "-O", "^has_journal", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of BYTES and INODES, of the kind that the test is parametrised with."""
    place = tmp_path / "disk"
    place.mkdir()
    {"tmpfs": _mount_tmpfs, "ext4": _mount_ext4}[request.param](place, tmp_path / "image")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def take_all_bytes(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "others").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(64 << 10))


def take_all_inodes(disk: Path) -> None:
    (disk / "others").mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        for number in itertools.count():
            (disk / "others" / str(number)).touch(exist_ok=False)


def give_back(disk: Path) -> None:
    subprocess.run(["rm", "-rf", str(disk / "others")], check=True)


def at_object(strict: StrictS3, number: int, act: Callable[[], None], *, parts: bool = False) -> None:
    """Call ``act`` when so many objects, or ``parts`` of one, have been asked for, before that answer. An object whose
    answer was late is asked for again, and counts once.
    """
    asked: list[str] = []

    def on_request(_method: str, target: str) -> None:
        if "list-type" in target or (not parts and target in asked):
            return
        asked.append(target)
        if len(asked) == number:
            act()

    strict.on_request = on_request


def objects_asked(strict: StrictS3) -> list[str]:
    return [target for _, target in strict.requests if "list-type" not in target]


@pytest.mark.parametrize(
    ("disk", "objects", "words"),
    [
        ("tmpfs", {"a": b"x", **{f"n{number}": object_bytes(MIB, number) for number in range(40)}}, "bytes are needed"),
        ("ext4", {f"d{number % 4}/{number}": b"" for number in range(200)}, "inodes are needed"),
    ],
    ids=["bytes", "inodes"],
    indirect=["disk"],
)
def test_what_cannot_fit_is_refused_before_the_first_object_is_asked_for(
    strict: StrictS3, disk: Path, objects: dict[str, bytes], words: str
) -> None:
    strict.buckets[BUCKET] = objects
    done = run_sync(SOURCE, disk / "dst", strict.environment())
    assert (done.status, len(done.err.splitlines())) == (NO_SPACE, 1)
    assert words in done.err
    assert objects_asked(strict) == []
    assert not (disk / "dst").exists()


@pytest.mark.parametrize(
    ("disk", "objects", "take"),
    [("ext4", MIDDLE, take_all_bytes), ("tmpfs", LARGE, take_all_bytes), ("ext4", TINY, take_all_inodes)],
    ids=["bytes", "bytes of parts", "inodes"],
    indirect=["disk"],
)
def test_what_others_take_meanwhile_stops_it_and_the_next_run_continues(
    strict: StrictS3, disk: Path, objects: dict[str, bytes], take: Callable[[Path], None]
) -> None:
    strict.buckets[BUCKET] = objects
    at_object(strict, 2, lambda: take(disk), parts=objects is LARGE)
    done = run_sync(SOURCE, disk / "dst", strict.environment(), "--max-connections=1")
    assert (done.status, len(done.err.splitlines())) == (NO_SPACE, 1), done
    assert objects.items() >= tree(disk / "dst").items(), "what is visible is right"
    assert [name for name in os.listdir(disk / "dst/.stager") if name.startswith("tmp.")] == []
    with pytest.raises(FileNotFoundError):
        receipt(disk / "dst")
    give_back(disk)
    strict.on_request = None
    assert run_sync(SOURCE, disk / "dst", strict.environment()).status == 0
    assert tree(disk / "dst") == objects
    assert receipt(disk / "dst")["moved"]["objects"] < len(objects) or objects is LARGE


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
def test_space_of_a_large_object_is_its_own_from_the_start(strict: StrictS3, disk: Path) -> None:
    strict.buckets[BUCKET] = LARGE
    at_object(strict, 2, lambda: take_all_bytes(disk), parts=True)
    done = run_sync(SOURCE, disk / "dst", strict.environment(), "--max-connections=1")
    assert (done.status, tree(disk / "dst") == LARGE) == (0, True), done


@pytest.mark.parametrize(
    ("disk", "take"), [("ext4", take_all_bytes), ("tmpfs", take_all_inodes)], ids=["bytes", "inodes"], indirect=["disk"]
)
def test_disk_that_is_full_before_is_named_in_one_line(
    strict: StrictS3, disk: Path, take: Callable[[Path], None]
) -> None:
    strict.buckets[BUCKET] = {"a": object_bytes(MIB, 1)}
    take(disk)
    done = run_sync(SOURCE, disk / "dst", strict.environment())
    assert (done.status, len(done.err.splitlines())) == (NO_SPACE, 1), done
    give_back(disk)
    assert run_sync(SOURCE, disk / "dst", strict.environment()).status == 0


@pytest.mark.parametrize("disk", ["ext4"], indirect=True)
def test_what_is_replaced_counts_for_what_replaces_it(strict: StrictS3, disk: Path) -> None:
    """Twice as much does not fit, and does not have to: only what moves is counted."""
    strict.buckets[BUCKET] = {f"{number}": object_bytes(MIB, number) for number in range(16)}
    assert run_sync(SOURCE, disk / "dst", strict.environment()).status == 0
    strict.buckets[BUCKET] = {f"{number}": object_bytes(MIB, number + 100) for number in range(16)}
    assert run_sync(SOURCE, disk / "dst", strict.environment(), "--max-connections=4").status == 0
    assert tree(disk / "dst") == strict.buckets[BUCKET]


# ---- a disk that promises more than it has: buffered writes succeed, writing back does not


@dataclass(frozen=True)
class Promising:
    """An ext4 of 64 MiB in a sparse image on a tmpfs of less."""

    place: Path
    backing: Path

    def grow(self) -> None:
        subprocess.run(["mount", "-o", "remount,size=80m", str(self.backing)], check=True)

    def write_back(self) -> None:
        """As a process beside would, which is told of the error then."""
        fd = os.open(self.place, os.O_RDONLY)
        with contextlib.suppress(OSError):
            sync_file_system(fd)
        os.close(fd)

    def on_disk(self, root: Path) -> dict[str, bytes]:
        """What a tree holds when the page cache is not asked, as far as it has been written back."""
        for path in root.rglob("*"):
            if path.is_file():
                fd = os.open(path, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)
        return tree(root)


@pytest.fixture
def promising(tmp_path: Path) -> Iterator[Promising]:
    disk = Promising(tmp_path / "disk", tmp_path / "backing")
    with contextlib.ExitStack() as mounted:
        for place in (disk.backing, disk.place):
            place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "small", str(disk.backing)], check=True)
        # Lazily: the loop device lets go of its file a moment after it was unmounted.
        mounted.callback(subprocess.run, ["umount", "--lazy", str(disk.backing)], check=True)
        image = disk.backing / "image"
        with image.open("wb") as file:
            file.truncate(64 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(disk.place)], check=True)
        mounted.callback(subprocess.run, ["umount", str(disk.place)], check=True)
        yield disk


@pytest.mark.parametrize("eaten", [False, True], ids=["told", "told to another process first"])
def test_what_the_disk_did_not_take_is_an_error_of_fsync_and_comes_with_the_next_run(
    strict: StrictS3, promising: Promising, eaten: bool
) -> None:
    objects = {f"d{number % 2}/{number}": object_bytes(MIB, number) for number in range(18)}
    strict.buckets[BUCKET] = objects
    if eaten:
        at_object(strict, len(objects), promising.write_back)
    destination = promising.place / "dst"
    done = run_sync(SOURCE, destination, strict.environment(), "--fsync", "--max-connections=1")
    assert done.status in (NO_SPACE, 6), done
    assert len(done.err.splitlines()) == 1
    with pytest.raises(FileNotFoundError):
        receipt(destination)
    strict.on_request = None
    promising.grow()
    again = run_sync(SOURCE, destination, strict.environment(), "--fsync")
    assert again.status == 0, again
    assert promising.on_disk(destination) == objects
