"""What a place for logs and results must be able to do, and what is counted while things are brought there.

A job's place is its own: marked before the job starts, and written by nobody else; what comes last in it is a receipt,
so that whoever polls for that sees all or nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct, field

from stager.errors import HostError
from stager.host.leaves import Leaf
from stager.model import Counts
from stager.names import show

__all__ = ["Collected", "OutOfTimeError", "Sink", "Some", "Tally"]

_NAMED: Final = 1000


class Some(Struct):
    """Names, the first of them kept."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(text)

    def told(self) -> tuple[str, ...]:
        """For people."""
        more = self.count - len(self.first)
        return (*self.first, f"and {more} more") if more else tuple(self.first)


class Collected(Struct, frozen=True, kw_only=True):
    """What is kept of one tree, and where. ``left_out``: what is not meant to be kept, escaped names with why.
    ``missing``: what is, and could not be: the tree is not to be removed. ``unwanted``: what a rule of the job file
    leaves out. ``inputs``: of those, how many the job changed or removed.
    """

    what: str
    destination: str
    total: Counts
    left_out: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unwanted: Counts = Counts()
    inputs: dict[str, Any] = {}

    @property
    def is_whole(self) -> bool:
        """Whether all that should be there is there."""
        return not self.missing


class OutOfTimeError(Exception):
    """The time that was given is over. Never leaves the stage."""


class Tally(Struct, kw_only=True):
    """How far it is. ``what``: "logs" or "results", for people. ``deadline_s``: on the monotonic clock; with
    one, infinity too, small and new files come first.

    ``trusted``: what has the right length and time at its place is a copy. ``running``: the job has not ended: its
    files may change under the hand that copies them, and their permissions are left alone.
    """

    what: str = "logs"
    stopped: Callable[[], bool] = lambda: False
    deadline_s: float | None = None
    trusted: bool = True
    running: bool = False
    total: Counts = Counts()
    unwanted: Counts = Counts()
    left_out: Some = field(default_factory=Some)
    missing: Some = field(default_factory=Some)

    def go_on(self) -> None:
        """Raises `HostError` when asked to stop, `OutOfTimeError` at the deadline."""
        if self.stopped():
            raise HostError(
                f"stopped before all {self.what} were kept", hint="run `stager collect`: it copies what is missing"
            )
        if self.deadline_s is not None and time.monotonic() > self.deadline_s:
            raise OutOfTimeError

    def count(self, leaf: Leaf) -> None:
        """One more is kept."""
        self.total += Counts(objects=1, bytes=leaf.size)

    def miss(self, leaves: Iterable[Leaf], why: str) -> None:
        """These should be kept and are not."""
        for leaf in leaves:
            self.missing.add(f"{show(leaf.path)}: {why}")

    def leave_out(self, path: bytes, why: str) -> None:
        """This is not meant to be kept."""
        self.left_out.add(f"{show(path)}: {why}")


class Sink(Protocol):
    """One job's place. Every method blocks, and raises `HostError`, `NoSpaceError`, or a `SourceError` of a store."""

    place: str

    def ask(self, within_s: float) -> None:
        """Raise what tells that this user could bring nothing there, as far as it shows; nothing is made.

        `TransientError`: a store does not answer in time.
        """
        ...

    def claim(self, token: str) -> bool:
        """Make the place and mark it with ``token``; False when it is another job's.

        `HostError`: it holds what is nobody's.
        """
        ...

    def release(self, token: str) -> None:
        """Remove the mark of a place that nothing was kept in; never raises."""
        ...

    def put(self, root_fd: int, leaves: Sequence[Leaf], tally: Tally) -> None:
        """Bring these of the tree at ``root_fd``; the place is claimed. What is there already is not brought again.

        Each file appears whole. What cannot be brought goes to ``tally``, and so does the rest at its deadline.
        """
        ...

    def finish(self, receipt: dict[str, Any]) -> None:
        """Make all of it durable, prove it where that can be asked for, and put the receipt beside it, last."""
        ...

    def close(self) -> None:
        """Never raises."""
        ...
