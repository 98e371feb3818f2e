"""A file system that is slow, stuck or broken on order (FUSE; needs root, or fusermount3 and an open /dev/fuse).

Tests prefer `SlowFuse.hold`, which waits for a condition, to `SlowFuse.sleep`, which waits for a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.process import ServerProcess

__all__ = ["FUSE3", "SlowFuse", "slow_fuse"]

FUSE3 = {"FUSE_LIBRARY_PATH": "libfuse3.so.3"}
"""Which library the daemon uses: with version 2, which it prefers where there is one, it misses some operations."""

_HELD_WITHIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class SlowFuse:
    """``mountpoint`` shows ``backing``. Each operation has at most one rule; the last one given holds.

    Operations: getattr readdir statfs open create read write truncate flush fsync rename link symlink mkdir unlink
    utimens.
    A rule is for paths containing ``path``, and for reads and writes that reach beyond ``from_byte``.
    """

    mountpoint: Path
    backing: Path
    control: Path
    process: ServerProcess

    def hold(self, operation: str, *, path: str = "", from_byte: int = 0) -> None:
        """Let the operation wait until `clear`."""
        self._rule(operation, path=path, from_byte=from_byte, hold=True)

    @contextmanager
    def holding(self, operation: str, *, path: str = "", from_byte: int = 0) -> Iterator[None]:
        """The same, ended with the block. Enter it after what waits for the disk when it is left, such as an engine."""
        self.hold(operation, path=path, from_byte=from_byte)
        try:
            yield
        finally:
            self.clear(operation)

    def sleep(self, operation: str, seconds: float, *, path: str = "", from_byte: int = 0) -> None:
        """Let the operation take that long."""
        self._rule(operation, path=path, from_byte=from_byte, sleep_s=seconds)

    def fail(self, operation: str, error: int, *, path: str = "", from_byte: int = 0) -> None:
        """Let the operation fail with that errno."""
        self._rule(operation, path=path, from_byte=from_byte, error=error)

    def fold(self) -> None:
        """From now on names of another case are the same name, as on file systems of other systems."""
        (self.control / "folds").touch()

    def clear(self, operation: str) -> None:
        """Back to normal; whoever waits goes on."""
        (self.control / f"{operation}.json").unlink(missing_ok=True)

    def wait_held(self, operation: str) -> None:
        """Return when somebody waits in a held operation. TimeoutError: nobody did within a minute."""
        deadline = time.monotonic() + _HELD_WITHIN_S
        while not (self.control / f"{operation}.held").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing was held in {operation}\n{self.process.log()}")
            time.sleep(0.005)

    def _rule(
        self, operation: str, *, path: str, from_byte: int, hold: bool = False, sleep_s: float = 0, error: int = 0
    ) -> None:
        (self.control / f"{operation}.held").unlink(missing_ok=True)
        rule = {"path": path, "from_byte": from_byte, "hold": hold, "sleep_s": sleep_s, "errno": error}
        fresh = self.control / f"{operation}.new"
        fresh.write_text(json.dumps(rule))
        fresh.rename(self.control / f"{operation}.json")


@contextmanager
def slow_fuse() -> Iterator[SlowFuse]:
    """Mount one over an empty directory in /dev/shm; unmounted and ended whatever happens inside."""
    with tempfile.TemporaryDirectory(prefix="stager-fuse-", dir="/dev/shm") as directory:
        backing, mountpoint, control = (Path(directory) / name for name in ("backing", "mnt", "control"))
        for folder in (backing, mountpoint, control):
            folder.mkdir()
        daemon = str(Path(__file__).with_name("slow_fuse_daemon.py"))
        argv = [sys.executable, daemon, *map(str, (backing, mountpoint, control))]
        device = os.stat(backing).st_dev
        with ServerProcess(argv, env=FUSE3) as process:
            try:
                process.wait_ready(lambda: os.stat(mountpoint).st_dev != device)
                yield SlowFuse(mountpoint=mountpoint, backing=backing, control=control, process=process)
            finally:
                for rule in control.glob("*.json"):
                    rule.unlink()
                _unmount(mountpoint)


def _unmount(mountpoint: Path) -> None:
    """Detach at once, open files or not; nothing mounted is fine too."""
    subprocess.run(["umount", "--lazy", str(mountpoint)], check=False, stderr=subprocess.DEVNULL)
