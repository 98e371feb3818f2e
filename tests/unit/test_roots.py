"""Disks and classes of candidate roots, on nodes of many kinds described by their sysfs and mountinfo."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from stager.host.find_roots import Named, find_roots
from stager.host.probe import Probe
from stager.host.quota import parse_quota, space_of
from stager.host.roots import problem_of
from stager.placement import DeviceClass, Root
from unit.fake_node import GIB, FakeNode

HOME = {"HOME": "/home/user"}


def aws(fake: FakeNode) -> None:
    """The instance store has a higher number than EBS here, and rotational says nothing."""
    fake.disk("nvme0n1", "259:0", device__model="Amazon Elastic Block Store              ", queue__rotational="0")
    fake.part("nvme0n1p1", "259:1", of="nvme0n1")
    fake.disk("nvme1n1", "259:2", device__model="Amazon EC2 NVMe Instance Storage        ", wwid="nvme.1d0f-1")
    fake.disk("nvme2n1", "259:3", device__model="Amazon Elastic Block Store              ")
    fake.mount("/", "259:1", "xfs", "/dev/nvme0n1p1")
    fake.mount("/mnt/local", "259:2", "ext4", "/dev/nvme1n1")
    fake.mount("/data", "259:3", "ext4", "/dev/nvme2n1")
    fake.mount("/efs", "0:50", "nfs4", "127.0.0.1:/", more="rw,vers=4.1,port=20049")


def gcp(fake: FakeNode) -> None:
    fake.disk("sda", "8:0", device__vendor="Google  ", device__model="PersistentDisk  ", queue__rotational="1")
    fake.part("sda1", "8:1", of="sda")
    fake.disk("nvme0n1", "259:0", device__model="nvme_card")
    fake.disk("nvme1n1", "259:1", device__model="nvme_card-pd")
    fake.disk("sdb", "8:16", device__vendor="Google  ", device__model="EphemeralDisk   ", queue__rotational="1")
    fake.mount("/", "8:1", "ext4", "/dev/sda1")
    fake.mount("/mnt/disks/local", "259:0", "ext4", "/dev/nvme0n1")
    fake.mount("/mnt/disks/pd", "259:1", "ext4", "/dev/nvme1n1")
    fake.mount("/mnt/disks/scsi", "8:16", "ext4", "/dev/sdb")


def azure(fake: FakeNode) -> None:
    fake.disk("nvme0n1", "259:0", device__model="MSFT NVMe Accelerator v1.0")
    fake.part("nvme0n1p1", "259:1", of="nvme0n1")
    fake.disk("nvme1n1", "259:2", device__model="Microsoft NVMe Direct Disk v2")
    fake.disk("sdb", "8:16", device__vendor="Msft    ", device__model="Virtual Disk    ", queue__rotational="1")
    fake.part("sdb1", "8:17", of="sdb")
    link = fake.top / "dev/disk/cloud/azure_resource"
    link.parent.mkdir(parents=True)
    (fake.top / "dev/sdb").touch()
    link.symlink_to("../../sdb")
    fake.mount("/", "259:1", "ext4", "/dev/nvme0n1p1")
    fake.mount("/nvme", "259:2", "xfs", "/dev/nvme1n1")
    fake.mount("/mnt", "8:17", "ext4", "/dev/sdb1")


def bare_metal(fake: FakeNode) -> None:
    """Four NVMe disks: one alone, two in RAID 0, one below LVM. The system is on a SATA SSD."""
    fake.disk("sda", "8:0", device__vendor="ATA     ", device__model="INTEL SSDSC2KB24", queue__rotational="0")
    fake.part("sda2", "8:2", of="sda")
    for number in range(4):
        fake.disk(f"nvme{number}n1", f"259:{number}", device__model="SAMSUNG MZQL21T9", device__transport="pcie",
                  inflight="       3        1")  # fmt: skip
    fake.part("nvme1n1p1", "259:11", of="nvme1n1")
    fake.layer("md127", "9:127", over=["nvme1n1p1", "nvme2n1"], md__level="raid0")
    fake.layer("dm-0", "253:0", over=["nvme3n1"], dm__name="vg-fast", dm__uuid="LVM-abcdef")
    fake.mount("/", "8:2", "ext4", "/dev/sda2")
    fake.mount("/nvme0", "259:0", "xfs", "/dev/nvme0n1")
    fake.mount("/raid", "9:127", "xfs", "/dev/md127")
    fake.mount("/lvm", "253:0", "xfs", "/dev/mapper/vg-fast")


def laptop(fake: FakeNode) -> None:
    """All of one SATA SSD behind dm-crypt and LVM; a memory stick is nobody's scratch."""
    fake.disk("sda", "8:0", device__vendor="ATA     ", device__model="CT500MX500SSD1", queue__rotational="0")
    fake.part("sda3", "8:3", of="sda")
    fake.layer("dm-0", "254:0", over=["sda3"], dm__name="sda3_crypt", dm__uuid="CRYPT-LUKS2-1")
    fake.layer("dm-1", "254:1", over=["dm-0"], dm__name="vg-root", dm__uuid="LVM-2")
    fake.layer("dm-2", "254:2", over=["dm-0"], dm__name="vg-home", dm__uuid="LVM-3")
    fake.layer("dm-3", "254:3", over=["dm-0"], dm__name="vg-scratch", dm__uuid="LVM-4")
    fake.disk("sdb", "8:16", below="devices/usb1/1-1/host2/block", device__vendor="SanDisk", queue__rotational="0")
    fake.mount("/", "254:1", "ext4", "/dev/mapper/vg-root")
    fake.mount("/home", "254:2", "ext4", "/dev/mapper/vg-home")
    fake.mount("/scratch", "254:3", "ext4", "/dev/mapper/vg-scratch")
    fake.mount("/media/user/STICK", "8:16", "vfat", "/dev/sdb")


