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

import errno
import json
import os
import signal
import socket
import sys
import time
from typing import Any, Final, NoReturn, TypedDict

from stager.errors import CommandError, MountError, StagerError
from stager.host import namespaces, procs, syscalls, view
from stager.host.own_streams import guard_streams, silence
from stager.host.rights import JoinRequest, OwnRights, Rights
from stager.host.view import ViewRequest
from stager.host.watch import GO, Watch, forward

__all__ = ["CommandRequest", "KeeperRequest", "main", "serve"]

_ARGUMENTS: Final = 3  # behind what `stager.host.launch` says
_REQUEST_MOST_BYTES: Final = 64 << 20
_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126


class CommandRequest(TypedDict):
    """`stager.model.Command` as it crosses the socket; text that came from bytes holds surrogate escapes."""

    argv: list[str]
    environment: dict[str, str]
    workdir: str


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
    channel, owner = socket.socket(fileno=descriptors[-2]), descriptors[-1]
    umask = os.umask(0o022)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    lines = channel.makefile("rb", buffering=0)
    request: KeeperRequest | None = json.loads(lines.readline(_REQUEST_MOST_BYTES) or b"null")
    try:
        if request is not None:
            _keep(request, channel, owner, umask, rights)
    except StagerError as error:
        _send(channel, {"event": "failed", **_as_data(error)})
    except OSError as error:
        unexpected = MountError(f"cannot keep the job's view: {error}", where="the process that keeps it")
        _send(channel, {"event": "failed", **_as_data(unexpected)})


def _as_data(error: StagerError) -> dict[str, Any]:
    status = error.status if isinstance(error, CommandError) else None
    return {"what": error.what, "where": error.where, "hint": error.hint, "status": status}


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    try:
        channel.sendall(json.dumps(message).encode() + b"\n")
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            raise


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
    _send(channel, {"event": "ready", "namespace": namespace, "mounts": mounts, "context": context})
    early = _wait_for_go(channel)
    if early is None:
        return
    started_s = time.time()
    command = _start(request, umask, namespace, rights)
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
                _send(channel, _as_end(status, started_s, ended_s))
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


def _as_end(status: int, started_s: float, ended_s: float) -> dict[str, Any]:
    ended = os.waitstatus_to_exitcode(status)
    return {
        "event": "ended",
        "status": ended if ended >= 0 else None,
        "signal": -ended if ended < 0 else None,
        "started_s": started_s,
        "ended_s": ended_s,
    }


def _wait_for_go(channel: socket.socket) -> list[int] | None:
    """The signals that came before it; None when stager has gone."""
    text = b""
    while not (text.endswith(b"\n") and GO in map(int, text.split())):
        more = channel.recv(4096)
        if not more:
            return None
        text += more
    return [number for number in map(int, text.split()) if number != GO]


def _start(request: KeeperRequest, umask: int, namespace: int | None, rights: Rights) -> int:
    """Fork and execute the command; its process id. `CommandError` or `MountError` when it does not come to that."""
    failed, report = os.pipe()
    child = os.fork()
    if child == 0:
        _become_command(request, umask, namespace, rights, report)
    os.close(report)
    with os.fdopen(failed, "rb") as reports:
        problem = reports.read()
    if problem:
        os.waitpid(child, 0)
        step, number = json.loads(problem)
        raise _refusal(request, step, number)
    return child


def _become_command(
    request: KeeperRequest, umask: int, namespace: int | None, rights: Rights, report: int
) -> NoReturn:
    """The forked child: give up every right, then execute. It only returns by ending."""
    step = "rights"
    try:
        rights.confine(namespace)
        os.umask(umask)
        step = "workdir"
        os.chdir(request["workdir"])
        step = "execute"
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        os.execvpe(request["argv"][0], request["argv"], request["environment"])  # noqa: S606 (no shell: that is the point)
    except OSError as error:
        os.write(report, json.dumps([step, error.errno]).encode())
    finally:
        os._exit(_NOT_EXECUTABLE)


def _refusal(request: KeeperRequest, step: str, number: int) -> StagerError:
    name, reason = request["argv"][0], os.strerror(number)
    if step == "rights":
        return MountError(f"cannot confine the job: {reason}", where="user namespaces", hint=namespaces.hint())
    if step == "workdir":
        return CommandError(
            f"cannot enter the working directory: {reason}", status=_NOT_EXECUTABLE, where=request["workdir"]
        )
    if number not in (errno.ENOENT, errno.ENOTDIR):
        hint = "no shell is used: give a script a first line such as #!/bin/sh" if number == errno.ENOEXEC else ""
        return CommandError(f"cannot execute the command: {reason}", status=_NOT_EXECUTABLE, where=name, hint=hint)
    hint = "give its full path, or add its directory to PATH"
    in_code = os.path.normpath(f"/code/{name}")
    if not name.startswith("/") and in_code.startswith("/code/") and os.path.exists(in_code):
        hint = f"there is one in /code: write {in_code}"
    return CommandError("command not found", status=_NOT_FOUND, where=name, hint=hint)
