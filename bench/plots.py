"""The plots of a results file, as PNG beside it; prints the names of those that had something to show.

    bench/build/env/bin/python bench/plots.py bench/results/NAME.jsonl

Run with the benches' own Python, which has matplotlib.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import results
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from results import Client, Results, median, paired

MIB = 1 << 20
STYLE = {  # colour and mark of each client, the same in every plot
    "ceiling": ("#000000", "|"),
    "multi": ("#777777", "x"),
    "stager": ("#d62728", "o"),
    "s5cmd": ("#1f77b4", "s"),
    "rclone": ("#2ca02c", "^"),
    "obstore": ("#9467bd", "D"),
    "awscrt": ("#ff7f0e", "v"),
    "s3transfer": ("#8c564b", "P"),
    "aiobotocore": ("#17becf", "X"),
}
LABELS = {"multi": "libcurl multi", "s3transfer": "s3transfer (CRT)"}
OBJECT_WORKLOADS = ("tiny-4KiB-50_000x", "small-16KiB-10_000x", "imagenet-108KB", "download-256KiB-10_000x")
RATIO_TICKS = (0.7, 1, 1.5, 2, 3, 5, 7, 10, 20, 30, 50, 100)


def main() -> None:
    path = Path(sys.argv[1])
    found = results.read(path)
    mpl.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "savefig.dpi": 130})
    for name, draw in {"ratio": ratio, "object": cost_of_object, "memory": memory, "pace": pace}.items():
        figure = draw(found)
        if figure is not None:
            figure.savefig(path.with_name(f"{path.stem}-{name}.png"), bbox_inches="tight")
            print(name)


def ratio(found: Results) -> Figure | None:
    """A row a workload, a mark a client: the median of paired ratios, with the range as a line."""
    rows = [
        (case, clients)
        for case, clients in found.measured()
        if case.cores == "one" and "ceiling" in clients and not case.workload.startswith(("memory-", "digest-", "md5-"))
    ]
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.52 * len(rows)))
    shown: dict[str, object] = {}
    for row, (_, clients) in enumerate(rows):
        axes.axhline(row, color="#eeeeee", zorder=0)
        for name in STYLE.keys() & clients.keys():
            ratios = paired(clients[name], clients["ceiling"], Client.cpus_s)
            colour, mark = STYLE[name]
            axes.plot([min(ratios), max(ratios)], [row, row], color=colour, alpha=0.5, lw=1.5)
            size = 9 if name == "stager" else 14 if name == "ceiling" else 6
            (handle,) = axes.plot(median(ratios), row, mark, color=colour, ms=size, mew=2 if mark in "|x" else 0, ls="")
            shown[name] = handle
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [f"{case.workload}, {case.scheme}" for case, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    _ticks(axes, RATIO_TICKS)
    axes.set_xlabel("client's CPU as a multiple of the ceiling's (median of rounds, line: range)")
    names = [name for name in STYLE if name in shown]
    axes.legend(
        [shown[name] for name in names], [LABELS.get(name, name) for name in names],
        loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=5, frameon=False,
    )  # fmt: skip
    return figure


def _ticks(axes: Axes, wanted: tuple[float, ...]) -> None:
    low, high = axes.get_xlim()
    inside = [tick for tick in wanted if low <= tick <= high]
    axes.set_xticks(inside, [f"{tick:g}" for tick in inside])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)


def cost_of_object(found: Results) -> Figure | None:
    """Lines over object sizes, each named at its end."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for workload in OBJECT_WORKLOADS:
        case = found.case(workload)
        if case is None:
            continue
        for name, client in found.clients[case.id].items():
            if client.rounds and name in STYLE and case.slope_objects:
                slope_us = median(client.slopes_us(case))
                if slope_us > 0:  # noise makes it negative in a trial with little work
                    lines.setdefault(name, []).append((case.total_bytes / case.objects / 1024, slope_us))
    if not lines:
        return None
    figure, axes = plt.subplots(figsize=(8, 5.2))
    _named_lines(axes, lines)
    sizes = sorted({size for line in lines.values() for size, _ in line})
    axes.set_xticks(sizes, [f"{size:.0f} KiB" for size in sizes])
    axes.set_xlabel("object size")
    axes.set_ylabel("CPU for one more object, µs")
    return figure