def hard_disks(fake: FakeNode) -> None:
    for name, number in (("sda", "8:0"), ("sdb", "8:16"), ("sdc", "8:32")):
        fake.disk(name, number, device__vendor="SEAGATE ", device__model="ST8000NM0075", queue__rotational="1")
    fake.disk("sdd", "8:48", below="devices/platform/host9/session2/target9:0:0", device__vendor="NETAPP",
              device__model="LUN", queue__rotational="0")  # fmt: skip
    fake.layer("md0", "9:0", over=["sda", "sdb"], md__level="raid1")
    fake.mount("/", "9:0", "ext4", "/dev/md0")
    fake.mount("/disk2", "8:32", "ext4", "/dev/sdc")
    fake.mount("/lun", "8:48", "ext4", "/dev/sdd")


def several_in_btrfs(fake: FakeNode) -> None:
    """Its number is no disk's; what it lies on is as slow as its slowest."""
    fake.disk("vda", "254:0")
    fake.disk("nvme0n1", "259:0", device__model="KIOXIA KCD61")
    fake.disk("nvme1n1", "259:1", device__model="KIOXIA KCD61")
    fake.disk("sda", "8:0", device__model="ST8000NM0075", queue__rotational="1")
    fake.btrfs("11111111-aaaa", ["vda"])
    fake.btrfs("22222222-bbbb", ["nvme0n1", "nvme1n1"])
    fake.btrfs("33333333-cccc", ["sda", "vda"])
    fake.mount("/", "254:0", "ext4", "/dev/vda")
    fake.mount("/fast", "0:40", "btrfs", "/dev/nvme0n1")
    fake.mount("/mixed", "0:41", "btrfs", "/dev/sda")


def container(fake: FakeNode) -> None:
    """The layer's disk is out of sight; a volume of the host's instance store is not."""
    fake.disk("nvme1n1", "259:2", device__model="Amazon EC2 NVMe Instance Storage")
    fake.mount("/", "0:100", "overlay", "overlay", more=r"rw,lowerdir=/l,upperdir=/var/lib/x\054y/diff,workdir=/w")
    fake.mount("/etc/hosts", "259:2", "ext4", "/dev/nvme1n1")
    fake.mount("/scratch", "259:2", "ext4", "/dev/nvme1n1")


def overlay_in_sight(fake: FakeNode) -> None:
    fake.disk("sda", "8:0", device__model="ST8000NM0075", queue__rotational="1")
    fake.disk("nvme0n1", "259:0", device__model="KIOXIA KCD61")
    fake.mount("/", "8:0", "ext4", "/dev/sda")
    fake.mount("/nvme", "259:0", "ext4", "/dev/nvme0n1")
    fake.mount("/merged", "0:60", "overlay", "overlay", more="rw,lowerdir=/l,upperdir=/nvme/up,workdir=/nvme/w")
    fake.files.add("/nvme/up")


def diskless(fake: FakeNode) -> None:
    fake.mount("/", "0:2", "rootfs", "rootfs")
    fake.mount("/dev/shm", "0:21", "tmpfs", "tmpfs")
    fake.mount("/home", "0:30", "nfs4", "filer:/home")
    fake.mount("/scratch", "0:31", "lustre", "mgs@tcp:/scratch")


