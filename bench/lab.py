"""The laboratory: C programs built, an origin running, one client measured, its bytes compared."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import Peer, Target
from peers.places import BUILD, PEERS_ENVIRONMENT, native

__all__ = [
    "Cores",
    "Origin",
    "Sample",
    "WarmMemory",
    "Workload",
    "build",
    "build_program",
    "choose_cores",
    "compare",
    "load_workload",
    "measure",
    "run_origin",
    "say",
    "target_of",
    "unavailable",
]

HERE = Path(__file__).parent
PREFIX = "set/"
COMPARE_BYTES = 8 << 20
SPARE_BYTES = 256 << 20  # at least this much warm memory besides the output's: the clients' own pages
COMPILER = ["cc", "-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Wshadow"]
PROGRAMS: dict[str, tuple[list[str], list[str]]] = {  # name: sources, flags after them
    "origin": (sorted(path.name for path in HERE.glob("origin*.c")), ["-lssl", "-lcrypto", "-lpthread"]),
    "ceiling": (["ceiling.c"], ["-march=native", "-lcrypto"]),
    "multi": (["multi.c"], ["-march=native", "-lcurl", "-lcrypto"]),
    "measure": (["measure.c"], []),
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A file of bench/workloads; its name says what it measures."""

    name: str
    measures: str
    objects: int
    object_bytes: int
    connections: int
    slope_objects: int = 0
    target: Mapping[str, float] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        return self.objects * self.object_bytes


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Where the two sides run; equal lists when nothing is pinned."""

    origin: tuple[int, ...]
    client: tuple[int, ...]
    pinned: bool


@dataclass(frozen=True, kw_only=True)
class Origin:
    port: int
    pid: int
    objects: int

    def busy_s(self) -> float:
        """CPU seconds so far, of all threads."""
        tasks = Path(f"/proc/{self.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run of one client."""

    cpu_s: float  # user and system, the whole process tree
    wall_s: float
    max_rss_bytes: int  # ru_maxrss: the largest single process, file-backed pages included
    origin_cpu_s: float
    syscalls: int | None  # only the ceiling counts its own


def load_workload(name: str) -> Workload:
    with open(HERE / "workloads" / f"{name}.toml", "rb") as file:
        return Workload(name=name, **tomllib.load(file))


