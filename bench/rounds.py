"""All rounds of one case: every client in turn, forwards and backwards (A-B-B-A), every output compared."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lab
from building import Certificate
from lab import Content, Cores, Origin, Run
from peers import Peer
from results import CaseFacts, Client, Round, Sample, Writer
from workloads import Case

__all__ = ["run_case"]

FAR_BEHIND, ROUNDS_FAR_BEHIND = 8, 2
"""Whoever takes so many times the fastest client's wall time in the first round has done after so many rounds: no
spread changes the verdict, and half of the hours would be theirs."""


def run_case(
    case: Case, peers: Sequence[Peer], cores: Cores, rounds: int, scratch: Path, certificate: Certificate, out: Writer
) -> list[str]:
    """Measure and write down; returns what failed. A client that fails takes no further part, the others go on.

    ValueError: an origin does not start.
    """
    workload = case.workload
    out.case(_facts(case))
    secured = certificate if case.scheme == "https" else None
    failed: dict[str, str] = {}

    @contextlib.contextmanager
    def noted(peer: Peer) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:
            failed[peer.NAME] = f"{case.id}: {error}"
            lab.say(failed[peer.NAME])

    with contextlib.ExitStack() as stack:
        full = stack.enter_context(_bed(case, workload.objects, scratch, cores, secured))
        small = None
        if workload.slope_objects:
            small = stack.enter_context(_bed(case, workload.slope_objects, scratch, cores, secured))
        for peer in peers:
            with noted(peer):
                calls = _calls(case, peer, full, small)  # also compiles byte code and fills the page cache
                out.client(case.id, _described(case, peer, full.origin, calls))
        first_walls_s: dict[str, float] = {}
        for number in range(rounds):
            for peer in peers if number % 2 == 0 else reversed(peers):
                if peer.NAME in failed:
                    continue
                if number >= ROUNDS_FAR_BEHIND and _is_far_behind(peer.NAME, first_walls_s):
                    continue
                with noted(peer):
                    one = Round(full=full.run(peer), small=small.run(peer) if small is not None else None)
                    out.round(case.id, peer.NAME, one)
                    first_walls_s.setdefault(peer.NAME, one.full.wall_s)
                    figures = f"{one.full.cpu_s:.2f} CPU s, {one.full.wall_s:.2f} s"
                    lab.say(f"{case.id}: round {number + 1}, {peer.NAME}: {figures}")
    return list(failed.values())


def _is_far_behind(name: str, walls_s: dict[str, float]) -> bool:
    return walls_s[name] > FAR_BEHIND * min(walls_s.values())


def _facts(case: Case) -> CaseFacts:
    workload = case.workload
    sizes = sum(size for _, size in workload.objects_of(workload.objects))
    return CaseFacts(
        id=case.id,
        workload=workload.name,
        measures=workload.measures,
        task=workload.task,
        scheme=case.scheme,
        cores=case.cores,
        objects=workload.objects,
        slope_objects=workload.slope_objects,
        total_bytes=sizes,
        in_parts=workload.in_parts,
    )


def _calls(case: Case, peer: Peer, full: _Bed, small: _Bed | None) -> float | None:
    """System calls for one more object, or for a MiB where objects come in parts: unmeasured runs of their own.

    None where the workload wants none, and for every core: there it is the number of the client's one core.
    """
    workload = case.workload
    if not workload.counts_calls or case.cores == "all":
        return None
    many = full.count_syscalls(peer)
    if workload.in_parts:
        return many / (workload.total_bytes / (1 << 20)) if many is not None else None
    few, fewer = (small.count_syscalls(peer), workload.slope_objects) if small is not None else (0, 0)
    return (many - few) / (workload.objects - fewer) if many is not None and few is not None else None


def _described(case: Case, peer: Peer, origin: Origin, calls: float | None) -> Client:
    """The command with its paths and port replaced, as the report shows it."""
    target = lab.target_of(case.workload, origin, Path("OUT"))
    argv = peer.command(target)
    shown = " ".join([Path(argv[0]).name, *argv[1:]]).replace(target.endpoint, f"{case.scheme}://ORIGIN")
    shown = shown.replace(str(origin.content.listing), "LISTING").replace(f" {origin.port} ", " PORT ")
    shown = shown.replace(f"{Path(__file__).parent}/", "")
    if target.ca_file is not None:
        shown = shown.replace(str(target.ca_file), "CA")
    return Client(name=peer.NAME, version=peer.version(), command=shown, calls=calls)


@contextlib.contextmanager
def _bed(case: Case, objects: int, scratch: Path, cores: Cores, certificate: Certificate | None) -> Iterator[_Bed]:
    workload = case.workload
    content = Content.of(workload, objects, scratch)
    options = ["--checksum", workload.checksum] if workload.checksum != "none" else []
    options += ["--etag", workload.etag] if workload.etag != "multipart" else []
    with contextlib.ExitStack() as stack:
        origin = silent = stack.enter_context(lab.run_origin(content, cores, *options, certificate=certificate))
        if workload.unannounced:
            silent = stack.enter_context(lab.run_origin(content, cores, certificate=certificate))
        bed = _Bed(case, origin, silent, cores, scratch / str(objects))
        yield bed
        bed.clear()


@dataclass
class _Bed:
    """An origin, the same without checksums, and the place the clients' outputs go to."""

    case: Case
    origin: Origin
    silent: Origin
    cores: Cores
    scratch: Path
    runs: int = 0
    memory: lab.WarmMemory | None = None
    synced: dict[str, Path] = field(default_factory=dict)  # where each client finds its first run's files

    def __post_init__(self) -> None:
        self.scratch.mkdir()
        workload = self.case.workload
        if workload.task == "copy" and workload.held:
            total = sum(size for _, size in workload.objects_of(self.origin.content.objects))
            self.memory = lab.WarmMemory(self.scratch, total)

    def run(self, peer: Peer) -> Sample:
        return self._run(peer, count_syscalls=False).sample

    def count_syscalls(self, peer: Peer) -> int | None:
        return self._run(peer, count_syscalls=True).syscalls

    def clear(self) -> None:
        shutil.rmtree(self.scratch)

    def _run(self, peer: Peer, *, count_syscalls: bool) -> Run:
        match self.case.workload.task:
            case "copy":
                return self._copy(peer, count_syscalls)
            case "resync":
                return self._resync(peer, count_syscalls)
            case "list":
                return self._list(peer, count_syscalls)

    def _copy(self, peer: Peer, count_syscalls: bool) -> Run:
        """Fetch everything into a fresh directory."""
        out = self._fresh(peer)
        if self.memory is not None:
            self.memory.release()
        origin = self.silent if peer.NAME in self.case.workload.unannounced else self.origin
        try:
            done = lab.measure(peer, self.case, origin, out, self.cores, count_syscalls=count_syscalls)
        finally:
            if self.memory is not None:
                self.memory.hold(out)
        self._compare(peer, out)
        if self.memory is None:
            shutil.rmtree(out)
        return done

    def _resync(self, peer: Peer, count_syscalls: bool) -> Run:
        """Over the client's own first run, which is not measured."""
        out = self.synced.get(peer.NAME)
        if out is None:
            out = self.synced[peer.NAME] = self._fresh(peer)
            lab.measure(peer, self.case, self.origin, out, self.cores)
        done = lab.measure(peer, self.case, self.origin, out, self.cores, count_syscalls=count_syscalls)
        self._compare(peer, out)
        return done

    def _list(self, peer: Peer, count_syscalls: bool) -> Run:
        out = self._fresh(peer)
        done = lab.measure(peer, self.case, self.origin, out, self.cores, count_syscalls=count_syscalls)
        if (found := peer.keys_listed(done.output)) != self.origin.content.objects:
            raise ValueError(f"{peer.NAME} listed {found} keys of {self.origin.content.objects}")
        return done

    def _fresh(self, peer: Peer) -> Path:
        self.runs += 1
        return self.scratch / f"{self.runs}-{peer.NAME}"

    def _compare(self, peer: Peer, out: Path) -> None:
        try:
            lab.compare(self.origin.content, out)
        except ValueError as error:
            raise ValueError(f"{peer.NAME}: {error}") from None
