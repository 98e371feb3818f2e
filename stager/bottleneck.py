"""What a run spent its time on, judged from measured figures: which one thing would have to be faster.

Pure: the pipeline gives times and the engine's counters, the command line tells the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

__all__ = ["Bottleneck", "Phases", "Usage", "find_bottleneck"]

_BUSY: Final = 0.8  # of the time there was: a thread that works so much of it cannot do much more
_MOST: Final = 0.5  # of the connections' time


class Phases(Struct, frozen=True, kw_only=True):
    """Seconds of wall time of one sync."""

    listing_s: float
    comparing_s: float
    moving_s: float


class Usage(Struct, frozen=True, kw_only=True):
    """What the engine did meanwhile. Seconds of threads, or of connections, summed over all of them.

    A connection's time is ``answer_wait_s`` (a request is out and nothing of its answer is here), ``body_s`` (an answer
    arrives), ``paused_s`` (no buffer or a full disk queue kept it from reading) and ``throttled_s`` (a limit did).
    ``held_s`` is wall time in which a limit of requests a second, one that was set or the server's, kept requests back
    that had a connection.
    """

    workers: int  # threads that receive
    disk_threads: int
    worker_cpu_s: float
    tls_s: float  # of the workers' time: decrypting
    digest_s: float  # checksums and digests
    store_s: float  # creating, writing and renaming small files
    disk_s: float  # of the disk threads' time
    answers: int
    answer_wait_s: float
    body_s: float
    paused_s: float
    throttled_s: float
    held_s: float
    received_bytes: int

    @classmethod
    def between(cls, before: Mapping[str, int], after: Mapping[str, int]) -> Usage:
        """The difference of two `stager._native.Engine.stats`; an empty one is all zeros."""

        def grown(name: str) -> int:
            return after.get(name, 0) - before.get(name, 0)

        return cls(
            workers=after.get("workers", 0),
            disk_threads=after.get("disk_threads", 0),
            worker_cpu_s=grown("worker_cpu_ns") / 1e9,
            tls_s=grown("tls_ns") / 1e9,
            digest_s=grown("digest_ns") / 1e9,
            store_s=grown("store_ns") / 1e9,
            disk_s=grown("disk_ns") / 1e9,
            answers=grown("answers"),
            answer_wait_s=grown("answer_wait_ms") / 1e3,
            body_s=grown("body_ms") / 1e3,
            paused_s=grown("paused_ms") / 1e3,
            throttled_s=grown("throttled_ms") / 1e3,
            held_s=grown("held_ns") / 1e9,
            received_bytes=grown("bytes_received"),
        )


class Bottleneck(Struct, frozen=True, kw_only=True):
    """What held a run up, and the figures that say so; ``why`` is for people.

    ``kind``: listing, comparing, limit, cpu, disk, latency, network; source (a program or a disk that is read, beside
    the engine); or nothing.
    """

    kind: str
    why: str
    figures: Mapping[str, float]


def find_bottleneck(phases: Phases, usage: Usage) -> Bottleneck:
    """Name what held the run up: the longest phase, and within moving what was busy or waited for most."""
    kind, why = _judge(phases, usage)
    figures = {name: round(getattr(of, name), 6) for of in (phases, usage) for name in of.__struct_fields__}
    return Bottleneck(kind=kind, why=why, figures=figures)


def _judge(phases: Phases, usage: Usage) -> tuple[str, str]:
    whole_s = phases.listing_s + phases.comparing_s + phases.moving_s
    if whole_s <= 0:
        return "nothing", "there was nothing to do"
    part_s, kind = max((phases.listing_s, "listing"), (phases.comparing_s, "comparing"))
    if part_s >= phases.moving_s:
        return kind, f"{kind} took {_time(part_s)} of {_time(whole_s)}"
    if not usage.answers:
        return "source", f"reading the source took {_time(phases.moving_s)} of {_time(whole_s)}"
    return _judge_moving(phases.moving_s, usage)


class _Shares(Struct, frozen=True, kw_only=True):
    """`Usage` beside the wall time: shares of the threads' time and of the connections', and how many of these."""

    cpu: float
    storing: float
    disk: float
    waiting: float
    paused: float
    throttled: float
    held: float
    connections: float

    @classmethod
    def of(cls, wall_s: float, usage: Usage) -> _Shares:
        connections_s = usage.answer_wait_s + usage.body_s + usage.paused_s + usage.throttled_s
        return cls(
            cpu=_share(usage.worker_cpu_s, wall_s * usage.workers),
            storing=_share(usage.store_s, wall_s * usage.workers),
            disk=_share(usage.disk_s, wall_s * usage.disk_threads),
            waiting=_share(usage.answer_wait_s, connections_s),
            paused=_share(usage.paused_s, connections_s),
            throttled=_share(usage.throttled_s, connections_s),
            held=_share(usage.held_s, wall_s),
            connections=_share(connections_s, wall_s),
        )


def _judge_moving(wall_s: float, usage: Usage) -> tuple[str, str]:
    of = _Shares.of(wall_s, usage)
    if of.throttled >= _MOST:
        return "limit", f"connections waited {of.throttled:.0%} of their time for a limit that was set"
    if of.held >= _MOST:
        return "limit", f"a limit of requests, set or the server's, held them back {of.held:.0%} of the time"
    if of.storing >= _MOST:
        return "disk", f"{usage.workers} threads stored small files for {of.storing:.0%} of their time"
    if of.cpu >= _BUSY:
        return "cpu", f"{usage.workers} threads were {of.cpu:.0%} busy: {_cpu_parts(usage)}"
    if of.disk >= _BUSY or (of.paused >= _MOST and of.disk >= _MOST):
        return "disk", f"disk threads were {of.disk:.0%} busy, connections waited {of.paused:.0%} of their time"
    if of.paused >= _MOST:
        waited = f"connections waited {of.paused:.0%} of their time for receive memory"
        return "limit", f"{waited}, disk threads were {of.disk:.0%} busy"
    if of.waiting >= _MOST:
        each_s = _share(usage.answer_wait_s, usage.answers)
        return "latency", f"an answer began after {_time(each_s)}, {of.waiting:.0%} of the connections' time"
    rate = _share(usage.received_bytes, wall_s) / 1e6
    return "network", f"{rate:.0f} MB/s over {of.connections:.0f} connections, threads {of.cpu:.0%} busy"


def _cpu_parts(usage: Usage) -> str:
    parts = {"TLS": usage.tls_s, "digests": usage.digest_s, "storing": usage.store_s}
    parts["receiving"] = max(0.0, usage.worker_cpu_s - sum(parts.values()))
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {_share(part_s, usage.worker_cpu_s):.0%}" for name, part_s in ordered if part_s > 0)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.{0 if seconds >= 0.01 else 1}f} ms"


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
