"""One stager that brings a tree by way of the node's cache: a process of its own, to be killed, stopped and confined.

``STOP`` names a step of `Generation` or `Kept` before which the process stops itself, once; ``NO_FLOCK`` makes flock
succeed without a lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from stager.caching import lend, sync_through
from stager.host.cache import Cache, Generation, Kept
from stager.transfer import Transfer
from stager.urls import parse_source

__all__ = ["Stager", "start_stager"]


class Stager:
    """One that was started. Its directory is ``destination``."""

    def __init__(self, process: subprocess.Popen[str], destination: Path) -> None:
        self.process = process
        self.destination = destination

    def finish(self) -> dict[str, Any]:
        """Its receipt."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return dict(json.loads(out))

    def await_stop(self) -> None:
        """It has stopped itself; nothing of it runs."""
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def start_stager(
    scratch: Path, destination: Path, environment: dict[str, str], *,
    stale_s: float = 15.0, before: tuple[str, ...] = (), **more: str,
) -> Stager:  # fmt: skip
    """``before``: the command that executes it; ``more``: its variables."""
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "integration.cache_driver", str(scratch), str(destination), str(stale_s)],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path), **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Stager(process, destination)


def _stop_before(step: str) -> None:
    kind = Generation if hasattr(Generation, step) else Kept
    original = getattr(kind, step)
    left = [1]

    def stop(*arguments: Any, **named: Any) -> Any:
        if left:
            left.pop()
            signal.raise_signal(signal.SIGSTOP)  # of this thread: it does not come to the next line
        return original(*arguments, **named)

    setattr(kind, step, stop)


async def _main(scratch: str, destination: str, stale_s: str) -> None:
    cache = Cache(scratch, stale_s=float(stale_s))
    async with Transfer() as transfer:
        source = parse_source("s3://bucket/")
        if os.environ.get("LEND"):
            lent = await lend(cache, source, how="read-only", transfer=transfer)
            receipt = lent.receipt
            os.symlink(lent.tree, destination)
        else:
            receipt = await sync_through(cache, source, destination, transfer=transfer)
    print(json.dumps(asdict(receipt.moved)), flush=True)


if __name__ == "__main__":
    if os.environ.get("NO_FLOCK"):
        fcntl.flock = lambda *_: None
    if os.environ.get("STOP"):
        _stop_before(os.environ["STOP"])
    asyncio.run(_main(*sys.argv[1:]))
