"""How many requests at once and a second one endpoint gets: measurements in, limits out. No clock, no I/O.

Two loops, because two things can be scarce.

**Requests a second** (`_RequestRate`). A server that answers 503 SlowDown has a limit (S3: 5,500 GET a second and
prefix), and how much it accepted just before is the best estimate of it. So the rate is set to 0.95 of what was
accepted in the last quarter second (AWS's SDKs cut to 0.7 of what was sent, botocore/retries/throttling.py, which
costs more and finds a halved limit later), at most halved at once, and not cut again before the answers of what was
sent under the new rate are in. From then it grows by exp(0.02 t^2), t seconds after the cut: slow where the limit was
just found, faster the longer nothing is refused, as CUBIC does (RFC 9438, section 4). A limit that stands is met again
after 1.6 s and costs the refusals of one reaction time, far below one in a hundred; one that doubled is found within
6 s. Nothing grows that is not used.

**Connections** (`_Connections`). One connection carries about 0.4 Gb/s of large objects (aws-c-s3) and, at 20 ms to
the first byte, 50 small ones a second: how many are needed differs by ten, so it is measured. From a low start they
double while that pays; then now and then half as many again, or a quarter fewer, are tried for a second. More stay
when they bring at least 0.2 of what they would in proportion, fewer when at most 0.03 is lost: more connections than
needed cost goodput (AWS measured 145 against 105 Gb/s) and the server. A trial that fails is repeated later and later.
Goodput counts a request as 128 KiB, so that neither objects of any size nor mixtures of them hide what was gained.
Nothing is tried while the connections there are have too little to do, or while the request rate holds them back; then
the unneeded ones go.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum, auto
from typing import Final

from msgspec import Struct

__all__ = ["SAMPLE_EVERY_S", "START_CONNECTIONS", "Pace", "Pacer", "Sample"]

SAMPLE_EVERY_S: Final = 0.05
"""How often to measure; the reaction time to a refusal."""

START_CONNECTIONS: Final = 16
"""6.4 Gb/s by the 0.4 Gb/s model: enough for most nodes, little to a server that many nodes ask at the same time."""

_KEPT: Final = 0.95  # of what was accepted
_GROWTH: Final = 0.04  # a second, for each second since the cut
_MOST_GROWTH: Final = 1.0  # a second
_LEAST_RATE: Final = 5.0  # nobody's limit; from less it would take half a minute to come back after an outage
_USED: Final = 0.8  # of the rate: below it, the rate is not what holds up
_ACCEPTED_OVER_S: Final = 0.25
_ACCEPTED_ANSWERS: Final = 50  # fewer say little: look further back
_LOOK_BACK_S: Final = 2.0

_REQUEST_BYTES: Final = 128 << 10
_FEWEST: Final = 8  # below it nothing is won by fewer
_BUSY: Final = 0.75  # of the connections: below it, they are not what holds up
_FULL: Final = 0.95  # from here on they hold up, whatever the request rate does
_PAYS: Final = 0.2  # of what more connections would bring in proportion
_LOSES: Final = 0.03
_LOSES_CLEARLY: Final = 0.1  # a trial of fewer that costs so much ends early
_STEEP: Final = 0.6  # so much of it: double again
_MORE: Final = 1.5
_FEWER: Final = 0.75
_RAMP_MEASURE_S: Final = 0.25
_TRIAL_MEASURE_S: Final = 1.0
_TRY_MORE_AFTER_S: Final = 2.0
_TRY_FEWER_AFTER_S: Final = 8.0
_TRY_AT_LEAST_EVERY_S: Final = 32.0
_SLACK: Final = 1.25


class Sample(Struct, frozen=True, kw_only=True):
    """What happened in ``seconds``: answers by kind, bytes, requests; and how many connections are busy now."""

    seconds: float
    succeeded: int
    refused: int  # 503 SlowDown and its like
    received_bytes: int
    sent: int
    busy: int


class Pace(Struct, frozen=True, kw_only=True):
    """What an endpoint may have; ``requests_per_second`` 0 is no limit."""

    connections: int
    requests_per_second: float


class Pacer:
    """The control law of one endpoint, between 1 and ``most`` connections."""

    def __init__(self, *, most: int) -> None:
        self._rate = _RequestRate()
        self._connections = _Connections(most)

    @property
    def pace(self) -> Pace:
        """The limits that hold now."""
        return Pace(connections=self._connections.allowed, requests_per_second=self._rate.rate)

    def step(self, sample: Sample) -> Pace:
        """Take a measurement, about every `SAMPLE_EVERY_S`; the limits that hold from now on."""
        latency_s = _latency_s(sample)
        self._rate.step(sample, latency_s)
        self._connections.step(sample, latency_s, held_back=self._rate.holds_back)
        return self.pace


def _latency_s(sample: Sample) -> float:
    """By Little's law, bounded to what a decision may wait for."""
    answers = sample.succeeded + sample.refused
    return min(1.0, sample.busy * sample.seconds / answers) if answers else 1.0


