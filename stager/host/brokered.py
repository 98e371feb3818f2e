"""The user's side of `stager.host.broker`: asks root's part of stager, over a socket, for what only root may do.

A message is one datagram of JSON, its descriptors beside it; every question gets one answer.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from stager.errors import InternalError, MountError

__all__ = ["MOST_BYTES", "MOST_DESCRIPTORS", "BrokeredKeeper", "connect", "is_brokered", "open_context", "start_keeper"]

MOST_BYTES: Final = 1 << 16
MOST_DESCRIPTORS: Final = 253
"""As many as the kernel takes at once: SCM_MAX_FD of unix(7)."""

_connection: list[socket.socket] = []
_asking = threading.Lock()


def connect(descriptor: int) -> None:
    """From now on this process has a broker at the other end of the socket; nothing it starts inherits that."""
    os.set_inheritable(descriptor, False)
    _connection.append(socket.socket(fileno=descriptor))


def is_brokered() -> bool:
    """Whether root started this stager for its user."""
    return bool(_connection)


class BrokeredKeeper:
    """A keeper that is root's child: it can be waited for, and its end be asked for."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd

    def __del__(self) -> None:
        os.close(self._pidfd)

    def send_signal(self, sig: int, /) -> None:
        """Only to continue it, which nobody of this user's can have stopped."""
        if sig != signal.SIGCONT:
            raise InternalError("no signal reaches the keeper of root's")

    def wait(self, timeout: float | None = None) -> int:
        """Its status is its parent's to know. subprocess.TimeoutExpired."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired("the keeper of the view", timeout or 0.0)
        return 0

    def kill(self) -> None:
        """Root ends it, and the job with it. Never raises."""
        with suppress(MountError):
            _ask({"do": "end", "keeper": self.pid}, [])


def start_keeper(
    channel: socket.socket, uses: Sequence[int], streams: Sequence[int], *, joins: int | None = None
) -> BrokeredKeeper:
    """As `stager.host.keepers.start_keeper`. ``joins``: the view of that keeper. Blocks. Raises `MountError`."""
    if len(uses) > MOST_DESCRIPTORS - 4:
        raise MountError(f"root mounts at most {MOST_DESCRIPTORS - 4} kept trees in one view", where="the job's view")
    question: dict[str, Any] = {"do": "keep"} if joins is None else {"do": "join", "keeper": joins}
    answer, descriptor = _ask_for_one(question, [channel.fileno(), *streams, *uses])
    return BrokeredKeeper(answer["pid"], descriptor)


def open_context(keeper: int, number: int) -> int:
    """A descriptor of what a keeper of root's tells those who join. Blocks. Raises `MountError`: it keeps no view of
    this user's.
    """
    return _ask_for_one({"do": "context", "keeper": keeper, "descriptor": number}, [])[1]


def _ask_for_one(question: dict[str, Any], sent: Sequence[int]) -> tuple[dict[str, Any], int]:
    answer, descriptors = _ask(question, sent)
    if "failed" in answer or len(descriptors) != 1:
        what, where, hint = answer.get("failed", ("root's part of stager did not answer", "", ""))
        for descriptor in descriptors:
            os.close(descriptor)
        raise MountError(what, where=where, hint=hint)
    return answer, descriptors[0]


def _ask(question: dict[str, Any], descriptors: Sequence[int]) -> tuple[dict[str, Any], list[int]]:
    with _asking:
        try:
            socket.send_fds(_connection[0], [json.dumps(question).encode()], list(descriptors))
            data, received, _, _ = socket.recv_fds(_connection[0], MOST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise MountError(f"root's part of stager has gone: {error.strerror}", where="the job's view") from error
    if not data:
        raise MountError("root's part of stager has gone", where="the job's view")
    return json.loads(data), received
