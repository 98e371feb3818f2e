"""The slow file system is an ordinary one until told otherwise, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.slow_fuse import SlowFuse, slow_fuse

pytestmark = pytest.mark.root


@pytest.fixture
def fuse() -> Iterator[SlowFuse]:
    with slow_fuse() as mounted:
        yield mounted


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def test_without_rules_it_is_the_directory_below(fuse: SlowFuse) -> None:
    content = os.urandom(3 << 20)
    (fuse.mountpoint / "d").mkdir()
    (fuse.mountpoint / "d/tmp").write_bytes(content)
    (fuse.mountpoint / "d/tmp").rename(fuse.mountpoint / "d/file")
    (fuse.mountpoint / "link").symlink_to("d/file")
    assert (fuse.backing / "d/file").read_bytes() == content
    assert (fuse.mountpoint / "link").read_bytes() == content
    assert sorted(os.listdir(fuse.mountpoint)) == ["d", "link"]
    assert os.stat(fuse.mountpoint / "d/file").st_mtime_ns == os.stat(fuse.backing / "d/file").st_mtime_ns


def test_held_write_blocks_while_another_file_is_written_and_ends_when_cleared(fuse: SlowFuse) -> None:
    fuse.hold("write", path="slow")
    blocked = threading.Thread(target=(fuse.mountpoint / "slow").write_bytes, args=(b"late",))
    blocked.start()
    fuse.wait_held("write")
    (fuse.mountpoint / "quick").write_bytes(b"now")
    assert (fuse.backing / "quick").read_bytes() == b"now"
    assert blocked.is_alive()
    fuse.clear("write")
    blocked.join()
    assert (fuse.backing / "slow").read_bytes() == b"late"


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_write_beyond_the_chosen_byte_fails_with_the_chosen_error(fuse: SlowFuse, error: int) -> None:
    fuse.fail("write", error, from_byte=(1 << 20) + 1)
    (fuse.mountpoint / "small").write_bytes(bytes(1 << 20))
    with pytest.raises(OSError) as raised:
        (fuse.mountpoint / "large").write_bytes(bytes(2 << 20))
    assert raised.value.errno == error


@pytest.mark.parametrize("operation", ["create", "rename", "mkdir", "fsync"])
def test_every_step_of_a_commit_can_fail(fuse: SlowFuse, operation: str) -> None:
    def commit() -> None:
        (fuse.mountpoint / "d").mkdir()
        with (fuse.mountpoint / "d/tmp").open("wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        (fuse.mountpoint / "d/tmp").rename(fuse.mountpoint / "d/file")

    fuse.fail(operation, errno.EIO)
    with pytest.raises(OSError) as raised:
        commit()
    assert raised.value.errno == errno.EIO
    assert not (fuse.backing / "d/file").exists()


def test_after_the_end_no_mount_is_left_although_a_write_was_held() -> None:
    failed = []

    def write(path: Path) -> None:
        try:
            path.write_bytes(b"x")
        except OSError as error:
            failed.append(error)

    with slow_fuse() as fuse:
        fuse.hold("write")
        blocked = threading.Thread(target=write, args=(fuse.mountpoint / "f",))
        blocked.start()
        fuse.wait_held("write")
        assert str(fuse.mountpoint) in mounts()
    blocked.join()
    assert str(fuse.mountpoint) not in mounts()


def test_killed_daemon_leaves_no_mount() -> None:
    with slow_fuse() as fuse:
        fuse.process.kill()
    assert str(fuse.mountpoint) not in mounts()
