"""aiobotocore: the paginator, then get_object by a fixed number of workers; large objects in parallel ranges."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from plan import BUCKET, PART_BYTES, Plan, finish, parts

READ_BYTES = 1 << 20


async def main() -> None:
    plan = Plan.from_arguments()
    config = AioConfig(max_pool_connections=plan.connections, s3={"addressing_style": "path"})
    async with get_session().create_client("s3", endpoint_url=plan.endpoint, config=config) as client:
        work: asyncio.Queue[tuple[str, int, int, int] | None] = asyncio.Queue(2 * plan.connections)
        files: dict[str, int] = {}  # open descriptors of objects that come in parts
        workers = [asyncio.create_task(worker(client, plan, work, files)) for _ in range(plan.connections)]
        keys = 0
        async for key, size in listed(client, plan):
            keys += 1
            if plan.task == "list":
                continue
            if size > PART_BYTES:
                files[key] = os.open(plan.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            for start, end in parts(size) or [(0, 0)]:
                await work.put((key, size, start, end))
        for _ in workers:
            await work.put(None)
        await asyncio.gather(*workers)
        for fd in files.values():
            os.close(fd)
    finish(keys)


async def listed(client: Any, plan: Plan) -> AsyncIterator[tuple[str, int]]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=plan.prefix)
    async for page in pages:
        for entry in page.get("Contents", ()):
            yield entry["Key"], entry["Size"]


async def worker(client: Any, plan: Plan, work: asyncio.Queue[Any], files: dict[str, int]) -> None:
    while (one := await work.get()) is not None:
        key, size, start, end = one
        ranged = {"Range": f"bytes={start}-{end - 1}"} if size > PART_BYTES else {}
        answer = await client.get_object(Bucket=BUCKET, Key=key, **ranged)
        async with answer["Body"] as body:
            if ranged:
                await receive_part(body, files[key], start)
            else:
                write(plan.path(key), await body.read())


def write(path: str, data: bytes) -> None:
    """On the loop: a thread would cost more than a small file does."""
    with open(path, "wb", buffering=0) as file:
        file.write(data)


async def receive_part(body: Any, fd: int, offset: int) -> None:
    while data := await body.read(READ_BYTES):
        os.pwrite(fd, data, offset)
        offset += len(data)


uvloop.run(main())
