"""The disks behind a file system, and of which class they are, as sysfs has it.

Sources: the kernel's documentation of sysfs block devices (ABI/stable/sysfs-block: ``slaves``, ``partition``,
``inflight``, ``dm/``, ``md/``); the models by which clouds name their disks: Amazon's "NVMe instance store volumes",
Google's google-guest-configs (65-gce-disk-naming.rules), Microsoft's azure-vm-utils (80-azure-disk.rules).
``queue/rotational`` of a virtual disk says nothing: it is not looked at there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from stager.host.mounts import Row
from stager.placement import DeviceClass, Disk

__all__ = ["Behind", "Sysfs", "device_number", "disks_behind"]

_SLOWEST_FIRST: Final = (
    DeviceClass.NETWORK, DeviceClass.HDD, DeviceClass.VIRTUAL, DeviceClass.SSD, DeviceClass.NVME, DeviceClass.INSTANCE,
    DeviceClass.RAM,
)  # fmt: skip

_MODELS: Final = tuple(
    (re.compile(pattern), device_class, told)
    for pattern, device_class, told in (
        (r"nvme\S* Amazon EC2 NVMe Instance Storage", DeviceClass.INSTANCE, "instance store"),
        (r"nvme\S* Amazon Elastic Block Store", DeviceClass.VIRTUAL, "over the cloud's network"),
        (r"nvme\S* nvme_card[0-9]*", DeviceClass.INSTANCE, "Google's local SSD"),
        (r"nvme\S* nvme_card-pd", DeviceClass.VIRTUAL, "Google's persistent disk, over the cloud's network"),
        (r"nvme\S* Microsoft NVMe Direct Disk( v[0-9]+)?", DeviceClass.INSTANCE, "Azure's local disk"),
        (r"nvme\S* MSFT NVMe Accelerator v.*", DeviceClass.VIRTUAL, "over the cloud's network"),
        (r"nvme\S* Alibaba Cloud Elastic Block Storage.*", DeviceClass.VIRTUAL, "over the cloud's network"),
        (r"nvme\S* (QEMU|VMware|ORCL-VBOX|Virtual).*", DeviceClass.VIRTUAL, "a hypervisor's disk"),
        (r"sd\S* Google EphemeralDisk", DeviceClass.SSD, "Google's local SSD by SCSI"),
        (r"sd\S* Google PersistentDisk", DeviceClass.VIRTUAL, "over the cloud's network"),
        (r"sd\S* Msft Virtual Disk", DeviceClass.VIRTUAL, "a hypervisor's disk"),
        (r"sd\S* (QEMU|VMware|VBOX|Xen|LIO-ORG|IET) .*", DeviceClass.VIRTUAL, "a hypervisor's or target's disk"),
    )
)
"""By "NAME VENDOR MODEL", whole; the first that matches."""

_NAMES: Final = (
    ("zram", DeviceClass.RAM, "compressed memory"),
    ("ram", DeviceClass.RAM, "memory"),
    ("pmem", DeviceClass.NVME, "persistent memory"),
    ("vd", DeviceClass.VIRTUAL, "virtio"),
    ("xvd", DeviceClass.VIRTUAL, "Xen"),
    ("loop", DeviceClass.VIRTUAL, "a file"),
    ("rbd", DeviceClass.VIRTUAL, "Ceph, over the network"),
    ("nbd", DeviceClass.VIRTUAL, "over the network"),
    ("drbd", DeviceClass.VIRTUAL, "mirrored over the network"),
    ("mmcblk", DeviceClass.VIRTUAL, "a flash card"),
)
"""By the beginning of the name, where no model decides."""


def device_number(path: str) -> str | None:
    """``MAJOR:MINOR`` of a block device's file; None when it is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}" if stat.S_ISBLK(found.st_mode) else None


@dataclass(frozen=True)
class Sysfs:
    """Where the kernel tells of its disks; ``number_of`` as `device_number`."""

    top: str = "/sys"
    dev: str = "/dev"
    number_of: Callable[[str], str | None] = device_number


@dataclass(frozen=True)
class Behind:
    """What a file system lies on. ``busy`` is from 0 to 1: requests in flight, 8 on each disk are all it can do."""

    disks: tuple[Disk, ...] = ()
    layers: tuple[str, ...] = ()
    busy: float = 0.0

    @property
    def device_class(self) -> DeviceClass:
        """Of the slowest disk: all of them have to be waited for."""
        return min((disk.device_class for disk in self.disks), key=_SLOWEST_FIRST.index, default=DeviceClass.VIRTUAL)

    @property
    def told(self) -> str:
        """The disks that make the class, for people."""
        mine = [f"{disk.name}: {disk.told}" for disk in self.disks if disk.device_class is self.device_class]
        return ", ".join(mine[:4]) + (f" and {len(mine) - 4} more" if len(mine) > 4 else "")


def disks_behind(row: Row, sysfs: Sysfs) -> Behind:
    """The disks of a mounted file system, through partitions, LVM, dm-crypt, md and btrfs. Empty: nothing says. Blocks.

    Never raises: what cannot be read is not there.
    """
    disks: dict[str, Disk] = {}
    layers: dict[str, None] = {}
    waiting = 0
    for start in _starts(row, sysfs):
        for directory in _leaves(start, layers, set()):
            name = os.path.basename(directory)
            if name not in disks:
                disks[name] = _describe(directory, name, sysfs)
                waiting += _in_flight(directory)
    busy = min(1.0, waiting / (8 * len(disks))) if disks else 0.0
    return Behind(tuple(disks[name] for name in sorted(disks)), tuple(layers), busy)


