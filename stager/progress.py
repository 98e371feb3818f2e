"""Tells a sink how far a run is."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from stager.events import Progress, Sink
from stager.model import Counts
from stager.transfer import Transfer

__all__ = ["Teller"]

_EVERY_S: Final = 0.2


class Teller:
    """``source``: whose progress it is; ``transfer``: what receives, None where nothing does."""

    def __init__(self, sink: Sink, source: str, move: Counts, transfer: Transfer | None) -> None:
        self._sink = sink
        self._source = source
        self._move = move
        self._transfer = transfer
        self._started = time.monotonic()
        self._received_before = self._received()
        self._before = self._done = Counts()

    def moved(self, done: Counts) -> None:
        """So much is done."""
        self._done = self._before + done

    def done(self) -> Counts:
        """So much is."""
        return self._done

    def go_on(self) -> None:
        """What is told from now on comes on top of what is done."""
        self._before = self._done

    async def tell_now_and_then(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            self.tell()

    def tell(self) -> None:
        """Now."""
        received = self._received() - self._received_before
        self._sink(
            Progress(
                source=self._source,
                done=self._done,
                move=self._move,
                received_bytes=min(self._move.bytes, max(received, self._done.bytes)),
                seconds=time.monotonic() - self._started,
            )
        )

    def _received(self) -> int:
        return self._transfer.stats().get("bytes_received", 0) if self._transfer is not None else 0
