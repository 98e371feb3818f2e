"""A command, run in a job's view until it ends; the signals stager gets meanwhile are the command's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Final, NamedTuple

from stager.errors import InternalError, MountError
from stager.host import brokered, procs
from stager.host.command_start import CommandRequest
from stager.host.holders import Holder
from stager.host.keeper import KeeperRequest
from stager.host.keepers import OWN, Keeper, start_keeper
from stager.host.launch import give_up
from stager.host.procs import Mounts
from stager.host.readers import end_uses, hand_over
from stager.host.record import KeptBy
from stager.host.view import MountRequest, ViewRequest
from stager.model import Command, ExitInfo, Mount, MountView
from stager.stages.run_talk import CONTINUE_EVERY_S, FORWARDED, Talk
from stager.time_limits import Deadline

__all__ = ["FORWARDED", "Joined", "join_command", "run_command"]

_END_LIMIT_S: Final = 10.0

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
    note: Callable[[KeptBy], None] | None = None,
    others: Callable[[], Awaitable[None]] | None = None,
    deadline: Deadline | None = None,
    stdin: _Stream = None,
    stdout: _Stream = None,
    stderr: _Stream = None,
) -> ExitInfo:
    """Build the view, run the command in it, and return how it ended; by then none of its processes is left.

    ``view`` is what `stager.stages.mount.check_sources` returned: its sources are pinned. ``note`` is told, in a thread
    and before the command starts, who keeps the view for those who join it and learn ``context`` from it (of one that
    root's part of stager keeps, nobody can); ``others`` returns when they have ended: the view stays until then.
    Streams left None are inherited. While the command runs the signals of `FORWARDED` go to it: SIGINT, SIGQUIT and
    SIGHUP to its whole process group, as a terminal would, the others to the command alone; afterwards to whoever had
    them before. At ``deadline`` all of its processes are told to end. When this task is cancelled, or stager is killed,
    every process of the job is killed.

    `CommandError` when the command is not found (127) or cannot be executed (126); `MountError` when the view
    cannot be built, when the job killed the process that keeps it, or when a process of the job cannot be ended.
    """
    request: KeeperRequest = {
        "view": _view(view), "join": None, "holds": others is not None, "context": context, **asked_of(command)
    }  # fmt: skip
    process, ours = await _start(view.uses, stdin, stdout, stderr)
    namespace: int | None = None
    try:
        async with Talk(process, ours, request) as talk:
            if (ready := await talk.until_ready()) is None:
                raise InternalError(
                    "the process that builds the job's view ended without a word", hint="see its message above"
                )
            await asyncio.to_thread(hand_over, view.uses, process.pid, Mounts(*ready["mounts"]))
            if not brokered.is_brokered():  # else root's part of stager has it, and ends what is in it
                namespace = _open_namespace(process.pid, ready["namespace"])
            if note is not None:
                holder = Holder.of(process.pid)
                kept = KeptBy(holder=holder, namespace=ready["namespace"] or 0, context=ready["context"])
                await asyncio.to_thread(note, kept)
            if (ended := await talk.until_end(deadline)) is None:
                raise MountError("the process that keeps the job's view was killed", hint="the job has been ended")
            if others is not None:
                await others()
    finally:
        left = await asyncio.shield(asyncio.to_thread(_end, process, namespace))
        await asyncio.shield(asyncio.to_thread(end_uses, view.uses))
    if left:
        raise MountError("processes of the job cannot be ended", where=f"process {left[0]}", hint="a mount may hang")
    return ended


async def join_command(joined: Joined, command: Command, *, deadline: Deadline | None = None) -> ExitInfo:
    """Run the command in a view that stands, and return how it ended: by SIGKILL when the view has ended first.

    Its streams are inherited; signals and ``deadline`` as in `run_command`. Raises `CommandError`; `MountError`: it
    cannot be joined.
    """
    request: KeeperRequest = {
        "view": {"mounts": [], "masked": [], "ramdisk": None, "strict": False},
        "join": {"namespaces": dict(joined.namespaces), "job": joined.job, "keeper": joined.keeper},
        "holds": False, "context": "", **asked_of(command),
    }  # fmt: skip
    started_s = time.time()
    process, ours = await _start(joined.descriptors(), None, None, None, joins=joined.of_root)
    try:
        async with Talk(process, ours, request) as talk:
            ended = await talk.until_end(deadline) if await talk.until_ready() is not None else None
    finally:
        await asyncio.shield(asyncio.to_thread(_end, process, None))
    # Whoever keeps the view kills all in it before it ends itself, the command's own keeper too.
    return ended or ExitInfo(status=None, signal=signal.SIGKILL, started_s=started_s, ended_s=time.time())


async def _start(
    held: Sequence[int], stdin: _Stream, stdout: _Stream, stderr: _Stream, joins: int | None = None
) -> tuple[Keeper, socket.socket]:
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.to_thread(
            start_keeper, theirs, held, stdin=stdin, stdout=stdout, stderr=stderr, joins=joins
        )  # fmt: skip
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


def asked_of(command: Command) -> CommandRequest:
    return {
        "argv": list(command.argv), "environment": dict(command.environment), "workdir": command.workdir
    }  # fmt: skip


def _view(view: MountView) -> ViewRequest:
    disk = view.ramdisk
    return {
        "mounts": [_mount(mount) for mount in view.mounts],
        "masked": list(view.masked),
        "ramdisk": {"size_bytes": disk.size_bytes, "inodes": disk.inodes} if disk is not None else None,
        "strict": view.profile == "strict",
    }


def _mount(mount: Mount) -> MountRequest:
    if mount.pinned is None and mount.address is None:
        raise InternalError("the sources of this view were not checked", where=mount.source)
    return {
        "kind": mount.kind,
        "source": mount.source,
        "target": mount.target,
        "read_only": mount.read_only,
        "pinned": mount.pinned or (0, 0),
        "address": mount.address,
        "lower": mount.lower,
        "owner": mount.owner,
    }


def _open_namespace(keeper: int, number: int) -> int:
    """A descriptor of the user namespace that the job will run in, taken over before there is a job."""
    try:
        return os.open(f"/proc/{keeper}/fd/{number}", os.O_RDONLY)
    except OSError as error:
        raise MountError(f"cannot watch the job's view: {error.strerror}", where=f"process {keeper}") from error


def _end(keeper: Keeper, namespace: int | None) -> list[int]:
    """Who of the job cannot be ended. The keeper ends by itself when its socket is closed, after its job.

    One that sleeps in a dead mount, or is stopped again and again, is killed; then the job's namespace names the job.
    """
    deadline_s = time.monotonic() + _END_LIMIT_S
    while time.monotonic() < deadline_s:
        keeper.send_signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            keeper.wait(CONTINUE_EVERY_S)
            break
    else:
        give_up(keeper)
    if namespace is None:
        return []
    try:
        return procs.end_user_namespace(namespace)
    finally:
        os.close(namespace)
