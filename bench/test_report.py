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


def test_git_is_compared_with_the_quicker_peer_and_for_both_choices_of_cores(tmp_path: Path) -> None:
    out = Writer(tmp_path / "results.jsonl")
    out.run({"date": "2026-11-27"})
    walls_s = {"one": {"stager": 2.0, "git_lfs_8": 8.0, "git_lfs_32": 7.0}, "all": {"stager": 3.0, "git_lfs_8": 8.0}}
    for cores, clients in walls_s.items():
        for step, share in (("cold", 1.0), ("second", 0.05), ("again", 0.2)):
            name = f"lfs-900KB-2_000x-{step}"
            facts = CaseFacts(
                id=f"{name} http {cores}", workload=name, measures="objects", task="git", scheme="http", cores=cores,
                objects=OBJECTS, slope_objects=0, total_bytes=1 << 30, in_parts=False,
            )  # fmt: skip
            out.case(facts)
            for client, wall_s in clients.items():
                out.client(facts.id, Client(name=client, version="1", command=client))
                out.round(facts.id, client, Round(full=sample(1.5, wall_s * share), small=None))
    hashed_alone = {"openssl_bytes_per_s": 2 << 30, "hasher_cpu_s_per_gib": 0.55}
    out.study("sha256", {**hashed_alone, "s3_cpu_s": 0.75, "total_bytes": 1 << 30})
    said = figures(results.read(tmp_path / "results.jsonl"), "P11")
    asks = "`lfs-900KB-2_000x`: wall at least 3x ahead of `git clone --depth 1` and `git lfs pull`"
    own, every = "a core of its own: 3.5x ahead of git_lfs_32", "all cores: 2.7x ahead of git_lfs_8"
    assert said[asks] == (f"{own}, the servers 5% busy; {every}, the servers 3% busy", False)
    asks = "`lfs-900KB-2_000x`: {} in at most a tenth of the cold wall"
    assert said[asks.format("a second directory of the node")] == ("a core of its own: 0.05; all cores: 0.05", True)
    assert said[asks.format("the same once more")] == ("a core of its own: 0.20; all cores: 0.20", False)
    (hashed,) = [figure for asks, (figure, _) in said.items() if asks.startswith("SHA-256")]
    assert hashed.endswith(
        "openssl 0.50, the hasher alone 0.55 (1.10 of openssl's), the LFS copy 1.50, the same from S3 without it 0.75; "
        "the difference is 1.50 of openssl's"
    )


def test_a_libcurl_loop_that_beats_the_ceiling_voids_the_run(found: Results) -> None:
    clients = found.clients[case("http").id]
    assert report.section(case("http"), clients)[1]
    text, counts = report.section(case("http"), {**clients, "multi": clients["ceiling"], "ceiling": clients["multi"]})
    assert not counts
    assert "VOID" in text


def test_a_kept_tree_is_compared_round_by_round_and_a_mount_with_the_copy(tmp_path: Path) -> None:
    def cost(wall_s: float) -> dict[str, float]:
        return {"wall_s": wall_s, "cpu_s": 2 * wall_s}

    pairs = [{"cp": cost(1.0), "stager": cost(0.5)}, {"cp": cost(4.0), "stager": cost(4.8)}]
    mounts = [{way: cost(0.01), "direct": cost(1.0), "direct again": cost(1.0), "through": cost(1.5),
               "through again": cost(1.0)} for way in ("overlay", "read-only") for _ in pairs]  # fmt: skip
    path = tmp_path / "results.jsonl"
    out = Writer(path)
    out.run({"date": "2026-11-27"})
    out.study("kept", {
        "objects": 1000, "total_bytes": 1 << 30, "clone": pairs[:1], "copy": pairs, "overlay": mounts[:2],
        "read-only": mounts[2:], "large": {"first write": cost(0.6)}, "commands": {"warm": [cost(1.0)]},
    })  # fmt: skip
    found = figures(results.read(path), "P9")
    clones = found["clones (xfs): wall not above that of `cp -r --reflink=always`"]
    assert clones == ("0.50, CPU 0.50; 500 µs a file", True)
    assert found["copies (ext4): wall not above that of `cp -r`"] == ("0.85, CPU 0.85; 2650 µs a file", True)
    overlay, met = found["overlay (ext4): mounted in at most a tenth of a copy's wall"]
    assert met and overlay.startswith("0.0063, 10.0 ms; reading through it 1.25") and "1 GiB 0.60 s" in overlay
