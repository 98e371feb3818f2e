"""obstore: small objects whole, large ones in parallel ranges; files are written in threads only when large."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterable

import obstore
import uvloop
from obstore.store import S3Store
from plan import BUCKET, PART_BYTES, Plan, finish, parts


async def main() -> None:
    plan = Plan.from_arguments()
    store = S3Store(
        BUCKET,
        endpoint=plan.endpoint,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "allow_invalid_certificates": True, "timeout": "10min"},
    )
    keys = 0
    gate = asyncio.Semaphore(plan.connections)
    running: set[asyncio.Task[None]] = set()
    async for page in obstore.list(store, prefix=plan.prefix, chunk_size=1000):
        keys += len(page)
        if plan.task == "list":
            continue
        for meta in page:
            await gate.acquire()
            task = asyncio.create_task(fetch(store, plan, meta["path"], meta["size"], gate))
            running.add(task)
            task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    finish(keys)


async def fetch(store: S3Store, plan: Plan, key: str, size: int, gate: asyncio.Semaphore) -> None:
    """One object; the caller has passed the gate for it."""
    try:
        if size > PART_BYTES:
            await fetch_parts(store, plan, key, size)
            return
        answer = await obstore.get_async(store, key)
        write(plan.path(key), memoryview(await answer.bytes_async()))
    finally:
        gate.release()


def write(path: str, data: memoryview) -> None:
    """On the loop: a thread would cost more than a small file does."""
    with open(path, "wb", buffering=0) as file:
        file.write(data)


async def fetch_parts(store: S3Store, plan: Plan, key: str, size: int) -> None:
    fd = os.open(plan.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        await gather_bounded(plan.connections, (fetch_part(store, key, fd, part) for part in parts(size)))
    finally:
        os.close(fd)


async def fetch_part(store: S3Store, key: str, fd: int, part: tuple[int, int]) -> None:
    start, end = part
    data = await obstore.get_range_async(store, key, start=start, end=end)
    await asyncio.to_thread(os.pwrite, fd, memoryview(data), start)


async def gather_bounded(most: int, work: Iterable[Awaitable[None]]) -> None:
    iterator = iter(work)

    async def worker() -> None:
        for one in iterator:
            await one

    await asyncio.gather(*(worker() for _ in range(most)))


uvloop.run(main())
