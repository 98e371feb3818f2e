"""A command, run in a job's view until it ends; the signals stager gets meanwhile are the command's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import IO, Any, Final, NamedTuple, Self

from stager.errors import CommandError, InternalError, MountError
from stager.host import brokered, procs
from stager.host.holders import Holder
from stager.host.keeper import CommandRequest, KeeperRequest
from stager.host.keepers import OWN, KeeperProcess, start_keeper
from stager.host.launch import give_up
from stager.host.readers import end_uses, hand_over
from stager.host.record import Keeper
from stager.host.signals import receive
from stager.host.view import MountRequest
from stager.host.watch import GO
from stager.model import Command, ExitInfo, Mount, MountView

__all__ = ["FORWARDED", "Joined", "join_command", "run_command"]

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


class Joined(NamedTuple):
    """A job's view that another stager has made, open: what `stager.host.keeper.JoinRequest` names."""

    namespaces: Mapping[str, int]
    job: int
    keeper: int
    of_root: int = OWN  # else the number of root's keeper, which root's part of stager opens

    def descriptors(self) -> tuple[int, ...]:
        """All of it."""
        return (*self.namespaces.values(), self.job, self.keeper) if self.of_root == OWN else ()


async def run_command(
    view: MountView,
    command: Command,
    *,
    context: str = "",
    kept_by: Callable[[Keeper], None] | None = None,
    others: Callable[[], Awaitable[None]] | None = None,
    stdin: _Stream = None,
    stdout: _Stream = None,
    stderr: _Stream = None,
) -> ExitInfo:
    """Build the view, run the command in it, and return how it ended; by then none of its processes is left.

    ``view`` is what `stager.stages.mount.check_sources` returned: its sources are pinned. ``kept_by`` is told, in a
    thread and before the command starts, who keeps the view for those who join it, who are told ``context``; ``others``
    returns when they have ended: the view stays until then. Streams left None are inherited. While the command runs the
    signals of `FORWARDED` go to it: SIGINT, SIGQUIT and SIGHUP to its whole process group, as a terminal would, the
    others to the command alone; afterwards to whoever had them before.
    When this task is cancelled, or stager is killed, every process of the job is killed.

    `CommandError` when the command is not found (127) or cannot be executed (126); `MountError` when the view
    cannot be built, when the job killed the process that keeps it, or when a process of the job cannot be ended.
    """
    request: KeeperRequest = {
        "view": {"mounts": [_mount(mount) for mount in view.mounts], "masked": list(view.masked)},
        "join": None,
        "holds": others is not None,
        "context": context,
        **_what(command),
    }
    process, ours = await _start_keeper(view.uses, stdin, stdout, stderr)
    namespace: int | None = None
    try:
        async with _Talk(process, ours, request) as talk:
            if (ready := await talk.until_ready()) is None:
                raise InternalError(
                    "the process that builds the job's view ended without a word", hint="see its message above"
                )
            namespace = _open_namespace(process.pid, ready["namespace"])
            await asyncio.to_thread(hand_over, view.uses, process.pid, ready["mounts"])
            if kept_by is not None:
                holder = Holder.of(process.pid)
                keeper = Keeper(holder=holder, namespace=ready["namespace"] or 0, context=ready["context"])
                await asyncio.to_thread(kept_by, keeper)
            if (ended := await talk.until_end()) is None:
                raise MountError("the process that keeps the job's view was killed", hint="the job has been ended")
            if others is not None:
                await others()
    finally:
        left = await asyncio.shield(asyncio.to_thread(_end, process, namespace))
        await asyncio.shield(asyncio.to_thread(end_uses, view.uses))
    if left:
        raise MountError("processes of the job cannot be ended", where=f"process {left[0]}", hint="a mount may hang")
    return ended


