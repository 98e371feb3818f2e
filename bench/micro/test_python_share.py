"""What Python costs per object: all CPU of a `sync` but that of the engine's own threads, listing to receipt."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import lab
import pytest
import uvloop
from workloads import PREFIX

from stager.config import Limits, Remote
from stager.pipeline import SyncOptions, sync
from stager.transfer import Transfer
from stager.urls import parse_source


def outside_the_engine_s() -> float:
    """CPU seconds of this process less those of threads that Python did not start."""
    pythons = {thread.native_id for thread in threading.enumerate()}
    engines = [task for task in Path("/proc/self/task").iterdir() if int(task.name) not in pythons]
    return time.process_time() - sum(int((task / "schedstat").read_text().split()[0]) for task in engines) / 1e9


@pytest.fixture
def syncing(origin: lab.Origin, tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Fetches everything into a fresh directory, each time with the same engine."""
    numbers = count()
    options = SyncOptions(remote=Remote(endpoint_url=f"http://127.0.0.1:{origin.port}"))
    transfer = Transfer(limits=Limits(workers=1))

    async def run() -> int:
        out = tmp_path / str(next(numbers))
        receipt = await sync(parse_source(f"s3://bench/{PREFIX}"), str(out), transfer=transfer, options=options)
        return receipt.moved.objects

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(transfer.__aenter__())
        yield lambda: runner.run(run())
        runner.run(transfer.__aexit__())


@pytest.mark.usefixtures("credentials")
@pytest.mark.benchmark(timer=outside_the_engine_s)
def test_python_share_of_syncing_1000_objects(benchmark: Any, syncing: Callable[[], int]) -> None:
    """Milliseconds here are microseconds per object. The making of one client is among them."""
    assert benchmark.pedantic(syncing, rounds=5, warmup_rounds=1) == 1000
