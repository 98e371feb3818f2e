"""The asyncio face of the native engine: batches in, completions out, retries between.

In flight are at most ``window`` requests of a lane; what waits for its retry counts too. Callbacks run on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, Self, TypeVar

from msgspec import Struct, field

from stager._native import Batch, Endpoint, Engine, Failure, Signer
from stager.config import Limits, Retry, Timeouts
from stager.errors import AccessDeniedError, StagerError
from stager.host.memory import keep_cached_bytes
from stager.host.node import Node
from stager.retry import CONNECT_ATTEMPTS, S3, Action, Policy, are_too_many, server_time_s, wait_s
from stager.sharing import Shared
from stager.steering import Steering

__all__ = ["Lane", "RegionMovedError", "Transfer", "Work"]

T = TypeVar("T")

Completion = Callable[["array[int]", list[Failure]], None]

_WINDOW: Final = 2048
_BATCH: Final = 256


class RegionMovedError(Exception):
    """The bucket is in another region: prepare again for it. Never leaves the source."""

    def __init__(self, region: str, error: StagerError) -> None:
        super().__init__(region)
        self.region = region
        self.error = error


class Transfer:
    """One engine per process, started when first needed, and its completions by batch.

    ``node``: in place of the one that the site's configuration describes; it is closed with this.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
        draw: Callable[[], float] = random.random,
        node: Node | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.timeouts = timeouts or Timeouts()
        self.retry = retry or Retry()
        self.draw = draw
        self._engine: Engine | None = None
        self._batches: dict[Batch, Completion] = {}
        self.shared = Shared(node, self.limits)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Cancel what runs and join the engine's threads."""
        await self.shared.close()
        if self._engine is None:
            return
        engine, self._engine = self._engine, None
        asyncio.get_running_loop().remove_reader(engine.fileno())
        await asyncio.to_thread(engine.close)

    @property
    def engine(self) -> Engine:
        """The engine; started on first use, on the running loop."""
        if self._engine is None:
            limits = self.limits
            self._engine = Engine(
                workers=limits.workers, disk_threads=limits.disk_threads, connections=limits.max_connections,
                memory_bytes=limits.memory_bytes, buffer_bytes=limits.buffer_bytes,
                requests_per_second=self.shared.rates.requests, bytes_per_second=self.shared.rates.bytes,
                connect_timeout_ms=round(self.timeouts.connect_s * 1000),
                stall_timeout_ms=round(self.timeouts.stall_s * 1000),
                keep_cached_bytes=keep_cached_bytes(limits.keep_cached_bytes),
            )  # fmt: skip
            self.shared.limit = self._engine.limit
            asyncio.get_running_loop().add_reader(self._engine.fileno(), self._drain)
        return self._engine

    def steer(self, endpoint: Endpoint) -> Steering:
        """Let ``endpoint`` have what does it good, within the limits."""
        return Steering(endpoint, most=self.limits.max_connections)

    def stats(self) -> dict[str, int]:
        """The engine's counters; empty before its first use."""
        return self._engine.stats() if self._engine is not None else {}

    def watch(self, batch: Batch, completion: Completion) -> None:
        """Tell ``completion`` of every piece of a batch's results, until `forget`."""
        self._batches[batch] = completion

    def forget(self, batch: Batch) -> None:
        """The batch is complete."""
        del self._batches[batch]

    def _drain(self) -> None:
        if self._engine is None:
            return
        for batch, finished, failures in self._engine.drain():
            self._batches[batch](finished, failures)


class Work(Struct, Generic[T], frozen=True, kw_only=True):
    """One kind of request over many items.

    ``submit`` hands some items, a slice, to the engine; ``landed`` is told which of them finished, by index into it;
    ``name`` shows an item in errors. ``one_object``: the items are its parts, so the first that is skipped skips all.
    ``defer`` is told of a failed item and may take it over, by returning true: it is not asked for again here then (of
    one object nothing is), and is no error. What it raises ends the rest. ``aside`` is told of items whose answer says
    that they are to be fetched in another way.
    """

    items: Sequence[T]
    submit: Callable[[Sequence[T]], Batch]
    landed: Callable[[Batch, Sequence[T], array[int]], None]
    name: Callable[[T], str]
    batch_items: int = _BATCH
    window: int = _WINDOW
    one_object: bool = False
    defer: Callable[[T, Failure], bool] | None = None
    aside: Callable[[T], None] | None = None


