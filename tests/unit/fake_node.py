"""A node that is not ours: its disks as sysfs has them, in a few small files, and its table of mounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stager.host.disks import Sysfs
from stager.host.mounts import parse_mountinfo
from stager.host.quota import Space
from stager.host.roots import Node

__all__ = ["GIB", "FakeNode"]

GIB = 1 << 30


@dataclass
class FakeNode:
    """Described step by step; `node` is what `stager.host.roots` takes. A device is "MAJOR:MINOR"."""

    top: Path
    mounts: list[str] = field(default_factory=list)
    free: dict[str, int] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    numbers: dict[str, str] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)

    def disk(self, name: str, number: str, *, below: str = "devices", **files: str) -> None:
        """``files``: "device/model" is written device__model."""
        directory = self.top / "sys" / below / name
        directory.mkdir(parents=True)
        for file, text in files.items():
            path = directory / file.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        self.places[name] = directory
        self.numbers[f"/dev/{name}"] = number
        blocks = self.top / "sys/dev/block"
        blocks.mkdir(parents=True, exist_ok=True)
        (blocks / number).symlink_to(directory)

    def part(self, name: str, number: str, *, of: str) -> None:
        self.disk(name, number, below=str(self.places[of].relative_to(self.top / "sys")), partition="1")

    def layer(self, name: str, number: str, *, over: Sequence[str], **files: str) -> None:
        """A device over others: md or device mapper."""
        self.disk(name, number, below="devices/virtual/block", **files)
        slaves = self.places[name] / "slaves"
        slaves.mkdir()
        for below in over:
            (slaves / below).symlink_to(self.places[below])

    def btrfs(self, uuid: str, members: Sequence[str]) -> None:
        devices = self.top / "sys/fs/btrfs" / uuid / "devices"
        devices.mkdir(parents=True)
        for name in members:
            (devices / name).symlink_to(self.places[name])

    def mount(
        self, where: str, device: str, kind: str, source: str, *, options: str = "rw", more: str = "rw", free: int = GIB
    ) -> None:
        number = 20 + len(self.mounts)
        self.mounts.append(f"{number} 1 {device} / {where} {options} - {kind} {source} {more}")
        self.free[where] = free

    def node(self) -> Node:
        rows = parse_mountinfo("\n".join(self.mounts).encode())

        def covering(path: str) -> int:
            above = [row for row in rows if path == row.mountpoint or path.startswith(row.mountpoint.rstrip("/") + "/")]
            return max(above, key=lambda row: (len(row.mountpoint), row.mount_id)).mount_id

        def space(path: str) -> Space:
            mountpoint = next(row.mountpoint for row in rows if row.mount_id == covering(path))
            return Space(total_bytes=1 << 40, free_bytes=self.free[mountpoint], total_inodes=1 << 20,
                         free_inodes=1 << 19)  # fmt: skip

        mountpoints = {row.mountpoint for row in rows}
        return Node(
            rows=rows,
            sysfs=Sysfs(top=str(self.top / "sys"), dev=str(self.top / "dev"), number_of=self.numbers.get),
            mount_id=covering,
            space=space,
            problem=lambda path: self.problems.get(path, ""),
            exists=lambda path: path in mountpoints or path in self.files or path == "/var/tmp",
        )
