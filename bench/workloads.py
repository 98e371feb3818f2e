"""Workloads as data: one TOML file each in bench/workloads, named by what it measures."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from peers import Task

__all__ = ["PREFIX", "Case", "Workload", "cases", "load", "names"]

DIRECTORY = Path(__file__).parent / "workloads"
PREFIX = "set/"
PART_BYTES = 16 << 20  # above this, clients fetch an object in parts


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Sizes that differ: log-normal with this mean, the same every time."""

    mean_bytes: int
    sigma: float

    def sizes(self, count: int) -> tuple[int, ...]:
        draw = random.Random(count)
        mu = -(self.sigma**2) / 2  # so that the mean of what is drawn is 1
        return tuple(max(1, round(self.mean_bytes * draw.lognormvariate(mu, self.sigma))) for _ in range(count))


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What the files hold; `measures` says what for."""

    name: str
    measures: str
    objects: int
    object_bytes: int = 0  # 0: `sizes` or `spread` says
    sizes: tuple[int, ...] = ()
    spread: Spread | None = None
    task: Task = "copy"
    lfs: bool = False  # of the task "git": the files are LFS objects
    slope_objects: int = 0  # a second, smaller run of every round: the difference is what one more object costs
    connections: int = 8  # where a client lets them be chosen
    schemes: tuple[str, ...] = ("http",)
    cores: tuple[str, ...] = ("one",)
    checksum: str = "none"  # what the origin announces: none, crc64nvme, crc32c, crc32
    unannounced: tuple[str, ...] = ()  # to these clients it announces none
    etag: str = "multipart"  # or md5: an MD5 of the content, which rclone checks
    clients: tuple[str, ...] = ()  # these alone; empty: all that know the task
    without: tuple[str, ...] = ()  # none of these: too slow for so many objects
    rounds: int | None = None  # where one is enough: memory does not vary
    counts_calls: bool = True  # system calls, in a run of their own: a traced one, many times as long
    held: bool = True  # output held until the client's next run, see lab.WarmMemory
    short: bool = False  # part of `make bench`, not only of `make bench-full`

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes) if self.sizes else self.objects * self.object_bytes

    @property
    def in_parts(self) -> bool:
        """Objects so large that bytes, not objects, are what is counted."""
        return self.total_bytes > self.objects * PART_BYTES

    def tenth(self) -> Workload:
        """The same with a tenth of the work, for a trial."""
        if self.sizes:
            return replace(self, sizes=tuple(size // 10 for size in self.sizes))
        if self.objects == 1:
            return replace(self, object_bytes=self.object_bytes // 8)
        return replace(self, objects=self.objects // 10, slope_objects=self.slope_objects // 10)

    def objects_of(self, count: int) -> Iterator[tuple[str, int]]:
        """Key without the prefix, and size, of the first ``count`` objects: the origin's own order and names."""
        sizes = self.sizes or (self.spread.sizes(count) if self.spread else None)
        for number in range(count):
            yield f"{number // 1000:04}/{number:08}", sizes[number] if sizes else self.object_bytes


@dataclass(frozen=True, kw_only=True)
class Case:
    """A workload under one protocol with one choice of the client's cores: what is paired and tabled together."""

    workload: Workload
    scheme: str
    cores: str  # "one": a core of its own; "all": every core, the origin's too

    @property
    def id(self) -> str:
        return f"{self.workload.name} {self.scheme} {self.cores}"


def names() -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def load(name: str) -> Workload:
    """TypeError: a field that no workload has."""
    with open(DIRECTORY / f"{name}.toml", "rb") as file:
        fields = tomllib.load(file)
    if "spread" in fields:
        fields["spread"] = Spread(**fields["spread"])
    for field in ("sizes", "schemes", "cores", "clients", "without", "unannounced"):
        if field in fields:
            fields[field] = tuple(fields[field])
    return Workload(name=name, **fields)


def cases(workload: Workload) -> list[Case]:
    return [
        Case(workload=workload, scheme=scheme, cores=cores) for scheme in workload.schemes for cores in workload.cores
    ]
