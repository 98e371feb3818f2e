"""The job's command, run in its view until it ends; the signals stager gets meanwhile are the command's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from functools import partial
from typing import IO, Any, Final

from stager.errors import CommandError, InternalError, MountError
from stager.host import brokered, procs
from stager.host.keeper import GO, KeeperRequest
from stager.host.keepers import Keeper, start_keeper
from stager.host.launch import give_up
from stager.host.readers import end_uses, hand_over
from stager.host.signals import receive
from stager.host.view import MountRequest
from stager.model import Command, ExitInfo, Mount, MountView

__all__ = ["FORWARDED", "run_command"]

FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Signals that go to the command while it runs."""

_VIEW_LIMIT_S: Final = 120.0
_END_LIMIT_S: Final = 10.0
_CONTINUE_EVERY_S: Final = 0.5

_Stream = int | IO[bytes] | None


async def run_command(
    view: MountView, command: Command, *, stdin: _Stream = None, stdout: _Stream = None, stderr: _Stream = None
) -> ExitInfo:
    """Build the view, run the command in it, and return how it ended; by then none of its processes is left.

    ``view`` is what `stager.stages.mount.check_sources` returned: its sources are pinned. Streams left None are
    inherited. While the command runs the signals of `FORWARDED` go to it: SIGINT, SIGQUIT and SIGHUP to its whole
    process group, as a terminal would, the others to the command alone; afterwards to whoever had them before.
    When this task is cancelled, or stager is killed, every process of the job is killed.

    `CommandError` when the command is not found (127) or cannot be executed (126); `MountError` when the view
    cannot be built, when the job killed the process that keeps it, or when a process of the job cannot be ended.
    """
    request = _request(view, command)
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.to_thread(
            start_keeper, theirs, view.uses, stdin=stdin, stdout=stdout, stderr=stderr
        )  # fmt: skip
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    reader, writer = await asyncio.open_connection(sock=ours)
    continuing = asyncio.ensure_future(_keep_going(process))
    namespace: int | None = None
    try:
        with receive({number: partial(_forward, process, writer, number) for number in FORWARDED}):
            writer.write(json.dumps(request).encode() + b"\n")
            namespace, mounts = await _await_view(reader, process.pid)
            await asyncio.to_thread(hand_over, view.uses, process.pid, mounts)
            writer.write(b"%d\n" % GO)
            ended = await _await_end(reader)
    finally:
        continuing.cancel()
        writer.close()
        left = await asyncio.shield(asyncio.to_thread(_end, process, namespace))
        await asyncio.shield(asyncio.to_thread(end_uses, view.uses))
    if left:
        raise MountError("processes of the job cannot be ended", where=f"process {left[0]}", hint="a mount may hang")
    return ended


async def _keep_going(keeper: Keeper) -> None:
    """A job may stop the keeper of its view, and nobody would see the job's end. To continue what runs is nothing."""
    while True:
        keeper.send_signal(signal.SIGCONT)
        await asyncio.sleep(_CONTINUE_EVERY_S)


def _forward(keeper: Keeper, writer: asyncio.StreamWriter, number: int) -> None:
    keeper.send_signal(signal.SIGCONT)
    writer.write(b"%d\n" % number)


def _request(view: MountView, command: Command) -> KeeperRequest:
    disk = view.ramdisk
    return {
        "view": {
            "mounts": [_mount(mount) for mount in view.mounts],
            "masked": list(view.masked),
            "ramdisk": {"size_bytes": disk.size_bytes, "inodes": disk.inodes} if disk is not None else None,
        },
        "argv": list(command.argv),
        "environment": dict(command.environment),
        "workdir": command.workdir,
    }


def _mount(mount: Mount) -> MountRequest:
    if mount.pinned is None:
        raise InternalError("the sources of this view were not checked", where=mount.source)
    return {
        "kind": mount.kind,
        "source": mount.source,
        "target": mount.target,
        "read_only": mount.read_only,
        "pinned": mount.pinned,
        "lower": mount.lower,
        "owner": mount.owner,
    }


async def _await_view(reader: asyncio.StreamReader, keeper: int) -> tuple[int | None, int]:
    """A descriptor of the user namespace that the job will run in, taken over before there is a job (None: root's part
    of stager has it), and the number of its mount namespace.
    """
    try:
        async with asyncio.timeout(_VIEW_LIMIT_S):
            message = await _receive(reader)
    except TimeoutError as error:
        raise MountError(
            f"the job's view was not ready after {_VIEW_LIMIT_S:.0f} s", hint="a mount of this node may hang"
        ) from error
    if message is None:
        raise InternalError("the process that builds the job's view ended without a word", hint="see its message above")
    _raise_failure(message)
    if brokered.is_brokered():
        return None, message["mounts"]
    try:
        return os.open(f"/proc/{keeper}/fd/{message['namespace']}", os.O_RDONLY), message["mounts"]
    except OSError as error:
        raise MountError(f"cannot watch the job's view: {error.strerror}", where=f"process {keeper}") from error


async def _await_end(reader: asyncio.StreamReader) -> ExitInfo:
    message = await _receive(reader)
    if message is None:
        raise MountError("the process that keeps the job's view was killed", hint="the job has been ended")
    _raise_failure(message)
    return ExitInfo(
        status=message["status"],
        signal=message["signal"],
        started_s=message["started_s"],
        ended_s=message["ended_s"],
    )


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    try:
        line = await reader.readline()
    except ConnectionResetError:
        return None
    return dict(json.loads(line)) if line else None


def _raise_failure(message: dict[str, Any]) -> None:
    if message["event"] != "failed":
        return
    what, where, hint, status = (message[key] for key in ("what", "where", "hint", "status"))
    if status is not None:
        raise CommandError(what, status=status, where=where, hint=hint)
    raise MountError(what, where=where, hint=hint)


def _end(keeper: Keeper, namespace: int | None) -> list[int]:
    """Who of the job cannot be ended. The keeper ends by itself when its socket is closed, after its job.

    One that sleeps in a dead mount, or is stopped again and again, is killed; then the job's namespace names the job.
    """
    deadline_s = time.monotonic() + _END_LIMIT_S
    while time.monotonic() < deadline_s:
        keeper.send_signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            keeper.wait(_CONTINUE_EVERY_S)
            break
    else:
        give_up(keeper)
    if namespace is None:
        return []
    try:
        return procs.end_user_namespace(namespace)
    finally:
        os.close(namespace)