def memory(found: Results) -> Figure | None:
    lines: dict[str, list[tuple[float, float]]] = {}
    for case, clients in found.measured():
        if case.workload.startswith("memory-"):
            for name, client in clients.items():
                if name in STYLE:
                    lines.setdefault(name, []).append((case.objects, client.peak_anon_bytes() / MIB))
    if not lines:
        return None
    figure, axes = plt.subplots(figsize=(8, 5))
    counts = sorted({count for line in lines.values() for count, _ in line})
    budget = [(count, 128 + 300 * count / MIB) for count in counts]
    axes.plot(*zip(*budget, strict=True), color="#d62728", ls=":", lw=1.5)
    axes.annotate("target: 128 MiB + 300 B an object", budget[0], (0, 6), textcoords="offset points", color="#d62728")
    _named_lines(axes, {name: sorted(line) for name, line in lines.items()})
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.set_xlabel("objects of 64 B")
    axes.set_ylabel("RssAnon at its highest, MiB")
    return figure


def _named_lines(axes: Axes, lines: dict[str, list[tuple[float, float]]]) -> None:
    """A line a client, its name at its right end; names that would meet are moved apart (the axis is logarithmic)."""
    for name, line in lines.items():
        colour, mark = STYLE[name]
        mark = "o" if mark == "|" else mark
        width = 2.5 if name == "stager" else 1.5
        axes.plot(*zip(*line, strict=True), color=colour, marker=mark, ms=6, lw=width)
    highest = max(y for line in lines.values() for _, y in line)
    lowest = min(y for line in lines.values() for _, y in line)
    least_step = (highest / lowest) ** 0.05
    right = max(x for line in lines.values() for x, _ in line)
    by_end = sorted(lines.items(), key=lambda item: item[1][-1][1])
    places = _apart([line[-1][1] for _, line in by_end], least_step)
    for (name, line), place in zip(by_end, places, strict=True):
        axes.annotate(
            LABELS.get(name, name), (line[-1][0], place), (10, 0), textcoords="offset points", va="center",
            color=STYLE[name][0], fontweight="bold" if name == "stager" else None, annotation_clip=False,
        )  # fmt: skip
    left = min(x for line in lines.values() for x, _ in line)
    axes.set_xlim(left / 1.15, right * 1.1)
    axes.set_xscale("log")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color="#eeeeee")


def _apart(places: list[float], step: float) -> Iterator[float]:
    """Ascending places, each at least ``step`` times the one before."""
    last = 0.0
    for place in places:
        last = max(place, last * step)
        yield last


def pace(found: Results) -> Figure | None:
    """GET/s and refusals over the run; the limit as a step."""
    study = found.studies.get("pace-small")
    if study is None:
        return None
    figure, axes = plt.subplots(figsize=(9, 4.2))
    series = study["series"]
    times = [one["at_s"] for one in series]
    limit, halved, end = study["limit"], study["halved_at_s"], times[-1]
    axes.plot([0, halved, halved, end], [limit, limit, limit / 2, limit / 2], color="#444444", ls="--", lw=1.2)
    axes.annotate("the origin's limit", (end, limit / 2), (0, 6), textcoords="offset points", ha="right")
    axes.plot(times, [one["gets_per_s"] for one in series], color="#d62728", lw=2, label="objects answered")
    axes.plot(times, [one["slow_down_per_s"] for one in series], color="#1f77b4", lw=1.5, label="refused (503)")
    axes.set_ylim(0, limit * 1.12)
    axes.set_xlim(0, end)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y", color="#eeeeee")
    axes.set_xlabel("seconds since stager was started")
    axes.set_ylabel("requests a second")
    axes.legend(frameon=False, loc="upper right")
    return figure


main()
