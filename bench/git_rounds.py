"""All rounds of a Git dataset: every client in turn goes through all of its steps, every tree compared after each.

A step is a case of its own in the results, ``WORKLOAD-STEP``. Each round a client starts on a node that has nothing;
one step later a second directory is filled on the same node, then again, then once more after the branch has moved.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lab
from git_data import NAME, GitData, make_git_data
from lab import Content, Cores, Origin
from peers import STEPS, GitTarget, Peer, Step
from results import CaseFacts, Client, Round, Writer
from workloads import Case

__all__ = ["run_case"]

HERE = Path(__file__).parent
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
MEASURES: dict[Step, str] = {
    "cold": "on a node that has nothing of it",
    "second": "into a second directory of the same node",
    "again": "there once more, nothing changed",
    "later": "there once more, one commit later: one file of a hundred changed",
}


def run_case(case: Case, peers: Sequence[Peer], cores: Cores, rounds: int, scratch: Path, out: Writer) -> list[str]:
    """Measure and write down; returns what failed. A client that fails takes no further part, the others go on.

    ValueError: a server does not start. CalledProcessError: the repository cannot be made.
    """
    failed: dict[str, str] = {}
    data = make_git_data(case.workload, scratch)
    with _served(data, cores, scratch) as servers:
        bed = _Bed(case, data, servers, cores, scratch)
        for step in STEPS:
            out.case(_facts(case, step))
            for peer in peers:
                out.client(_id(case, step), _described(peer, servers.url, step))
        for number in range(rounds):
            for peer in peers if number % 2 == 0 else reversed(peers):
                if peer.NAME in failed:
                    continue
                try:
                    for step, one in bed.round(peer):
                        out.round(_id(case, step), peer.NAME, one)
                        figures = f"{one.full.cpu_s:.2f} CPU s, {one.full.wall_s:.2f} s"
                        lab.say(f"{_id(case, step)}: round {number + 1}, {peer.NAME}: {figures}")
                except (RuntimeError, ValueError) as error:
                    failed[peer.NAME] = f"{case.id}: {peer.NAME}: {error}"
                    lab.say(failed[peer.NAME])
    return list(failed.values())


def _id(case: Case, step: Step) -> str:
    return f"{case.workload.name}-{step} {case.scheme} {case.cores}"


def _facts(case: Case, step: Step) -> CaseFacts:
    workload = case.workload
    return CaseFacts(
        id=_id(case, step),
        workload=f"{workload.name}-{step}",
        measures=f"{workload.measures}; {MEASURES[step]}",
        task=workload.task,
        scheme=case.scheme,
        cores=case.cores,
        objects=workload.objects,
        slope_objects=0,
        total_bytes=workload.total_bytes,
        in_parts=False,
    )


def _described(peer: Peer, url: str, step: Step) -> Client:
    argv = peer.command(GitTarget(url=url, out="OUT", step=step))
    shown = " ".join([Path(argv[0]).name, *argv[1:]]).replace(url, "http://FORGE/SET")
    return Client(name=peer.NAME, version=peer.version(), command=shown)


@dataclass(frozen=True, kw_only=True)
class _Servers:
    """The forge with its children, and the origin of the LFS objects."""

    forge: subprocess.Popen[str]
    url: str
    origin: Origin

    def busy_s(self) -> float:
        """CPU seconds so far of both, and of what the forge has waited for: proc(5), fields 14 to 17 of stat."""
        fields = Path(f"/proc/{self.forge.pid}/stat").read_text().rpartition(")")[2].split()
        return self.origin.busy_s() + sum(map(int, fields[11:15])) * TICK_S


@contextlib.contextmanager
def _served(data: GitData, cores: Cores, scratch: Path) -> Iterator[_Servers]:
    """Both on the origin's core. ValueError: one does not start."""
    served = ("--folder", str(data.store))
    content = Content(objects=0, arguments=served, to_verify=served, listing=scratch / "no listing")
    with lab.run_origin(content, cores) as origin:
        objects_url = f"http://127.0.0.1:{origin.port}/bench"
        argv = [sys.executable, str(HERE / "forge.py"), str(data.root), str(data.store), objects_url]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as forge:
            try:
                os.sched_setaffinity(forge.pid, cores.origin)
                assert forge.stdout is not None
                line = forge.stdout.readline()
                if not line:
                    raise ValueError("the forge did not start")
                yield _Servers(forge=forge, url=f"http://127.0.0.1:{int(line)}/{NAME}", origin=origin)
            finally:
                forge.terminate()


class _Bed:
    """Where the clients' outputs go to, and a home for each round."""

    def __init__(self, case: Case, data: GitData, servers: _Servers, cores: Cores, scratch: Path) -> None:
        self._case, self._data, self._servers = case, data, servers
        self._where = cores.of_client(case.cores)
        self._scratch = scratch / "runs"
        self._scratch.mkdir()
        self._memory = lab.WarmMemory(self._scratch, 2 * case.workload.total_bytes)
        self._runs = 0

    def round(self, peer: Peer) -> Iterator[tuple[Step, Round]]:
        """RuntimeError: the client failed. ValueError: its tree is not the commit's."""
        self._runs += 1
        home = self._scratch / f"{self._runs}-{peer.NAME}.home"
        (home / "scratch").mkdir(parents=True)
        try:
            for step in STEPS:
                yield step, self._step(peer, step, home)
        finally:
            shutil.rmtree(home)

    def _step(self, peer: Peer, step: Step, home: Path) -> Round:
        which = 1 if step == "later" else 0
        out = self._scratch / f"{self._runs}-{peer.NAME}-{'first' if step == 'cold' else 'second'}"
        self._data.show(which)
        fills = step in ("cold", "second")
        if fills:
            self._memory.release()
        environ = {**lab.environment(home), "STAGER_SCRATCH": str(home / "scratch"), "GIT_CONFIG_NOSYSTEM": "1"}
        command = peer.command(GitTarget(url=self._servers.url, out=str(out), step=step))
        try:
            run = lab.measure_command(command, self._where, home, environ, self._servers.busy_s)
        finally:
            if fills:
                out.mkdir(exist_ok=True)
                self._memory.hold(out)
        tree = self._data.trees[which]
        expected = ("--folder", str(tree))
        lab.compare(Content(objects=0, arguments=expected, to_verify=expected, listing=tree), out)
        return Round(full=run.sample, small=None)
