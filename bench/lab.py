"""The laboratory: an origin running, one client measured, its bytes compared."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from building import Certificate
from peers import Peer, Target
from peers.places import native
from results import Sample
from workloads import PREFIX, Case, Workload

__all__ = [
    "Content",
    "Cores",
    "Origin",
    "Run",
    "WarmMemory",
    "choose_cores",
    "compare",
    "environment",
    "measure",
    "measure_command",
    "run_origin",
    "say",
    "target_of",
    "write_listing",
]

WRITE_BYTES = 8 << 20
SPARE_BYTES = 256 << 20  # at least this much warm memory besides the output's: the clients' own pages


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Where the two sides run; equal lists when nothing is pinned."""

    origin: tuple[int, ...]
    client: tuple[int, ...]
    pinned: bool

    def of_client(self, choice: str) -> str:
        """The argument of `measure` for "one" or "all"."""
        return ",".join(map(str, self.client)) if self.pinned and choice == "one" else "any"


def choose_cores() -> Cores:
    """With two cores or more, the origin gets the first, and a client of one core the second."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    if len(cores) == 1:
        return Cores(origin=cores, client=cores, pinned=False)
    return Cores(origin=cores[:1], client=cores[1:2], pinned=True)


@dataclass(frozen=True, kw_only=True)
class Content:
    """What an origin serves: the arguments that say so, and as many objects."""

    objects: int
    arguments: tuple[str, ...]
    to_verify: tuple[str, ...]  # the same for `origin --verify`, which knows no prefix of a folder
    listing: Path

    @classmethod
    def of(cls, workload: Workload, objects: int, scratch: Path) -> Content:
        """Made below ``scratch``: a data file on tmpfs that origins share, or a folder where sizes differ."""
        listing = scratch / f"listing-{objects}"
        write_listing(workload, objects, listing)
        if workload.sizes or workload.spread:
            folder = scratch / f"folder-{objects}"
            _fill(folder / PREFIX, workload, objects)
            served, to_verify = ("--folder", str(folder)), ("--folder", str(folder / PREFIX))
            return cls(objects=objects, arguments=served, to_verify=to_verify, listing=listing)
        shape = (str(objects), str(workload.object_bytes), PREFIX)
        bytes_from = ("--formula",) if workload.task == "list" else ("--data", str(scratch / "data"))
        arguments = (*shape, *bytes_from)
        return cls(objects=objects, arguments=arguments, to_verify=arguments, listing=listing)


def write_listing(workload: Workload, objects: int, path: Path) -> None:
    with open(path, "w") as file:
        file.writelines(f"{size} {key}\n" for key, size in workload.objects_of(objects))


def _fill(top: Path, workload: Workload, objects: int) -> None:
    """Files of the workload's sizes, each with bytes of its own."""
    block = os.urandom(WRITE_BYTES)
    for key, size in workload.objects_of(objects):
        path = top / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb", buffering=0) as file:
            start = hash_of(key) % (WRITE_BYTES // 2)
            while size > 0:
                size -= file.write(memoryview(block)[start : start + min(size, WRITE_BYTES)])
                start = 0


def hash_of(key: str) -> int:
    """Not Python's hash of a string: that differs from process to process."""
    return int.from_bytes(key.encode()[-8:], "big") * 2654435761


@dataclass(frozen=True, kw_only=True)
class Origin:
    port: int
    pid: int
    content: Content
    certificate: Certificate | None

    def busy_s(self) -> float:
        """CPU seconds so far, of all threads."""
        tasks = Path(f"/proc/{self.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def stats(self) -> dict[str, Any]:
        """Its counters. http only."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/stats") as answer:
            return dict(json.load(answer))

    def limit_gets_per_s(self, limit: float) -> None:
        """From the next request on. http only."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/-/gets-per-s/{limit}", method="POST")
        urllib.request.urlopen(request).close()


@contextlib.contextmanager
def run_origin(
    content: Content, cores: Cores, *options: str, certificate: Certificate | None = None
) -> Iterator[Origin]:
    """An origin on its core, once it accepts connections. ValueError: it ended before that; its text is on stderr."""
    secure = ("--tls", str(certificate.chain), str(certificate.key)) if certificate is not None else ()
    argv = [native("origin"), "0", *content.arguments, *secure, *options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, cores.origin)
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise ValueError(f"the origin did not start: {' '.join(argv)}")
            yield Origin(port=int(line), pid=process.pid, content=content, certificate=certificate)
        finally:
            process.terminate()


def target_of(workload: Workload, origin: Origin, out: Path) -> Target:
    return Target(
        task=workload.task,
        port=origin.port,
        objects=origin.content.objects,
        object_bytes=workload.object_bytes,
        prefix=PREFIX,
        out=str(out),
        connections=workload.connections,
        listing=origin.content.listing,
        ca_file=origin.certificate.ca if origin.certificate is not None else None,
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run cost and said."""

    sample: Sample
    syscalls: int | None  # where they were counted and the kernel allows it
    output: str


def measure(peer: Peer, case: Case, origin: Origin, out: Path, cores: Cores, *, count_syscalls: bool = False) -> Run:
    """Run the client into the directory ``out``. RuntimeError: it failed; the text is its own."""
    home = out.parent / f"{out.name}.home"
    out.mkdir(exist_ok=True)
    home.mkdir()
    command, where = peer.command(target_of(case.workload, origin, out)), cores.of_client(case.cores)
    try:
        return measure_command(
            command, where, home, environment(home, origin), origin.busy_s, count_syscalls=count_syscalls
        )
    except RuntimeError as error:
        raise RuntimeError(f"{peer.NAME} {error}") from None
    finally:
        shutil.rmtree(home)


def measure_command(
    command: Sequence[str],
    where: str,
    home: Path,
    environ: Mapping[str, str],
    busy_s: Callable[[], float],
    *,
    count_syscalls: bool = False,
) -> Run:
    """Run a command on the cores of `Cores.of_client`; ``busy_s`` tells its servers' CPU so far. RuntimeError: it
    failed; the text is its own. ``home`` takes its output.
    """
    report, log = home / "report.json", home / "output"
    argv = [native("measure"), *(["--count-syscalls"] if count_syscalls else []), str(report), where, *command]
    busy_before = busy_s()
    with open(log, "wb") as output:
        subprocess.run(argv, check=True, stdout=output, stderr=subprocess.STDOUT, env=dict(environ))
    busy_after = busy_s()
    figures = json.loads(report.read_text())
    text = log.read_text(errors="replace")
    if figures["status"] != 0:
        raise RuntimeError(f"exited with {figures['status']}: {text[-2000:]}")
    sample = Sample(
        cpu_s=figures["user_s"] + figures["system_s"],
        wall_s=figures["wall_s"],
        rss_anon_bytes=figures["peak_rss_anon_kib"] << 10,
        rss_bytes=figures["max_rss_kib"] << 10,
        origin_cpu_s=busy_after - busy_before,
    )
    return Run(sample=sample, syscalls=figures["syscalls"], output=text)


def environment(home: Path, origin: Origin | None = None) -> dict[str, str]:
    """What a client finds in its environment; nothing of this process's but where programs are."""
    found = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": "BENCHACCESSKEY",
        "AWS_SECRET_ACCESS_KEY": "benchsecretkey",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if origin is not None and origin.certificate is not None:
        found["AWS_CA_BUNDLE"] = found["SSL_CERT_FILE"] = str(origin.certificate.ca)
    return found


class WarmMemory:
    """Holds twice the tmpfs memory that a run needs, and lets go of it just before the run.

    A virtual machine gives free pages back to its host while it runs (free page reporting, some 400 MB/s), and whoever
    touches one of them next pays for it: 4 CPU s/GiB instead of 1.2 was seen, at random and most for clients that do
    not allocate the whole file at once. So a run's output is held until the next run starts, with as much again to
    spare: then those that write take warm pages whatever the host takes meanwhile.
    """

    def __init__(self, scratch: Path, size: int, *, least_spare_bytes: int = SPARE_BYTES) -> None:
        self._held, self._spare = scratch / "first", scratch / "spare"
        self._spare_bytes = max(least_spare_bytes, size)
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
    zeros = bytes(WRITE_BYTES)
    with open(path, "wb", buffering=0) as file:
        file.writelines(zeros for _ in range(0, size, WRITE_BYTES))


def compare(content: Content, out: Path) -> None:
    """Every byte of every file against the origin's, and no file besides. ValueError says what differs."""
    argv = [native("origin"), "0", *content.to_verify, "--verify", str(out)]
    done = subprocess.run(argv, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip() or f"comparing ended with {done.returncode}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
