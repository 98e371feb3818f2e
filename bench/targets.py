"""The targets of the data plane, each with the figure that this run has for it: met, not met, or not measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from results import CaseFacts, Client, Results, median, median_ratio

__all__ = ["Verdict", "verdicts"]

OURS = ("ceiling", "multi", "stager", "stager_undigested")  # everyone else is a peer
MIB, GIB = 1 << 20, 1 << 30
GIT_WORKLOADS = ("git-4KiB-10_000x", "lfs-900KB-2_000x", "lfs-20KB-9_000x")
CORES = {"one": "a core of its own:", "all": "all cores:"}
REFERENCE_OBJECT_US = 8 / 0.15
"""A µs-equivalent is a share of what the ceiling needs for one more 16 KiB object in the same run: 8 are 0.15."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    target: str
    asks: str
    figure: str
    met: bool | None  # None: not measured in this run


def verdicts(results: Results) -> list[Verdict]:
    return [verdict for check in CHECKS for verdict in check(results)]


def _p1(results: Results) -> Iterator[Verdict]:
    case = results.case("download-256KiB-10_000x")
    yield _cpu(results, case, "P1", 1.5)
    yield _ahead(results, case, "P1", 2)


def _p2(results: Results) -> Iterator[Verdict]:
    for scheme in ("http", "https"):
        case = results.case("small-16KiB-10_000x", scheme)
        asks = f"{scheme}: slope of CPU per object at most 1.5 of the ceiling's"
        yield _against_ceiling(results, case, "P2", asks, 1.5, lambda client, case: client.slopes_us(case))
        yield _ahead(results, case, "P2", 3, scheme)


def _p3(results: Results) -> Iterator[Verdict]:
    yield from _large(results, "P3", "http", 1.2)


def _p4(results: Results) -> Iterator[Verdict]:
    yield from _large(results, "P4", "https", 1.15)


def _large(results: Results, target: str, scheme: str, most: float) -> Iterator[Verdict]:
    case = results.case("download-2GiB-1x", scheme)
    yield _cpu(results, case, target, most)
    asks = "paired median wall at most 1.05 of the best peer's"
    pair = _with_peers(results, case)
    if pair is None:
        yield _unmeasured(target, asks)
        yield _unmeasured(target, "ahead of every peer in CPU")
        return
    stager, peers = pair
    best, ratio = _best(stager, peers, Client.walls_s)
    yield Verdict(target=target, asks=asks, figure=f"{ratio:.2f} of {best}'s", met=ratio <= 1.05)
    best, ratio = _best(stager, peers, Client.cpus_s)
    yield Verdict(target=target, asks="ahead of every peer in CPU", figure=f"{ratio:.2f} of {best}'s", met=ratio < 1)


def _p5(results: Results) -> Iterator[Verdict]:
    resync, listing = results.case("resync-noop-100_000x"), results.case("list-100_000x")
    again, listed, unit = results.client(resync, "stager"), results.client(listing, "stager"), _unit_us(results)
    asks = "at most 8 µs-equivalents of CPU per object beyond listing"
    if again is None or listed is None or unit is None or resync is None or listing is None:
        yield _unmeasured("P5", asks)
    else:
        beyond = (median(again.slopes_us(resync)) - median(listed.slopes_us(listing))) / unit
        yield Verdict(target="P5", asks=asks, figure=f"{beyond:.1f}", met=beyond <= 8)
    for name in ("s5cmd", "rclone"):
        other = results.client(resync, name)
        asks = f"at least 5x ahead of `{name} sync`"
        if again is None or other is None:
            yield _unmeasured("P5", asks)
            continue
        wall, cpu = median_ratio(other, again, Client.walls_s), median_ratio(other, again, Client.cpus_s)
        yield Verdict(target="P5", asks=asks, figure=f"wall {wall:.1f}x, CPU {cpu:.1f}x", met=wall >= 5)