def this_kind_of_machine(fake: FakeNode) -> None:
    """Virtio that says it rotates; an image in a file, which is not found but can be named; compressed memory."""
    fake.disk("vda", "254:0", queue__rotational="1", serial="overlayblk")
    fake.disk("loop0", "7:0", below="devices/virtual/block", queue__rotational="1", loop__backing_file="/a/image")
    fake.disk("zram0", "253:0", below="devices/virtual/block", queue__rotational="0")
    fake.mount("/", "254:0", "ext4", "/dev/vda")
    fake.mount("/image", "7:0", "xfs", "/dev/loop0")
    fake.mount("/zram", "253:0", "ext4", "/dev/zram0")


CASES: list[tuple[Callable[[FakeNode], None], dict[str, str]]] = [
    (aws, {"/var/tmp": "virtual root nvme0n1", "/mnt/local": "instance-nvme nvme1n1", "/data": "virtual nvme2n1"}),
    (gcp, {"/var/tmp": "virtual root sda", "/mnt/disks/local": "instance-nvme nvme0n1",
           "/mnt/disks/pd": "virtual nvme1n1", "/mnt/disks/scsi": "ssd sdb"}),
    (azure, {"/var/tmp": "virtual root nvme0n1", "/nvme": "instance-nvme nvme1n1", "/mnt": "ssd sdb"}),
    (bare_metal, {"/var/tmp": "ssd root sda", "/nvme0": "nvme nvme0n1", "/raid": "nvme nvme1n1 nvme2n1 raid0 (md127)",
                  "/lvm": "nvme nvme3n1 LVM (vg-fast)"}),
    (laptop, {"/var/tmp": "ssd root sda LVM (vg-root) dm-crypt (sda3_crypt)",
              "/scratch": "ssd root sda LVM (vg-scratch) dm-crypt (sda3_crypt)"}),
    (hard_disks, {"/var/tmp": "hdd root sda sdb raid1 (md0)", "/disk2": "hdd sdc", "/lun": "virtual sdd"}),
    (several_in_btrfs, {"/var/tmp": "virtual root vda", "/fast": "nvme nvme0n1 nvme1n1", "/mixed": "hdd root sda vda"}),
    (container, {"/var/tmp": "virtual root", "/scratch": "instance-nvme nvme1n1"}),
    (overlay_in_sight, {"/var/tmp": "hdd root sda", "/nvme": "nvme nvme0n1", "/merged": "nvme nvme0n1"}),
    (diskless, {"/var/tmp": "ram root", "/dev/shm": "ram", "/home": "network", "/scratch": "network"}),
    (this_kind_of_machine, {"/var/tmp": "virtual root vda", "/zram": "ram zram0"}),
]  # fmt: skip


def everyone_answers(paths: Sequence[str]) -> list[Probe]:
    return [Probe(path, path, (0, 0), 0) for path in paths]


def shown(root: Root) -> str:
    parts = [root.device_class, *(["root"] if root.root_disk else []), *(disk.name for disk in root.disks)]
    return " ".join([*parts, *root.layers])


@pytest.mark.parametrize(("machine", "expected"), CASES, ids=[machine.__name__ for machine, _ in CASES])
def test_roots_of_a_node_are_found_with_their_class_and_disks(
    tmp_path: Path, machine: Callable[[FakeNode], None], expected: dict[str, str]
) -> None:
    fake = FakeNode(tmp_path)
    machine(fake)
    found = find_roots(fake.node(), [], HOME, ask=everyone_answers)
    assert {root.path: shown(root) for root in found} == expected
    assert not any(root.problem for root in found)


def test_efs_through_a_tunnel_is_network_although_its_server_is_this_host(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path)
    aws(fake)
    (root, *_) = find_roots(fake.node(), [Named("/efs/x", "configuration")], HOME, ask=everyone_answers)
    assert (root.path, root.device_class, root.told) == ("/efs/x", DeviceClass.NETWORK, "nfs4 from 127.0.0.1:/")


def test_class_that_is_configured_overrides_the_one_found_and_both_are_told(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path)
    this_kind_of_machine(fake)
    named = [Named("/image", "configuration", DeviceClass.NVME)]
    (root,) = find_roots(fake.node(), named, HOME, discover=False)
    assert root.device_class is DeviceClass.NVME
    assert "by configuration; found was virtual (loop0: the file /a/image)" in root.told
    assert root.root_disk


def test_network_root_that_does_not_answer_is_named_and_never_touched(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path)
    diskless(fake)

    def scratch_is_dead(paths: Sequence[str]) -> list[Probe]:
        return [Probe(path, path, (0, 0), -1 if path == "/scratch" else 0) for path in paths]

    node = fake.node()
    asked: list[str] = []

    def watching(path: str) -> int:
        asked.append(path)
        return covering(path)

    covering = node.mount_id
    object.__setattr__(node, "mount_id", watching)
    found = {root.path: root for root in find_roots(node, [], HOME, ask=scratch_is_dead)}
    assert found["/scratch"].problem == "does not answer"
    assert found["/home"].problem == ""
    assert "/scratch" not in asked


