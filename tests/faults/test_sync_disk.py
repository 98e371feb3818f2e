"""A disk that fails, fills or hangs under ``stager sync``: the right exit code, and nothing half visible."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.syncing import receipt, run_sync, tree
from servers.process import ServerProcess, console_script
from servers.s3 import object_bytes, small_objects
from servers.seaweedfs import SeaweedFS
from servers.slow_fuse import SlowFuse

pytestmark = pytest.mark.root

OBJECTS = dict(small_objects(30)) | {"large": object_bytes(17 << 20, seed=1), "mid": object_bytes(3 << 20, seed=2)}
FEW = dict(small_objects(3))
NO_SPACE, THIS_NODE = 5, 6


@pytest.fixture(scope="module")
def source(weed: SeaweedFS, bucket_name: Callable[[], str]) -> str:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, OBJECTS)
    return f"s3://{bucket}/"


@pytest.fixture(scope="module")
def small_source(weed: SeaweedFS, bucket_name: Callable[[], str]) -> str:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, FEW)
    return f"s3://{bucket}/"


@pytest.mark.parametrize(
    ("operation", "error", "path", "status"),
    [
        ("write", errno.ENOSPC, "", NO_SPACE),
        ("write", errno.EDQUOT, "", NO_SPACE),
        ("write", errno.EIO, "", THIS_NODE),
        ("create", errno.ENOSPC, "", NO_SPACE),
        ("create", errno.EACCES, "", THIS_NODE),
        ("rename", errno.EIO, "0000", THIS_NODE),
        ("rename", errno.EIO, "large", THIS_NODE),
        ("mkdir", errno.ENOSPC, "0000", NO_SPACE),
        ("readdir", errno.EIO, "", THIS_NODE),
        ("flush", errno.EIO, "", THIS_NODE),
        ("flush", errno.EDQUOT, "journal", NO_SPACE),
    ],
)
def test_failing_disk_is_named_by_exit_code_and_the_next_run_completes(
    weed: SeaweedFS, source: str, slow_disk: SlowFuse, operation: str, error: int, path: str, status: int
) -> None:
    destination = slow_disk.mountpoint / "dst"
    destination.mkdir()
    slow_disk.fail(operation, error, path=path)
    done = run_sync(source, destination, weed.environment())
    slow_disk.clear(operation)
    assert done.status == status, done.err
    assert len(done.err.splitlines()) == 1
    assert OBJECTS.items() >= tree(destination).items(), "what is visible is right"
    with pytest.raises(FileNotFoundError):
        receipt(destination)
    assert run_sync(source, destination, weed.environment()).status == 0
    assert tree(destination) == OBJECTS


@pytest.mark.parametrize("path", ["mid", "large"])
def test_disk_that_fills_in_the_middle_of_an_object_leaves_it_invisible(
    weed: SeaweedFS, source: str, slow_disk: SlowFuse, path: str
) -> None:
    destination = slow_disk.mountpoint / "dst"
    destination.mkdir()
    slow_disk.fail("write", errno.ENOSPC, from_byte=len(OBJECTS[path]) - 1000)
    assert run_sync(source, destination, weed.environment()).status == NO_SPACE
    assert path not in tree(destination)


@pytest.mark.parametrize("path", ["mid", "large"])
def test_file_whose_closing_fails_stays_invisible(
    weed: SeaweedFS, source: str, slow_disk: SlowFuse, path: str
) -> None:
    destination = slow_disk.mountpoint / "dst"
    destination.mkdir()
    slow_disk.fail("flush", errno.EDQUOT, path="partial/" if path == "large" else "stg-part-")
    assert run_sync(source, destination, weed.environment()).status == NO_SPACE
    assert path not in tree(destination)
    slow_disk.clear("flush")
    assert run_sync(source, destination, weed.environment()).status == 0
    assert tree(destination) == OBJECTS


@pytest.mark.parametrize(
    ("operation", "error", "path", "status"),
    [
        ("write", errno.ENOSPC, "journal", NO_SPACE),
        ("write", errno.EIO, "manifest", THIS_NODE),
        ("write", errno.EDQUOT, "receipt", NO_SPACE),
        ("create", errno.ENOSPC, "manifest", NO_SPACE),
        ("rename", errno.EIO, "manifest", THIS_NODE),
        ("rename", errno.ENOSPC, "receipt", NO_SPACE),
        ("flush", errno.EDQUOT, "manifest", NO_SPACE),
        ("flush", errno.EIO, "receipt", THIS_NODE),
        ("unlink", errno.EIO, "journal", THIS_NODE),
    ],
)
def test_disk_that_fails_under_the_records_leaves_none_that_is_believed(
    weed: SeaweedFS, small_source: str, slow_disk: SlowFuse, operation: str, error: int, path: str, status: int
) -> None:
    destination = slow_disk.mountpoint / "dst"
    destination.mkdir()
    slow_disk.fail(operation, error, path=path)
    done = run_sync(small_source, destination, weed.environment())
    slow_disk.clear(operation)
    assert (done.status, len(done.err.splitlines())) == (status, 1), done
    assert FEW.items() >= tree(destination).items(), "what is visible is right"
    if path != "journal":
        assert tree(destination) == FEW
    with contextlib.suppress(FileNotFoundError):
        receipt(destination)
        assert (operation, path) == ("unlink", "journal"), "the receipt comes before that"
    again = run_sync(small_source, destination, weed.environment())
    assert (again.status, tree(destination)) == (0, FEW)
    if path != "journal":
        assert receipt(destination)["moved"]["objects"] == 0, "the journal has all of it"
    left = set(os.listdir(destination / ".stager"))
    assert left == {"lock", "manifest.jsonl", "receipt.json"}


@pytest.mark.parametrize("operation", ["read", "open", "getattr", "statfs"])
def test_disk_that_errs_when_it_is_looked_at_is_an_error_and_not_a_reason_to_fetch(
    weed: SeaweedFS, small_source: str, slow_disk: SlowFuse, operation: str
) -> None:
    destination = slow_disk.mountpoint / "dst"
    destination.mkdir()
    assert run_sync(small_source, destination, weed.environment()).status == 0
    slow_disk.fail(operation, errno.EIO, path="" if operation == "statfs" else "0000/")
    done = run_sync(small_source, destination, weed.environment(), "--verify")
    slow_disk.clear(operation)
    assert (done.status, len(done.err.splitlines())) == (THIS_NODE, 1), done
    assert tree(destination) == FEW
    assert run_sync(small_source, destination, weed.environment(), "--verify").status == 0
    assert receipt(destination)["moved"]["objects"] == 0


def test_killed_while_the_disk_hangs_the_next_run_completes(weed: SeaweedFS, source: str, slow_disk: SlowFuse) -> None:
    destination = slow_disk.mountpoint / "dst"
    destination.mkdir()
    argv = [console_script("stager"), "sync", source, str(destination)]
    with slow_disk.holding("write"), ServerProcess(argv, env=weed.environment()) as stager:
        slow_disk.wait_held("write")
        os.kill(stager.pid, signal.SIGKILL)
        slow_disk.clear("write")
        stager.kill()
    assert OBJECTS.items() >= tree(destination).items(), "what is visible is right"
    assert run_sync(source, destination, weed.environment()).status == 0
    assert tree(destination) == OBJECTS


def test_interrupted_while_the_disk_hangs_it_says_how_to_continue_and_leaves_nothing_half_visible(
    weed: SeaweedFS, source: str, slow_disk: SlowFuse, tmp_path: Path
) -> None:
    destination = slow_disk.mountpoint / "dst"
    destination.mkdir()
    with (
        subprocess.Popen(
            [console_script("stager"), "sync", source, str(destination)],
            env=weed.environment() | {"HOME": str(tmp_path)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as stager,
        slow_disk.holding("write", path="partial/"),
    ):
        slow_disk.wait_held("write")
        stager.send_signal(signal.SIGINT)
        slow_disk.clear("write")
        _, err = stager.communicate(timeout=60)
    assert stager.returncode == 128 + signal.SIGINT
    assert "continue" in err
    assert OBJECTS.items() >= tree(destination).items(), "what is visible is right"
