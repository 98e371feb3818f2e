"""Small objects from an origin that answers like S3 and refuses what is above its request limit.

From a cold start stager has to find the limit, and to find it again after it was halved in the middle of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lab
from lab import Content, Cores
from workloads import Workload

from studies.pacing import Moment, rates, watch

__all__ = ["SHORT", "run"]

SHORT = True
LIMIT = 5_500.0  # GET/s, S3's for one prefix
HALVE_AT_S = 20.0
SMALL = Workload(name="pace-small", measures="", objects=180_000, object_bytes=4_096)
ENOUGH = 0.85
STEADY_S = 10.0  # from then on the share counts


def run(cores: Cores, scratch: Path, *, quick: bool) -> dict[str, Any]:
    """The series and what it shows. RuntimeError: stager failed. ValueError: bytes differ, or the run was too short."""
    workload = SMALL if not quick else SMALL.tenth()
    halve_at_s = HALVE_AT_S if not quick else HALVE_AT_S / 5
    content = Content.of(workload, workload.objects, scratch)
    halved: list[float] = []

    with lab.run_origin(content, cores, "--profile", "s3like", "--gets-per-s", str(LIMIT)) as origin:

        def halve(now: Moment) -> None:
            if not halved and now.at_s >= halve_at_s:
                origin.limit_gets_per_s(LIMIT / 2)
                halved.append(now.at_s)

        moments = watch(workload, origin, scratch / "out", 1.0, halve)
    lab.compare(content, scratch / "out")
    if not halved:
        raise ValueError(f"over after {moments[-1].at_s:.0f} s, before the limit was halved")
    series = rates(moments)
    before = [one for one in series if one["at_s"] <= halved[0]]
    after = [{**one, "at_s": one["at_s"] - halved[0]} for one in series[:-1] if one["at_s"] > halved[0]]
    return {
        "limit": LIMIT,
        "halved_at_s": halved[0],
        "share": _share([one for one in before if one["at_s"] > min(STEADY_S, halved[0] / 2)], LIMIT),
        "slow_down_share": _slow_down_share([one for one in before if one["at_s"] > min(STEADY_S, halved[0] / 2)]),
        "reached_after_s": _reached_after_s(before, LIMIT),
        "share_after_halving": _share([one for one in after if one["at_s"] > STEADY_S], LIMIT / 2),
        "slow_down_share_after_halving": _slow_down_share([one for one in after if one["at_s"] > STEADY_S]),
        "recovered_after_s": _reached_after_s(after, LIMIT / 2),
        "series": series,
    }


def _share(series: list[dict[str, float]], limit: float) -> float | None:
    """Of the limit, in the mean."""
    return sum(one["gets_per_s"] for one in series) / len(series) / limit if series else None


def _slow_down_share(series: list[dict[str, float]]) -> float | None:
    """Of all answers."""
    refused = sum(one["slow_down_per_s"] for one in series)
    answered = sum(one["gets_per_s"] for one in series)
    return refused / (refused + answered) if refused + answered else None


def _reached_after_s(series: list[dict[str, float]], limit: float) -> float | None:
    """The first second that, like the mean of the four after it, has enough of the limit; None: none had."""
    for first in range(len(series)):
        window = series[first : first + 5]
        if series[first]["gets_per_s"] >= ENOUGH * limit and (_share(window, limit) or 0) >= ENOUGH:
            return series[first]["at_s"]
    return None
