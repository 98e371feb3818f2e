"""Sources that are network mounts and are not what they seem: found before anything runs, and never waited for."""

from __future__ import annotations

import errno
import os

import pytest

from integration.view_sandbox import sandbox
from servers.slow_fuse import SlowFuse
from stager.errors import MountError, NotFoundError
from stager.model import Mount, MountView
from stager.stages.mount import check_sources

pytestmark = pytest.mark.root


def view_of(*sources: str) -> MountView:
    rows = [Mount(kind="bind", source=source, target=f"/data/a/d{place}") for place, source in enumerate(sources)]
    return MountView(mounts=tuple(rows))


def test_mount_that_does_not_answer_is_given_up_and_the_others_are_still_checked(
    slow_disk: SlowFuse, tmp_path_factory: pytest.TempPathFactory
) -> None:
    missing = str(tmp_path_factory.getbasetemp() / "missing")
    with slow_disk.holding("readdir"), pytest.raises(MountError) as caught:
        check_sources(view_of(str(slow_disk.mountpoint), missing), limit_s=0.5)
    assert f"{slow_disk.mountpoint} (for /data/a/d0): no answer" in str(caught.value)
    assert f"{missing} (for /data/a/d1): no such directory" in str(caught.value)


def test_healthy_sources_before_one_that_hangs_are_not_blamed(
    slow_disk: SlowFuse, tmp_path_factory: pytest.TempPathFactory
) -> None:
    healthy = [str(tmp_path_factory.mktemp("healthy")) for _ in range(5)]
    with slow_disk.holding("readdir"), pytest.raises(MountError) as caught:
        check_sources(view_of(*healthy, str(slow_disk.mountpoint)), limit_s=0.5)
    assert str(caught.value).count("no answer") == 1 and str(slow_disk.mountpoint) in str(caught.value)


@pytest.mark.parametrize("error", [errno.ESTALE, errno.EIO, errno.ENOTCONN])
def test_mount_that_answers_with_an_error_is_a_mount_error(slow_disk: SlowFuse, error: int) -> None:
    slow_disk.fail("readdir", error)
    with pytest.raises(MountError, match=os.strerror(error)):
        check_sources(view_of(str(slow_disk.mountpoint)))


@pytest.mark.parametrize("principal", ["root", "user"])
def test_mount_elsewhere_that_does_not_answer_stops_no_view(slow_disk: SlowFuse, principal: str) -> None:
    with slow_disk.holding("getattr"), sandbox(principal) as box:
        assert box.run("true").info.get("status") == 0


@pytest.mark.parametrize("principal", ["root", "user"])
def test_mount_elsewhere_that_is_dead_stops_no_view(slow_disk: SlowFuse, principal: str) -> None:
    slow_disk.fail("getattr", errno.ENOTCONN)
    with sandbox(principal) as box:
        assert box.run("true").info.get("status") == 0


def test_mount_below_dev_that_the_user_cannot_reach_stops_no_view() -> None:
    with sandbox("user") as box:
        box.host("sh", "-c", "mount -t tmpfs tmpfs /dev/shm && mkdir -m 700 /dev/shm/a && mkdir /dev/shm/a/b")
        box.host("mount", "-t", "tmpfs", "tmpfs", "/dev/shm/a/b")
        assert box.run("true").info.get("status") == 0


def test_healthy_source_is_pinned_to_what_it_is(slow_disk: SlowFuse) -> None:
    (mount,) = check_sources(view_of(f"{slow_disk.mountpoint}/../mnt")).mounts
    found = os.stat(slow_disk.mountpoint)
    assert (mount.source, mount.pinned) == (str(slow_disk.mountpoint), (found.st_dev, found.st_ino))


def test_source_in_a_masked_directory_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    scratch = str(tmp_path_factory.mktemp("scratch"))
    os.mkdir(f"{scratch}/other-job")
    view = MountView(mounts=view_of(f"{scratch}/other-job").mounts, masked=(scratch,))
    with pytest.raises(MountError, match="stager's own directories"):
        check_sources(view)


def test_several_missing_sources_are_all_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = str(tmp_path_factory.getbasetemp())
    with pytest.raises(NotFoundError) as caught:
        check_sources(view_of(f"{base}/one", f"{base}/two"))
    assert f"{base}/one" in str(caught.value) and f"{base}/two" in str(caught.value)
