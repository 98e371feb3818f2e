"""Memory shared by the uploads that are under way."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Budget"]


class Budget:
    """``most`` bytes, given out in the order of asking, at least ``least`` at a time; who asks for more than there is
    gets all of it.
    """

    def __init__(self, most: int, least: int) -> None:
        self._free = self._most = most
        self._least = least
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, amount: int) -> int:
        """How much was taken, to be given back."""
        amount = min(max(amount, self._least), self._most)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(amount)
            raise
        return amount

    def give(self, amount: int) -> None:
        """Never waits: whoever is cancelled gives it back all the same."""
        self._free += amount
        self._serve()

    def _serve(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            amount, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= amount
                turn.set_result(None)
