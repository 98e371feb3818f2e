"""The verdicts and tables that come of a results file."""

from __future__ import annotations

from pathlib import Path

import pytest
import report
import results
import targets
from results import CaseFacts, Client, Results, Round, Sample, Writer

OBJECTS, FEW = 10_000, 2_000


def sample(cpu_s: float, wall_s: float) -> Sample:
    return Sample(cpu_s=cpu_s, wall_s=wall_s, rss_anon_bytes=1 << 20, rss_bytes=2 << 20, origin_cpu_s=0.1)


def case(scheme: str) -> CaseFacts:
    return CaseFacts(
        id=f"small-16KiB-10_000x {scheme} one", workload="small-16KiB-10_000x", measures="objects", task="copy",
        scheme=scheme, cores="one", objects=OBJECTS, slope_objects=FEW, total_bytes=OBJECTS << 14, in_parts=False,
    )  # fmt: skip


@pytest.fixture
def found(tmp_path: Path) -> Results:
    """Slopes of 40, 50 and 400 µs, walls of 1, 2 and 8 s, over http; over https stager failed."""
    path = tmp_path / "results.jsonl"
    out = Writer(path)
    out.run({"date": "2026-11-26"})
    for scheme in ("http", "https"):
        out.case(case(scheme))
        for name, slope_us, wall_s in (
            ("ceiling", 40, 1.0),
            ("multi", 60, 1.5),
            ("stager", 50, 2.0),
            ("s5cmd", 400, 8.0),
        ):
            out.client(case(scheme).id, Client(name=name, version="1", command=name, calls=5.0))
            if scheme == "https" and name == "stager":
                continue
            for start_s in (0.1, 0.3, 0.2):
                cpus_s = [start_s + count * slope_us / 1e6 for count in (OBJECTS, FEW)]
                one = Round(full=sample(cpus_s[0], wall_s), small=sample(cpus_s[1], wall_s / 5))
                out.round(case(scheme).id, name, one)
    return results.read(path)


def figures(found: Results, target: str) -> dict[str, tuple[str, bool | None]]:
    return {one.asks: (one.figure, one.met) for one in targets.verdicts(found) if one.target == target}


def test_a_slope_is_free_of_what_every_run_costs(found: Results) -> None:
    asks = "http: slope of CPU per object at most 1.5 of the ceiling's"
    assert figures(found, "P2")[asks] == ("1.25", True)


def test_a_target_names_the_best_peer_and_neither_ceiling_nor_libcurl(found: Results) -> None:
    asks = "http: wall at least 3x ahead of the best peer"
    assert figures(found, "P2")[asks] == ("4.0x ahead of s5cmd, the origin 5% busy", True)


def test_a_client_that_failed_leaves_its_targets_unmeasured(found: Results) -> None:
    assert {met for asks, (_, met) in figures(found, "P2").items() if asks.startswith("https")} == {None}


def test_a_case_that_is_measured_again_replaces_the_first(found: Results, tmp_path: Path) -> None:
    Writer(tmp_path / "results.jsonl").case(case("http"))
    assert results.read(tmp_path / "results.jsonl").clients[case("http").id] == {}


def test_a_libcurl_loop_that_beats_the_ceiling_voids_the_run(found: Results) -> None:
    clients = found.clients[case("http").id]
    assert report.section(case("http"), clients)[1]
    text, counts = report.section(case("http"), {**clients, "multi": clients["ceiling"], "ceiling": clients["multi"]})
    assert not counts
    assert "VOID" in text
