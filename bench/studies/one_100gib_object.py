"""Memory while one object of 100 GiB arrives: more than this machine's memory, and than many a disk.

The origin makes it by formula. It is written to an ext4 file system of its own, in a sparse image on tmpfs, and a
follower (`punch`) compares each block with the formula and punches it out of the file: every byte is compared, and the
image never holds more than what is on its way; the origin's line is limited so that the follower keeps up. The file
system has no extents, so that it cannot reserve the file's space: stager reserves where it can. Needs root, for the
mount.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab
from lab import Content, Cores
from peers import stager
from peers.places import native
from workloads import PREFIX, Workload

__all__ = ["SHORT", "run"]

SHORT = False
GIB = 1 << 30
LINE = 500_000_000  # bytes/s; half of what a follower compares


def run(cores: Cores, scratch: Path, *, quick: bool) -> dict[str, Any]:
    """RuntimeError: not root, no loop device, a program failed. ValueError: bytes differ."""
    if os.geteuid() != 0:
        raise RuntimeError("one object of 100 GiB needs root: it is written to a file system made for it")
    size = (1 if quick else 100) * GIB
    workload = Workload(name="one-100GiB-object", measures="", objects=1, object_bytes=size)
    listing = scratch / "listing"
    lab.write_listing(workload, 1, listing)
    served = ("1", str(size), PREFIX, "--formula")
    content = Content(objects=1, arguments=served, to_verify=served, listing=listing)
    with _small_disk(scratch, size) as disk, lab.run_origin(content, cores, "--line-bytes-per-s", str(LINE)) as origin:
        out, report, log = disk / "out", scratch / "report.json", scratch / "log"
        out.mkdir()
        argv = [native("measure"), str(report), "any", *stager.command(lab.target_of(workload, origin, out))]
        follower = subprocess.Popen([native("punch"), str(out), str(size)], stdout=subprocess.PIPE, text=True)
        try:
            with open(log, "wb") as output:
                subprocess.run(argv, check=True, stdout=output, stderr=output, env=lab.environment(scratch))
            figures = json.loads(report.read_text())
            if figures["status"] != 0:
                raise RuntimeError(f"stager exited with {figures['status']}: {log.read_text()[-2000:]}")
            compared = int(follower.communicate(timeout=600)[0])
        finally:
            follower.terminate()
            follower.wait()
    if compared != size:
        raise ValueError(f"{size - compared} bytes were never as the origin serves them")
    return {
        "object_bytes": size,
        "rss_anon_bytes": figures["peak_rss_anon_kib"] << 10,
        "cpu_s": figures["user_s"] + figures["system_s"],
        "wall_s": figures["wall_s"],
    }


@contextlib.contextmanager
def _small_disk(scratch: Path, size: int) -> Iterator[Path]:
    """A file system that looks larger than ``size``. RuntimeError: it cannot be mounted here."""
    image, place = scratch / "image", scratch / "disk"
    with open(image, "wb") as file:
        file.truncate(size + size // 4)
    features = "^extent,^64bit,^has_journal"
    made = ["mkfs.ext4", "-q", "-O", features, "-E", "lazy_itable_init=1,nodiscard", "-m", "0", str(image)]
    place.mkdir()
    mount = ["mount", "-o", "loop,discard", str(image), str(place)]
    for argv in (made, mount):
        done = subprocess.run(argv, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{argv[0]}: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
