"""What a run tells about itself while it goes: frozen events, given to one sink.

A sink is called on the event loop and must not block for long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from stager.bottleneck import Bottleneck
from stager.model import Counts, DatasetReceipt

__all__ = [
    "Event",
    "Finished",
    "Found",
    "Listed",
    "Named",
    "Planned",
    "Progress",
    "Sink",
    "Started",
    "Verified",
    "Warned",
    "nowhere",
]


class Started(Struct, frozen=True, kw_only=True):
    """The source is being asked what it holds."""

    source: str


class Listed(Struct, frozen=True, kw_only=True):
    """The source has been listed, pinned."""

    source: str
    total: Counts


class Planned(Struct, frozen=True, kw_only=True):
    """What is going to move, what stays, what was left out by request: for its name, by the filter; what will go.

    ``disk_bytes`` and ``inodes`` are what that takes on the disk: whole blocks, less what is replaced; directories too.
    """

    source: str
    destination: str = ""
    move: Counts
    keep: Counts
    skipped: int
    left_out: Counts = Counts()
    delete: Counts = Counts()
    disk_bytes: int = 0
    inodes: int = 0


class Named(Struct, frozen=True, kw_only=True):
    """A file that would be fetched or deleted (in a dry run), or was deleted. Told to those who ask for names."""

    source: str
    action: Literal["fetch", "delete"]
    path: bytes
    bytes: int


class Progress(Struct, frozen=True, kw_only=True):
    """Files in place so far, of those that move. ``received_bytes`` counts what is in flight too."""

    source: str
    done: Counts
    move: Counts
    received_bytes: int
    seconds: float


class Warned(Struct, frozen=True, kw_only=True):
    """Something to know that stops nothing."""

    source: str
    text: str


class Finished(Struct, frozen=True, kw_only=True):
    """The receipt is written (or, for a dry run, would say this)."""

    source: str
    receipt: DatasetReceipt
    dry_run: bool
    bottleneck: Bottleneck


class Found(Struct, frozen=True, kw_only=True):
    """A file of a tree that is not as it was recorded. ``what``: "differs", "missing", "unreadable", "foreign" or
    "repaired"; ``why``: how it differs, why it cannot be read, or how a foreign one came there, where that is known.
    """

    source: str  # the tree
    path: str  # below it, as the operating system's paths are decoded
    what: str
    why: str = ""


class Verified(Struct, frozen=True, kw_only=True):
    """A tree has been compared with its manifest. The counts are of files; ``same`` has their bytes."""

    source: str
    total: Counts
    same: Counts
    differs: int
    missing: int
    unreadable: int
    foreign: int
    repaired: int
    seconds: float


Event = Started | Listed | Planned | Named | Progress | Warned | Finished | Found | Verified
Sink = Callable[[Event], None]


def nowhere(event: Event) -> None:
    """The sink for those who do not listen."""
