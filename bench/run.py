"""Benches stager against its peers and a plain C ceiling, on an origin of our own.

    python bench/run.py                       all workloads, 5 rounds, a report in bench/results/
    python bench/run.py --quick               one round of a tenth: does it all work?
    python bench/run.py -w small-16KiB-10_000x -c ceiling -c stager --rounds 3

Exit status: 0; 1 when a client failed, its bytes differ, or, unless --quick, the ceiling lost to libcurl (VOID).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import lab
import report
from lab import Cores, Origin, Sample, Workload
from peers import Peer

HERE = Path(__file__).parent
CLIENTS = ("ceiling", "multi", "stager", "s5cmd", "rclone")


def main() -> int:
    arguments = _parse_arguments()
    missing = lab.build()
    peers = _available(arguments.client or CLIENTS, missing)
    if "ceiling" not in [peer.NAME for peer in peers]:
        sys.exit("ratios are to the ceiling: it has to be among the clients")
    cores = lab.choose_cores()
    rounds = 1 if arguments.quick else arguments.rounds
    text, valid = report.header(report.commit_of(HERE), cores, rounds), True
    for name in arguments.workload or sorted(path.stem for path in (HERE / "workloads").glob("*.toml")):
        workload = _quick(lab.load_workload(name)) if arguments.quick else lab.load_workload(name)
        with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.scratch) as scratch:
            part, holds = report.section(workload, _run_workload(workload, peers, cores, rounds, Path(scratch)))
        text += part
        valid = valid and holds
    print(text)
    if not arguments.quick:
        out = arguments.out or HERE / "results" / time.strftime("%Y-%m-%dT%H%MZ.md", time.gmtime())
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
    return 0 if valid or arguments.quick else 1  # a quick run is too short to be void


def _parse_arguments() -> argparse.Namespace:
    names = sorted(path.stem for path in (HERE / "workloads").glob("*.toml"))
    parser = argparse.ArgumentParser(description="Benches stager against its peers and a plain C ceiling.")
    parser.add_argument("-w", "--workload", action="append", choices=names, help="again for more; all by default")
    parser.add_argument("-c", "--client", action="append", choices=CLIENTS, help="again for more; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of the work; no report file")
    parser.add_argument("--scratch", default="/dev/shm", help="a directory on tmpfs")
    parser.add_argument("--out", type=Path, help="the report's file")
    return parser.parse_args()


def _available(names: list[str] | tuple[str, ...], missing: list[str]) -> list[Peer]:
    peers = []
    for name in CLIENTS:
        if name not in names:
            continue
        if name in missing:
            lab.say(f"{name} is left out: it did not compile (it needs libcurl4-openssl-dev)")
            continue
        peer = cast(Peer, importlib.import_module(f"peers.{name}"))
        why_not = lab.unavailable(peer)
        if why_not is None:
            peers.append(peer)
        else:
            lab.say(f"{name} is left out: {why_not}")
    return peers


def _quick(workload: Workload) -> Workload:
    if workload.objects == 1:
        return replace(workload, object_bytes=workload.object_bytes // 8)
    return replace(workload, objects=workload.objects // 10, slope_objects=workload.slope_objects // 10)


def _run_workload(
    workload: Workload, peers: list[Peer], cores: Cores, rounds: int, scratch: Path
) -> list[report.Series]:
    """A-B-B-A: every second round goes through the clients backwards."""
    series = {peer.NAME: _series(peer, workload) for peer in peers}
    data = scratch / "data"
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(_bed(workload, workload.objects, data, cores))
        small = None
        if workload.slope_objects:
            small = stack.enter_context(_bed(workload, workload.slope_objects, data, cores))
        if small is not None:
            for peer in peers:  # unmeasured: byte code compiled, programs in the page cache
                small.run(peer)
        for number in range(rounds):
            for peer in peers if number % 2 == 0 else reversed(peers):
                one = report.Round(full=full.run(peer), small=small.run(peer) if small is not None else None)
                series[peer.NAME].rounds.append(one)
                figures = f"{one.full.cpu_s:.2f} CPU s, {one.full.wall_s:.2f} s"
                lab.say(f"{workload.name} round {number + 1} {peer.NAME}: {figures}")
    return list(series.values())


@contextlib.contextmanager
def _bed(workload: Workload, objects: int, data: Path, cores: Cores) -> Iterator[_Bed]:
    with lab.run_origin(workload, objects, data, cores) as origin:
        yield _Bed(workload, origin, data, cores)


class _Bed:
    """One origin and the memory its outputs go to."""

    def __init__(self, workload: Workload, origin: Origin, data: Path, cores: Cores) -> None:
        self._workload, self._origin, self._data, self._cores = workload, origin, data, cores
        self._scratch = data.parent / str(origin.objects)
        self._scratch.mkdir()
        self._memory = lab.WarmMemory(self._scratch, origin.objects * workload.object_bytes)
        self._runs = 0

    def run(self, peer: Peer) -> Sample:
        """Fetch everything with ``peer`` and compare it. RuntimeError: it failed. ValueError: bytes differ."""
        self._runs += 1
        out = self._scratch / f"{self._runs}-{peer.NAME}"
        self._memory.release()
        sample = lab.measure(peer, self._workload, self._origin, out, self._cores)
        self._memory.hold(out)
        try:
            lab.compare(self._workload, self._origin, out, self._data)
        except ValueError as error:
            raise ValueError(f"{peer.NAME}: {error}") from None
        return sample


def _series(peer: Peer, workload: Workload) -> report.Series:
    """The command with its paths and port replaced, as the report shows it."""
    target = lab.target_of(workload, Origin(port=0, pid=0, objects=workload.objects), Path("OUT"))
    argv = peer.command(target)
    shown = " ".join([Path(argv[0]).name, *argv[1:]]).replace(target.endpoint, "http://ORIGIN")
    return report.Series(name=peer.NAME, version=peer.version(), command=shown)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, ValueError) as error:
        sys.exit(f"bench: {error}")
