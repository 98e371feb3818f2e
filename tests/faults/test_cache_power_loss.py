"""The power fails while the cache of a node is filled, changed and emptied, at any flush of the disk: what is kept
counts only once the next job has found it whole, and nothing is left of what was under way.

On an ext4 or xfs on a disk that keeps what was flushed and any part of the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT
from typing import Any

import pytest

from faults.syncing import tree
from integration.cache_driver import start_stager
from integration.clone_disk import clone_disk
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

MIB = 1 << 20
FIRST = {f"d{number % 3}/{number}": object_bytes(300 + 4_000 * number, number) for number in range(24)}
FIRST |= {"large": object_bytes(9 * MIB, 77), "empty": b""}
SECOND = FIRST | {"large": object_bytes(9 * MIB, 78), "d0/3": b"later", "new": object_bytes(70_000, 79)}
JOB = 'version = 1\n[job]\nname = "job"\n[[dataset]]\nname = "o/n"\nsource = "s3://bucket/"\n'
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def digests(objects: dict[str, bytes]) -> dict[str, str]:
    return {key: hashlib.sha256(content).hexdigest() for key, content in objects.items()}


@pytest.fixture
def power_loss(strict: StrictS3, tmp_path: Path, seed: int) -> Callable[..., list[dict[str, Any]]]:
    """What was found after failures of the power of one disk: after steps with nothing that came later, and at moments
    all over. ``fetched``: how many objects the server was asked for then.
    """

    def lose(kind: str, mount: str, ends: list[int], points: int) -> list[dict[str, Any]]:
        strict.buckets["bucket"] = dict(FIRST)
        asked = {
            "work": tempfile.mkdtemp(dir=tmp_path), "kind": kind, "mount": mount, "seed": seed, "job": JOB,
            "ends": ends, "points": points, "environment": strict.environment(),
        }  # fmt: skip
        found: list[dict[str, Any]] = []
        with subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "faults.cache_power_loss"],
            cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as driver:  # fmt: skip
            assert driver.stdin is not None and driver.stdout is not None
            print(json.dumps(asked), file=driver.stdin, flush=True)
            for line in driver.stdout:
                told = json.loads(line)
                if told == "next":
                    strict.buckets["bucket"] = dict(SECOND)
                else:
                    targets = {target.partition("?")[0] for method, target in strict.requests if method == "GET"}
                    found.append({**told, "fetched": len(targets - {"/bucket", "/bucket/"})})
                strict.requests.clear()
                print("go on", file=driver.stdin, flush=True)
        assert driver.returncode == 0
        return found

    return lose


def check(found: list[dict[str, Any]]) -> None:
    for one in found:
        assert not any(one["ends"]), (one["epoch"], one["says"])
        assert one["staged"] == one["shown"] == digests(SECOND), one["epoch"]
        assert one["moved"] == one["fetched"], one["epoch"]
        assert one["left"] == [], one["epoch"]


def lost_contents(found: list[dict[str, Any]]) -> int:
    """How many kept files are neither what they were nor what they are."""
    right = [digests(FIRST), digests(SECOND)]
    kept = [files for one in found for files in one["kept"]]
    return sum(all(digest != each.get(path) for each in right) for files in kept for path, digest in files.items())


def test_next_job_has_its_data_whatever_the_kept_tree_lost(
    power_loss: Callable[..., list[dict[str, Any]]], soak: int
) -> None:
    found = power_loss("ext4", "", [1] if soak == 1 else [0, 1, 2, 3], soak)
    check(found)
    assert lost_contents(found), "all of it was on the disk: nothing was shown"


@pytest.mark.parametrize(("kind", "mount"), [("ext4", ",data=writeback,nodelalloc"), ("xfs", "")])
def test_the_same_where_lost_contents_keep_their_size_and_where_blocks_are_shared(
    power_loss: Callable[..., list[dict[str, Any]]], soak: int, kind: str, mount: str
) -> None:
    if soak == 1:
        pytest.skip("under --soak")
    check(power_loss(kind, mount, [0, 1, 2, 3], soak))


def lose_contents(path: Path, image: Path, place: Path) -> None:
    """Other bytes on the disk, of which size, mtime and ctime of the file say nothing."""
    shown = subprocess.run(["filefrag", "-s", "-e", "-b512", path], check=True, capture_output=True, text=True).stdout
    (extent,) = [line.split(":") for line in shown.splitlines() if line.strip()[:1].isdigit()]
    before = path.stat()
    subprocess.run(["umount", place], check=True)
    with image.open("r+b") as disk:
        os.pwrite(disk.fileno(), bytes(before.st_size), 512 * int(extent[2].partition("..")[0]))
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    after = path.stat()
    same = ("st_size", "st_mtime_ns", "st_ctime_ns")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert path.read_bytes() == bytes(before.st_size)


def test_tree_of_another_boot_is_hashed_by_whoever_takes_of_it(tmp_path: Path, strict: StrictS3) -> None:
    """Also by who begins anew beside one that has stopped before it did so."""
    strict.buckets["bucket"] = objects = {"a": object_bytes(70_000, 1), "b": object_bytes(9_000, 2)}
    place, image = tmp_path / "disk", tmp_path / "image"
    (tmp_path / "boot_id").write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    rebooted = ("unshare", "--mount", "sh", "-c", f'mount --bind {tmp_path}/boot_id {BOOT_ID} && exec "$@"', "sh")
    with clone_disk(place, image):
        scratch = place / "scratch"
        scratch.mkdir(mode=0o700)
        start_stager(scratch, place / "before", strict.environment()).finish()
        (kept,) = scratch.glob("cache/*/*/*/tree/a")
        lose_contents(kept, image, place)
        stopped = start_stager(scratch, place / "one", strict.environment(), before=rebooted, STOP="is_free")
        stopped.await_stop()
        start_stager(scratch, place / "two", strict.environment(), before=rebooted, stale_s=0.3).finish()
        stopped.send(SIGCONT)
        stopped.finish()
        assert tree(place / "one") == tree(place / "two") == objects
