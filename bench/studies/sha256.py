"""What SHA-256 costs: one core of openssl at it, the hasher of large objects alone on the same core, and the LFS
workload's bytes copied from S3, where nobody asks for it.

What stager needs for the same bytes as LFS objects, less that copy, is the hasher's and the batch API's; openssl's is
the least that a hasher could take.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, BinaryIO

import lab
import workloads
from lab import Content, Cores
from peers import stager
from peers.places import first_line, native
from workloads import Case, Workload

__all__ = ["GIB", "OF", "SAMPLE_BYTES", "SHORT", "SPEED", "hash_in_steps", "run", "speed_in"]

SHORT = True
OF = "lfs-900KB-2_000x"
ROUNDS = 3
SAMPLE_BYTES = 64 << 20
STEPS = 8
GIB = 1 << 30
SPEED = ("openssl", "speed", "-mr", "-seconds", "1", "-bytes", "1048576", "-evp", "sha256")
_ROW = re.compile(r"^\+F:\d+:sha256:([0-9.]+)", re.MULTILINE)


def run(cores: Cores, scratch: Path, *, quick: bool) -> dict[str, Any]:
    """Medians, both on the client's core. RuntimeError: one of the commands failed, or is not here."""
    if shutil.which(SPEED[0]) is None:
        raise RuntimeError("openssl is not installed")
    shape = workloads.load(OF).tenth() if quick else workloads.load(OF)
    workload = Workload(name="sha256", measures="", objects=shape.objects, object_bytes=shape.object_bytes)
    where = cores.of_client("one")
    speeds, hashed_s, copies_s = [], [], []
    sample = scratch / "sample"
    sample.write_bytes(os.urandom(SAMPLE_BYTES))
    with lab.run_origin(Content.of(workload, workload.objects, scratch), cores) as origin:
        memory = lab.WarmMemory(scratch, workload.total_bytes)
        case = Case(workload=workload, scheme="http", cores="one")
        for number in range(1 if quick else ROUNDS):
            speeds.append(_speed(where, scratch))
            hashed_s.append(_hashed_s(sample, cores))
            out = scratch / f"out-{number}"
            memory.release()
            copies_s.append(lab.measure(stager, case, origin, out, cores).sample.cpu_s)
            memory.hold(out)
            lab.compare(origin.content, out)
    middle = len(speeds) // 2
    return {
        "openssl": first_line("openssl", "version"),
        "openssl_bytes_per_s": sorted(speeds)[middle],
        "hasher_cpu_s_per_gib": sorted(hashed_s)[middle],
        "s3_cpu_s": sorted(copies_s)[middle],
        "total_bytes": workload.total_bytes,
    }


def hash_in_steps(file: BinaryIO, size: int) -> tuple[bytes, float]:
    """SHA-256 of a file that is in the page cache, as of one that is being received: the value, and CPU seconds a GiB
    of this thread.
    """
    frontier = importlib.import_module("stager._native").Frontier("sha256")
    began = time.thread_time()
    for step in range(1, STEPS + 1):
        frontier.advance(file.fileno(), size * step // STEPS)
    value: bytes = frontier.finish()
    return value, (time.thread_time() - began) * GIB / size


def _hashed_s(sample: Path, cores: Cores) -> float:
    before = os.sched_getaffinity(0)
    if cores.pinned:
        os.sched_setaffinity(0, cores.client)
    try:
        with sample.open("rb") as file:
            hash_in_steps(file, SAMPLE_BYTES)  # warm
            return hash_in_steps(file, SAMPLE_BYTES)[1]
    finally:
        os.sched_setaffinity(0, before)


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
