"""What a keeper does while its command runs: reaps orphans, forwards signals, closes new mounts, sees who has gone."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

from stager.host import procs, view
from stager.host.view import Guarded

__all__ = ["GO", "GROUP_SIGNALS", "Watch", "forward"]

GO: Final = 0
"""Stands where the number of a signal may: start the command."""

GROUP_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
"""Signals a terminal would send to the whole foreground group; the others go to the command alone."""


class Watch:
    """Over one command. ``ends``: descriptors that can be read when the command has to end: stager's pidfd, and of a
    view that was joined that of its keeper. ``guarded``: what to close in the view; None: its keeper does.
    """

    def __init__(self, command: int, channel: socket.socket, ends: Sequence[int], guarded: Guarded | None) -> None:
        self._command = command
        self._channel = channel
        self._ends = frozenset(ends)
        self._guarded = guarded
        self._waiting = b""
        self._poll = select.poll()

    def __enter__(self) -> Self:
        self._awake, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        signal.set_wakeup_fd(self._wake.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._table = open("/proc/self/mountinfo", "rb") if self._guarded is not None else None
        if self._table is not None:
            self._poll.register(self._table, select.POLLPRI)
        for descriptor in (self._awake.fileno(), self._channel.fileno(), *self._ends):
            self._poll.register(descriptor, select.POLLIN)
        self._close_mounts()
        return self

    def __exit__(self, *exc: object) -> None:
        signal.set_wakeup_fd(-1)
        if self._table is not None:
            self._table.close()

    def wait(self) -> int | None:
        """The command's wait status, or None when it has to end first. `MountError` when a mount stays open."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        try:
            while True:
                ready = self._next()
                if self._awake.fileno() in ready:
                    self._awake.recv(4096)
                    if (status := self._reap()) is not None:
                        return status
                if self._is_over(ready):
                    return None
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])

    def hold(self) -> None:
        """Until stager goes, for others who have joined the view. The command has ended. `MountError`, as `wait`."""
        self._command = -1
        while not self._is_over(self._next()):
            pass

    def _next(self) -> set[int]:
        ready = {descriptor for descriptor, _ in self._poll.poll()}
        if self._table is not None and self._table.fileno() in ready:
            self._close_mounts()
        return ready

    def _is_over(self, ready: set[int]) -> bool:
        return bool(self._ends & ready) or (self._channel.fileno() in ready and not self._forward_all())

    def _close_mounts(self) -> None:
        if self._guarded is not None:
            view.close_later_mounts(self._guarded)

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
            forward(self._command, int(number))
        return bool(text)


def forward(command: int, number: int) -> None:
    """A signal for the command; a number below zero is a signal for all that the command has started, too."""
    if command < 0:
        return
    if number < 0:
        for process in procs.descendants(os.getpid(), procs.list_processes()):
            procs.signal_process(process, -number)
        return
    with suppress(ProcessLookupError):  # it has ended, and is about to be reaped
        if number in GROUP_SIGNALS:
            os.killpg(command, number)
        else:
            os.kill(command, number)
