"""Work that root has done by a child that is the user for good, and what the two say to each other.

The child has every right of the user and none of root's. What it says may be said by the user: it is checked like any
request. Messages are JSON, one a packet, and may carry open files.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn

from stager import errors
from stager.errors import HostError, InternalError, StagerError
from stager.host.principal import Principal, become

__all__ = ["Channel", "as_user"]

_MOST_BYTES: Final = 1 << 20
_MOST_FILES: Final = 8
_ANSWERS_WITHIN_S: Final = 120.0
_ENDS_WITHIN_S: Final = 5.0


class Channel:
    """One end: messages, in order."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def say(self, message: dict[str, Any], *files: int) -> None:
        """Send a message and open files with it. Raises `HostError`: the other end has gone."""
        try:
            socket.send_fds(self._connection, [json.dumps(message).encode()], files)
        except OSError as error:
            raise _gone(error.strerror or "") from error

    def hear(self) -> tuple[dict[str, Any], Sequence[int]]:
        """The next message, and the files that came with it, which are the caller's to close.

        Raises the `StagerError` that the other end ended with; `HostError`: it ended without a word, as its user can
        kill it, or says nothing.
        """
        if not select.select([self._connection], [], [], _ANSWERS_WITHIN_S)[0]:
            raise HostError(
                f"no answer within {_ANSWERS_WITHIN_S:.0f} s", where="the process that works for the user",
                hint="a mount may hang, or the user has stopped it",
            )  # fmt: skip
        try:
            data, files, flags, _ = socket.recv_fds(self._connection, _MOST_BYTES, _MOST_FILES, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise _gone(error.strerror or "") from error
        if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise _gone("without a word")
        message = json.loads(data)
        if "error" in message:
            raise _as_error(message)
        return message, files


@contextlib.contextmanager
def as_user(user: Principal, work: Callable[[Channel], None]) -> Iterator[Channel]:
    """Fork, and let the child, once it is ``user``, do ``work``; it gets an end of the channel that is returned.

    This process must have one thread. At the end of the block the child is waited for; one whose other end has gone
    ends. What ``work`` raises is raised by the next `Channel.hear` here. Raises `HostError`: it cannot become the user.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        ours.close()
        _work(user, work, theirs)
    theirs.close()
    try:
        yield Channel(ours)
    finally:
        ours.close()
        _await_end(child)


def _gone(how: str) -> HostError:
    return HostError(f"has ended ({how})", where="the process that works for the user", hint="see above, or try again")


def _await_end(child: int) -> None:
    """One that does not end by itself is killed; one that sleeps in a dead mount is left behind."""
    pidfd = os.pidfd_open(child)
    try:
        if not select.select([pidfd], [], [], _ENDS_WITHIN_S)[0]:
            os.kill(child, signal.SIGKILL)
        if select.select([pidfd], [], [], _ENDS_WITHIN_S)[0]:
            os.waitpid(child, 0)
    finally:
        os.close(pidfd)


def _work(user: Principal, work: Callable[[Channel], None], connection: socket.socket) -> NoReturn:
    channel = Channel(connection)
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        os.chdir("/")
        if user.uid != os.geteuid():
            become(user)
        os.environ.update(HOME=user.home, USER=user.name, LOGNAME=user.name, SHELL=user.shell)
        work(channel)
        status = 0
    except StagerError as error:
        _tell(channel, error)
    except Exception as error:
        _tell(channel, InternalError(f"{type(error).__name__}: {error}"))
    finally:
        os._exit(status)


def _tell(channel: Channel, error: StagerError) -> None:
    with contextlib.suppress(OSError):
        channel.say({"error": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint,
                     "problems": list(getattr(error, "problems", ()))})  # fmt: skip


def _as_error(message: dict[str, Any]) -> StagerError:
    """The same error; one with more than three parts as the nearest kind that has no more."""
    found = getattr(errors, str(message["error"]), None)
    kind = found if isinstance(found, type) and issubclass(found, StagerError) else InternalError
    while any("__init__" in vars(base) for base in kind.__mro__[: kind.__mro__.index(StagerError)]):
        kind = kind.__mro__[1]
    what = "\n  ".join([str(message["what"]), *map(str, message["problems"])])
    return kind(what, where=str(message["where"]), hint=str(message["hint"]))
