"""Candidate roots on the file systems that this kernel has, behind real loop devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.real_disks import MAKERS, disk, mount
from stager.host.find_roots import Named, find_roots, this_node
from stager.host.mounts import mount_id, mount_id_of_path
from stager.host.roots import examine
from stager.placement import DeviceClass, Root

pytestmark = pytest.mark.root

REFLINKS = {"ext4": False, "xfs": True, "xfs without clones": False, "btrfs": True}


def found_at(path: Path) -> Root:
    """An image in a file is no candidate that is found by itself: it is named."""
    (root,) = find_roots(this_node(), [Named(str(path), "option")], os.environ, discover=False, clone=True)
    return root


def on_root_disk(path: Path) -> bool:
    return examine(str(path), this_node(), origin="option").root_disk


@pytest.mark.parametrize("kind", MAKERS)
def test_file_system_on_a_loop_device_is_found_with_its_disk_and_reflinks(tmp_path: Path, kind: str) -> None:
    where = tmp_path / "disk"
    with disk(where, kind) as loops:
        root = found_at(where)
        assert (root.problem, root.file_system, root.reflink) == ("", kind.split()[0], REFLINKS[kind])
        assert [disk.name for disk in root.disks] == loops
        assert (root.device_class, root.root_disk) == (DeviceClass.VIRTUAL, on_root_disk(tmp_path))
        assert str(tmp_path / "disk.0") in root.told
        status = os.statvfs(where)
        assert abs(root.free_bytes - status.f_bavail * status.f_frsize) < 1 << 20  # what was tried is freed by and by
        assert [name for name in os.listdir(where) if name != "lost+found"] == []


def test_btrfs_over_two_devices_has_both_for_members(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "btrfs", devices=2) as loops:
        assert [disk.name for disk in found_at(tmp_path / "disk").disks] == sorted(loops)


@pytest.fixture
def layered(tmp_path: Path) -> Iterator[list[str]]:
    """An overlay whose upper directory is on a disk of its own."""
    with ExitStack() as stack:
        loops = stack.enter_context(disk(tmp_path / "disk", "ext4"))
        for name in ("lower", "disk/upper", "disk/work"):
            (tmp_path / name).mkdir()
        options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/disk/upper,workdir={tmp_path}/disk/work"
        stack.enter_context(mount(tmp_path / "merged", "overlay", "overlay", options))
        yield loops


def test_overlay_lies_on_the_disk_of_its_upper_directory(layered: list[str], tmp_path: Path) -> None:
    root = found_at(tmp_path / "merged")
    assert (root.file_system, [disk.name for disk in root.disks]) == ("overlay", layered)


def test_memory_is_memory_and_what_is_full_has_nothing_free(tmp_path: Path) -> None:
    with mount(tmp_path / "ram", "tmpfs", "tmpfs", "size=1m,nr_inodes=50"):
        (tmp_path / "ram" / "file").write_bytes(bytes(1 << 20))
        root = found_at(tmp_path / "ram")
        assert (root.device_class, root.free_bytes, root.reflink) == (DeviceClass.RAM, 0, False)
        assert root.total_inodes == 50


def test_root_that_is_not_there_yet_is_judged_by_what_it_would_lie_on(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "ext4") as loops:
        named = [Named(str(tmp_path / "disk/a/b"), "configuration", DeviceClass.NVME)]
        (root,) = find_roots(this_node(), named, os.environ, discover=False)
        assert (root.problem, root.device_class, [disk.name for disk in root.disks]) == ("", "nvme", loops)
        assert not (tmp_path / "disk/a").exists()


def test_memory_is_found_and_an_image_in_a_file_is_not(tmp_path: Path) -> None:
    with disk(tmp_path / "disk", "ext4"), mount(tmp_path / "ram", "tmpfs", "tmpfs"):
        found = {root.path for root in find_roots(this_node(), [], os.environ)}
        assert str(tmp_path / "ram") in found
        assert str(tmp_path / "disk") not in found


def test_default_is_on_the_root_disk() -> None:
    root = examine("/", this_node(), origin="default")
    assert root.root_disk


def test_mount_of_a_path_is_the_one_its_descriptor_was_opened_through(tmp_path: Path) -> None:
    with mount(tmp_path / "ram", "tmpfs", "tmpfs"):
        descriptor = os.open(tmp_path / "ram", os.O_PATH)
        try:
            assert mount_id_of_path(str(tmp_path / "ram")) == mount_id(descriptor) != mount_id_of_path(str(tmp_path))
        finally:
            os.close(descriptor)
