"""The process between stager and the job: makes the view, runs the command in it, and leaves nothing behind.

It is started afresh, single-threaded, in a session of its own, and gets its request as one line of JSON over a socket.
It sends back ``ready`` when the view stands, and ``ended``; or ``failed`` at any time. It is sent `GO`, and the
numbers of signals for the command, a line each. When the command ends, or stager does (its pidfd, or the end of the
socket: not PDEATHSIG, which a thread's end sets off too), every descendant is killed, and whatever else is in the job's
user namespace. The mounts go with the last process of the mount namespace. A keeper that its job has stopped is
continued by stager, and by stager's end.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import stat
import sys
import time
from typing import Any, Final, NoReturn, TypedDict

from stager.errors import CommandError, MountError, StagerError
from stager.host import namespaces, syscalls, view
from stager.host.rights import OwnRights, Rights
from stager.host.view import Guarded, ViewRequest

__all__ = ["GO", "GROUP_SIGNALS", "KeeperRequest", "main", "serve"]

GO: Final = 0
"""Stands where the number of a signal may: start the command."""

GROUP_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
"""Signals a terminal would send to the whole foreground group; the others go to the command alone."""

_ARGUMENTS: Final = 3  # behind what `stager.host.launch` says
_REQUEST_MOST_BYTES: Final = 64 << 20
_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126


class KeeperRequest(TypedDict):
    """What the keeper is asked for; text that came from bytes holds surrogate escapes."""

    view: ViewRequest
    argv: list[str]
    environment: dict[str, str]
    workdir: str


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
    rights.enter()
    syscalls.signal_at_parents_end(signal.SIGCONT)
    namespace = rights.job_namespace()
    guarded = view.build(request["view"], rights.admit)
    _guard_standard_streams()
    syscalls.become_subreaper()
    mounts = os.stat("/proc/self/ns/mnt").st_ino
    _send(channel, {"event": "ready", "namespace": namespace, "mounts": mounts})
    early = _wait_for_go(channel)
    if early is None:
        return
    started_s = time.time()
    command = _start(request, umask, namespace, rights)
    _silence()
    try:
        for number in early:
            _forward(command, number)
        status = _Watch(command, channel, owner, guarded).wait()
        ended_s = time.time()
    finally:
        rights.end_job(namespace)
    if status is None:
        return
    ended = os.waitstatus_to_exitcode(status)
    _send(
        channel,
        {
            "event": "ended",
            "status": ended if ended >= 0 else None,
            "signal": -ended if ended < 0 else None,
            "started_s": started_s,
            "ended_s": ended_s,
        },
    )


def _wait_for_go(channel: socket.socket) -> list[int] | None:
    """The signals that came before it; None when stager has gone."""
    text = b""
    while not (text.endswith(b"\n") and GO in map(int, text.split())):
        more = channel.recv(4096)
        if not more:
            return None
        text += more
    return [number for number in map(int, text.split()) if number != GO]


def _guard_standard_streams() -> None:
    """An inherited file of a public data set must not be a way around the read-only mount: /proc/self/fd/0 reopens.

    Standard input is opened again inside the view; an output that leads there was opened for writing and is refused.
    """
    for descriptor in range(3):
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
            continue
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        inside = _open_same(path, descriptor)
        if inside is None:
            continue
        if os.fstatvfs(inside).f_flag & os.ST_RDONLY:
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                raise MountError(
                    "an output of the job is a file of a public data set", where=path, hint="write it elsewhere"
                )
            if stat.S_ISREG(kind):
                os.lseek(inside, os.lseek(descriptor, 0, os.SEEK_CUR), os.SEEK_SET)
            os.dup2(inside, descriptor, inheritable=True)
        os.close(inside)


def _open_same(path: str, descriptor: int) -> int | None:
    """The file behind ``descriptor``, read-only through the view; nothing when the view does not show it there."""
    try:
        inside = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    if os.path.samestat(os.fstat(inside), os.fstat(descriptor)):
        return inside
    os.close(inside)
    return None


def _silence() -> None:
    """The job alone holds its streams from here: a reader of them sees the end when the job has ended."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.close(null)


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


class _Watch:
    """Waits for the command or for stager to end; meanwhile reaps orphans, forwards signals, closes new mounts."""

    def __init__(self, command: int, channel: socket.socket, owner: int, guarded: Guarded) -> None:
        self._command = command
        self._channel = channel
        self._owner = owner
        self._guarded = guarded
        self._waiting = b""

    def wait(self) -> int | None:
        """The command's wait status, or None when stager has ended first. `MountError` when a mount stays open."""
        awake, wake = socket.socketpair()
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        try:
            with open("/proc/self/mountinfo", "rb") as table:
                return self._wait(awake, table.fileno())
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
            signal.set_wakeup_fd(-1)

    def _wait(self, awake: socket.socket, table: int) -> int | None:
        poll = select.poll()
        poll.register(table, select.POLLPRI)
        for descriptor in (awake.fileno(), self._channel.fileno(), self._owner):
            poll.register(descriptor, select.POLLIN)
        view.close_later_mounts(self._guarded)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if table in ready:
                view.close_later_mounts(self._guarded)
            if awake.fileno() in ready:
                awake.recv(4096)
                if (status := self._reap()) is not None:
                    return status
            if self._owner in ready or (self._channel.fileno() in ready and not self._forward_all()):
                return None

    def _reap(self) -> int | None:
        """Take every child that has ended; the wait status of the command if it is among them."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == self._command:
                return status
            if pid == 0:
                return None

    def _forward_all(self) -> bool:
        """Send on the signals that have come; False at the end of the socket."""
        text = self._channel.recv(4096)
        *numbers, self._waiting = (self._waiting + text).split(b"\n")
        for number in numbers:
            _forward(self._command, int(number))
        return bool(text)


def _forward(command: int, number: int) -> None:
    if number in GROUP_SIGNALS:
        os.killpg(command, number)
    else:
        os.kill(command, number)


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
    if "/" not in name and os.path.exists(f"/code/{name}"):
        hint = f"there is one in /code: write /code/{name}"
    return CommandError("command not found", status=_NOT_FOUND, where=name, hint=hint)
