"""A results file as Markdown with plots: targets, medians of paired ratios, studies, versions.

    python bench/report.py bench/results/NAME.jsonl [--readme]

Writes NAME.md and NAME-*.png beside it; --readme also shows them in bench/README.md, between its markers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import results
from peers.places import ENVIRONMENT
from results import CaseFacts, Client, Results, median, paired
from targets import verdicts

__all__ = ["write"]

HERE = Path(__file__).parent
MIB = 1 << 20
BEGIN, END = "<!-- results: written by report.py -->\n", "<!-- end of results -->\n"
CAPTIONS = {
    "ratio": "CPU as a multiple of the ceiling's, by workload and client",
    "object": "CPU for one more object, by object size",
    "memory": "Memory by number of objects",
    "pace": "Requests a second against the origin's limit",
}


def write(path: Path, *, readme: bool = False) -> bool:
    """Write the report of a results file and print it; whether the run counts (the ceiling beat libcurl)."""
    found = results.read(path)
    tables = [section(case, clients) for case, clients in found.measured()]
    drawn = _draw(path)
    text = "".join(
        [
            f"# Bench of {found.run['date']}, commit {found.run['commit']}\n\n{_machine(found)}\n{HOW}",
            _targets(found),
            *(f"\n![{CAPTIONS[name]}]({path.stem}-{name}.png)\n" for name in drawn),
            *(text for text, _ in tables),
            _start(found),
            _pace(found),
            _kept(found),
            _versions(found),
        ]
    )
    path.with_suffix(".md").write_text(text)
    print(text)
    if readme:
        _show_in_readme(found, path, drawn)
    return all(valid for _, valid in tables)


def _draw(path: Path) -> list[str]:
    """The plots, drawn where matplotlib is; the names of those that had something to show."""
    argv = [str(ENVIRONMENT / "bin" / "python"), str(HERE / "plots.py"), str(path)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


def _machine(found: Results) -> str:
    run = found.run
    placed = (
        f"origin pinned to core {run['origin_core']}, a client of one core to core {run['client_core']}"
        if run["pinned"]
        else "origin and client share the core"
    )
    quick = " A trial with a tenth of the work in one round: its figures mean nothing." if run["quick"] else ""
    return (
        f"{run['cpu']}, {run['cores']} cores, {run['memory_gib']} GiB; Linux {run['linux']}; Python {run['python']}. "
        f"{placed[0].upper()}{placed[1:]}; files on tmpfs; {run['rounds']} rounds in A-B-B-A order; load average at "
        f"the start {run['load']}.{quick}\n"
    )


HOW = """
CPU: user and system time of the client's whole process tree. Ratios: to the ceiling of the same round, where there is
no ceiling to stager; median (lowest-highest). Slope: what one more object costs, from runs of two counts. RssAnon: the
highest sum over the tree at one moment. Calls: system calls, from a run of its own. Origin busy: its CPU as a share of
the wall time; near 100% the origin, not the client, sets the wall time. Both sides: client and origin together; on
loopback the kernel's share of sending and receiving falls now to one, now to the other. Every output was compared with
the origin's bytes after every run; of a listing, the number of keys. Of Git datasets the origin is two: a forge around
`git http-backend` with all its children, and the origin of the LFS objects.
"""


def _targets(found: Results) -> str:
    lines = ["\n## Targets\n", "| target | asks | this run | met |", "|---|---|---|---|"]
    for one in verdicts(found):
        met = {True: "yes", False: "**no**", None: ""}[one.met]
        lines.append(f"| {one.target} | {one.asks} | {one.figure} | {met} |")
    return "\n".join(lines) + "\n"


def section(case: CaseFacts, clients: dict[str, Client]) -> tuple[str, bool]:
    """The table of one case, and whether it counts."""
    base = clients.get("ceiling") or clients.get("stager") or next(iter(clients.values()))
    columns = _columns(case)
    cores = "a core of its own" if case.cores == "one" else "all cores"
    lines = [
        f"\n## {case.workload}, {case.scheme}, client on {cores}\n",
        f"{case.measures[0].upper()}{case.measures[1:]}.\n",
        "| client | " + " | ".join(title for title, _ in columns) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for client in clients.values():
        cells = [cell(client, base) for _, cell in columns]
        lines.append(f"| {client.name} | " + " | ".join(cells) + " |")
    verdict, valid = _void(clients)
    return "\n".join([*lines, *([f"\n{verdict}"] if verdict else [])]) + "\n", valid


Cell = Callable[[Client, Client], str]


def _columns(case: CaseFacts) -> list[tuple[str, Cell]]:
    one = "key" if case.task == "list" else "object"
    columns: list[tuple[str, Cell]] = []
    if case.in_parts:
        columns.append(("CPU s/GiB", lambda client, _: f"{median(client.cpu_per_gib_s(case)):.3g}"))
    else:
        columns.append((f"CPU µs/{one}", lambda client, _: f"{median(client.cpu_per_object_us(case)):.3g}"))
    columns.append(("ratio", lambda client, base: _ratio(client, base, Client.cpus_s)))
    if case.task in ("copy", "git"):
        columns.append(("both sides ratio", lambda client, base: _ratio(client, base, Client.both_sides_s)))
    if case.slope_objects:
        columns.append((f"slope µs/{one}", lambda client, _: f"{median(client.slopes_us(case)):.3g}"))
        columns.append(("slope ratio", lambda client, base: _ratio(client, base, lambda c: c.slopes_us(case))))
    columns += [
        ("wall s", lambda client, _: f"{median(client.walls_s()):.3g}"),
        ("wall ratio", lambda client, base: _ratio(client, base, Client.walls_s)),
        ("RssAnon MiB", lambda client, _: f"{client.peak_anon_bytes() / MIB:.0f}"),
        ("origin busy", lambda client, _: f"{client.origin_share():.0%}"),
    ]
    if case.task != "git":  # a tree of processes: no calls are counted
        columns.insert(-1, ("calls/MiB" if case.in_parts else f"calls/{one}", lambda client, _: _calls(client)))
    return columns


def _ratio(client: Client, base: Client, figures: Callable[[Client], Sequence[float]]) -> str:
    ratios = paired(client, base, figures)
    if client is base or not ratios:
        return "1" if ratios else ""
    return f"{median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def _calls(client: Client) -> str:
    return "" if client.calls is None else f"{client.calls:.1f}"


def _void(clients: dict[str, Client]) -> tuple[str, bool]:
    if "ceiling" not in clients or "multi" not in clients:
        return "", True
    ratio = median(paired(clients["multi"], clients["ceiling"], Client.both_sides_s))
    if ratio > 1:
        return f"The libcurl loop needs {ratio:.2f} of the ceiling's CPU, both sides counted: the ceiling holds.", True
    return f"VOID: the libcurl loop needs only {ratio:.2f} of the ceiling's CPU, both sides counted.", False


def _start(found: Results) -> str:
    study = found.studies.get("start")
    if study is None:
        return ""
    lines = ["\n## Start-up\n", "| command | wall s | CPU s | in Python start-ups |", "|---|---|---|---|"]
    base = study["python -c pass"]["cpu_s"]
    for name, one in study.items():
        lines.append(f"| {name} | {one['wall_s']:.3f} | {one['cpu_s']:.3f} | {one['cpu_s'] / base:.1f} |")
    return "\n".join(lines) + "\n"


def _kept(found: Results) -> str:
    study = found.studies.get("kept")
    if study is None:
        return ""
    lines = ["\n## A kept tree for the next job\n", "| what | wall s | CPU s |", "|---|---|---|"]
    rows: list[tuple[str, Sequence[Mapping[str, float]]]] = []
    for way, flags in (("clone", "--reflink=always"), ("copy", "--reflink=never")):
        rows += [(f"{name}: {way}", [one[key] for one in study[way]])
                 for name, key in ((f"cp -r {flags}", "cp"), ("stager", "stager"))]  # fmt: skip
    rows += [(f"stager: {way} mounted", [one[way] for one in study[way]]) for way in ("overlay", "read-only")]
    rows.append(("first write to a file of 1 GiB below an overlay", [study["large"]["first write"]]))
    rows += [(f"whole command, {name}", figures) for name, figures in study["commands"].items()]
    for name, figures in rows:
        wall_s, cpu_s = (median([one[of] for one in figures]) for of in ("wall_s", "cpu_s"))
        lines.append(f"| {name} | {wall_s:.4g} | {cpu_s:.3g} |")
    amount = f"{study['objects']:,} files, {study['total_bytes'] / (1 << 30):.2f} GiB"
    return "\n".join(lines) + f"\n\n{amount}; medians. The command lists the source first, and starts Python.\n"


def _pace(found: Results) -> str:
    large, huge = found.studies.get("pace-large"), found.studies.get("one-100GiB-object")
    lines = []
    if large is not None:
        rate, ceiling = large["rate_bytes_per_s"] / 1e6, large["ceiling_bytes_per_s"] / 1e6
        lines.append(
            f"Large objects under the profile `s3like`, over a line of {large['line_bytes_per_s'] / 1e6:.0f} MB/s: "
            f"{rate:.0f} MB/s with at most {large['most_connections']:.0f} connections; the ceiling {ceiling:.0f} MB/s."
        )
    if huge is not None:
        size = huge["object_bytes"] / (1 << 30)
        lines.append(
            f"One object of {size:.0f} GiB into a file that is punched out behind the writer: {huge['wall_s']:.0f} s, "
            f"{huge['cpu_s'] / size:.2f} CPU s/GiB, RssAnon {huge['rss_anon_bytes'] / MIB:.0f} MiB."
        )
    return "\n## Pace, and one large object\n\n" + "\n\n".join(lines) + "\n" if lines else ""


def _versions(found: Results) -> str:
    """Each client's version, and its command for each task as the first case has it."""
    versions: dict[str, str] = {}
    commands: dict[tuple[str, str], str] = {}
    for case, clients in found.measured():
        for name, client in clients.items():
            versions.setdefault(name, client.version)
            commands.setdefault((name, case.task), client.command)
    lines = ["\n## Versions and commands\n"]
    for name, version in versions.items():
        lines.append(f"- {name}: {version}")
        lines += [f"  - {task}: `{command}`" for (client, task), command in commands.items() if client == name]
    return "\n".join(lines) + "\n"


def _show_in_readme(found: Results, path: Path, drawn: Sequence[str]) -> None:
    readme = HERE / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    versions = {client.version for _, clients in found.measured() for client in clients.values()}
    shown = "".join(
        [
            f"Of {found.run['date']}, commit {found.run['commit']}; all tables: [results/{path.stem}.md]",
            f"(results/{path.stem}.md).\n\n",
            f"{_machine(found)}\nVersions: {'; '.join(sorted(versions))}.\n",
            _targets(found).replace("## Targets", "### Targets"),
            *(f"\n![{CAPTIONS[name]}](results/{path.stem}-{name}.png)\n" for name in drawn),
        ]
    )
    readme.write_text(before + BEGIN + shown + END + after)


def main() -> int:
    parser = argparse.ArgumentParser(description="A results file as Markdown with plots.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--readme", action="store_true", help="show it in bench/README.md too")
    arguments = parser.parse_args()
    return 0 if write(arguments.results, readme=arguments.readme) else 1


if __name__ == "__main__":
    sys.exit(main())
