"""A job's command without a view: nothing is mounted, no namespace made; for nodes and pods that forbid both."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from contextlib import suppress
from functools import partial
from typing import Final

from stager.errors import CommandError, HostError
from stager.host.launch import give_up, start_module
from stager.host.signals import receive
from stager.model import Command, ExitInfo
from stager.stages.run import FORWARDED, asked_of
from stager.stages.run_limit import enforced
from stager.time_limits import Deadline

__all__ = ["run_plain"]

_END_LIMIT_S: Final = 10.0


async def run_plain(command: Command, *, deadline: Deadline | None = None) -> ExitInfo:
    """Run it and return how it ended; by then what it has started has ended too. Streams are inherited.

    Signals and ``deadline`` as in `stager.stages.run.run_command`; when this task is cancelled, or stager is killed, it
    is killed. Raises `CommandError` (127 not found, 126 not executable); `HostError`: the job killed the process that
    waits for it.
    """
    ours, theirs = socket.socketpair()
    owner = os.pidfd_open(os.getpid())
    try:
        numbers = (theirs.fileno(), owner)
        process = await asyncio.to_thread(start_module, "stager.host.plain", *map(str, numbers), pass_fds=numbers)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(owner)
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        with receive({number: partial(_forward, writer, number) for number in FORWARDED}):
            writer.write(json.dumps(asked_of(command)).encode() + b"\n")
            line = b""
            async with enforced(deadline, partial(_forward, writer)) as limit:
                with suppress(ConnectionResetError):
                    line = await reader.readline()
    finally:
        writer.close()
        await asyncio.shield(asyncio.to_thread(_end, process))
    if not line:
        raise HostError("the process that waits for the job was killed", hint="processes of the job may be left")
    message = json.loads(line)
    if message["event"] == "failed":
        raise CommandError(message["what"], status=message["status"], where=message["where"], hint=message["hint"])
    return ExitInfo(
        status=message["status"], signal=message["signal"], started_s=message["started_s"], ended_s=message["ended_s"],
        limited=limit.reached,
    )


def _forward(writer: asyncio.StreamWriter, number: int) -> None:
    writer.write(b"%d\n" % number)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_LIMIT_S)
        return
    give_up(process)