class Lane(Struct, kw_only=True):
    """What all requests to one source share: credentials, the clock, its endpoint's pace, what was denied.

    ``policy`` says what failures mean. ``refresh`` loads credentials again and says whether they are others than
    before.
    """

    transfer: Transfer
    where: str
    signer: Signer | None = None
    steering: Steering | None = None
    policy: Policy = S3
    refresh: Callable[[], Awaitable[bool]] | None = None
    skipped: list[StagerError] = field(default_factory=list)
    answered: bool = False
    _denied_in_a_row: int = 0
    generation: int = 0  # of credentials and clock: what was signed under an older one is signed again
    _clock_set: bool = False
    _refreshing: asyncio.Task[bool] | None = None

    async def run(self, work: Work[T]) -> None:
        """Do all of ``work``; raises the first final error after everything in flight has ended.

        Objects that alone are denied or archived are collected in `skipped` and do not end the rest; deferred ones
        neither.
        Raises `RegionMovedError`, and what `stager.retry.error_for` makes of a failure.
        """
        async with self.transfer.shared.running():
            with self.steering.running() if self.steering else contextlib.nullcontext():
                await _Run(self, work).run()

    def succeeded(self, count: int) -> None:
        """Take note of finished requests."""
        self.answered = True
        self._denied_in_a_row = 0
        if self.steering:
            self.steering.succeeded(count)

    def slow_down(self) -> None:
        """The server is busy."""
        if self.steering:
            self.steering.refused()

    def skip(self, error: StagerError) -> StagerError | None:
        """Leave one object out; the error that ends everything when too many are denied without a success between, or
        cannot reach the required grade.
        """
        self.skipped.append(error)
        self._denied_in_a_row += isinstance(error, AccessDeniedError)
        return error if are_too_many(self.skipped, self._denied_in_a_row) else None

    def set_clock(self, date: str) -> bool:
        """Take the server's time for signing, once; whether that was possible."""
        if self._clock_set or self.signer is None:
            return False
        try:
            skew = round(server_time_s(date) - time.time())
        except (TypeError, ValueError):
            return False
        self.signer.set_clock_skew(skew)
        self._clock_set = True
        self.generation += 1
        return True

    async def renew(self, since: int) -> bool:
        """Load credentials again, once for all who wait for it; whether there are newer ones than generation ``since``.

        A failure may be judged just before another one's renewal ends: it needs no second one.
        """
        if self.generation > since:
            return True
        if self.refresh is None:
            return False
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._load())
        return await asyncio.shield(self._refreshing)

    async def _load(self) -> bool:
        try:
            fresh = self.refresh is not None and await self.refresh()
            self.generation += fresh
            return fresh
        finally:
            self._refreshing = None


