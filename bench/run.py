"""Benches stager against its peers and a plain C ceiling, on an origin of our own.

    python bench/run.py                       the short form: some workloads, the best peers, 5 rounds
    python bench/run.py --full                every workload, every peer
    python bench/run.py --quick               one round of a tenth: does it all work?
    python bench/run.py -w small-16KiB-10_000x -c ceiling -c stager --rounds 3
    python bench/run.py -s pace-small

Exit status: 0; 1 when a client failed, its bytes differ, or, unless --quick, the ceiling lost to libcurl (VOID).
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import building
import git_rounds
import lab
import machine
import report
import results
import rounds
import workloads
from peers import Peer
from studies import STUDIES
from workloads import Case

HERE = Path(__file__).parent
CLIENTS = (
    *("ceiling", "multi", "stager", "stager_undigested"),
    *("s5cmd", "rclone", "rclone_md5", "obstore", "awscrt", "s3transfer", "aiobotocore"),
    *("git", "git_lfs_8", "git_lfs_32"),
)
ON_REQUEST = ("stager_undigested", "rclone_md5")  # only where a workload names them
SHORT = ("ceiling", "multi", "stager", "stager_undigested", "s5cmd", "rclone", "obstore")


def main() -> int:
    arguments = _parse_arguments()
    missing = building.build_programs()
    building.prepare_environment()
    out = arguments.out or HERE / "results" / time.strftime("%Y-%m-%dT%H%MZ.jsonl", time.gmtime())
    if arguments.fresh:
        out.unlink(missing_ok=True)
    writer, cores = results.Writer(out), lab.choose_cores()
    writer.run(machine.facts(cores, arguments.rounds, quick=arguments.quick))
    failed = []
    peers = _available({name for case in _chosen(arguments) for name in _takers(case, arguments)}, missing)
    for case in _chosen(arguments):
        count = 1 if arguments.quick else case.workload.rounds or arguments.rounds
        takers = [peers[name] for name in _takers(case, arguments) if name in peers]
        with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.scratch) as scratch:
            try:
                certificate = building.make_certificate(Path(scratch))
                if case.workload.task == "git":
                    failed += git_rounds.run_case(case, takers, cores, count, Path(scratch), writer)
                else:
                    failed += rounds.run_case(case, takers, cores, count, Path(scratch), certificate, writer)
            except ValueError as error:
                failed.append(f"{case.id}: {error}")
                lab.say(failed[-1])
    for name in arguments.study:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.scratch) as scratch:
            try:
                writer.study(name, STUDIES[name].run(cores, Path(scratch), quick=arguments.quick))
            except (RuntimeError, ValueError) as error:
                failed.append(f"{name}: {error}")
                lab.say(failed[-1])
    valid = report.write(out)
    for text in failed:
        lab.say(f"FAILED {text}")
    return 0 if not failed and (valid or arguments.quick) else 1  # a quick run is too short to be void


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benches stager against its peers and a plain C ceiling.")
    add = parser.add_argument
    add("-w", "--workload", action="append", choices=workloads.names(), help="again for more")
    add("-s", "--study", action="append", choices=sorted(STUDIES), help="again for more")
    add("-c", "--client", action="append", choices=CLIENTS, help="again for more")
    add("--scheme", choices=("http", "https"), help="both by default, where a workload has both")
    add("--cores", choices=("one", "all"), help="the client's; both by default with --full")
    add("--full", action="store_true", help="every workload, study and peer")
    add("--rounds", type=int, default=5)
    add("--quick", action="store_true", help="one round of a tenth of the work")
    add("--scratch", default="/dev/shm", help="a directory on tmpfs")
    add("--out", type=Path, help="the results file; an existing one is continued")
    add("--fresh", action="store_true", help="an existing results file is begun again")
    arguments = parser.parse_args()
    if not arguments.workload and not arguments.study:
        arguments.workload = [one for one in workloads.names() if arguments.full or workloads.load(one).short]
        arguments.study = sorted(name for name, study in STUDIES.items() if arguments.full or study.SHORT)
    arguments.workload, arguments.study = arguments.workload or [], arguments.study or []
    return arguments


def _chosen(arguments: argparse.Namespace) -> list[Case]:
    wanted_cores = [arguments.cores] if arguments.cores else ["one", "all"] if arguments.full else ["one"]
    return [
        case
        for name in arguments.workload
        for case in workloads.cases(workloads.load(name).tenth() if arguments.quick else workloads.load(name))
        if arguments.scheme in (None, case.scheme) and case.cores in wanted_cores
    ]


def _takers(case: Case, arguments: argparse.Namespace) -> list[str]:
    """Who takes part, in order: whom the workload names or all of the form, who know the task and were asked for."""
    workload = case.workload
    everyone = [name for name in (CLIENTS if arguments.full else SHORT) if name not in ON_REQUEST]
    return [
        name
        for name in CLIENTS
        if name in (workload.clients or arguments.client or everyone)
        and name in (arguments.client or CLIENTS)
        and name not in workload.without
        and workload.task in _peer(name).TASKS
    ]


def _peer(name: str) -> Peer:
    return cast(Peer, importlib.import_module(f"peers.{name}"))


def _available(names: set[str], missing: Sequence[str]) -> dict[str, Peer]:
    found = {}
    for name in sorted(names):
        if name in missing:
            lab.say(f"{name} is left out: it did not compile (it needs libcurl4-openssl-dev)")
        elif (why_not := _unavailable(_peer(name))) is not None:
            lab.say(f"{name} is left out: {why_not}")
        else:
            found[name] = _peer(name)
    return found


def _unavailable(peer: Peer) -> str | None:
    try:
        peer.version()
    except FileNotFoundError:
        return "not installed"
    except (OSError, subprocess.CalledProcessError) as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())
