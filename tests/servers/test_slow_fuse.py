"""The slow file system is an ordinary one until told otherwise, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from servers.slow_fuse import SlowFuse, slow_fuse

pytestmark = pytest.mark.root


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def test_without_rules_it_is_the_directory_below(slow_disk: SlowFuse) -> None:
    content = os.urandom(3 << 20)
    (slow_disk.mountpoint / "d").mkdir()
    (slow_disk.mountpoint / "d/tmp").write_bytes(content)
    (slow_disk.mountpoint / "d/tmp").rename(slow_disk.mountpoint / "d/file")
    (slow_disk.mountpoint / "link").symlink_to("d/file")
    assert (slow_disk.backing / "d/file").read_bytes() == content
    assert (slow_disk.mountpoint / "link").read_bytes() == content
    assert sorted(os.listdir(slow_disk.mountpoint)) == ["d", "link"]
    assert os.stat(slow_disk.mountpoint / "d/file").st_mtime_ns == os.stat(slow_disk.backing / "d/file").st_mtime_ns


def test_held_write_blocks_while_another_file_is_written_and_ends_when_cleared(slow_disk: SlowFuse) -> None:
    slow_disk.hold("write", path="slow")
    blocked = threading.Thread(target=(slow_disk.mountpoint / "slow").write_bytes, args=(b"late",))
    blocked.start()
    slow_disk.wait_held("write")
    (slow_disk.mountpoint / "quick").write_bytes(b"now")
    assert (slow_disk.backing / "quick").read_bytes() == b"now"
    assert blocked.is_alive()
    slow_disk.clear("write")
    blocked.join()
    assert (slow_disk.backing / "slow").read_bytes() == b"late"


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_write_beyond_the_chosen_byte_fails_with_the_chosen_error(slow_disk: SlowFuse, error: int) -> None:
    slow_disk.fail("write", error, from_byte=(1 << 20) + 1)
    (slow_disk.mountpoint / "small").write_bytes(bytes(1 << 20))
    with pytest.raises(OSError) as raised:
        (slow_disk.mountpoint / "large").write_bytes(bytes(2 << 20))
    assert raised.value.errno == error


@pytest.mark.parametrize("operation", ["create", "rename", "mkdir", "fsync"])
def test_every_step_of_a_commit_can_fail(slow_disk: SlowFuse, operation: str) -> None:
    def commit() -> None:
        (slow_disk.mountpoint / "d").mkdir()
        with (slow_disk.mountpoint / "d/tmp").open("wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        (slow_disk.mountpoint / "d/tmp").rename(slow_disk.mountpoint / "d/file")

    slow_disk.fail(operation, errno.EIO)
    with pytest.raises(OSError) as raised:
        commit()
    assert raised.value.errno == errno.EIO
    assert not (slow_disk.backing / "d/file").exists()


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
