"""A model of a server and of the way to it, in virtual time: latency with a tail, a line, a limit of requests."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

from stager.pacing import SAMPLE_EVERY_S, Pacer, Sample

STEP_S = 0.005
MIB = 1 << 20


@dataclass
class Second:
    """What came in one second of the run."""

    succeeded: int = 0
    refused: int = 0
    received: float = 0.0
    connections: list[int] = field(default_factory=list)


@dataclass(kw_only=True)
class Model:
    """The server may be changed while it runs. ``limit`` 0 and ``most_at_once`` 0: none."""

    object_bytes: int
    first_byte_s: float = 0.02
    connection_bytes: float = 85e6
    line_bytes: float = 1.25e9
    limit: float = 0.0
    limit_burst_s: float = 0.05
    most_at_once: int = 0
    tail: float = 0.01
    tail_s: float = 2.0
    noise: float = 0.05  # of the line, from one moment to the next
    costs_from: int = 0  # connections beyond so many cost a thousandth of the line each; 0: none does
    seed: int = 7

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = 0.0
        self.tokens = self.limit * self.limit_burst_s
        self.client_tokens = 0.0
        self.waiting: list[tuple[float, int, bool]] = []  # until the first byte; number, whether it is refused
        self.coming: list[float] = []  # bytes that are missing of each
        self.number = 0

    @property
    def busy(self) -> int:
        return len(self.waiting) + len(self.coming)

    def run(self, pacer: Pacer, seconds: float, *, demand: int = 1 << 30) -> list[Second]:
        """Go on with at most ``demand`` requests at once; what came in each second."""
        history = [Second() for _ in range(round(seconds))]
        steps = round(SAMPLE_EVERY_S / STEP_S)
        for turn in range(round(seconds / SAMPLE_EVERY_S)):
            counts = Second()
            sent = sum(self.step(pacer, demand, counts) for _ in range(steps))
            second = history[int(turn * SAMPLE_EVERY_S)]
            second.succeeded += counts.succeeded
            second.refused += counts.refused
            second.received += counts.received
            second.connections.append(pacer.pace.connections)
            pacer.step(
                Sample(
                    seconds=SAMPLE_EVERY_S, succeeded=counts.succeeded, refused=counts.refused,
                    received_bytes=round(counts.received), sent=sent, busy=self.busy,
                )
            )  # fmt: skip
        return history

    def step(self, pacer: Pacer, demand: int, counts: Second) -> int:
        pace = pacer.pace
        self.tokens = min(self.tokens + self.limit * STEP_S, max(1.0, self.limit * self.limit_burst_s))
        rate = pace.requests_per_second
        self.client_tokens = min(self.client_tokens + rate * STEP_S, max(1.0, rate / 50))
        sent = 0
        while self.busy < min(pace.connections, demand) and (not rate or self.client_tokens >= 1):
            self.client_tokens -= 1
            self.send()
            sent += 1
        self.now += STEP_S
        self.answer(counts)
        self.carry(counts)
        return sent

    def send(self) -> None:
        accepted = (not self.limit or self.tokens >= 1) and (not self.most_at_once or self.busy < self.most_at_once)
        self.tokens -= accepted
        delay = self.first_byte_s * self.random.uniform(0.8, 1.2)
        if accepted and self.random.random() < self.tail:
            delay = self.tail_s
        self.number += 1
        heapq.heappush(self.waiting, (self.now + delay, self.number, not accepted))

    def answer(self, counts: Second) -> None:
        while self.waiting and self.waiting[0][0] <= self.now:
            _, _, refused = heapq.heappop(self.waiting)
            counts.refused += refused
            if not refused:
                self.coming.append(self.object_bytes)

    def carry(self, counts: Second) -> None:
        if not self.coming:
            return
        line = self.line_bytes * STEP_S * self.random.uniform(1 - self.noise, 1 + self.noise)
        if self.costs_from:
            line *= max(0.1, 1 - max(0, self.busy - self.costs_from) / 1000)
        each = min(self.connection_bytes * STEP_S, line / len(self.coming))
        counts.received += sum(min(each, missing) for missing in self.coming)
        missing = [missing - each for missing in self.coming]
        self.coming = [one for one in missing if one > 0]
        counts.succeeded += len(missing) - len(self.coming)
