"""The process between stager and a job without a view: runs the command as it is, and leaves no process behind.

It is started afresh, as `stager.host.keeper` is, and speaks as that does: one line of JSON with the request, ``ended``
or ``failed`` back, numbers of signals a line each. Nothing is mounted and no namespace made, so the job could kill this
process, and a process that outlives both is then found by nobody; what orphans there are become this one's children
and end with the command.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Final, NoReturn, TypedDict

from stager.host import procs, syscalls
from stager.host.watch import forward

__all__ = ["PlainRequest", "main"]

_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126


class PlainRequest(TypedDict):
    """What is asked for; text that came from bytes holds surrogate escapes."""

    argv: list[str]
    environment: dict[str, str]
    workdir: str


def main() -> None:
    """Entry point: ``argv`` ends with the numbers of the socket and of stager's pidfd."""
    channel, owner = socket.socket(fileno=int(sys.argv[-2])), int(sys.argv[-1])
    umask = os.umask(0o022)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for descriptor in (channel.fileno(), owner):
        os.set_inheritable(descriptor, False)
    request: PlainRequest | None = json.loads(channel.makefile("rb", buffering=0).readline() or b"null")
    if request is None:
        return
    syscalls.become_subreaper()
    started_s = time.time()
    command = _start(request, umask, channel)
    if command is None:
        return
    try:
        status = _wait(command, channel, owner)
        ended_s = time.time()
    finally:
        procs.end_descendants()
    if status is not None:
        code = os.waitstatus_to_exitcode(status)
        _send(channel, {
            "event": "ended", "status": code if code >= 0 else None, "signal": -code if code < 0 else None,
            "started_s": started_s, "ended_s": ended_s,
        })  # fmt: skip


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        channel.sendall(json.dumps(message).encode() + b"\n")


def _start(request: PlainRequest, umask: int, channel: socket.socket) -> int | None:
    """Fork and execute the command; its process id, or None: why not has been sent."""
    failed, report = os.pipe()
    child = os.fork()
    if child == 0:
        _become_command(request, umask, report)
    os.close(report)
    with os.fdopen(failed, "rb") as reports:
        problem = reports.read()
    if not problem:
        return child
    os.waitpid(child, 0)
    step, number = json.loads(problem)
    _send(channel, {"event": "failed", **_refusal(request, step, number)})
    return None


def _become_command(request: PlainRequest, umask: int, report: int) -> NoReturn:
    step = "rights"
    try:
        os.setsid()
        syscalls.forbid_new_privileges()
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


def _refusal(request: PlainRequest, step: str, number: int) -> dict[str, Any]:
    name, reason = request["argv"][0], os.strerror(number)
    if step == "workdir":
        what, where = f"cannot enter the working directory: {reason}", request["workdir"]
        return {"what": what, "where": where, "hint": "", "status": _NOT_EXECUTABLE}
    if number in (errno.ENOENT, errno.ENOTDIR):
        hint = "give its full path, or add its directory to PATH"
        return {"what": "command not found", "where": name, "hint": hint, "status": _NOT_FOUND}
    hint = "no shell is used: give a script a first line such as #!/bin/sh" if number == errno.ENOEXEC else ""
    return {"what": f"cannot execute the command: {reason}", "where": name, "hint": hint, "status": _NOT_EXECUTABLE}


def _wait(command: int, channel: socket.socket, owner: int) -> int | None:
    """The command's wait status; None when stager has ended first. Meanwhile orphans are reaped, signals sent on."""
    ended = os.pidfd_open(command)
    poll = select.poll()
    for descriptor in (ended, channel.fileno(), owner):
        poll.register(descriptor, select.POLLIN)
    waiting = b""
    while True:
        ready = {descriptor for descriptor, _ in poll.poll(1000)}
        if ended in ready:
            return os.waitpid(command, 0)[1]
        if channel.fileno() in ready:
            text = channel.recv(4096)
            *numbers, waiting = (waiting + text).split(b"\n")
            for number in map(int, numbers):
                forward(command, number)
            if not text:
                return None
        if owner in ready:
            return None
        _reap_orphans(command)


def _reap_orphans(command: int) -> None:
    for process in procs.descendants(os.getpid(), procs.list_processes()):
        if process.ended and process.pid != command and process.parent == os.getpid():
            os.waitpid(process.pid, os.WNOHANG)
