"""Medians of paired ratios, as Markdown."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab import Cores, Sample, Workload

__all__ = ["Round", "Series", "header", "section"]

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Round:
    """One client in one round: the run of all objects, and the smaller run that the slope needs."""

    full: Sample
    small: Sample | None


@dataclass(kw_only=True)
class Series:
    """One client over all rounds of one workload."""

    name: str
    version: str
    command: str
    rounds: list[Round] = field(default_factory=list)


def cpu_per_unit(workload: Workload, one: Round) -> float:
    """Microseconds per object; for a single object, seconds per GiB."""
    if workload.objects == 1:
        return one.full.cpu_s / (workload.total_bytes / GIB)
    return one.full.cpu_s / workload.objects * 1e6


def slope(workload: Workload, one: Round) -> float:
    """Microseconds of CPU for one more object."""
    assert one.small is not None
    return (one.full.cpu_s - one.small.cpu_s) / (workload.objects - workload.slope_objects) * 1e6


def both_sides(one: Round) -> float:
    """CPU seconds of client and origin."""
    return one.full.cpu_s + one.full.origin_cpu_s


def paired(series: Series, base: Series, figure: Callable[[Round], float]) -> list[float]:
    """The figure as a multiple of the base's in the same round."""
    return [figure(one) / figure(other) for one, other in zip(series.rounds, base.rounds, strict=True)]


def header(commit: str, cores: Cores, rounds: int) -> str:
    placed = (
        f"origin pinned to core {_list(cores.origin)}, client to {_list(cores.client)}"
        if cores.pinned
        else "origin and client share the core"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    return (
        f"# Bench of {time.strftime('%Y-%m-%d', time.gmtime())}, commit {commit}\n\n"
        f"{_cpu_model()}, {os.cpu_count()} cores, {memory:.0f} GiB; Linux {platform.release().partition('-')[0]}; "
        f"Python {platform.python_version()}. {placed}; files on tmpfs; http over loopback; {rounds} rounds in A-B-B-A "
        f"order; load average at the start {os.getloadavg()[0]:.1f}. Every client's bytes were compared with the "
        "origin's after every run.\n\n"
        "CPU: user and system time of the client's whole process tree. Ratios: to the ceiling of the same round; "
        "median (lowest-highest). RSS: ru_maxrss of the largest process. Origin busy: its CPU as a share of the wall "
        "time; near 100% the origin, not the client, sets the wall time. Both sides: client and origin CPU together; "
        "on loopback the kernel's share of sending and receiving falls now to one, now to the other.\n"
    )


def section(workload: Workload, all_series: Sequence[Series]) -> tuple[str, bool]:
    """The table of one workload, and whether the run counts (the ceiling beat libcurl)."""
    by_name = {series.name: series for series in all_series}
    ceiling = by_name["ceiling"]
    unit = "CPU s/GiB" if workload.objects == 1 else "CPU µs/object"
    with_slope = workload.slope_objects > 0
    columns = ["client", unit, "ratio", "both sides ratio"]
    columns += ["slope µs/object", "slope ratio"] if with_slope else []
    columns += ["wall s", "wall ratio", "peak RSS MiB", "origin busy"]
    lines = [
        f"\n## {workload.name}\n",
        _introduction(workload),
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    for series in all_series:
        cells = [series.name, *_figures(lambda r: cpu_per_unit(workload, r), series, ceiling)]
        cells.append(_figures(both_sides, series, ceiling)[1])
        if with_slope:
            cells += _figures(lambda r: slope(workload, r), series, ceiling)
        cells += _figures(lambda r: r.full.wall_s, series, ceiling)
        cells += [
            f"{max(r.full.max_rss_bytes for r in series.rounds) / (1 << 20):.0f}",
            f"{statistics.median(r.full.origin_cpu_s / r.full.wall_s for r in series.rounds):.0%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    calls = [r.full.syscalls / workload.objects for r in ceiling.rounds if r.full.syscalls is not None]
    lines.append(f"\nSystem calls of the ceiling per object: {statistics.median(calls):.1f}.")
    verdict, valid = _verdict(by_name)
    lines += [verdict, "\nVersions and commands:\n"]
    lines += [f"- {series.version}: `{series.command}`" for series in all_series]
    return "\n".join(lines) + "\n", valid


def _verdict(by_name: dict[str, Series]) -> tuple[str, bool]:
    if "multi" not in by_name:
        return "The libcurl loop did not run: nothing checks the ceiling in this run.", True
    ratio = statistics.median(paired(by_name["multi"], by_name["ceiling"], both_sides))
    if ratio > 1:
        return f"The libcurl loop needs {ratio:.2f} of the ceiling's CPU, both sides counted: the ceiling holds.", True
    return f"VOID: the libcurl loop needs only {ratio:.2f} of the ceiling's CPU, both sides counted.", False


def _figures(figure: Callable[[Round], float], series: Series, ceiling: Series) -> list[str]:
    ratios = paired(series, ceiling, figure)
    value = statistics.median(figure(one) for one in series.rounds)
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    return [f"{value:.3g}", f"{middle:.2f} ({low:.2f}-{high:.2f})"]


def _introduction(workload: Workload) -> str:
    text = f"{workload.measures[0].upper()}{workload.measures[1:]}. "
    text += f"{workload.connections} connections where a client lets them be chosen."
    if workload.target:
        targets = [f"{name} CPU at most {value} of the ceiling's" for name, value in workload.target.items()]
        text += f" Target for stager: {', '.join(targets)}."
    return text + "\n"


def _list(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores))


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match.group(1) if match else platform.machine()


def commit_of(directory: Path) -> str:
    argv = ["git", "-C", str(directory), "describe", "--always", "--dirty"]
    found = subprocess.run(argv, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"