class _RequestRate:
    def __init__(self) -> None:
        self.rate = 0.0
        self.holds_back = False
        self._recent: deque[Sample] = deque()
        self._since_cut_s = math.inf
        self._settled_after_s = 0.0

    def step(self, sample: Sample, latency_s: float) -> None:
        self._recent.append(sample)
        while sum(one.seconds for one in self._recent) - self._recent[0].seconds > _LOOK_BACK_S:
            self._recent.popleft()
        self._since_cut_s += sample.seconds
        seconds, accepted, sent = self._just_now()
        if sample.refused and self._since_cut_s >= self._settled_after_s:
            before = self.rate or sent / seconds
            self.rate = max(_KEPT * accepted / seconds, before / 2, _LEAST_RATE)
            self._since_cut_s = 0.0
            self._settled_after_s = _ACCEPTED_OVER_S / 2 + 2 * latency_s
        self.holds_back = self.rate > 0 and sent / seconds >= _USED * self.rate
        if self.holds_back and not sample.refused:
            self.rate *= math.exp(min(_GROWTH * self._since_cut_s, _MOST_GROWTH) * sample.seconds)

    def _just_now(self) -> tuple[float, int, int]:
        """Seconds, requests accepted and requests sent, of the shortest time that says something."""
        seconds, accepted, answers, sent = 0.0, 0, 0, 0
        for one in reversed(self._recent):
            seconds += one.seconds
            accepted += one.succeeded
            answers += one.succeeded + one.refused
            sent += one.sent
            if seconds >= _ACCEPTED_OVER_S and answers >= _ACCEPTED_ANSWERS:
                break
        return seconds, accepted, sent


class _Phase(Enum):
    RAMP = auto()
    RAMP_AGAIN = auto()  # the last doubling did not seem to pay: a second look
    STEADY = auto()
    MORE = auto()
    FEWER = auto()


