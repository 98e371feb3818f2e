"""What is known of the places where data can lie on this node, and what is wanted of them.

Values only: `stager.host.roots` finds them, `stager.stages.place_policy` chooses among them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal

from msgspec import Struct

from stager.keeping import Item

__all__ = ["ANYWHERE", "DeviceClass", "Disk", "Origin", "Placed", "Root", "Rules", "Wanted"]

ANYWHERE: Final = "any"
"""The place of a dataset that says nothing of it."""


class DeviceClass(StrEnum):
    """What a file system lies on; of several disks the slowest. The order is that of preference, RAM apart: only on
    request.
    """

    INSTANCE = "instance-nvme"  # a cloud's NVMe disk inside the host: quick, gone with the instance
    NVME = "nvme"
    SSD = "ssd"
    VIRTUAL = "virtual"  # a disk of a hypervisor or of a cloud's network, or nobody knows
    HDD = "hdd"
    NETWORK = "network"
    RAM = "ram"


Origin = Literal["option", "environment", "configuration", "job", "found", "default"]
"""Who named a root: --scratch, STAGER_SCRATCH, a file of settings, a job file, discovery, nobody."""


class Disk(Struct, frozen=True, kw_only=True):
    """One disk: the kernel's ``name`` for it now, and ``identity``, which stays the same over reboots where there is
    such a thing. ``backing``: the file that a loop device is.
    """

    name: str
    device_class: DeviceClass
    told: str  # the model, and what makes it this class
    identity: str
    backing: str = ""


class Root(Struct, frozen=True, kw_only=True):
    """A directory that could be a scratch, or have one in it. Unless ``problem`` says why it cannot.

    ``free_bytes`` and ``free_inodes`` (None: not counted) are what this user can still take, quotas and reserved blocks
    subtracted, and the ``reserved_bytes`` of stagers that are about to fill them. ``reflink`` is None when it was not
    tried. ``busy``, from 0 to 1, is how much its disks have to do now; ``rate`` bytes a second were written there when
    it was last measured. ``kept``: what its cache has. ``shares``: a job gets that without its bytes being written
    again.
    """

    path: str
    origin: Origin
    device_class: DeviceClass
    told: str  # why it is of this class
    file_system: str = "unknown"
    mountpoint: str = ""
    device: str = ""  # "MAJOR:MINOR" of the file system: roots with the same share their free space
    disks: tuple[Disk, ...] = ()
    layers: tuple[str, ...] = ()  # between file system and disks: LVM, dm-crypt, md
    total_bytes: int = 0
    free_bytes: int = 0
    total_inodes: int | None = None
    free_inodes: int | None = None
    reserved_bytes: int = 0
    reflink: bool | None = None
    root_disk: bool = False
    busy: float = 0.0
    rate: float | None = None
    kept: tuple[Item, ...] = ()
    shares: bool = False
    notes: tuple[str, ...] = ()
    problem: str = ""


class Wanted(Struct, frozen=True, kw_only=True):
    """A dataset to be placed. ``bytes`` in whole blocks; ``files`` with directories: each takes an inode.

    ``place``: "any", "nvme", "ram", or an absolute path. ``kept_as``: the names under which a cache would have it.
    """

    name: str
    bytes: int
    files: int
    place: str = ANYWHERE
    kept_as: tuple[str, ...] = ()


class Rules(Struct, frozen=True, kw_only=True):
    """What a site or a user lays down.

    On every root the larger of ``floor_bytes`` and ``floor_share`` of it stays free. ``memory_bytes``: what is left of
    the memory limit; at most ``ram_share`` of it is filled with data.
    """

    floor_bytes: int = 0
    floor_share: float = 0.02
    memory_bytes: int = 0
    ram_share: float = 0.5


class Placed(Struct, frozen=True, kw_only=True):
    """Where data goes that lies together, and why there; ``names``: the datasets that it is. ``evicted``: what has to
    go from that root's cache before.
    """

    wanted: Wanted
    root: Root
    why: str
    evicted: tuple[Item, ...] = ()
    names: tuple[str, ...] = ()
