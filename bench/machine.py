"""What the figures of a run rest on: the machine, the commit, the placement, the load at the start."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from lab import Cores

__all__ = ["facts"]

HERE = Path(__file__).parent
GIB = 1 << 30


def facts(cores: Cores, rounds: int, *, quick: bool) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": _commit(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB),
        "linux": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "pinned": cores.pinned,
        "origin_core": cores.origin[0],
        "client_core": cores.client[0],
        "rounds": rounds,
        "load": round(os.getloadavg()[0], 1),
        "quick": quick,
    }


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1) if match else platform.machine()


def _commit() -> str:
    argv = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(argv, capture_output=True, text=True).stdout.strip() or "unknown"
