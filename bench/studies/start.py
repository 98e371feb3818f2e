"""Start-up: what one call of the command costs beside Python's own start, and how soon the first request is made.

The bound on the first request: a whole `stager sync --dry-run` of one object, Python's start, answer and end included,
less a Python process that imports aiobotocore and makes its client. What stager adds is at most the difference.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import lab
from lab import Content, Cores
from peers import stager
from peers.places import native
from workloads import Workload

__all__ = ["SHORT", "run"]

SHORT = True
ROUNDS = 11
ONE_OBJECT = Workload(name="start", measures="", task="list", objects=1, object_bytes=16)
MAKE_CLIENT = """
import asyncio, sys
from aiobotocore.session import get_session
async def main():
    async with get_session().create_client("s3", endpoint_url=sys.argv[1]):
        pass
asyncio.run(main())
"""


def run(cores: Cores, scratch: Path, *, quick: bool) -> dict[str, Any]:
    """Median wall and CPU seconds of each command, all in turn. RuntimeError: one failed."""
    content = Content.of(ONE_OBJECT, 1, scratch)
    with lab.run_origin(content, cores) as origin:
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "stager --version": [stager.BINARY, "--version"],
            "import get_data_path": [sys.executable, "-c", "from stager import get_data_path"],
            "import aiobotocore, make its client": [
                sys.executable,
                "-c",
                MAKE_CLIENT,
                f"http://127.0.0.1:{origin.port}",
            ],
            "stager sync --dry-run of one object": stager.command(lab.target_of(ONE_OBJECT, origin, scratch / "out")),
        }
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range(1 + (3 if quick else ROUNDS)):
            for name, argv in commands.items():
                one = _measure(argv, cores, scratch)
                if number > 0:  # the first fills the page cache and writes byte code
                    figures[name].append(one)
    return {
        name: dict(zip(("wall_s", "cpu_s"), map(statistics.median, zip(*all_, strict=True)), strict=True))
        for name, all_ in figures.items()
    }


def _measure(argv: list[str], cores: Cores, scratch: Path) -> tuple[float, float]:
    report = scratch / "report.json"
    measured = [native("measure"), str(report), cores.of_client("one"), *argv]
    done = subprocess.run(measured, env=lab.environment(scratch), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    figures = json.loads(report.read_text())
    if figures["status"] != 0:
        raise RuntimeError(f"{argv} exited with {figures['status']}: {done.stderr.decode()[-1000:]}")
    return figures["wall_s"], figures["user_s"] + figures["system_s"]
