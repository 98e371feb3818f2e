"""What a run measured, as JSON lines: written as it is measured, read by the report, the plots and the targets.

Standard library only: the plots are drawn in another environment than the one that measures.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

__all__ = ["CaseFacts", "Client", "Results", "Round", "Sample", "Writer", "median", "median_ratio", "paired", "read"]

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run of one client."""

    cpu_s: float  # user and system, the whole process tree
    wall_s: float
    rss_anon_bytes: int  # the tree's highest at one moment, sampled
    rss_bytes: int  # ru_maxrss: the largest single process, file-backed pages included
    origin_cpu_s: float


@dataclass(frozen=True, kw_only=True)
class Round:
    """One client in one round: the run of all objects, and the smaller run that the slope needs."""

    full: Sample
    small: Sample | None


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """What the figures of a case are to be divided by, and how it is introduced."""

    id: str
    workload: str
    measures: str
    task: str
    scheme: str
    cores: str
    objects: int
    slope_objects: int
    total_bytes: int
    in_parts: bool

    @property
    def gib(self) -> float:
        return self.total_bytes / GIB


@dataclass(kw_only=True)
class Client:
    """One client of one case over all rounds."""

    name: str
    version: str
    command: str
    calls: float | None = None  # system calls per object, or per MiB where objects come in parts
    rounds: list[Round] = field(default_factory=list)

    def cpu_per_object_us(self, case: CaseFacts) -> list[float]:
        return [one.full.cpu_s / case.objects * 1e6 for one in self.rounds]

    def cpu_per_gib_s(self, case: CaseFacts) -> list[float]:
        return [one.full.cpu_s / case.gib for one in self.rounds]

    def slopes_us(self, case: CaseFacts) -> list[float]:
        """Microseconds of CPU for one more object, round by round; empty where there was no smaller run."""
        more = case.objects - case.slope_objects
        return [(one.full.cpu_s - one.small.cpu_s) / more * 1e6 for one in self.rounds if one.small is not None]

    def cpus_s(self) -> list[float]:
        return [one.full.cpu_s for one in self.rounds]

    def walls_s(self) -> list[float]:
        return [one.full.wall_s for one in self.rounds]

    def both_sides_s(self) -> list[float]:
        """CPU seconds of client and origin."""
        return [one.full.cpu_s + one.full.origin_cpu_s for one in self.rounds]

    def origin_share(self) -> float:
        return statistics.median(one.full.origin_cpu_s / one.full.wall_s for one in self.rounds)

    def peak_anon_bytes(self) -> int:
        return max(one.full.rss_anon_bytes for one in self.rounds)


@dataclass(kw_only=True)
class Results:
    """Everything in a results file."""

    run: dict[str, Any] = field(default_factory=dict)  # machine, commit, date, rounds
    cases: dict[str, CaseFacts] = field(default_factory=dict)
    clients: dict[str, dict[str, Client]] = field(default_factory=dict)  # by case, then by name
    studies: dict[str, dict[str, Any]] = field(default_factory=dict)  # by name: see studies/

    def case(self, workload: str, scheme: str = "http", cores: str = "one") -> CaseFacts | None:
        return self.cases.get(f"{workload} {scheme} {cores}")

    def client(self, case: CaseFacts | None, name: str) -> Client | None:
        """None: it took no part, or failed."""
        found = self.clients[case.id].get(name) if case is not None else None
        return found if found is not None and found.rounds else None

    def measured(self) -> Iterator[tuple[CaseFacts, dict[str, Client]]]:
        """The cases in which every client has at least one round."""
        for id_, case in self.cases.items():
            ran = {name: client for name, client in self.clients[id_].items() if client.rounds}
            if ran:
                yield case, ran


class Writer:
    """Appends to a results file, a line at a time, so that a run that is stopped has lost nothing."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def _write(self, kind: str, body: dict[str, Any]) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps({"kind": kind, **body}) + "\n")

    def run(self, facts: dict[str, Any]) -> None:
        self._write("run", facts)

    def case(self, case: CaseFacts) -> None:
        self._write("case", asdict(case))

    def client(self, case_id: str, client: Client) -> None:
        self._write("client", {"case": case_id, **{k: v for k, v in asdict(client).items() if k != "rounds"}})

    def round(self, case_id: str, name: str, one: Round) -> None:
        self._write("round", {"case": case_id, "client": name, **asdict(one)})

    def study(self, name: str, body: dict[str, Any]) -> None:
        self._write("study", {"name": name, "body": body})


def read(path: Path) -> Results:
    """Read a results file; a case or study that was measured again replaces the earlier one."""
    results = Results()
    with open(path) as lines:
        for line in lines:
            _take(results, json.loads(line))
    return results


def _take(results: Results, body: dict[str, Any]) -> None:
    match body.pop("kind"):
        case "run":
            results.run = body
        case "case":
            results.cases[body["id"]] = CaseFacts(**body)
            results.clients[body["id"]] = {}
        case "client":
            clients = results.clients[body.pop("case")]
            clients[body["name"]] = Client(**body)
        case "round":
            small = body["small"]
            one = Round(full=_sample(body["full"]), small=_sample(small) if small else None)
            results.clients[body["case"]][body["client"]].rounds.append(one)
        case "study":
            results.studies[body["name"]] = body["body"]


def _sample(body: dict[str, Any]) -> Sample:
    return Sample(**{one.name: body[one.name] for one in fields(Sample)})


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def paired(one: Client, base: Client, figures: Callable[[Client], Sequence[float]]) -> list[float]:
    """The figure as a multiple of the base's in the same round."""
    return [a / b for a, b in zip(figures(one), figures(base), strict=False)]


def median_ratio(one: Client, base: Client, figures: Callable[[Client], Sequence[float]]) -> float:
    return statistics.median(paired(one, base, figures))