async def join_command(joined: Joined, command: Command) -> ExitInfo:
    """Run the command in a view that stands, and return how it ended: by SIGKILL when the view has ended first.

    Its streams are inherited; signals as in `run_command`. Raises `CommandError`; `MountError`: it cannot be joined.
    """
    request: KeeperRequest = {
        "view": {"mounts": [], "masked": []},
        "join": {"namespaces": dict(joined.namespaces), "job": joined.job, "keeper": joined.keeper},
        "holds": False,
        "context": "",
        **_what(command),
    }
    started_s = time.time()
    process, ours = await _start_keeper(joined.descriptors(), None, None, None, joins=joined.of_root)
    try:
        async with _Talk(process, ours, request) as talk:
            ended = await talk.until_end() if await talk.until_ready() is not None else None
    finally:
        await asyncio.shield(asyncio.to_thread(_end, process, None))
    # Whoever keeps the view kills all in it before it ends itself, the command's own keeper too.
    return ended or ExitInfo(status=None, signal=signal.SIGKILL, started_s=started_s, ended_s=time.time())


async def _start_keeper(
    held: Sequence[int], stdin: _Stream, stdout: _Stream, stderr: _Stream, joins: int | None = None
) -> tuple[KeeperProcess, socket.socket]:
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.to_thread(
            start_keeper, theirs, held, stdin=stdin, stdout=stdout, stderr=stderr, joins=joins
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


class _Talk:
    """With a keeper, from its request to the end of the socket."""

    def __init__(self, keeper: KeeperProcess, ours: socket.socket, request: KeeperRequest) -> None:
        self._keeper = keeper
        self._ours = ours
        self._request = request
        self._stack = ExitStack()

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(sock=self._ours)
        self._continuing = asyncio.ensure_future(_keep_going(self._keeper))
        self._stack.enter_context(
            receive({number: partial(self._forward, number) for number in FORWARDED})
        )
        self._writer.write(json.dumps(self._request).encode() + b"\n")
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stack.close()
        self._continuing.cancel()
        self._writer.close()

    async def until_ready(self) -> dict[str, Any] | None:
        """What the keeper says when the view stands; None when it has been killed."""
        try:
            async with asyncio.timeout(_VIEW_LIMIT_S):
                message = await _receive(self._reader)
        except TimeoutError as error:
            raise MountError(
                f"the job's view was not ready after {_VIEW_LIMIT_S:.0f} s", hint="a mount of this node may hang"
            ) from error
        _raise_failure(message)
        return message

    async def until_end(self) -> ExitInfo | None:
        """Start the command and wait for it; then signals are no longer for it. None when the keeper was killed."""
        self._writer.write(b"%d\n" % GO)
        message = await _receive(self._reader)
        _raise_failure(message)
        if message is None:
            return None
        self._stack.close()
        return ExitInfo(
            status=message["status"],
            signal=message["signal"],
            started_s=message["started_s"],
            ended_s=message["ended_s"],
        )

    def _forward(self, number: int) -> None:
        self._keeper.send_signal(signal.SIGCONT)
        self._writer.write(b"%d\n" % number)


async def _keep_going(keeper: KeeperProcess) -> None:
    """A job may stop the keeper of its view, and nobody would see the job's end. To continue what runs is nothing."""
    while True:
        keeper.send_signal(signal.SIGCONT)
        await asyncio.sleep(_CONTINUE_EVERY_S)


def _what(command: Command) -> CommandRequest:
    return {
        "argv": list(command.argv), "environment": dict(command.environment), "workdir": command.workdir
    }  # fmt: skip


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
    }


def _open_namespace(keeper: int, number: int) -> int | None:
    """A descriptor of the user namespace that the job will run in, taken over before there is a job.

    None: root's part of stager has it, and ends what is in it.
    """
    if brokered.is_brokered():
        return None
    try:
        return os.open(f"/proc/{keeper}/fd/{number}", os.O_RDONLY)
    except OSError as error:
        raise MountError(f"cannot watch the job's view: {error.strerror}", where=f"process {keeper}") from error


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    try:
        line = await reader.readline()
    except ConnectionResetError:
        return None
    return dict(json.loads(line)) if line else None


def _raise_failure(message: dict[str, Any] | None) -> None:
    if message is None or message["event"] != "failed":
        return
    what, where, hint, status = (message[key] for key in ("what", "where", "hint", "status"))
    if status is not None:
        raise CommandError(what, status=status, where=where, hint=hint)
    raise MountError(what, where=where, hint=hint)


def _end(keeper: KeeperProcess, namespace: int | None) -> list[int]:
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
