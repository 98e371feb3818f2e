"""Calls in threads: a cancellation waits for what cannot be interrupted."""

from __future__ import annotations

import asyncio
import threading

import pytest

from stager.host.threads import Checkpoint, blocking, stoppable


def test_cancelled_call_has_ended_before_the_cancellation_goes_on() -> None:
    begun, go_on = threading.Event(), threading.Event()
    steps: list[str] = []

    def work() -> None:
        begun.set()
        go_on.wait(60)
        steps.append("call ended")

    async def caller() -> None:
        try:
            await blocking(work)
        finally:
            steps.append("caller went on")

    async def main() -> None:
        task = asyncio.create_task(caller())
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert steps == ["call ended", "caller went on"]


def test_call_gives_its_result_or_raises_its_error() -> None:
    assert asyncio.run(blocking(divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(blocking(divmod, 7, 0))


def test_cancelled_work_ends_at_its_next_checkpoint() -> None:
    begun = threading.Event()
    steps: list[str] = []

    def work(checkpoint: Checkpoint) -> None:
        try:
            begun.set()
            while True:
                checkpoint()
        finally:
            steps.append("work ended")

    async def caller() -> None:
        try:
            await stoppable(work)
        finally:
            steps.append("caller went on")

    async def main() -> None:
        task = asyncio.create_task(caller())
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert steps == ["work ended", "caller went on"]


def test_work_that_nobody_stops_gives_its_result_or_raises_its_error() -> None:
    def divide(checkpoint: Checkpoint, by: int) -> int:
        checkpoint()
        return 7 // by

    assert asyncio.run(stoppable(divide, 2)) == 3
    with pytest.raises(ZeroDivisionError):
        asyncio.run(stoppable(divide, 0))
