"""Room for a job is reserved where it goes; its syncs take theirs out of that, which goes down as data arrives."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from stager.errors import HostError, from_os_error
from stager.host.node import Node
from stager.host.partial import partial_bytes
from stager.host.reservations import Ahead, Need, Reservation
from stager.host.threads import blocking
from stager.model import Counts
from stager.transfer import Transfer

__all__ = ["going_down", "hold", "open_reservation"]

_EVERY_S: Final = 1.0


async def hold(transfer: Transfer, places: Sequence[tuple[str, Need]]) -> None:
    """Reserve room in directories for what will be synced on ``transfer``, until that ends, in place of what was.

    Raises `NoSpaceError`: others were quicker. `HostError`.
    """
    held = transfer.shared.held
    node = await transfer.shared.node()
    for former in held.values():
        await blocking(former.close)
    held.clear()
    for path, wanted in places:
        reservation = await blocking(_open_at, node, path)
        reservation, fresh = held.setdefault(reservation.device, reservation), reservation
        if fresh is not reservation:
            await blocking(fresh.close)
        await blocking(reservation.take, reservation.amount + wanted)


def open_reservation(node: Node, fd: int, where: str) -> Reservation:
    """One with nothing in it, for the file system of a directory. Blocks. Raises `HostError`."""
    try:
        return Reservation(node, fd, where=where)
    except OSError as error:
        raise from_os_error(error, doing="reserve room", where=where) from error


def _open_at(node: Node, path: str) -> Reservation:
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os_error(error, doing="reserve room", where=path) from error
    try:
        return open_reservation(node, fd, path)
    finally:
        os.close(fd)


@contextlib.asynccontextmanager
async def going_down(
    reservation: Reservation | None, ahead: Ahead | None, done: Callable[[], Counts], state_fd: int
) -> AsyncIterator[None]:
    """Meanwhile, about every second, what is ``done`` is taken off; what takes less time costs nothing."""
    if reservation is None or ahead is None or not reservation.name:
        yield
        return

    def lower(so_far: Counts) -> None:
        with contextlib.suppress(HostError):
            reservation.lower(ahead.left(so_far, partial_bytes(state_fd, besides=ahead.besides)))

    async def now_and_then() -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            await blocking(lower, done())

    task = asyncio.create_task(now_and_then())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
