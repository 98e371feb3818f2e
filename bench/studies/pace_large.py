"""Large objects over a line that connections share, each of them slow and its answers late: is the line full?

A connection carries 85 MB/s at most (profile `s3like`), so it takes eight to fill the line; the ceiling with twice as
many says whether this machine can.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import lab
from lab import Content, Cores, Origin
from peers.places import native
from workloads import PREFIX, Workload

from studies.pacing import rates, watch

__all__ = ["SHORT", "run"]

SHORT = True
LINE = 625_000_000  # bytes/s: 5 Gb/s
CEILING_CONNECTIONS = 16
LARGE = Workload(name="pace-large", measures="", objects=8, object_bytes=1 << 29)


def run(cores: Cores, scratch: Path, *, quick: bool) -> dict[str, Any]:
    """Rates in bytes/s, from the first byte to the last. RuntimeError: a client failed. ValueError: bytes differ."""
    workload = LARGE if not quick else Workload(name="pace-large", measures="", objects=8, object_bytes=1 << 26)
    content = Content.of(workload, workload.objects, scratch)
    with lab.run_origin(content, cores, "--profile", "s3like", "--line-bytes-per-s", str(LINE)) as origin:
        ceiling = _ceiling_rate(workload, origin, scratch)
        moments = watch(workload, origin, scratch / "out", 0.1, lambda _: None)
    lab.compare(content, scratch / "out")
    first_byte = max((one for one in moments if one.gets == moments[0].gets), key=lambda one: one.at_s)
    last_byte = min((one for one in moments if one.bytes_sent == moments[-1].bytes_sent), key=lambda one: one.at_s)
    rate = (last_byte.bytes_sent - first_byte.bytes_sent) / (last_byte.at_s - first_byte.at_s)
    return {
        "line_bytes_per_s": LINE,
        "ceiling_bytes_per_s": ceiling,
        "rate_bytes_per_s": rate,
        "share": rate / LINE,
        "most_connections": max(one.connections for one in moments),
        "series": rates(moments),
    }


def _ceiling_rate(workload: Workload, origin: Origin, scratch: Path) -> float:
    out, report = scratch / "ceiling", scratch / "report.json"
    out.mkdir()
    shape = [str(origin.port), str(workload.objects), str(workload.object_bytes), PREFIX, str(out)]
    argv = [native("measure"), str(report), "any", native("ceiling"), *shape, "--connections", str(CEILING_CONNECTIONS)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    figures = json.loads(report.read_text())
    if figures["status"] != 0:
        raise RuntimeError(f"the ceiling exited with {figures['status']}")
    shutil.rmtree(out)
    return workload.total_bytes / float(figures["wall_s"])
