"""Retries, windows and endings of a lane, against an engine that does exactly what the test says."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from stager.config import Retry
from stager.errors import AccessDeniedError, ChangedError, StagerError, TransientError
from stager.host.node import Node
from stager.host.node_settings import NodeSettings
from stager.host.threads import together
from stager.transfer import Lane, RegionMovedError, Transfer, Work


@dataclass
class Failure:
    index: int = 0
    kind: str = "http"
    errno: int = 0
    where: str = ""
    status: int = 0
    code: str = ""
    message: str = ""
    request_id: str = ""
    region: str = ""
    retry_after_s: int = -1
    date: str = ""


Answer = Callable[[int, int], Failure | None]
"""(item, attempt from 1) -> how it fails, or None."""


@dataclass(eq=False)
class Batch:
    engine: FakeEngine
    items: list[int]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeEngine:
    """Completes each batch on the next turn of the loop, unless ``hold``."""

    transfer: Transfer
    answer: Answer
    hold: bool = False
    attempts: dict[int, int] = field(default_factory=dict)
    in_flight: int = 0
    most: int = 0
    batches: list[Batch] = field(default_factory=list)
    landed: list[int] = field(default_factory=list)

    def submit(self, items: list[int]) -> Any:
        batch = Batch(self, items)
        self.batches.append(batch)
        self.in_flight += len(items)
        self.most = max(self.most, self.in_flight)
        asyncio.get_running_loop().call_soon(self._complete, batch)
        return batch

    def _complete(self, batch: Batch) -> None:
        if self.hold and not batch.cancelled:
            asyncio.get_running_loop().call_soon(self._complete, batch)
            return
        finished, failures = array("q"), []
        for index, item in enumerate(batch.items):
            self.attempts[item] = self.attempts.get(item, 0) + 1
            failure = Failure(kind="cancelled") if batch.cancelled else self.answer(item, self.attempts[item])
            if failure is None:
                finished.append(index)
            else:
                failure.index = index
                failures.append(failure)
        self.in_flight -= len(batch.items)
        watched: Any = self.transfer._batches[batch]  # type: ignore[index]
        watched(finished, failures)

    def land(self, batch: Any, items: list[int], finished: array[int]) -> None:
        self.landed += [items[index] for index in finished]


class FakeSigner:
    def __init__(self) -> None:
        self.skews: list[int] = []

    def set_clock_skew(self, seconds: int) -> None:
        self.skews.append(seconds)


def run(
    answer: Answer,
    *,
    items: int = 100,
    window: int = 40,
    batch_items: int = 8,
    attempts: int = 5,
    refresh: Callable[[], bool] | None = None,
    signer: FakeSigner | None = None,
) -> tuple[FakeEngine, Lane]:
    async def main() -> tuple[FakeEngine, Lane]:
        transfer = Transfer(retry=Retry(attempts=attempts, base_s=0.0), draw=lambda: 0.0)
        engine = FakeEngine(transfer, answer)
        lane = Lane(transfer=transfer, where="s3://b", signer=signer)  # type: ignore[arg-type]

        async def renew() -> bool:
            assert refresh is not None
            return refresh()

        lane.refresh = renew if refresh else None
        engines.append(engine)
        await lane.run(
            Work(
                items=range(items),
                submit=engine.submit,
                landed=engine.land,
                name=lambda item: f"key {item}",
                batch_items=batch_items,
                window=window,
            )
        )
        return engine, lane

    return asyncio.run(main())


engines: list[FakeEngine] = []


def http(status: int, code: str, **more: Any) -> Failure:
    return Failure(status=status, code=code, **more)


def test_everything_lands_once_within_the_window() -> None:
    engine, _ = run(lambda item, attempt: None)
    assert sorted(engine.landed) == list(range(100))
    assert engine.most <= 40
    assert engine.transfer._batches == {}


def test_no_items_is_no_work() -> None:
    engine, _ = run(lambda item, attempt: None, items=0)
    assert engine.batches == []


def test_failures_that_pass_are_retried_and_land_once() -> None:
    engine, _ = run(lambda item, attempt: Failure(kind="reset") if item % 7 == 0 and attempt < 4 else None)
    assert sorted(engine.landed) == list(range(100))
    assert {item: count for item, count in engine.attempts.items() if count > 1} == dict.fromkeys(range(0, 100, 7), 4)


def test_failure_that_stays_ends_with_its_name_after_the_attempts() -> None:
    with pytest.raises(TransientError, match=r"key 13: .* after 5 attempts"):
        run(lambda item, attempt: Failure(kind="stall") if item == 13 else None)
    assert engines[-1].attempts[13] == 5
    assert engines[-1].transfer._batches == {}


def test_nothing_ever_connecting_is_told_after_fewer_attempts() -> None:
    with pytest.raises(TransientError, match="after 4 attempts"):
        run(lambda item, attempt: Failure(kind="connect"), items=1, attempts=9)


def test_final_failure_cancels_what_is_in_flight() -> None:
    with pytest.raises(ChangedError, match="key 3"):
        run(lambda item, attempt: http(412, "PreconditionFailed") if item == 3 else None, items=10_000)
    assert len(engines[-1].attempts) < 10_000
    assert engines[-1].in_flight == 0


@dataclass
class FakeSteering:
    told: list[int] = field(default_factory=list)
    depth: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        self.depth += 1
        yield
        self.depth -= 1

    def succeeded(self, count: int) -> None:
        assert self.depth
        self.told.append(count)

    def refused(self) -> None:
        assert self.depth
        self.told.append(-1)


def test_what_an_endpoint_answers_is_told_to_who_steers_it() -> None:
    async def main() -> FakeSteering:
        transfer = Transfer(retry=Retry(base_s=0.0), draw=lambda: 0.0)
        engine = FakeEngine(transfer, lambda item, attempt: http(503, "SlowDown") if attempt <= item % 3 else None)
        steering = FakeSteering()
        lane = Lane(transfer=transfer, where="s3://b", steering=steering)  # type: ignore[arg-type]
        await lane.run(Work(items=range(30), submit=engine.submit, landed=engine.land, name=str))
        return steering

    steering = asyncio.run(main())
    assert sum(count for count in steering.told if count > 0) == 30
    assert steering.told.count(-1) == 10 + 2 * 10
    assert steering.depth == 0


def test_expired_token_is_refreshed_once_for_all_who_met_it() -> None:
    refreshed: list[int] = []

    def refresh() -> bool:
        refreshed.append(1)
        return True

    def answer(item: int, attempt: int) -> Failure | None:
        return http(400, "ExpiredToken") if not refreshed else None

    engine, _ = run(answer, refresh=refresh)
    assert sorted(engine.landed) == list(range(100))
    assert len(refreshed) == 1


def test_expired_token_without_a_newer_one_is_final() -> None:
    with pytest.raises(AccessDeniedError, match="have expired"):
        run(lambda item, attempt: http(400, "ExpiredToken"), refresh=lambda: False)


def test_failure_judged_before_another_ones_refresh_ends_needs_no_second_refresh() -> None:
    answers = [True, False]  # the second time there are no newer credentials

    async def refresh() -> bool:
        return answers.pop(0)

    async def main() -> list[bool]:
        lane = Lane(transfer=Transfer(), where="s3://b", refresh=refresh)
        return [await lane.renew(0), await lane.renew(0), await lane.renew(1)]

    assert asyncio.run(main()) == [True, True, False]


def test_tokens_that_are_always_expired_do_not_go_on_for_ever() -> None:
    with pytest.raises(AccessDeniedError, match="have expired"):
        run(lambda item, attempt: http(400, "ExpiredToken"), refresh=lambda: True)


def test_refresh_that_fails_in_an_unexpected_way_is_raised_and_never_waited_for() -> None:
    def refresh() -> bool:
        raise ValueError("no JSON")

    with pytest.raises(ValueError, match="no JSON"):
        run(lambda item, attempt: http(400, "ExpiredToken"), refresh=refresh)
    assert engines[-1].in_flight == 0


def test_clock_is_set_once_and_what_was_signed_before_is_sent_again() -> None:
    signer = FakeSigner()

    def answer(item: int, attempt: int) -> Failure | None:
        date = "Wed, 01 May 2024 00:00:00 GMT"
        return http(403, "RequestTimeTooSkewed", date=date) if attempt == 1 and item < 40 else None

    engine, _ = run(answer, signer=signer)
    assert sorted(engine.landed) == list(range(100))
    assert len(signer.skews) == 1


def test_skipped_objects_are_collected_and_too_many_in_a_row_end_it() -> None:
    _, lane = run(lambda item, attempt: http(403, "AccessDenied") if item % 10 == 0 else None)
    assert len(lane.skipped) == 10
    with pytest.raises(AccessDeniedError):
        run(lambda item, attempt: http(403, "AccessDenied"))
    assert len(engines[-1].attempts) <= 40


def test_denied_parts_of_one_object_count_once_and_are_not_asked_for_again() -> None:
    async def main() -> tuple[FakeEngine, Lane]:
        transfer = Transfer()
        engine = FakeEngine(transfer, lambda item, attempt: http(403, "AccessDenied") if item > 2 else None)
        lane = Lane(transfer=transfer, where="s3://b")
        work = Work(
            items=range(100), submit=engine.submit, landed=engine.land, name=lambda _: "key", batch_items=8, window=8,
            one_object=True,
        )  # fmt: skip
        await lane.run(work)
        return engine, lane

    engine, lane = asyncio.run(main())
    assert [error.where for error in lane.skipped] == ["key"]
    assert len(engine.attempts) == 8
    assert engine.transfer._batches == {}


def test_another_region_is_handed_up_with_the_error_it_would_be() -> None:
    with pytest.raises(RegionMovedError) as caught:
        run(lambda item, attempt: http(301, "PermanentRedirect", region="eu-west-3"))
    assert caught.value.region == "eu-west-3"
    assert isinstance(caught.value.error, StagerError)
    with pytest.raises(StagerError, match="another region"):
        run(lambda item, attempt: http(301, "PermanentRedirect"))


def test_cancelling_waits_until_the_engine_has_let_go() -> None:
    async def main() -> FakeEngine:
        transfer = Transfer(node=Node(NodeSettings(), None))
        engine = FakeEngine(transfer, lambda item, attempt: None, hold=True)
        lane = Lane(transfer=transfer, where="s3://b")
        work = Work(items=range(50), submit=engine.submit, landed=engine.land, name=str)
        task = asyncio.create_task(lane.run(work))
        await asyncio.sleep(0)  # one turn: the first window is handed over
        assert engine.batches
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return engine

    engine = asyncio.run(main())
    assert engine.in_flight == 0
    assert engine.landed == []
    assert engine.transfer._batches == {}


def test_error_of_a_callback_is_raised_and_not_lost() -> None:
    async def main() -> None:
        transfer = Transfer()
        engine = FakeEngine(transfer, lambda item, attempt: None)

        def land(*_: object) -> None:
            raise KeyError("bug")

        lane = Lane(transfer=transfer, where="s3://b")
        await lane.run(Work(items=range(5), submit=engine.submit, landed=land, name=str))

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_together_raises_the_first_error_alone() -> None:
    async def fail() -> None:
        raise ChangedError("x")

    async def main() -> None:
        await together(fail(), asyncio.sleep(60))

    with pytest.raises(ChangedError):
        asyncio.run(main())
