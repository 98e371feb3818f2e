"""Measures how one endpoint does, asks the control law, and tells the engine: the clock and the hands of `Pacer`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from stager.pacing import SAMPLE_EVERY_S, Pace, Pacer, Sample

__all__ = ["Steered", "Steering"]

_CHANGED_BY: Final = 0.002  # of the rate: less is not worth telling the workers


class Steered(Protocol):
    """What is used of `stager._native.Endpoint`."""

    def pace(self, *, connections: int, requests_per_second: float) -> None:
        """Limit it from now on."""

    def used(self) -> dict[str, int]:
        """The counters ``sent`` and ``received``, and the connections that are ``busy`` now."""


class Steering:
    """One endpoint under one control law, while something is asked of it."""

    def __init__(self, endpoint: Steered, *, most: int) -> None:
        self._endpoint = endpoint
        self._pacer = Pacer(most=most)
        self._succeeded = self._refused = self._running = 0
        self._used: dict[str, int] = {}
        self._at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._told: Pace | None = None
        self._tell(self._pacer.pace)

    @property
    def pace(self) -> Pace:
        """The limits that hold now."""
        return self._pacer.pace

    def succeeded(self, count: int) -> None:
        """So many requests were answered as wished."""
        self._succeeded += count

    def refused(self) -> None:
        """The server asked to slow down."""
        self._refused += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Steer until the last of those that overlap has ended. On the loop."""
        self._running += 1
        if self._running == 1:
            loop = asyncio.get_running_loop()
            self._used, self._at_s = self._endpoint.used(), loop.time()
            self._succeeded = self._refused = 0
            self._timer = loop.call_later(SAMPLE_EVERY_S, self._measure, loop.time, loop.call_later)
        try:
            yield
        finally:
            self._running -= 1
            if not self._running and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _measure(self, clock: Callable[[], float], call_later: Callable[..., asyncio.TimerHandle]) -> None:
        used, now_s = self._endpoint.used(), clock()
        sample = Sample(
            seconds=max(now_s - self._at_s, 1e-3), succeeded=self._succeeded, refused=self._refused,
            received_bytes=used["received"] - self._used["received"], sent=used["sent"] - self._used["sent"],
            busy=used["busy"],
        )  # fmt: skip
        self._used, self._at_s = used, now_s
        self._succeeded = self._refused = 0
        self._tell(self._pacer.step(sample))
        self._timer = call_later(SAMPLE_EVERY_S, self._measure, clock, call_later)

    def _tell(self, pace: Pace) -> None:
        told = self._told
        if told is not None and told.connections == pace.connections:
            change = abs(pace.requests_per_second - told.requests_per_second)
            if change <= _CHANGED_BY * told.requests_per_second:
                return
        self._endpoint.pace(connections=pace.connections, requests_per_second=pace.requests_per_second)
        self._told = pace
