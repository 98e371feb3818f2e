"""The node's limits of bytes and requests a second, shared by all stagers that move data.

Each says on the node's board that it is moving data, and takes its share of what the site allows: equal ones for the
users, then for the stagers of each; who wants no more than less leaves the rest to the others (max-min fairness). It
looks again twice a second: so long others may go on with a share from before somebody came. One that is stopped says
nothing new, and does not count after a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from stager.config import Limits
from stager.host.board import Board, Record, Taking
from stager.host.node import Node, open_node
from stager.host.reservations import Reservation
from stager.host.threads import blocking

__all__ = ["Rates", "Shared", "Sharing", "level_of", "share_of"]

_EVERY_S: Final = 0.5
_SILENT_AFTER_S: Final = 5.0
_LEAST: Final = 0.001


class Rates(Struct, frozen=True, kw_only=True):
    """A second; 0 is no limit."""

    requests: float = 0.0
    bytes: int = 0


class Sharing:
    """One process's part. ``tell`` is told, on the loop, what it may have from now on."""

    def __init__(self, node: Node, own: Limits, tell: Callable[[Rates], None]) -> None:
        self._node = node
        self._own = Rates(requests=own.max_requests_per_second, bytes=own.max_bandwidth)
        self._tell = tell
        self._told = self._own
        self._running = 0
        self._name = ""
        self._beginning = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Data is moved meanwhile; not before it is known how fast."""
        board = self._node.board
        if board is None or not self._node.settings.is_limited:
            self._take(self._rates(()))
            yield
            return
        self._running += 1
        try:
            async with self._beginning:
                if self._task is None:
                    self._take(await blocking(self._look, board))
                    self._task = asyncio.create_task(self._follow(board))
            yield
        finally:
            self._running -= 1

    async def close(self) -> None:
        """Leave what is taken to the others."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._node.board is not None:
            await blocking(self._leave, self._node.board)

    async def _follow(self, board: Board) -> None:
        idle = False
        while True:
            await asyncio.sleep(_EVERY_S)
            async with self._beginning:
                if idle and not self._running:
                    await blocking(self._leave, board)
                    self._task = None
                    return
                idle = not self._running
                self._take(await blocking(self._look, board))

    def _take(self, rates: Rates) -> None:
        if rates != self._told:
            self._told = rates
            self._tell(rates)

    def _look(self, board: Board) -> Rates:
        """Say what is taken, and see what others do. A board that cannot be written still tells of the others."""
        if not self._name:
            self._name = board.new_name()
            self._post(board, Rates())
        try:
            others = [each for each in board.look(within_s=_SILENT_AFTER_S) if each.name != self._name]
        except OSError:
            others = []
        rates = self._rates(others)
        self._post(board, rates)
        return rates

    def _rates(self, others: Sequence[Record]) -> Rates:
        settings, uid = self._node.settings, os.geteuid()
        return Rates(
            requests=_share(settings.max_requests_per_second, self._own.requests, others, uid, _most_requests),
            bytes=math.ceil(_share(settings.max_bandwidth, self._own.bytes, others, uid, _most_bytes)),
        )

    def _post(self, board: Board, rates: Rates) -> None:
        with contextlib.suppress(OSError):
            board.post(
                self._name,
                Taking(
                    most_bytes=self._own.bytes, most_requests=self._own.requests,
                    bytes=rates.bytes, requests=rates.requests,
                ),
            )  # fmt: skip

    def _leave(self, board: Board) -> None:
        if self._name:
            board.withdraw(self._name)
            self._name = ""


class Shared:
    """What a process has of this node beside the others: its part of the limits, and room that it has reserved.

    ``held`` is by device: room for a whole job, which its syncs take theirs out of. ``limit`` of the engine is set to
    new ``rates``, once there is an engine.
    """

    def __init__(self, node: Node | None, own: Limits) -> None:
        """``node``: in place of the one that the site describes."""
        self.rates = Rates(requests=own.max_requests_per_second, bytes=own.max_bandwidth)
        self.held: dict[str, Reservation] = {}
        self.limit: Callable[..., None] | None = None
        self._own = own
        self._node = node
        self._sharing: Sharing | None = None
        self._opening = asyncio.Lock()

    async def node(self) -> Node:
        """This node, opened once. Raises `HostError`."""
        async with self._opening:
            if self._node is None:
                self._node = await blocking(open_node)
            return self._node

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Data is moved meanwhile. Raises `HostError`."""
        if self._sharing is None:
            node = await self.node()
            self._sharing = self._sharing or Sharing(node, self._own, self._take)
        async with self._sharing.running():
            yield

    async def close(self) -> None:
        """Leave all of it to the others."""
        if self._sharing is not None:
            await self._sharing.close()
        for reservation in self.held.values():
            await blocking(reservation.close)
        if self._node is not None:
            await blocking(self._node.close)

    def _take(self, rates: Rates) -> None:
        self.rates = rates
        if self.limit is not None:
            self.limit(requests_per_second=rates.requests, bytes_per_second=rates.bytes)


def share_of(limit: float, demands: Mapping[int, Sequence[float]], uid: int, mine: float) -> float:
    """What ``mine``, one of the demands of ``uid``, gets of the limit; inf is a demand without end."""
    users = level_of(limit, (sum(each) for each in demands.values()))
    return min(mine, level_of(min(users, sum(demands[uid])), demands[uid]))


def level_of(limit: float, demands: Iterable[float]) -> float:
    """What each gets at most, so that nobody who wants more has less than another; inf: all get what they want."""
    left, waiting = limit, sorted(demands)
    for number, demand in enumerate(waiting):
        level = left / (len(waiting) - number)
        if demand > level:
            return level
        left -= demand
    return math.inf


def _share(
    limit: float | None, own: float, others: Sequence[Record], uid: int, most: Callable[[Taking], float]
) -> float:
    """0: no limit. At least the least that the engine can keep to."""
    if limit is None:
        return own
    mine = own or math.inf
    demands: dict[int, list[float]] = {uid: [mine]}
    for record in others:
        if isinstance(record.says, Taking):
            demands.setdefault(record.who.uid, []).append(most(record.says) or math.inf)
    return max(_LEAST, share_of(limit, demands, uid, mine))


def _most_bytes(says: Taking) -> float:
    return says.most_bytes


def _most_requests(says: Taking) -> float:
    return says.most_requests
