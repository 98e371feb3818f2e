"""What the process between stager and a job's command does, with a view or without: it takes a request over a socket,
starts the command, and says how that ended.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypedDict

from stager.errors import CommandError, MountError, StagerError
from stager.host import namespaces

__all__ = ["CommandRequest", "as_end", "send", "send_failure", "start_command", "take_over"]

_NOT_FOUND: Final = 127
_NOT_EXECUTABLE: Final = 126


class CommandRequest(TypedDict):
    """`stager.model.Command` as it crosses the socket; text that came from bytes holds surrogate escapes."""

    argv: list[str]
    environment: dict[str, str]
    workdir: str


def take_over(descriptors: Sequence[int]) -> tuple[socket.socket, int]:
    """The socket, which is the last but one of them, and the umask of who started this.

    From here no signal reaches this process but what nobody can hold back, and no descriptor goes to what it executes.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptors[-2]), os.umask(0o022)


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """One line. Nobody who listens is no error. OSError."""
    try:
        channel.sendall(json.dumps(message).encode() + b"\n")
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):
            raise


def send_failure(channel: socket.socket, error: StagerError) -> None:
    """That it did not come to the command. OSError."""
    status = error.status if isinstance(error, CommandError) else None
    body = {"what": error.what, "where": error.where, "hint": error.hint, "status": status}
    send(channel, {"event": "failed", **body})


def as_end(status: int, started_s: float, ended_s: float) -> dict[str, Any]:
    """A wait status as a message."""
    ended = os.waitstatus_to_exitcode(status)
    return {
        "event": "ended",
        "status": ended if ended >= 0 else None,
        "signal": -ended if ended < 0 else None,
        "started_s": started_s,
        "ended_s": ended_s,
    }


def start_command(request: CommandRequest, umask: int, confine: Callable[[], None]) -> int:
    """Fork and execute the command; its process id. ``confine``: what the child gives up before, with its OSErrors.

    `CommandError` or `MountError` when it does not come to that.
    """
    failed, report = os.pipe()
    child = os.fork()
    if child == 0:
        _become_command(request, umask, confine, report)
    os.close(report)
    with os.fdopen(failed, "rb") as reports:
        problem = reports.read()
    if problem:
        os.waitpid(child, 0)
        step, number = json.loads(problem)
        raise _refusal(request, step, number)
    return child


def _become_command(request: CommandRequest, umask: int, confine: Callable[[], None], report: int) -> NoReturn:
    """The forked child: give up every right, then execute. It only returns by ending."""
    step = "rights"
    try:
        confine()
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


def _refusal(request: CommandRequest, step: str, number: int) -> StagerError:
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
