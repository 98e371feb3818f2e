"""A tree that the node has kept, given to another job: beside ``cp -r --reflink=always`` on xfs and ``cp -r`` on ext4.

What is compared is the giving alone (`materialise.py`); the whole command, which lists the source first, and a cold one
stand beside it. Each file system is a new one in an image on tmpfs, ext4 for each round: it makes files slowly where
many have been deleted. Needs root, for the mounts.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lab
import workloads
from lab import Content, Cores, Origin, WarmMemory
from peers import stager
from workloads import PREFIX

__all__ = ["SHORT", "run"]

SHORT = False
OF = "download-256KiB-10_000x"
OBJECT_BYTES = 214_748  # 10,000 are 2 GiB
ROUNDS = 5
LARGE_BYTES = 1 << 30
MAKE = {
    "xfs": ["mkfs.xfs", "-q", "-K", "-m", "reflink=1"],
    "ext4": ["mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard"],
}
DRIVER = str(Path(__file__).parent.parent / "materialise.py")


def run(cores: Cores, scratch: Path, *, quick: bool) -> dict[str, Any]:
    """RuntimeError: not root, no loop device, a program failed. ValueError: the origin does not start."""
    if os.geteuid() != 0:
        raise RuntimeError("kept trees need root: they are on file systems made for them")
    whole = replace(workloads.load(OF), object_bytes=OBJECT_BYTES)
    workload, rounds = (whole.tenth(), 1) if quick else (whole, ROUNDS)
    told: dict[str, Any] = {
        "objects": workload.objects, "total_bytes": workload.total_bytes,
        "clone": [], "copy": [], "overlay": [], "read-only": [], "commands": {},
    }  # fmt: skip
    with lab.run_origin(Content.of(workload, workload.objects, scratch), cores) as origin:
        node = _Node(scratch, origin, workload.total_bytes)
        with node.disk("xfs") as top:
            kept = node.keep(top, told, "xfs")
            for number in range(rounds):
                told["clone"].append(node.pair(kept, top / str(number), "always", turned=number % 2 == 1))
            node.command(top, told, "xfs, warm", "stage")
        for number in range(rounds):
            with node.disk("ext4") as top:
                kept = node.keep(top, told, "ext4")
                told["copy"].append(node.pair(kept, top / str(number), "never", turned=number % 2 == 1))
                for way in ("overlay", "read-only"):
                    told[way].append(node.give(way, kept, top / f"{number}-{way}"))
                node.command(top, told, "ext4, warm, run", "run")
        with node.disk("ext4") as top:
            node.keep(top, told, "ext4")
            node.command(top, told, "ext4, warm, stage", "stage")
        with node.disk("ext4") as top:
            node.command(top, told, "ext4, cold, stage", "stage")
            node.command(top, told, "ext4, cold, stage --no-cache", "stage", "--no-cache")
        with node.disk("ext4") as top:
            told["large"] = node.large(top, LARGE_BYTES // (10 if quick else 1))
    return told


class _Node:
    """Where the disks are mounted, and the server of what is kept on them."""

    def __init__(self, scratch: Path, origin: Origin, total_bytes: int) -> None:
        self._scratch = scratch
        self._origin = origin
        self._bytes = total_bytes
        self._runs = 0

    @contextlib.contextmanager
    def disk(self, kind: str) -> Iterator[Path]:
        """A new file system with room for four trees. RuntimeError: it cannot be made here."""
        image, place = self._scratch / "image", self._scratch / "disk"
        with open(image, "wb") as file:
            file.truncate(5 * self._bytes + LARGE_BYTES)
        place.mkdir()
        for argv in ([*MAKE[kind], str(image)], ["mount", "-o", "loop", str(image), str(place)]):
            done = subprocess.run(argv, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{argv[0]}: {done.stderr.strip()}")
        try:
            yield place
        finally:
            subprocess.run(["umount", str(place)], check=True)
            image.unlink()
            place.rmdir()

    def keep(self, top: Path, told: dict[str, Any], kind: str) -> Path:
        """The generation that a job leaves in the cache which runs there first."""
        self.command(top, told, f"{kind}, cold, run", "run")
        (tree,) = (top / "scratch/cache").glob("*/*/*/tree")  # of whatever format
        return tree.parent

    def command(self, top: Path, told: dict[str, Any], name: str, verb: str, *more: str) -> None:
        """The whole of `stager stage`, or of `stager run -- true`, as one more figure of this name."""
        self._runs += 1
        scratch = top / ("scratch" if not more else "other scratch")
        scratch.mkdir(mode=0o700, exist_ok=True)
        job = [verb, "--job-id", f"job{self._runs}", "--data", f"o/n=s3://bench/{PREFIX}", *more, "-q"]
        argv = [stager.BINARY, *job, "--endpoint-url", f"http://127.0.0.1:{self._origin.port}"]
        argv += ["--", "true"] if verb == "run" else []
        told["commands"].setdefault(name, []).append(self._measure(argv, scratch))
        lab.say(f"kept: {name}: {told['commands'][name][-1]['wall_s']:.2f} s")

    def pair(self, kept: Path, out: Path, reflink: str, *, turned: bool) -> dict[str, dict[str, float]]:
        """``cp -r`` and stager, one after the other."""
        out.mkdir()
        found: dict[str, dict[str, float]] = {}
        for name in ("stager", "cp") if turned else ("cp", "stager"):
            if name == "cp":
                argv = ["cp", "-r", f"--reflink={reflink}", str(kept / "tree"), str(out / "cp")]
                found[name] = self._measure(argv, None)
            else:
                found[name] = self.give("give", kept, out / "stager")["give"]
            lab.say(f"kept: {name}, reflink={reflink}: {found[name]['wall_s']:.2f} s, {found[name]['cpu_s']:.2f} CPU s")
        same = subprocess.run(["diff", "-r", str(out / "cp"), str(out / "stager" / "tree")], stdout=subprocess.PIPE)
        if same.returncode != 0:
            raise RuntimeError(f"the two trees differ: {same.stdout[:500]!r}")
        return found

    def give(self, way: str, kept: Path, out: Path) -> dict[str, dict[str, float]]:
        """What `materialise.py` says of one way."""
        out.mkdir()
        self._warm(out)
        argv = [sys.executable, DRIVER, way, str(kept), str(out)]
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"materialise {way}: {done.stderr[-2000:]}")
        told: dict[str, dict[str, float]] = json.loads(done.stdout)
        return told

    def large(self, top: Path, size: int) -> dict[str, dict[str, float]]:
        """The first write to a file of a kept tree of one large file, through an overlay."""
        kept = top / "kept"
        (kept / "tree").mkdir(parents=True)
        block = os.urandom(1 << 20)
        with open(kept / "tree" / "large", "wb", buffering=0) as file:
            file.writelines(block for _ in range(size >> 20))
        return self.give("overlay", kept, top / "large")

    def _measure(self, argv: Sequence[str], scratch: Path | None) -> dict[str, float]:
        home = self._scratch / "home"
        home.mkdir()
        try:
            environ = lab.environment(home, self._origin)
            if scratch is not None:
                environ["STAGER_SCRATCH"] = str(scratch)
            self._warm(self._scratch / "disk")
            sample = lab.measure_command(argv, "any", home, environ, self._origin.busy_s).sample
            return {"wall_s": sample.wall_s, "cpu_s": sample.cpu_s}
        finally:
            shutil.rmtree(home)

    def _warm(self, disk: Path) -> None:
        """Nothing is on its way to the disk, and what will be written meets warm memory: see `lab.WarmMemory`."""
        subprocess.run(["sync", "-f", str(disk)], check=True)
        place = self._scratch / "warm"
        place.mkdir()
        WarmMemory(place, self._bytes, least_spare_bytes=self._bytes).release()
        place.rmdir()