def _starts(row: Row, sysfs: Sysfs) -> Iterator[str]:
    """Directories of the devices that a file system names: its own, or those of its source (btrfs has a number of its
    own, which is no disk's).
    """
    directory = _directory_of(row.device, sysfs)
    if directory is not None:
        yield directory
        return
    for source in row.source.split(":") if row.fstype == "bcachefs" else [row.source]:
        number = sysfs.number_of(source) if source.startswith("/dev/") else None
        directory = _directory_of(number, sysfs) if number is not None else None
        if directory is None:
            continue
        if row.fstype == "btrfs":
            yield from _btrfs_members(directory, sysfs)
        else:
            yield directory


def _directory_of(number: str, sysfs: Sysfs) -> str | None:
    path = f"{sysfs.top}/dev/block/{number}"
    return os.path.realpath(path) if os.path.exists(path) else None


def _btrfs_members(directory: str, sysfs: Sysfs) -> Iterator[str]:
    """All devices of the btrfs that has this one; this one, where the kernel does not say."""
    top = f"{sysfs.top}/fs/btrfs"
    for name in _names_in(top):
        members = {os.path.realpath(f"{top}/{name}/devices/{member}") for member in _names_in(f"{top}/{name}/devices")}
        if directory in members:
            yield from sorted(members)
            return
    yield directory


def _leaves(directory: str, layers: dict[str, None], seen: set[str]) -> Iterator[str]:
    """The whole disks below a device; what lies between goes to ``layers``."""
    if os.path.exists(f"{directory}/partition"):
        directory = os.path.dirname(directory)
    if directory in seen:
        return
    seen.add(directory)
    below = _names_in(f"{directory}/slaves")
    if not below:
        yield directory
        return
    layers[_layer(directory)] = None
    for name in below:
        yield from _leaves(os.path.realpath(f"{directory}/slaves/{name}"), layers, seen)


def _layer(directory: str) -> str:
    kernel_name = os.path.basename(directory)
    if level := _read(f"{directory}/md/level"):
        return f"{level} ({kernel_name})"
    kind = _read(f"{directory}/dm/uuid").partition("-")[0].lower()
    name = _read(f"{directory}/dm/name") or kernel_name
    known = {"lvm": "LVM", "crypt": "dm-crypt", "mpath": "multipath", "cache": "dm-cache"}
    return f"{known.get(kind, 'bcache' if kernel_name.startswith('bcache') else 'device mapper')} ({name})"


def _describe(directory: str, name: str, sysfs: Sysfs) -> Disk:
    vendor, model = _read(f"{directory}/device/vendor"), _read(f"{directory}/device/model")
    vendor = "" if vendor.startswith("0x") or vendor == "ATA" else vendor  # a PCI number, or a bus
    device_class, why = _classify(directory, name, " ".join(filter(None, (name, vendor, model))), sysfs)
    backing = _read(f"{directory}/loop/backing_file")
    named = (_read(f"{directory}/{file}") for file in ("wwid", "device/wwid", "serial", "device/serial"))
    identity = backing or next(filter(None, named), f"{name} {_read(f'{directory}/size')}")
    shown = " ".join(filter(None, (vendor, model)))
    told = f"{shown} ({why})" if shown and why else shown or why
    return Disk(name=name, device_class=device_class, told=told, identity=identity, backing=backing)


def _classify(directory: str, name: str, described: str, sysfs: Sysfs) -> tuple[DeviceClass, str]:
    if _links_to(f"{sysfs.dev}/disk/cloud/azure_resource", name) or _links_to(f"{sysfs.dev}/disk/azure/resource", name):
        return DeviceClass.SSD, "Azure's temporary disk"
    for pattern, device_class, told in _MODELS:
        if pattern.fullmatch(described):
            return device_class, told
    for beginning, device_class, told in _NAMES:
        if name.startswith(beginning):
            return device_class, _backing(directory) or told
    if name.startswith("nvme"):
        way = _nvme_transport(directory)
        return (DeviceClass.NVME, "") if way in ("", "pcie") else (DeviceClass.VIRTUAL, f"NVMe over {way}")
    if name.startswith("sd"):
        if "/session" in directory or "/rport-" in directory:
            return DeviceClass.VIRTUAL, "over a storage network"
        rotates = _read(f"{directory}/queue/rotational")
        if rotates in ("0", "1"):
            usb = ", by USB" if "/usb" in directory else ""
            return (DeviceClass.HDD, "rotating" + usb) if rotates == "1" else (DeviceClass.SSD, "not rotating" + usb)
    return DeviceClass.VIRTUAL, "of a kind that is not known"


def _nvme_transport(directory: str) -> str:
    """``pcie``, ``tcp``, ``rdma``, ``fc``; of a disk with several ways, of its subsystem's first controller."""
    device = os.path.realpath(f"{directory}/device")
    controllers = [f"{device}/{name}" for name in _names_in(device) if re.fullmatch(r"nvme[0-9]+", name)]
    return next((way for place in (device, *controllers) if (way := _read(f"{place}/transport"))), "")


def _backing(directory: str) -> str:
    backing = _read(f"{directory}/loop/backing_file")
    return f"the file {backing}" if backing else ""


def _links_to(path: str, name: str) -> bool:
    return os.path.islink(path) and os.path.basename(os.path.realpath(path)) == name


def _in_flight(directory: str) -> int:
    counts = _read(f"{directory}/inflight").split()
    return sum(int(number) for number in counts if number.isdigit())


def _names_in(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""
