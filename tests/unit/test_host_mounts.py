from __future__ import annotations

import os

from stager.host.capabilities import CAPABILITIES, kept_by_root
from stager.host.mounts import Place, Row, is_network, lies_within, mount_id, parse_mountinfo, place_of, unescape
from stager.host.procs import Process, descendants
from stager.stages.mount import missing_network_mounts

TABLE = rb"""36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
40 36 0:41 / /efs rw,relatime shared:5 propagate_from:2 - nfs4 fs-1.efs:/ rw,vers=4.1
41 36 0:42 /a\134b /odd\012name ro - fuse.sshfs host:/x rw
"""


def test_mountinfo_rows_are_unescaped_and_complete() -> None:
    first, second, third = parse_mountinfo(TABLE)
    options = frozenset({"rw", "noatime"})
    assert first == Row(
        36, 35, "98:0", "/mnt1", "/mnt 2", options, "ext3", "/dev/root", "rw,errors=continue", propagates=True
    )
    assert (second.fstype, second.source, second.propagates) == ("nfs4", "fs-1.efs:/", True)
    assert (third.root, third.mountpoint, third.propagates) == ("/a\\b", "/odd\nname", False)


def test_bytes_of_a_path_survive_unescape() -> None:
    assert os.fsencode(unescape(b"/\xff\\040")) == b"/\xff "


def test_only_whole_components_lie_within() -> None:
    assert lies_within("/a/b", "/a")
    assert lies_within("/a", "/")
    assert not lies_within("/ab", "/a")


def test_types_that_come_over_a_network_are_known() -> None:
    assert is_network("nfs4") and is_network("fuse.sshfs")
    assert not is_network("ext4") and not is_network("fuseblk")


def test_place_of_an_open_directory_is_its_path_in_the_file_system() -> None:
    descriptor = os.open("/proc/self/fd/..", os.O_PATH)
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        row = Row(mount_id(descriptor), 1, "0:9", "/inner", "/proc", frozenset(), "proc", "proc")
        assert place_of(descriptor, [row]) == Place("0:9", "/inner" + path.removeprefix("/proc"))
    finally:
        os.close(descriptor)


def test_network_mount_of_fstab_that_is_not_mounted_is_named() -> None:
    fstab = b"# /gone nfs x\nfs:/ /efs nfs4 defaults 0 0\nfs:/2 /gone nfs defaults\n/dev/a /disk ext4\n"
    rows = parse_mountinfo(TABLE)
    assert missing_network_mounts("/efs/scans", fstab, rows) == []
    assert missing_network_mounts("/gone/scans", fstab, rows) == ["/gone"]
    assert missing_network_mounts("/disk/x", fstab, rows) == []


def test_descendants_are_found_through_every_generation() -> None:
    table = [Process(2, 1, 0), Process(3, 2, 0), Process(4, 3, 0), Process(5, 1, 0)]
    assert {process.pid for process in descendants(2, table)} == {3, 4}


def test_every_capability_of_this_kernel_stands_in_the_table() -> None:
    assert [capability.number for capability in CAPABILITIES] == list(range(41))
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        assert int(file.read()) <= 40


def test_capabilities_that_undo_a_view_are_never_kept() -> None:
    kept = {capability.name for capability in CAPABILITIES if kept_by_root() >> capability.number & 1}
    assert not kept & {"SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "DAC_READ_SEARCH", "MKNOD"}
