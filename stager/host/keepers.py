"""Starting the process that keeps a view: by oneself, or, on behalf of root, by root's part of stager."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import IO, Final, Protocol

from stager.host import brokered
from stager.host.launch import start_module

__all__ = ["OWN", "Keeper", "start_keeper"]

OWN: Final = 0
"""Joined is the view of a keeper that this user has started."""

_Stream = int | IO[bytes] | None


class Keeper(Protocol):
    """What is needed of it; `subprocess.Popen` is one."""

    pid: int

    def send_signal(self, sig: int, /) -> None:
        """SIGCONT, in case its job has stopped it."""

    def wait(self, timeout: float | None = None) -> int:
        """Until it has ended. subprocess.TimeoutExpired."""

    def kill(self) -> None:
        """Do not wait for it."""


def start_keeper(
    channel: socket.socket, uses: Sequence[int], *, stdin: _Stream, stdout: _Stream, stderr: _Stream,
    joins: int | None = None,
) -> Keeper:  # fmt: skip
    """With this end of a socket pair; it holds ``uses`` open while it lives. A stream left None is inherited. Blocks.

    ``joins``: it is to join a view, that of root's keeper of this number, or of an own one (0).

    Raises `MountError`, `HostError`; OSError: the interpreter cannot be executed.
    """
    if brokered.is_brokered() and joins != OWN:
        streams = [_number(stream, inherited) for inherited, stream in enumerate((stdin, stdout, stderr))]
        return brokered.start_keeper(channel, uses, streams, joins=joins)
    owner = os.pidfd_open(os.getpid())
    try:
        numbers = (*uses, channel.fileno(), owner)
        return start_module(
            "stager.host.keeper", *map(str, numbers), pass_fds=numbers, stdin=stdin, stdout=stdout, stderr=stderr
        )
    finally:
        os.close(owner)


def _number(stream: _Stream, inherited: int) -> int:
    if stream is None:
        return inherited
    return stream if isinstance(stream, int) else stream.fileno()
