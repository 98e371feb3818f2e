"""The process between stager and the job: makes the view, runs the command in it, and leaves nothing behind.

It is started afresh, single-threaded, in a session of its own, and gets its request as one line of JSON over a socket.
It sends back ``ready`` when the view stands, and ``ended``; or ``failed`` at any time. It is sent `GO`, and the
numbers of signals for the command, a line each. When the command ends, or stager does (its pidfd, or the end of the
socket: not PDEATHSIG, which a thread's end sets off too), every descendant is killed, and whatever else is in the job's
user namespace. The mounts go with the last process of the mount namespace. A keeper that its job has stopped is
continued by stager, and by stager's end.

Who joins a view (``stager exec``, a further rank) starts a keeper as well, which enters the namespaces of the first in
place of making some. So a command has the limits, the processors and the control group of whoever asked for it, as
schedulers want it. It ends with that keeper too: it is in the job's user namespace, where everything is killed, and
whoever enters that while it is going on sees the first keeper's end by its pidfd.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from functools import partial
from typing import Final

from stager.errors import MountError, StagerError
from stager.host import namespaces, procs, syscalls, view
from stager.host.command_start import CommandRequest, as_end, send, send_failure, start_command, take_over
from stager.host.own_streams import guard_streams, silence
from stager.host.rights import JoinRequest, OwnRights, Rights
from stager.host.view import ViewRequest
from stager.host.watch import GO, Watch, forward

__all__ = ["KeeperRequest", "main", "serve"]

_ARGUMENTS: Final = 3  # behind what `stager.host.launch` says
_REQUEST_MOST_BYTES: Final = 64 << 20


class KeeperRequest(CommandRequest):
    """What the keeper is asked for.

    ``join`` is None when a view is to be made. ``holds``: it stays when the command has ended, until the socket does.
    ``context``: for those who join.
    """

    view: ViewRequest
    join: JoinRequest | None
    holds: bool
    context: str


def main() -> None:
    """Entry point: ``argv`` ends with the numbers of the socket and of stager's pidfd; what stands before them is held
    while the job runs, for the files that it mounts.
    """
    serve(list(map(int, sys.argv[_ARGUMENTS:])), OwnRights())


def serve(descriptors: list[int], rights: Rights) -> None:
    """Keep one job's view. ``descriptors`` end with the socket and with one that becomes readable, or whose other end
    is closed, when stager ends.
    """
    channel, umask = take_over(descriptors)
    lines = channel.makefile("rb", buffering=0)
    request: KeeperRequest | None = json.loads(lines.readline(_REQUEST_MOST_BYTES) or b"null")
    try:
        if request is not None:
            _keep(request, channel, descriptors[-1], umask, rights)
    except StagerError as error:
        send_failure(channel, error)
    except OSError as error:
        unexpected = MountError(f"cannot keep the job's view: {error}", where="the process that keeps it")
        send_failure(channel, unexpected)


def _keep(request: KeeperRequest, channel: socket.socket, owner: int, umask: int, rights: Rights) -> None:
    joined, ends = rights.joined(request["join"]), [owner]
    if joined is None:
        rights.enter()
        syscalls.signal_at_parents_end(signal.SIGCONT)  # a change of ids takes it back
        namespace, context = rights.job_namespace(), _remember(request["context"])
        if request["view"]["strict"]:
            namespaces.part()
    else:
        rights.join(joined["namespaces"])
        syscalls.signal_at_parents_end(signal.SIGCONT)
        namespace, context = joined["job"], -1
        ends.append(joined["keeper"])
    if namespaces.children_are_apart():
        _go_inside()
    guarded = view.build(request["view"], rights.admit) if joined is None else None
    guard_streams()
    syscalls.become_subreaper()
    mounts = procs.mounts_of()
    send(channel, {"event": "ready", "namespace": namespace, "mounts": mounts, "context": context})
    early = _wait_for_go(channel)
    if early is None:
        return
    started_s = time.time()
    command = start_command(request, umask, partial(rights.confine, namespace))
    silence()
    try:
        with Watch(command, channel, ends, guarded) as watch:
            for number in early:
                forward(command, number)
            status = watch.wait()
            ended_s = time.time()
            procs.end_descendants()
            if status is None and joined is not None:
                status = signal.SIGKILL  # as a wait status: the view has ended, or whoever asked for the command has
            if status is not None:
                send(channel, as_end(status, started_s, ended_s))
                if request["holds"]:
                    watch.hold()
    finally:
        if joined is None:
            rights.end_job(namespace)
        else:
            procs.end_descendants()


def _go_inside() -> None:
    """Into the PID namespace that this process's children are in: a child goes on, this one waits for its end.

    The child is the first process there, if it makes the view: it reaps orphans, gets only the signals it wants, and
    when it ends the kernel kills every process of the namespace; and it ends when this process does.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    syscalls.signal_at_parents_end(signal.SIGKILL)


def _remember(context: str) -> int:
    """A descriptor of what those who join have to know: in memory, for it may hold secrets, and gone with this process,
    whose descriptors the kernel shows to the job's principal and not to the job.
    """
    memory = os.memfd_create("context", os.MFD_CLOEXEC)
    os.write(memory, context.encode())
    return memory


def _wait_for_go(channel: socket.socket) -> list[int] | None:
    """The signals that came before it; None when stager has gone."""
    text = b""
    while not (text.endswith(b"\n") and GO in map(int, text.split())):
        more = channel.recv(4096)
        if not more:
            return None
        text += more
    return [number for number in map(int, text.split()) if number != GO]