def test_what_cannot_be_written_gives_way_to_a_directory_in_it_and_else_says_why(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path)
    bare_metal(fake)
    fake.problems = {"/nvme0": "you cannot write there", "/raid": "you cannot write there"}
    fake.files.add("/nvme0/scratch")
    found = {root.path: root for root in find_roots(fake.node(), [], HOME)}
    assert (found["/nvme0/scratch"].device_class, found["/nvme0/scratch"].problem) == (DeviceClass.NVME, "")
    assert found["/raid"].problem == "you cannot write there"


@pytest.mark.parametrize("options", ["ro", "rw,noexec"])
def test_found_file_systems_that_a_job_could_not_use_are_no_candidates(tmp_path: Path, options: str) -> None:
    fake = FakeNode(tmp_path)
    aws(fake)
    fake.mount("/odd", "259:9", "ext4", "/dev/odd", options=options)
    fake.mount("/home/user", "259:3", "ext4", "/dev/nvme2n1")
    for system in ("/var/lib/pgsql", "/home/other", "/srv", "/opt"):
        fake.mount(system, "259:9", "ext4", "/dev/odd")
    found = {root.path: root.problem for root in find_roots(fake.node(), [], HOME)}
    noexec = found.pop("/odd", "is mounted noexec")
    assert found == {"/var/tmp": "", "/mnt/local": "", "/data": ""}
    assert noexec.startswith("is mounted noexec")
    (named,) = find_roots(fake.node(), [Named("/odd", "option")], HOME, discover=False, ask=everyone_answers)
    assert ("read-only" in named.problem, bool(named.notes)) == (options == "ro", options != "ro")


def test_disk_that_should_be_mounted_and_is_not_is_no_place(tmp_path: Path) -> None:
    """Else its data would go to the disk of the system, under the name and class of the one that is missing."""
    fake = FakeNode(tmp_path)
    bare_metal(fake)
    fstab = b"# /x\nUUID=1 / ext4 defaults 0 1\nUUID=2 /gone xfs defaults 0 0\nUUID=3 none swap sw 0 0\n"
    node = replace(fake.node(), fstab=fstab)
    named = [Named("/gone/scratch", "configuration", DeviceClass.NVME), Named("/raid", "configuration")]
    gone, raid = find_roots(node, named, HOME, discover=False)
    assert gone.problem == "/gone stands in /etc/fstab but is not mounted"
    assert raid.problem == ""


def test_disks_with_much_to_do_are_busy(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path)
    bare_metal(fake)
    busy = {root.path: root.busy for root in find_roots(fake.node(), [], HOME)}
    assert (busy["/nvme0"], busy["/var/tmp"]) == (0.5, 0.0)


def test_nvme_over_a_network_is_no_nvme(tmp_path: Path) -> None:
    fake = FakeNode(tmp_path)
    fake.disk("nvme0n1", "259:0", device__model="Linux", device__nvme3__transport="tcp")
    fake.mount("/", "259:0", "ext4", "/dev/nvme0n1")
    (root,) = find_roots(fake.node(), [], HOME)
    assert (root.device_class, root.told) == (DeviceClass.VIRTUAL, "nvme0n1: Linux (NVMe over tcp)")


def quota(*fields: int) -> bytes:
    return b"".join(field.to_bytes(8, "little") for field in (*fields, *[0] * (9 - len(fields))))


def test_quota_leaves_the_least_of_its_limits_and_never_less_than_nothing() -> None:
    assert parse_quota(quota(0, 0, 5, 0, 0, 7)) == (None, None)
    assert parse_quota(quota(100, 80, 50 << 10, 9, 0, 7)) == (30 << 10, 2)
    assert parse_quota(quota(10, 0, 50 << 10, 5, 0, 7)) == (0, 0)


def test_space_is_what_the_quota_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    space = space_of(str(tmp_path), ask=lambda _fd, kind, _id: quota(*([8, 0, 1024, 9, 0, 4] if kind == 0 else [])))
    assert (space.free_bytes, space.free_inodes, space.by_quota) == (7 << 10, 5, True)
    assert space.total_bytes > GIB >> 6


def test_why_a_directory_cannot_be_a_scratch_is_said_and_nothing_is_made(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    (tmp_path / "file").touch()
    assert problem_of(str(tmp_path / "not" / "there")) == ""
    assert "can be written by others" in problem_of(str(open_to_all / "x"))
    assert problem_of(str(tmp_path / "file")) != ""
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    assert problem_of(str(sticky)) == ""
    (sticky / f"stager-{os.geteuid()}").symlink_to(tmp_path)
    assert "is not a directory that only you can write" in problem_of(str(sticky))
    assert not (tmp_path / "not").exists()