class _Run(Generic[T]):
    """One `Lane.run`."""

    def __init__(self, lane: Lane, work: Work[T]) -> None:
        self._lane = lane
        self._work = work
        self._next = 0  # of the items not handed over yet
        self._again: deque[T] = deque()
        self._attempts: dict[T, int] = {}
        self._damaged: set[T] = set()
        self._in_flight: dict[Batch, int] = {}
        self._requests = 0
        self._waiting = 0
        self._stopping = False
        self._given_up = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()
        self._timers: set[asyncio.TimerHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            while self._error is None and not self._given_up and self._fill():
                await self._changed.wait()
                self._changed.clear()
        finally:
            await self._stop()
        if self._error is not None:
            raise self._error

    def _fill(self) -> bool:
        """Hand over what the window has room for; whether anything is still to come."""
        while (room := self._room()) and (items := self._next_items(room)):
            self._hand_over(items)
        return bool(self._in_flight or self._waiting or self._next < len(self._work.items) or self._again)

    def _room(self) -> int:
        """How many items to hand over at once: no crumbs while half of the window is in flight, for what a batch costs
        here hardly depends on its size.
        """
        room = self._work.window - self._requests - self._waiting
        if self._requests > self._work.window // 2 and room < min(self._work.batch_items, self._work.window // 8):
            return 0
        return max(0, min(room, self._work.batch_items))

    def _next_items(self, count: int) -> Sequence[T]:
        if self._again:
            return [self._again.popleft() for _ in range(min(count, len(self._again)))]
        start, self._next = self._next, min(self._next + count, len(self._work.items))
        return self._work.items[start : self._next]

    def _hand_over(self, items: Sequence[T]) -> None:
        batch = self._work.submit(items)
        self._in_flight[batch] = len(items)
        self._requests += len(items)
        generation = self._lane.generation

        def complete(finished: array[int], failures: list[Failure]) -> None:
            ended = len(finished) + len(failures)
            self._requests -= ended
            self._in_flight[batch] -= ended
            if not self._in_flight[batch]:
                del self._in_flight[batch]
                self._lane.transfer.forget(batch)
            self._changed.set()
            self._take(batch, items, generation, finished, failures)

        self._lane.transfer.watch(batch, complete)

    def _take(
        self, batch: Batch, items: Sequence[T], generation: int, finished: array[int], failures: list[Failure]
    ) -> None:
        try:
            if finished:
                self._lane.succeeded(len(finished))
                self._work.landed(batch, items, finished)
            for failure in failures:
                if self._error is None and not self._given_up and not self._stopping:
                    self._judge(items[failure.index], failure, generation)
        except Exception as error:  # in a callback of the loop: run() raises it
            self._error = self._error or error

    def _judge(self, item: T, failure: Failure, generation: int) -> None:
        lane = self._lane
        lane.answered |= failure.kind == "http"
        if self._work.defer is not None and self._work.defer(item, failure):
            self._given_up = self._work.one_object
            return
        attempts = self._attempts.get(item, 0) + 1
        self._attempts[item] = attempts
        match lane.policy.action_for(failure):
            case Action.RETRY:
                self._retry(item, failure, attempts)
            case Action.SLOW_DOWN:
                lane.slow_down()
                self._retry(item, failure, attempts)
            case Action.REFETCH if item not in self._damaged:
                self._damaged.add(item)
                self._again.append(item)
            case Action.REFRESH | Action.SET_CLOCK if attempts > lane.transfer.retry.attempts:
                self._error = self._error_for(item, failure)
            case Action.REFRESH | Action.SET_CLOCK if generation < lane.generation:
                self._again.append(item)  # it was signed before the last correction
            case Action.REFRESH:
                self._renew(item, failure, generation)
            case Action.SET_CLOCK if lane.set_clock(failure.date):
                self._again.append(item)
            case Action.REGION if failure.region:
                self._error = RegionMovedError(failure.region, self._error_for(item, failure))
            case Action.ASIDE if self._work.aside is not None:
                self._work.aside(item)
            case Action.SKIP:
                self._given_up = self._work.one_object
                self._error = lane.skip(self._error_for(item, failure))
            case _:
                self._error = self._error_for(item, failure)

    def _error_for(self, item: T, failure: Failure, attempts: int = 1) -> StagerError:
        return self._lane.policy.error_for(failure, self._work.name(item), attempts)

    def _retry(self, item: T, failure: Failure, attempts: int) -> None:
        retry = self._lane.transfer.retry
        limit = retry.attempts if self._lane.answered else min(retry.attempts, CONNECT_ATTEMPTS)
        if attempts >= limit:
            self._error = self._error_for(item, failure, attempts)
            return
        self._waiting += 1
        delay = wait_s(retry, attempts, failure.retry_after_s, self._lane.transfer.draw())

        def due() -> None:
            self._timers.discard(timer)
            self._resume(item)

        timer = asyncio.get_running_loop().call_later(delay, due)
        self._timers.add(timer)

    def _renew(self, item: T, failure: Failure, generation: int) -> None:
        self._waiting += 1

        async def renew() -> None:
            try:
                if not await self._lane.renew(generation):
                    self._error = self._error or self._error_for(item, failure)
            except Exception as error:  # in a task of its own: run() raises it
                self._error = self._error or error
            finally:
                self._resume(item)

        task = asyncio.create_task(renew())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _resume(self, item: T) -> None:
        self._waiting -= 1
        self._again.append(item)
        self._changed.set()

    async def _stop(self) -> None:
        """Cancel what has not ended and wait for it: the engine finishes writes in flight before it says so."""
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        self._stopping = True
        for batch in list(self._in_flight):
            batch.cancel()
        while self._in_flight:
            self._changed.clear()
            with contextlib.suppress(asyncio.CancelledError):
                await self._changed.wait()