def choose_cores() -> Cores:
    """With two cores or more, the origin gets the first and the client all others."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    if len(cores) == 1:
        return Cores(origin=cores, client=cores, pinned=False)
    return Cores(origin=cores[:1], client=cores[1:], pinned=True)


def build() -> list[str]:
    """Compile what is older than its source and install the peers; returns the programs that could not be built.

    CalledProcessError: a program other than multi (it needs libcurl's header) failed.
    """
    missing = []
    for name in PROGRAMS:
        try:
            build_program(name)
        except subprocess.CalledProcessError:
            if name != "multi":
                raise
            missing.append(name)
    _install_peers(HERE / "peers" / "requirements.txt")
    return missing


def build_program(name: str) -> None:
    """Compile a program that is older than its sources. CalledProcessError: the compiler has said why."""
    BUILD.mkdir(exist_ok=True)
    names, flags = PROGRAMS[name]
    sources, binary = [HERE / source for source in names], Path(native(name))
    newest = max(path.stat().st_mtime for path in (*sources, *HERE.glob("*.h")))
    if not binary.exists() or binary.stat().st_mtime <= newest:
        subprocess.run([*COMPILER, "-o", binary, *sources, *flags], check=True)


def _install_peers(requirements: Path) -> None:
    stamp = PEERS_ENVIRONMENT / "installed"
    wanted = requirements.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    venv.create(PEERS_ENVIRONMENT, with_pip=True)
    pip = [str(PEERS_ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(requirements)], check=True)
    stamp.write_text(wanted)


@contextlib.contextmanager
def run_origin(workload: Workload, objects: int, data: Path, cores: Cores) -> Iterator[Origin]:
    """An origin serving ``objects`` of the workload's objects out of the shared data file."""
    argv = [native("origin"), "0", str(objects), str(workload.object_bytes), PREFIX, "--data", str(data)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, cores.origin)
            assert process.stdout is not None
            yield Origin(port=int(process.stdout.readline()), pid=process.pid, objects=objects)
        finally:
            process.terminate()


def target_of(workload: Workload, origin: Origin, out: Path) -> Target:
    return Target(
        port=origin.port,
        objects=origin.objects,
        object_bytes=workload.object_bytes,
        prefix=PREFIX,
        out=str(out),
        connections=workload.connections,
    )


def measure(peer: Peer, workload: Workload, origin: Origin, out: Path, cores: Cores) -> Sample:
    """Run the client into the fresh directory ``out``. RuntimeError: it failed; the text is its own."""
    home = out.parent / f"{out.name}.home"
    out.mkdir()
    home.mkdir()
    report, log = home / "report.json", home / "output"
    busy_before = origin.busy_s()
    cpus = ",".join(map(str, cores.client)) if cores.pinned else "any"
    argv = [native("measure"), str(report), cpus, *peer.command(target_of(workload, origin, out))]
    with open(log, "wb") as output:
        subprocess.run(argv, check=True, stdout=output, stderr=subprocess.STDOUT, env=_environment(home))
    figures = json.loads(report.read_text())
    text = log.read_text(errors="replace")
    if figures["status"] != 0:
        raise RuntimeError(f"{peer.NAME} exited with {figures['status']}: {text[-2000:]}")
    return Sample(
        cpu_s=figures["user_s"] + figures["system_s"],
        wall_s=figures["wall_s"],
        max_rss_bytes=figures["max_rss_kib"] << 10,
        origin_cpu_s=origin.busy_s() - busy_before,
        syscalls=_own_figures(text).get("syscalls"),
    )


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": "BENCHACCESSKEY",
        "AWS_SECRET_ACCESS_KEY": "benchsecretkey",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _own_figures(text: str) -> dict[str, Any]:
    """The JSON line that the C clients print."""
    if not text.startswith("{"):
        return {}
    return dict(json.loads(text.splitlines()[0]))


class WarmMemory:
    """Holds twice the tmpfs memory that a run needs, and lets go of it just before the run.

    A virtual machine gives free pages back to its host while it runs (free page reporting, some 400 MB/s), and whoever
    touches one of them next pays for it: 4 CPU s/GiB instead of 1.2 was seen, at random and most for clients that do
    not allocate the whole file at once. So a run's output is held until the next run starts, with as much again to
    spare: then those that write take warm pages whatever the host takes meanwhile.
    """

    def __init__(self, scratch: Path, size: int) -> None:
        self._held, self._spare = scratch / "first", scratch / "spare"
        self._spare_bytes = max(SPARE_BYTES, size)
        self._held.mkdir()
        _write_zeros(self._held / "ballast", size)
        _write_zeros(self._spare, self._spare_bytes)

    def release(self) -> None:
        shutil.rmtree(self._held)
        self._spare.unlink()

    def hold(self, out: Path) -> None:
        """Keep a run's output until the next run."""
        self._held = out
        _write_zeros(self._spare, self._spare_bytes)


def _write_zeros(path: Path, size: int) -> None:
    zeros = bytes(COMPARE_BYTES)
    with open(path, "wb", buffering=0) as file:
        file.writelines(zeros for _ in range(0, size, COMPARE_BYTES))


def compare(workload: Workload, origin: Origin, out: Path, data: Path) -> None:
    """Every byte of every file against the origin's data, and no file besides. ValueError says what differs."""
    expected = {f"{i // 1000:04}/{i:08}": i for i in range(origin.objects)}
    found = {
        os.path.relpath(os.path.join(directory, name), out)
        for directory, _, names in os.walk(out)
        for name in names
        if os.path.relpath(directory, out).split(os.sep)[0] != ".stager"
    }
    if found != expected.keys():
        raise ValueError(f"{len(found - expected.keys())} files too many, {len(expected.keys() - found)} missing")
    source = os.open(data, os.O_RDONLY)
    try:
        for name, index in expected.items():
            if not _same(out / name, source, index * workload.object_bytes, workload.object_bytes):
                raise ValueError(f"{name} differs from what the origin serves")
    finally:
        os.close(source)


def _same(path: Path, source: int, offset: int, size: int) -> bool:
    with open(path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != size:
            return False
        for start in range(0, size, COMPARE_BYTES):
            length = min(COMPARE_BYTES, size - start)
            if os.pread(file.fileno(), length, start) != os.pread(source, length, offset + start):
                return False
    return True


def unavailable(peer: Peer) -> str | None:
    """Why a client cannot run here, or None."""
    try:
        peer.version()
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error) if not isinstance(error, FileNotFoundError) else "not installed"
    return None


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
