"""After the job: /logs and results to the places that the job file names. The tree that is read is hostile.

Kept: regular files (empty ones too), directories, and symlinks, as text. Left out by name: what is none of these, for
opening it could hang or act; symlinks that could lead out of a copy; what is nested too deep, or lies on a file system
that somebody mounted there. Of more entries than can be listed the rest is missing: the tree stays then.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from stager.errors import HostError, from_os_error
from stager.host.leaves import Leaf, Left, Lister
from stager.host.trees import open_top
from stager.stages.collect_sink import Collected, Sink, Tally

__all__ = ["Collected", "Pick", "collect_tree", "everything", "files_only", "holds_anything"]

_ENTRIES_MAX: Final = 2_000_000  # 0.4 GB of them

Pick = Callable[[Iterator[Leaf], Tally], Iterable[Leaf]]
"""Which of a tree's leaves are wanted, in the order of `stager.host.leaves`."""


def everything(leaves: Iterator[Leaf], _tally: Tally) -> Iterable[Leaf]:
    """All of them."""
    return leaves


def holds_anything(logs: str) -> bool:
    """Whether a job left anything in its logs. Raises `HostError`."""
    try:
        fd = open_top(logs)
        try:
            with os.scandir(fd) as entries:
                return next(entries, None) is not None
        finally:
            os.close(fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise from_os_error(error, doing="look into the logs", where=logs) from error


def collect_tree(
    tree: str,
    sink: Sink,
    *,
    token: str,
    tally: Tally,
    pick: Pick = everything,
    receipt: Callable[[], Mapping[str, Any]] | None = dict,
) -> Collected:
    """Bring what is wanted of ``tree`` to ``sink``, which is marked with ``token`` as this job's and nobody else's.

    ``receipt``: what is said beside how much there is, asked at the end; None: there will be another time, and no
    receipt now. With a deadline small and new files come first. Blocks. Raises `HostError`: the place belongs to
    another job or user, cannot be made or written, or ``tally`` was asked to stop; `NoSpaceError`, before anything is
    copied where the free space is known to be too little; and what a store's sink raises.
    """
    if not sink.claim(token):
        raise HostError(
            f"holds the {tally.what} of another job", where=sink.place, hint=f"choose another place in [{tally.what}]"
        )
    try:
        root_fd = open_top(tree)
        try:
            leaves = _list(root_fd, pick, tally)
            if tally.deadline_s is not None:
                leaves.sort(key=lambda leaf: (leaf.size, -leaf.mtime_ns))
            sink.put(root_fd, leaves, tally)
        finally:
            os.close(root_fd)
    except OSError as error:
        raise from_os_error(error, doing=f"keep the {tally.what}", where=tree) from error
    found = Collected(
        what=tally.what,
        destination=sink.place,
        total=tally.total,
        left_out=tally.left_out.told(),
        missing=tally.missing.told(),
        unwanted=tally.unwanted,
    )
    if receipt is not None:
        sink.finish(_receipt(found, receipt()))
    return found


def _list(root_fd: int, pick: Pick, tally: Tally) -> list[Leaf]:
    def left(entry: Left) -> None:
        tally.leave_out(entry.path, entry.why)

    listed = Lister(root_fd, left=left, mend=not tally.running, go_on=_only_stop(tally)).leaves()
    picked = iter(pick(listed, tally))
    leaves = list(islice(picked, _ENTRIES_MAX))
    for leaf in picked:
        tally.miss([leaf], f"there are more than {_ENTRIES_MAX} entries")
    return leaves


def _only_stop(tally: Tally) -> Callable[[], None]:
    """The deadline is for what is brought: what there is has to be known first."""
    free = Tally(what=tally.what, stopped=tally.stopped)
    return free.go_on


def _receipt(found: Collected, more: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "schema": 1,
        **more,
        "what": found.what,
        "state": "done" if found.is_whole else "partial",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "total": {"objects": found.total.objects, "bytes": found.total.bytes},
        "left_out": list(found.left_out),
        "missing": list(found.missing),
    }


def files_only(leaves: Iterable[Leaf]) -> Iterator[Leaf]:
    """Without directories: those that hold something come with it."""
    return (leaf for leaf in leaves if not stat.S_ISDIR(leaf.mode))
