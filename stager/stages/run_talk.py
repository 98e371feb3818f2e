"""With the process that keeps a view, from the request to the end of the socket."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, Self

from stager.errors import CommandError, MountError
from stager.host.keeper import KeeperRequest
from stager.host.keepers import Keeper
from stager.host.signals import receive
from stager.host.watch import GO
from stager.model import ExitInfo
from stager.stages.run_limit import enforced
from stager.time_limits import Deadline

__all__ = ["CONTINUE_EVERY_S", "FORWARDED", "Talk"]

FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Signals that go to the command while it runs."""

CONTINUE_EVERY_S: Final = 0.5
_VIEW_LIMIT_S: Final = 120.0


class Talk:
    """An async context. In it the signals of `FORWARDED` are the command's, until that has ended; and a keeper that its
    job has stopped is continued.
    """

    def __init__(self, keeper: Keeper, ours: socket.socket, request: KeeperRequest) -> None:
        self._keeper = keeper
        self._ours = ours
        self._request = request
        self._stack = ExitStack()

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(sock=self._ours)
        self._continuing = asyncio.ensure_future(self._keep_going())
        self._stack.enter_context(receive({number: partial(self._forward, number) for number in FORWARDED}))
        self._writer.write(json.dumps(self._request).encode() + b"\n")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stack.close()
        self._continuing.cancel()
        self._writer.close()

    async def until_ready(self) -> dict[str, Any] | None:
        """What the keeper says when the view stands; None when it has been killed. `MountError`."""
        try:
            async with asyncio.timeout(_VIEW_LIMIT_S):
                message = await self._receive()
        except TimeoutError as error:
            raise MountError(
                f"the job's view was not ready after {_VIEW_LIMIT_S:.0f} s", hint="a mount of this node may hang"
            ) from error
        return message

    async def until_end(self, deadline: Deadline | None) -> ExitInfo | None:
        """Start the command and wait for it; None when the keeper was killed. `CommandError`, `MountError`."""
        self._writer.write(b"%d\n" % GO)
        async with enforced(deadline, self._forward) as limit:
            message = await self._receive()
        if message is None:
            return None
        self._stack.close()
        return ExitInfo(
            status=message["status"],
            signal=message["signal"],
            started_s=message["started_s"],
            ended_s=message["ended_s"],
            limited=limit.reached,
        )

    async def _keep_going(self) -> None:
        """A job may stop its keeper, and nobody would see the job's end. To continue what runs is nothing."""
        while True:
            self._keeper.send_signal(signal.SIGCONT)
            await asyncio.sleep(CONTINUE_EVERY_S)

    def _forward(self, number: int) -> None:
        self._keeper.send_signal(signal.SIGCONT)
        self._writer.write(b"%d\n" % number)

    async def _receive(self) -> dict[str, Any] | None:
        try:
            line = await self._reader.readline()
        except ConnectionResetError:
            return None
        if not line:
            return None
        message = dict(json.loads(line))
        if message["event"] == "failed":
            what, where, hint, status = (message[key] for key in ("what", "where", "hint", "status"))
            if status is not None:
                raise CommandError(what, status=status, where=where, hint=hint)
            raise MountError(what, where=where, hint=hint)
        return message