def _p6(results: Results) -> Iterator[Verdict]:
    for name in ("list-100_000x", "list-1_000_000x"):
        case = results.case(name)
        client, unit = results.client(case, "stager"), _unit_us(results)
        asks = f"`{name}`: at most 2 µs-equivalents of CPU per key"
        if case is None or client is None or unit is None:
            yield _unmeasured("P6", asks)
            continue
        keys = median(client.slopes_us(case)) / unit
        yield Verdict(target="P6", asks=asks, figure=f"{keys:.2f}", met=keys <= 2)


def _p7(results: Results) -> Iterator[Verdict]:
    large, small = results.studies.get("pace-large"), results.studies.get("pace-small")
    asks = "large objects: 90% of the line"
    if large is None:
        yield _unmeasured("P7", asks)
    else:
        ceiling = large["ceiling_bytes_per_s"] / large["line_bytes_per_s"]
        figure = f"{large['share']:.0%} of {large['line_bytes_per_s'] / 1e6:.0f} MB/s; the ceiling {ceiling:.0%}"
        yield Verdict(target="P7", asks=asks, figure=figure, met=large["share"] >= 0.9)
    if small is None:
        yield _unmeasured("P7", "small objects: 85% of the request limit within 10 s, then 503s under 1%")
        yield _unmeasured("P7", "the limit halved: back within 10 s")
        return
    reached, share, refused = small["reached_after_s"], small["share"], small["slow_down_share"]
    yield Verdict(
        target="P7",
        asks="small objects: 85% of the request limit within 10 s from a cold start, then 503s under 1%",
        figure=f"{_after(reached)}, then {share:.0%} of the limit, {refused:.2%} 503s",
        met=reached is not None and reached <= 10 and share >= 0.85 and refused < 0.01,
    )
    again, share, refused = (
        small[name] for name in ("recovered_after_s", "share_after_halving", "slow_down_share_after_halving")
    )
    enough = share is not None and share >= 0.85 and refused < 0.01
    figure = f"{_after(again)}, then {share:.0%} of it, {refused:.2%} 503s" if share is not None else _after(again)
    yield Verdict(
        target="P7",
        asks="the limit halved in the middle: back at 85% of it within 10 s, then 503s under 1%",
        figure=figure,
        met=again is not None and again <= 10 and enough,
    )


def _after(seconds: float | None) -> str:
    return "never" if seconds is None else f"after {seconds:.0f} s"


def _p8(results: Results) -> Iterator[Verdict]:
    for count in (10_000, 100_000, 1_000_000):
        case = results.case(f"memory-64B-{count:_}x")
        client = results.client(case, "stager")
        most = 128 * MIB + 300 * count
        asks = f"{count:,} objects: RssAnon at most 128 MiB + 300 B each, {most / MIB:.0f} MiB"
        yield _unmeasured("P8", asks) if client is None else _memory(asks, client.peak_anon_bytes(), most)
    asks, study = "one object of 100 GiB: RssAnon at most 128 MiB", results.studies.get("one-100GiB-object")
    yield _unmeasured("P8", asks) if study is None else _memory(asks, study["rss_anon_bytes"], 128 * MIB)


def _memory(asks: str, peak: int, most: int) -> Verdict:
    return Verdict(target="P8", asks=asks, figure=f"{peak / MIB:.0f} MiB", met=peak <= most)


def _p9(results: Results) -> Iterator[Verdict]:
    study = results.studies.get("kept")
    for way, asks in (
        ("clone", "clones (xfs): wall not above that of `cp -r --reflink=always`"),
        ("copy", "copies (ext4): wall not above that of `cp -r`"),
    ):
        if study is None:
            yield _unmeasured("P9", asks)
            continue
        walls, cpus = ([one["stager"][of] / one["cp"][of] for one in study[way]] for of in ("wall_s", "cpu_s"))
        us = median([one["stager"]["wall_s"] for one in study[way]]) / study["objects"] * 1e6
        figure = f"{median(walls):.2f}, CPU {median(cpus):.2f}; {us:.0f} µs a file"
        yield Verdict(target="P9", asks=asks, figure=figure, met=median(walls) <= 1)
    for way in ("overlay", "read-only"):
        asks = f"{way} (ext4): mounted in at most a tenth of a copy's wall"
        if study is None:
            yield _unmeasured("P9", asks)
            continue
        shares = [one[way]["wall_s"] / of["cp"]["wall_s"] for one, of in zip(study[way], study["copy"], strict=True)]
        figure = f"{median(shares):.4f}, {median([one[way]['wall_s'] for one in study[way]]) * 1e3:.1f} ms"
        figure += f"; reading through it {median([reading_ratio(one) for one in study[way]]):.2f} of reading directly"
        if way == "overlay":
            figure += f"; first write to a file of 1 GiB {study['large']['first write']['wall_s']:.2f} s"
        yield Verdict(target="P9", asks=asks, figure=figure, met=median(shares) <= 0.1)