class _Connections:
    def __init__(self, most: int) -> None:
        self._most = most
        self._fewest = min(_FEWEST, most)
        self.allowed = min(START_CONNECTIONS, most)
        self._phase = _Phase.RAMP
        self._before: tuple[int, float] | None = None  # connections and goodput to compare with
        self._since_change_s = 0.0
        self._work = self._measured_s = 0.0
        self._more = _Patience(_TRY_MORE_AFTER_S)
        self._fewer = _Patience(_TRY_FEWER_AFTER_S)
        self._peak_busy, self._peak_s = 0, 0.0

    def step(self, sample: Sample, latency_s: float, *, held_back: bool) -> None:
        if held_back and sample.busy < _FULL * self.allowed:
            self._follow_use(sample)
            self._give_up_trial()
            return
        if sample.busy < _BUSY * self.allowed:
            self._give_up_trial()
            return
        self._more.waited(sample.seconds)
        self._fewer.waited(sample.seconds)
        self._since_change_s += sample.seconds
        if self._since_change_s <= 2 * max(latency_s, SAMPLE_EVERY_S):
            return
        self._work += sample.received_bytes + _REQUEST_BYTES * sample.succeeded
        self._measured_s += sample.seconds
        if self._measured_s >= _RAMP_MEASURE_S and self._is_clear(goodput := self._work / self._measured_s):
            self._judge(goodput)
            self._work = self._measured_s = 0.0

    def _is_clear(self, goodput: float) -> bool:
        if self._phase in (_Phase.RAMP, _Phase.RAMP_AGAIN) or self._measured_s >= _TRIAL_MEASURE_S:
            return True
        return self._phase is _Phase.FEWER and goodput < (1 - _LOSES_CLEARLY) * self._compared()[1]

    def _judge(self, goodput: float) -> None:
        match self._phase:
            case _Phase.RAMP | _Phase.RAMP_AGAIN:
                self._judge_doubling(goodput)
            case _Phase.STEADY:
                self._before = (self.allowed, goodput)
                if self.allowed < self._most and self._more.due:
                    self._try(_Phase.MORE, math.ceil(self.allowed * _MORE))
                elif self.allowed > self._fewest and self._fewer.due:
                    self._try(_Phase.FEWER, math.floor(self.allowed * _FEWER))
            case _Phase.MORE:
                self._judge_more(goodput)
            case _Phase.FEWER:
                self._end_trial(self._fewer, keep=goodput >= (1 - _LOSES) * self._compared()[1])

    def _judge_doubling(self, goodput: float) -> None:
        if self._before is None or self._gain(goodput) >= _PAYS:
            self._before = (self.allowed, goodput)
            if self.allowed < self._most:
                self._try(_Phase.RAMP, 2 * self.allowed)
            else:
                self._phase = _Phase.STEADY
        elif self._phase is _Phase.RAMP:
            self._phase = _Phase.RAMP_AGAIN
        else:
            self._change(self._before[0])
            self._phase = _Phase.STEADY

    def _judge_more(self, goodput: float) -> None:
        gain = self._gain(goodput)
        self._end_trial(self._more, keep=gain >= _PAYS)
        if gain >= _STEEP and self.allowed < self._most:
            self._before = (self.allowed, goodput)
            self._try(_Phase.RAMP, 2 * self.allowed)

    def _compared(self) -> tuple[int, float]:
        return self._before or (self.allowed, 0.0)

    def _gain(self, goodput: float) -> float:
        """Of what the added connections would bring in proportion: 1 all, 0 nothing."""
        connections, before = self._compared()
        return (goodput / before - 1) / (self.allowed / connections - 1) if before > 0 else 1.0

    def _try(self, phase: _Phase, connections: int) -> None:
        self._phase = phase
        self._change(connections)

    def _end_trial(self, patience: _Patience, *, keep: bool) -> None:
        if not keep:
            self._change(self._compared()[0])
        patience.tried(paid=keep)
        self._phase = _Phase.STEADY

    def _give_up_trial(self) -> None:
        """What was measured lately says nothing of connections."""
        if self._phase is _Phase.FEWER and self._before is not None:
            self.allowed = max(self.allowed, self._before[0])
        if self._phase in (_Phase.MORE, _Phase.FEWER):
            self._phase = _Phase.STEADY
        self._since_change_s = self._work = self._measured_s = 0.0

    def _follow_use(self, sample: Sample) -> None:
        """The request rate is the limit: keep what it needs."""
        self._peak_busy = max(self._peak_busy, sample.busy)
        self._peak_s += sample.seconds
        if self._peak_s < _TRIAL_MEASURE_S:
            return
        needed = max(self._fewest, math.ceil(_SLACK * self._peak_busy))
        self.allowed = min(self._most, self.allowed, needed)
        self._phase, self._before = _Phase.RAMP, None
        self._peak_busy, self._peak_s = 0, 0.0

    def _change(self, connections: int) -> None:
        self.allowed = max(self._fewest, min(self._most, connections))
        self._since_change_s = self._work = self._measured_s = 0.0


class _Patience:
    """How long until something is tried again: longer each time it did not pay."""

    def __init__(self, first_s: float) -> None:
        self._first_s = self._after_s = first_s
        self._waited_s = 0.0

    @property
    def due(self) -> bool:
        return self._waited_s >= self._after_s

    def waited(self, seconds: float) -> None:
        self._waited_s += seconds

    def tried(self, *, paid: bool) -> None:
        self._after_s = self._first_s if paid else min(_TRY_AT_LEAST_EVERY_S, 2 * self._after_s)
        self._waited_s = 0.0
