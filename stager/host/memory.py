"""How much memory a process here may still fill: the node's, or its control group's when that is less.

Sources: proc(5), MemAvailable; the kernel's documentation of control groups, version 2 (memory.max, memory.current,
memory.stat) and version 1 (memory.limit_in_bytes, memory.usage_in_bytes, memory.stat).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from stager.host.cgroups import groups_of

__all__ = ["available_bytes", "keep_cached_bytes"]

_ROOT: Final = "/sys/fs/cgroup"


class _Controller(Struct, frozen=True, kw_only=True):
    """Names of one version of the memory controller: its mount, and its files."""

    mount: str
    limit: str
    usage: str
    cached: str  # the key in memory.stat of what the kernel can take back


_V1: Final = _Controller(
    mount=f"{_ROOT}/memory", limit="memory.limit_in_bytes", usage="memory.usage_in_bytes", cached="total_inactive_file"
)
_V2: Final = _Controller(mount=_ROOT, limit="memory.max", usage="memory.current", cached="inactive_file")


def available_bytes(proc: str = "/proc", sys_root: str = "") -> int:
    """Bytes that are free or can be made free without swapping. 0 where the kernel says nothing of it. Never raises."""
    try:
        with open(f"{proc}/meminfo", encoding="ascii") as file:
            node = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0
    return max(0, min([node, *_left_in_groups(proc, sys_root)]))


def _left_in_groups(proc: str, sys_root: str) -> Iterator[int]:
    for version, group in groups_of("memory", proc):
        controller = _V2 if version == 2 else _V1
        left = _left_in(f"{sys_root}{controller.mount}{group}", controller)
        if left is not None:
            yield left


def _left_in(group: str, controller: _Controller) -> int | None:
    """None: no limit, or none that can be read."""
    try:
        limit = _number(f"{group}/{controller.limit}")
        usage = _number(f"{group}/{controller.usage}")
        with open(f"{group}/memory.stat", encoding="ascii") as file:
            stat = dict(line.split() for line in file)
        return limit - usage + int(stat.get(controller.cached, "0"))
    except (OSError, ValueError):  # "max" is no number
        return None


def _number(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


def keep_cached_bytes(chosen: int | None) -> int:
    """How much of what is written stays in the page cache, if nobody has ``chosen``: half of what is free; 0: all."""
    return available_bytes() // 2 if chosen is None else chosen
