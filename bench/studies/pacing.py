"""What the two studies of pace share: stager under the profile `s3like`, watched from the origin's counters."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import lab
from lab import Origin
from peers import stager
from workloads import Workload

__all__ = ["Moment", "rates", "watch"]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The origin's counters so far, at a time since the client was started."""

    at_s: float
    gets: int
    slow_down: int
    bytes_sent: int
    connections: int


def watch(
    workload: Workload, origin: Origin, out: Path, every_s: float, meanwhile: Callable[[Moment], None]
) -> list[Moment]:
    """Run ``stager sync`` and look at the counters every so often. RuntimeError: it failed, with its own words."""
    out.mkdir()
    log = out.parent / f"{out.name}.log"
    argv = stager.command(lab.target_of(workload, origin, out))
    with open(log, "wb") as output:
        client = subprocess.Popen(argv, stdout=output, stderr=output, env=lab.environment(out.parent, origin))
    moments = list(_moments(client, origin, every_s, meanwhile))
    if client.returncode != 0:
        raise RuntimeError(f"stager exited with {client.returncode}: {log.read_text()[-2000:]}")
    return moments


def _moments(
    client: subprocess.Popen[bytes], origin: Origin, every_s: float, meanwhile: Callable[[Moment], None]
) -> Iterator[Moment]:
    """One at the start, one each time, one at the end."""
    start = time.monotonic()
    due, ended = start, False
    while not ended:
        try:
            client.wait(max(0.0, due - time.monotonic()))
            ended = True
        except subprocess.TimeoutExpired:
            due += every_s
        stats = origin.stats()
        moment = Moment(
            at_s=time.monotonic() - start,
            gets=stats["gets"],
            slow_down=stats["slow_down"],
            bytes_sent=stats["bytes_sent"],
            connections=stats["connections"]["open"],
        )
        meanwhile(moment)
        yield moment


def rates(moments: list[Moment]) -> list[dict[str, float]]:
    """Per interval: its end, GET/s answered, answers "slow down" per s, bytes/s, connections open at its end."""
    found = []
    for before, after in pairwise(moments):
        seconds = after.at_s - before.at_s
        found.append(
            {
                "at_s": after.at_s,
                "gets_per_s": (after.gets - before.gets) / seconds,
                "slow_down_per_s": (after.slow_down - before.slow_down) / seconds,
                "bytes_per_s": (after.bytes_sent - before.bytes_sent) / seconds,
                "connections": after.connections,
            }
        )
    return found
