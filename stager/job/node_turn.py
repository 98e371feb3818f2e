"""A job's turn on this node, where the site lets only so many run at once (``[node] jobs_per_node``).

It comes before anything is moved and lasts until the job's tree is removed or given up, so a job that has the node to
itself has its disks and its network too, and finds nothing of the one before. Whoever comes later waits, as a pending
job of a scheduler does, in the order of coming; the queue is that of `stager.host.connections`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Final

from stager.errors import HostError
from stager.host.connections import Connections, Export
from stager.host.node import open_node
from stager.host.site import site_node
from stager.job.connecting import in_turn

__all__ = ["node_turn"]

_NAME: Final = "this node"


@asynccontextmanager
async def node_turn(*, waits: Callable[[Export, int], None]) -> AsyncIterator[None]:
    """Have a turn while the block is entered; ``waits`` is called once when that has to be waited for, with how many
    have one. Nothing where the site sets no number. Raises `HostError`.
    """
    settings = await asyncio.to_thread(site_node)
    if settings.jobs_per_node is None:
        yield
        return
    with ExitStack() as held:
        node = await asyncio.to_thread(open_node, settings)
        held.callback(node.close)
        if node.board is None:
            raise HostError(
                "the site limits the jobs that run at once, and none can be seen here", where=settings.directory,
                hint="a job does not start another: run it from outside",
            )  # fmt: skip
        turn = held.enter_context(
            await asyncio.to_thread(Connections, node.board, [Export(_NAME, settings.jobs_per_node)])
        )
        async with in_turn(turn, waits):
            yield
