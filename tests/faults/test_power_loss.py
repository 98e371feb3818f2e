"""The power fails under ``stager sync``, at any flush of the disk: what looks complete is, and the next run completes.

A real ext4 with its journal on a disk that keeps what was flushed and any part of the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers.s3 import object_bytes, small_objects
from servers.seaweedfs import SeaweedFS

pytestmark = pytest.mark.root

FIRST = dict(small_objects(40)) | {"large": object_bytes(9 << 20, seed=1)}
SECOND = FIRST | {"large": object_bytes(9 << 20, seed=2), "0000/000001.bin": b"later"}


@pytest.fixture
def power_loss(
    weed: SeaweedFS, bucket_name: Callable[[], str], tmp_path: Path, soak: int, seed: int
) -> Callable[..., dict[str, Any]]:
    """Syncs twice onto one disk, and says what was found after failures of its power."""

    def lose(*options: str, mount: str = "") -> dict[str, Any]:
        bucket = bucket_name()
        weed.make_bucket(bucket)
        weed.fill(bucket, FIRST)
        contents = tmp_path / "contents"
        for key, content in SECOND.items():
            (contents / key).parent.mkdir(parents=True, exist_ok=True)
            (contents / key).write_bytes(content)
        work = Path(tempfile.mkdtemp(dir=tmp_path))
        asked = {
            "work": str(work), "source": f"s3://{bucket}", "options": options, "mount": mount, "seed": seed,
            "environment": weed.environment(), "points": 2 * soak,
            "contents": {key: str(contents / key) for key in SECOND},
        }  # fmt: skip
        with subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "faults.power_loss"],
            cwd=Path(__file__).parents[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as driver:  # fmt: skip
            assert driver.stdin is not None and driver.stdout is not None
            print(json.dumps(asked), file=driver.stdin, flush=True)
            assert driver.stdout.readline() == "synced\n"
            weed.fill(bucket, SECOND)
            print("go on", file=driver.stdin, flush=True)
            assert driver.stdout.readline() == "synced\n"
            out, _ = driver.communicate("go on\n")
        found: dict[str, Any] = json.loads(out)
        return found

    return lose


def right_in_the_end(found: list[dict[str, Any]]) -> None:
    for one in found:
        assert one["verify"] in (0, 2, 4), one
        assert (one["sync"], one["right"]) == (0, True), one


def test_durable_tree_is_whole_from_the_moment_it_is_said_to_be_done(power_loss: Callable[..., dict[str, Any]]) -> None:
    lost = power_loss("--fsync")
    right_in_the_end(lost["found"])
    at_the_end = lost["found"][0]
    assert at_the_end["receipt"]
    assert at_the_end["moved"] == 0
    for one in lost["found"]:
        assert one["verify"] == 0 or not one["receipt"], one


def test_tree_that_nobody_flushed_is_put_right_by_the_next_run(
    power_loss: Callable[..., dict[str, Any]], soak: int
) -> None:
    for mount in ("", ",nodelalloc")[: 1 if soak == 1 else 2]:
        lost = power_loss(mount=mount)
        assert lost["flushes"] > lost["done_at"], "it was not yet on the disk when it was done"
        right_in_the_end(lost["found"])
