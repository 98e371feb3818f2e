"""What a copied source must be able to do: list itself at one pinned moment, and fetch chosen entries.

The same contract suite (tests/contract) runs over every implementation, on real servers.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, Self

from msgspec import Struct, field

from stager._native import Entries, KeyOrder, KeyTable
from stager.host.partial import Partials
from stager.model import Counts

__all__ = [
    "Beside",
    "Capabilities",
    "Earlier",
    "Historian",
    "Landing",
    "OnLanded",
    "Snapshot",
    "Source",
    "Tally",
    "Wanted",
    "everything",
]

Wanted = Callable[[bytes], bool]
"""Whether anybody will ask for the file of a key."""


def everything(_key: bytes) -> bool:
    """All files are wanted."""
    return True



OnLanded = Callable[["array[int]"], None]
"""Called on the loop with rows whose files are complete under their final names; must not block for long."""


class Capabilities(Struct, frozen=True, kw_only=True):
    """What this source is able to promise, as data.

    ``modes``: entries carry executable bits and symlinks. ``times``: rows carry when a file was last changed; "listed":
    where a server says so, else 0. ``grade``: what its entries reach whatever a server announces of them, ``best`` what
    any of them can reach. ``shares_blocks``: files come as clones, which take no space for their bytes.
    """

    modes: bool
    times: Literal["always", "listed", "never"]
    grade: str
    best: str = "A"
    shares_blocks: bool = False


class Snapshot(Struct, frozen=True, kw_only=True):
    """A source pinned at one moment.

    ``table`` has a row per file: key (the path below the destination, raw bytes, as the source spells it; what
    may not be a file name is still in it, `stager.names` judges), size in bytes, identity (ETag or blob id:
    equal identity and size means equal content), mode (0 where the source has none).
    ``pinned`` goes into the receipt: commit and ref, or bucket and prefix. It never holds a secret.
    ``version``: equal versions mean equal tables, wherever they came from (a commit id); empty where the source has
    nothing that promises this. ``part_of``: the version that `Source.adopt` takes of a table that is not as it would be
    if all of it were wanted. ``folder``: what the keys are below at the source, where the reference leaves that open
    (a prefix may be a folder or one object). ``warnings``: what the user should know, for people. ``archived``: rows,
    ascending, of what is there and is known not to be readable before it is restored.
    """

    table: KeyTable
    pinned: Mapping[str, Any]
    version: str = ""
    part_of: str = ""
    folder: bytes = b""
    warnings: tuple[str, ...] = ()
    archived: array[int] = field(default_factory=lambda: array("I"))


class Earlier(Struct, frozen=True, kw_only=True):
    """What the destination's manifest says of the run that filled it; every file of that snapshot is in it.

    ``read_table`` blocks: the files as a snapshot's table, modes as they were set; None when the manifest is damaged.
    """

    version: str
    read_table: Callable[[], KeyTable | None]


class Tally(Struct, kw_only=True):
    """What a fetch counts for the receipt."""

    read_back_bytes: int = 0  # read from files again, for a checksum that is taken in order
    continued_bytes: int = 0  # fetched by earlier runs, of objects that they did not complete
    reused: Counts = Counts()  # taken from what earlier runs on this node had fetched, for this tree or others


class Landing(Struct, frozen=True, kw_only=True):
    """Where a fetch puts files. The descriptors belong to the caller and stay open until `Source.fetch` returns.

    ``root_fd`` is the destination, ``tmp_fd`` a private directory on the same file system. ``entries``, of the
    snapshot's table, is told of every file in place. ``partials`` keeps large files that are not finished.
    """

    root_fd: int
    tmp_fd: int
    entries: Entries
    partials: Partials
    root: str  # the destination's path, for errors only
    tally: Tally = field(default_factory=Tally)
    preserve: bool = False  # files get the source's times of change, where it says any


class Source(Protocol):
    """A copied source. Use: ``async with source: snapshot = await source.snapshot(); await source.fetch(...)``."""

    capabilities: Capabilities

    async def __aenter__(self) -> Self:
        """Acquire connections and credentials. Raises nothing that `snapshot` would not."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Release everything; never raises."""
        ...

    async def snapshot(self, earlier: Earlier | None = None, wanted: Wanted = everything) -> Snapshot:
        """List the whole source, pinned. All rows or an error, never a part of them.

        ``earlier`` may spare the listing when the source is still at that version. What is not ``wanted`` is listed too
        where it can be a file; where it cannot be one, it is no reason to refuse the rest.
        Raises `NotFoundError`, `AccessDeniedError`, `TransientError`, `IntegrityError` (a listing that
        contradicts itself).
        """
        ...

    async def adopt(self, listed: Snapshot) -> Snapshot:
        """Take what an earlier listing of this source found instead of listing it; `fetch` then copies it as pinned.

        Raises `UsageError`: the listing is of something else, or this source pins nothing that outlasts a run; and
        what `snapshot` raises.
        """
        ...

    async def prove_access(self, snapshot: Snapshot) -> None:
        """Raise what `fetch` would where this user may list what is there, and not read it; ``snapshot`` is not empty.

        One object stands for all. Nothing to do where a listing proves it.
        """
        ...

    async def fetch(self, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded) -> None:
        """Put the given rows of ``snapshot.table`` in place: each under its final name only when complete.

        A file is written in ``landing.tmp_fd``, checked, and renamed below ``landing.root_fd``; no symlink in the
        destination is followed; missing directories are made. ``done`` is told of every finished file, in any
        order, soon after it is in place and stands in ``landing.entries``. On the first permanent error the rest is
        cancelled, what is in flight leaves nothing behind but what ``landing.partials`` can continue, and the error is
        raised: `ChangedError`, `IntegrityError`, `NotFoundError`, `AccessDeniedError`, `TransientError`,
        `NoSpaceError`, `HostError`. `ArchivedError`: everything else is in place.
        """
        ...


class Beside(Struct, frozen=True, kw_only=True):
    """Files in place, to which a history is made. ``folds``: their file system takes several names for one."""

    root_fd: int
    entries: Entries
    order: KeyOrder  # of the table of the entries
    folds: bool


class Historian(Source, Protocol):
    """A source that can give its history too."""

    def history_bytes(self) -> int:
        """What the history that the last snapshot has brought will take, about; 0: it has brought none. Blocks."""
        ...

    def history_refs(self) -> frozenset[tuple[str, bytes]]:
        """Ids and names of the refs that it brought with the last snapshot; none: it has brought none."""
        ...

    async def make_history(self, where: str, beside: Beside) -> None:
        """Make a directory ``where``, which becomes ``.git`` beside the files of the last snapshot.

        Raises as `Source.fetch`.
        """
        ...
