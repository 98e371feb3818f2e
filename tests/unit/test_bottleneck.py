"""Which one thing held a run up, from figures of runs that are plainly of one kind."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from stager.bottleneck import Phases, Usage, find_bottleneck

QUIET = Usage(
    workers=2, disk_threads=2, worker_cpu_s=2.0, tls_s=0.0, digest_s=0.2, store_s=0.5, disk_s=1.0, answers=1000,
    answer_wait_s=10.0, body_s=200.0, paused_s=5.0, throttled_s=0.0, held_s=0.0, received_bytes=10_000_000_000,
)  # fmt: skip
MOVING = Phases(listing_s=0.2, comparing_s=0.1, moving_s=10.0)


@pytest.mark.parametrize(
    ("usage", "kind", "says"),
    [
        (QUIET, "network", "1000 MB/s over 22 connections, threads 10% busy"),
        (replace(QUIET, worker_cpu_s=19.0, tls_s=12.0), "cpu", "2 threads were 95% busy: TLS 63%, receiving 33%"),
        (replace(QUIET, worker_cpu_s=18.0, digest_s=15.0), "cpu", "digests 83%"),
        (replace(QUIET, disk_s=19.0), "disk", "disk threads were 95% busy"),
        (replace(QUIET, paused_s=500.0, disk_s=12.0), "disk", "connections waited 70% of their time"),
        (replace(QUIET, paused_s=500.0), "limit", "connections waited 70% of their time for receive memory"),
        (replace(QUIET, answer_wait_s=300.0, held_s=9.0), "limit", "held them back 90% of the time"),
        (replace(QUIET, store_s=12.0), "disk", "stored small files for 60% of their time"),
        (replace(QUIET, answer_wait_s=300.0), "latency", "an answer began after 300 ms"),
        (replace(QUIET, answer_wait_s=300.0, answers=10**6), "latency", "an answer began after 0.3 ms"),
        (replace(QUIET, throttled_s=900.0), "limit", "waited 81% of their time for a limit that was set"),
    ],
)
def test_what_was_busy_or_waited_for_most_is_named_with_its_figures(usage: Usage, kind: str, says: str) -> None:
    found = find_bottleneck(MOVING, usage)
    assert (found.kind, says in found.why) == (kind, True), found.why
    assert found.figures["worker_cpu_s"] == usage.worker_cpu_s
    assert found.figures["moving_s"] == 10.0


@pytest.mark.parametrize("kind", ["listing", "comparing"])
def test_longest_phase_is_named_first(kind: str) -> None:
    phases = replace(MOVING, **{f"{kind}_s": 30.0})
    whole_s = sum(getattr(phases, name) for name in phases.__struct_fields__)
    found = find_bottleneck(phases, QUIET)
    assert (found.kind, found.why) == (kind, f"{kind} took 30.0 s of {whole_s:.1f} s")


def test_longest_phase_of_a_run_that_moved_nothing_is_not_the_reading_of_a_source() -> None:
    phases = Phases(listing_s=0.45, comparing_s=0.40, moving_s=0.15)
    assert find_bottleneck(phases, Usage.between({}, {})).kind == "listing"


def test_run_that_did_nothing_is_no_division_by_zero() -> None:
    nothing = Phases(listing_s=0.0, comparing_s=0.0, moving_s=0.0)
    assert find_bottleneck(nothing, Usage.between({}, {})).kind == "nothing"
    idle = replace(QUIET, **{**dict.fromkeys(QUIET.__struct_fields__, 0), "answers": 1})
    assert find_bottleneck(replace(nothing, moving_s=1.0), idle).kind == "network"


def test_what_does_not_come_through_the_engine_is_the_sources_time() -> None:
    assert find_bottleneck(MOVING, Usage.between({}, {})).kind == "source"


def test_usage_is_what_grew_between_two_readings() -> None:
    before = {"workers": 2, "worker_cpu_ns": 5_000_000_000, "answers": 7, "paused_ms": 100}
    after = {"workers": 2, "worker_cpu_ns": 8_000_000_000, "answers": 10, "paused_ms": 1600}
    usage = Usage.between(before, after)
    assert (usage.workers, usage.worker_cpu_s, usage.answers, usage.paused_s) == (2, 3.0, 3, 1.5)