def reading_ratio(one: Mapping[str, Mapping[str, float]]) -> float:
    """The wall of reading all files through what is mounted, of that of reading them where they are."""
    through, direct = (one[name]["wall_s"] + one[f"{name} again"]["wall_s"] for name in ("through", "direct"))
    return through / direct


def _p10(results: Results) -> Iterator[Verdict]:
    study = results.studies.get("start")
    for name in ("stager --version", "import get_data_path"):
        asks = f"`{name}` in under 4 Python start-ups"
        if study is None:
            yield _unmeasured("P10", asks)
            continue
        starts = study[name]["cpu_s"] / study["python -c pass"]["cpu_s"]
        yield Verdict(target="P10", asks=asks, figure=f"{starts:.1f} in CPU", met=starts < 4)
    asks = "first request at most 0.25 s beyond importing aiobotocore and making its client"
    if study is None:
        yield _unmeasured("P10", asks)
        return
    whole, base = study["stager sync --dry-run of one object"], study["import aiobotocore, make its client"]
    beyond = whole["wall_s"] - base["wall_s"]
    figure = f"{beyond:+.2f} s for a whole run of one object ({whole['wall_s']:.2f} s)"
    yield Verdict(target="P10", asks=asks, figure=figure, met=beyond <= 0.25)


def _p11(results: Results) -> Iterator[Verdict]:
    yield _wall_of(results, GIT_WORKLOADS[0], "cold: wall at most 1.05 of `git clone --depth 1`'s", 1.05)
    for workload in GIT_WORKLOADS:
        for step, asks in (("second", "a second directory of the node"), ("again", "the same once more")):
            yield _warm(results, workload, step, f"`{workload}`: {asks} in at most a tenth of the cold wall")
    for workload in GIT_WORKLOADS[1:]:
        asks = f"`{workload}`: wall at least 3x ahead of `git clone --depth 1` and `git lfs pull`"
        yield _wall_of(results, workload, asks, 1 / 3)
    yield _sha256(results)


def _wall_of(results: Results, workload: str, asks: str, most: float) -> Verdict:
    """The cold step against the best peer, for each choice of cores: all have to be met."""
    figures, met = [], True
    for cores, shown in CORES.items():
        pair = _with_peers(results, results.case(f"{workload}-cold", cores=cores))
        if pair is None:
            continue
        best, ratio = _best(*pair, Client.walls_s)
        text = f"{ratio:.2f} of {best}'s" if most > 1 else f"{1 / ratio:.1f}x ahead of {best}"
        figures.append(f"{shown} {text}, the servers {pair[0].origin_share():.0%} busy")
        met = met and ratio <= most
    if not figures:
        return _unmeasured("P11", asks)
    return Verdict(target="P11", asks=asks, figure="; ".join(figures), met=met)


def _warm(results: Results, workload: str, step: str, asks: str) -> Verdict:
    figures, met = [], True
    for cores, shown in CORES.items():
        warm = results.client(results.case(f"{workload}-{step}", cores=cores), "stager")
        cold = results.client(results.case(f"{workload}-cold", cores=cores), "stager")
        if warm is None or cold is None:
            continue
        ratio = median_ratio(warm, cold, Client.walls_s)
        figures.append(f"{shown} {ratio:.2f}")
        met = met and ratio <= 0.1
    if not figures:
        return _unmeasured("P11", asks)
    return Verdict(target="P11", asks=asks, figure="; ".join(figures), met=met)


