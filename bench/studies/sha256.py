"""What SHA-256 costs: one core of openssl at it, and the LFS workload's bytes copied from S3, where nobody asks for it.

What stager needs for the same bytes as LFS objects, less that copy, is the hasher's and the batch API's; openssl's is
the least that a hasher could take.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import lab
import workloads
from lab import Content, Cores
from peers import stager
from peers.places import first_line, native
from workloads import Case, Workload

__all__ = ["OF", "SHORT", "SPEED", "run", "speed_in"]

SHORT = True
OF = "lfs-900KB-2_000x"
ROUNDS = 3
SPEED = ("openssl", "speed", "-mr", "-seconds", "1", "-bytes", "1048576", "-evp", "sha256")
_ROW = re.compile(r"^\+F:\d+:sha256:([0-9.]+)", re.MULTILINE)


def run(cores: Cores, scratch: Path, *, quick: bool) -> dict[str, Any]:
    """Medians, both on the client's core. RuntimeError: one of the commands failed, or is not here."""
    if shutil.which(SPEED[0]) is None:
        raise RuntimeError("openssl is not installed")
    shape = workloads.load(OF).tenth() if quick else workloads.load(OF)
    workload = Workload(name="sha256", measures="", objects=shape.objects, object_bytes=shape.object_bytes)
    where = cores.of_client("one")
    speeds, copies_s = [], []
    with lab.run_origin(Content.of(workload, workload.objects, scratch), cores) as origin:
        memory = lab.WarmMemory(scratch, workload.total_bytes)
        case = Case(workload=workload, scheme="http", cores="one")
        for number in range(1 if quick else ROUNDS):
            speeds.append(_speed(where, scratch))
            out = scratch / f"out-{number}"
            memory.release()
            copies_s.append(lab.measure(stager, case, origin, out, cores).sample.cpu_s)
            memory.hold(out)
            lab.compare(origin.content, out)
    middle = len(speeds) // 2
    return {
        "openssl": first_line("openssl", "version"),
        "openssl_bytes_per_s": sorted(speeds)[middle],
        "s3_cpu_s": sorted(copies_s)[middle],
        "total_bytes": workload.total_bytes,
    }


def _speed(where: str, scratch: Path) -> float:
    report = scratch / "speed.json"
    argv = [native("measure"), str(report), where, *SPEED]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    if json.loads(report.read_text())["status"] != 0:
        raise RuntimeError(f"{' '.join(SPEED)}: {(done.stdout + done.stderr)[-500:]}")
    return speed_in(done.stdout)


def speed_in(output: str) -> float:
    """Of what `SPEED` wrote: bytes per second of its own CPU time. RuntimeError: it is not there."""
    found = _ROW.search(output)
    if found is None:
        raise RuntimeError(f"{' '.join(SPEED)}: {output[-500:]}")
    return float(found[1])
