"""A memory cgroup for one program, of either version (root, where the kernel has the controller).

Source: Linux, Documentation/admin-guide/cgroup-v2.rst, "Memory"; cgroup-v1/memory.rst.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryGroup", "NoMemoryGroupError", "memory_group"]


class NoMemoryGroupError(Exception):
    """This kernel, or this container, gives none."""


@dataclass(frozen=True)
class MemoryGroup:
    """``path`` is its directory. What its programs write counts too while it is in the page cache, as far as needed."""

    path: Path
    version: int

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The command that runs ``argv`` in it."""
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.path), *argv]

    def killed(self) -> int:
        """How many processes the kernel ended because the limit was reached."""
        text = (self.path / ("memory.events" if self.version == 2 else "memory.oom_control")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """One with this limit, removed at the end; its programs must have ended. `NoMemoryGroupError`."""
    parent, version = _parent()
    path = parent / f"stager-{secrets.token_hex(6)}"
    try:
        path.mkdir()
    except OSError as error:
        raise NoMemoryGroupError(str(error)) from error
    try:
        limits = {"memory.max": limit_bytes, "memory.swap.max": 0} if version == 2 else {
            "memory.limit_in_bytes": limit_bytes, "memory.memsw.limit_in_bytes": limit_bytes,
        }  # fmt: skip
        for name, value in limits.items():
            if "sw" not in name or (path / name).exists():
                _write(path / name, value)
        yield MemoryGroup(path, version)
    finally:
        path.rmdir()


def _parent() -> tuple[Path, int]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        place, (kind, _, options) = Path(fields.split()[4]), rest.split()[:3]
        if kind == "cgroup" and "memory" in options.split(","):
            return place, 1
        if kind == "cgroup2" and "memory" in (place / "cgroup.controllers").read_text().split():
            _write(place / "cgroup.subtree_control", "+memory")
            return place, 2
    raise NoMemoryGroupError("no memory controller is mounted")


def _write(path: Path, value: object) -> None:
    try:
        path.write_text(str(value))
    except OSError as error:
        raise NoMemoryGroupError(f"{path}: {error}") from error