def _sha256(results: Results) -> Verdict:
    """A figure without a bound."""
    asks = "SHA-256 against one core of `openssl speed -evp sha256`"
    case, study = results.case(f"{GIT_WORKLOADS[1]}-cold"), results.studies.get("sha256")
    client = results.client(case, "stager")
    if case is None or client is None or study is None:
        return _unmeasured("P11", asks)
    least = GIB / study["openssl_bytes_per_s"]
    plain = study["s3_cpu_s"] / (study["total_bytes"] / GIB)
    whole = median(client.cpu_per_gib_s(case))
    alone = study.get("hasher_cpu_s_per_gib")
    hasher = f"the hasher alone {alone:.2f} ({alone / least:.2f} of openssl's), " if alone else ""
    figure = (
        f"CPU s/GiB: openssl {least:.2f}, {hasher}the LFS copy {whole:.2f}, the same from S3 without it {plain:.2f}; "
        f"the difference is {(whole - plain) / least:.2f} of openssl's"
    )
    return Verdict(target="P11", asks=asks, figure=figure, met=None)


def _p12(results: Results) -> Iterator[Verdict]:
    case, asks = results.case("digest-2GiB-1x"), "digests on versus off: at most 5% of CPU"
    with_, without = results.client(case, "stager"), results.client(case, "stager_undigested")
    if with_ is None or without is None:
        yield _unmeasured("P12", asks)
        return
    ratio = median_ratio(with_, without, Client.cpus_s)
    yield Verdict(target="P12", asks=asks, figure=f"{ratio - 1:+.1%}", met=ratio <= 1.05)


CHECKS = (_p1, _p2, _p3, _p4, _p5, _p6, _p7, _p8, _p9, _p10, _p11, _p12)


def _cpu(results: Results, case: CaseFacts | None, target: str, most: float) -> Verdict:
    asks = f"CPU at most {most:g} of the ceiling's"
    return _against_ceiling(results, case, target, asks, most, lambda client, _: client.cpus_s())


def _against_ceiling(
    results: Results,
    case: CaseFacts | None,
    target: str,
    asks: str,
    most: float,
    figures: Callable[[Client, CaseFacts], Sequence[float]],
) -> Verdict:
    stager, ceiling = results.client(case, "stager"), results.client(case, "ceiling")
    if case is None or stager is None or ceiling is None:
        return _unmeasured(target, asks)
    ratio = median_ratio(stager, ceiling, lambda client: figures(client, case))
    return Verdict(target=target, asks=asks, figure=f"{ratio:.2f}", met=ratio <= most)


def _ahead(results: Results, case: CaseFacts | None, target: str, least: float, scheme: str = "") -> Verdict:
    asks = f"{scheme + ': ' if scheme else ''}wall at least {least:g}x ahead of the best peer"
    pair = _with_peers(results, case)
    if pair is None:
        return _unmeasured(target, asks)
    best, ratio = _best(*pair, Client.walls_s)
    busy = pair[0].origin_share()
    figure = f"{1 / ratio:.1f}x ahead of {best}, the origin {busy:.0%} busy"
    return Verdict(target=target, asks=asks, figure=figure, met=1 / ratio >= least)


def _with_peers(results: Results, case: CaseFacts | None) -> tuple[Client, list[Client]] | None:
    stager = results.client(case, "stager")
    if case is None or stager is None:
        return None
    peers = [one for name, one in results.clients[case.id].items() if name not in OURS and one.rounds]
    return (stager, peers) if peers else None


def _best(stager: Client, peers: Sequence[Client], figures: Callable[[Client], Sequence[float]]) -> tuple[str, float]:
    """The peer with the lowest median, and stager's figure as a multiple of its."""
    best = min(peers, key=lambda peer: statistics.median(figures(peer)))
    return best.name, median_ratio(stager, best, figures)


def _unit_us(results: Results) -> float | None:
    """What a µs-equivalent is worth in this run, in microseconds."""
    case = results.case("small-16KiB-10_000x")
    ceiling = results.client(case, "ceiling")
    if case is None or ceiling is None:
        return None
    return median(ceiling.slopes_us(case)) / REFERENCE_OBJECT_US


def _unmeasured(target: str, asks: str) -> Verdict:
    return Verdict(target=target, asks=asks, figure="not measured in this run", met=None)
