"""Delete what the source no longer has: what an earlier sync put there, and when asked for all the rest.

What is kept, whatever is asked for: a name that the source has, be it left out, archived or one that cannot be a file
here; a name or a size that the filter leaves out; what an earlier sync brought and somebody changed since (its size or
mtime is another, or its ctime and then its content is); the state directory, what is mounted below, and trees of other
syncs inside of this one. A directory goes when it became empty by this, unless it was there before a sync put
something in it.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from msgspec import Struct

from stager._native import Entries, KeyOrder, digest_bytes, digest_fd
from stager.deletion import Delete
from stager.errors import HostError, UsageError, from_os_error
from stager.filters import Filter
from stager.host.removal import Found, Tree
from stager.host.threads import Checkpoint, go_on
from stager.model import Counts
from stager.names import show

__all__ = ["Deleted", "Deletion", "Kept", "check_amount", "delete", "first_of", "plan_deletion"]

_FILES_A_STEP: Final = 1024
_SHOWN: Final = 3
_NOT_TO_BE_READ: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Deletion(Struct, frozen=True, kw_only=True):
    """What is to go. ``changed``: paths of what an earlier sync brought and that stay, because they are not that any
    more. ``gone``: paths of earlier syncs' files that are not there. ``there``: files that the amount is measured by.
    """

    files: tuple[Found, ...] = ()
    changed: tuple[bytes, ...] = ()
    gone: tuple[bytes, ...] = ()
    there: int = 0

    @property
    def counts(self) -> Counts:
        """Files and their bytes."""
        return _count(self.files)


class Deleted(Struct, frozen=True, kw_only=True):
    """What went. ``kept``: paths of what changed after the plan, and stays. ``gone``: all paths of which nothing is
    there any more. ``failure``: what could not be removed; it stopped nothing.
    """

    files: tuple[Found, ...] = ()
    directories: int = 0
    kept: tuple[bytes, ...] = ()
    gone: frozenset[bytes] = frozenset()
    failure: HostError | None = None

    @property
    def counts(self) -> Counts:
        """Files and their bytes."""
        return _count(self.files)


class Kept(Struct, frozen=True, kw_only=True):
    """What says of a path whether it may go. ``order``: of the source's whole listing, nothing left out."""

    order: KeyOrder
    wanted: Filter

    def protects(self) -> Callable[[bytes, int], bool]:
        """Whether a path of a file of some size stays."""
        wants_name, wanted, find = self.wanted.wants_name(), self.wanted, self.order.find
        return lambda path, size: find(path) >= 0 or not wants_name(path) or not wanted.wants_size(size)


def plan_deletion(
    asked: Delete,
    kept: Kept,
    former: Entries,
    rows: array[int],
    root_fd: int,
    *,
    state_name: str,
    state_fd: int | None,
    known: int,
    besides: Collection[bytes] = (),
    checkpoint: Checkpoint = go_on,
) -> Deletion:
    """Look at every file that may have to go. Writes nothing. Blocks.

    ``rows`` of ``former`` are files that earlier syncs put there and the source's table does not hold; ``known``: how
    many files they put there in all; ``besides``: directories that nothing of is deleted. Raises `HostError`.
    """
    protects = kept.protects()
    files: dict[bytes, Found] = {}
    changed: dict[bytes, None] = {}
    gone: list[bytes] = []
    there = known
    try:
        with Tree(root_fd) as tree:
            for number, row in enumerate(rows):
                if number % _FILES_A_STEP == 0:
                    checkpoint()
                path, size = former.table.key(row), former.table.size(row)
                if protects(path, size):
                    continue
                try:
                    found = tree.look(path)
                except OSError as error:
                    if error.errno == errno.EXDEV:  # it is there still, below what is mounted
                        continue
                    raise
                if found is None:
                    gone.append(path)
                elif _is_as_recorded(tree, former, row, found):
                    files[path] = found
                else:
                    changed[path] = None
            if asked.everything:
                there = 0
                for found in tree.walk(os.fsencode(state_name), state_fd, checkpoint, besides=besides):
                    there += 1
                    if found.path not in files and not protects(found.path, found.size):
                        files[found.path] = found
                        changed.pop(found.path, None)
    except OSError as error:
        raise from_os_error(error, doing="look at what may be deleted", where=error.filename or b"") from error
    return Deletion(
        files=tuple(files[path] for path in sorted(files)),
        changed=tuple(changed),
        gone=tuple(gone),
        there=max(there, len(files)),
    )


def _is_as_recorded(tree: Tree, former: Entries, row: int, found: Found) -> bool:
    """Whether a file is what a sync put there: by size, mtime and ctime; by its content where only the ctime is another
    one (permissions, a hard link, a restored backup). OSError.
    """
    record = former.recorded(row)
    if record is None:
        return False
    _, size, _, digest, mtime_ns, ctime_ns, mode, _ = record
    is_link = stat.S_ISLNK(found.mode)
    if is_link != stat.S_ISLNK(mode) or not (is_link or stat.S_ISREG(found.mode)):
        return False
    if (found.size, found.mtime_ns) != (size, mtime_ns):
        return False
    if found.ctime_ns == ctime_ns:
        return True
    if is_link:
        return digest_bytes(tree.target(found.path)) == digest
    try:
        fd = tree.open(found.path)
    except OSError as error:
        if error.errno in _NOT_TO_BE_READ:
            return False
        raise
    try:
        return digest_fd(fd)[1] == digest
    finally:
        os.close(fd)


def check_amount(deletion: Deletion, asked: Delete, *, where: str) -> None:
    """Raises `UsageError` when more would go than may."""
    most = asked.most.of(deletion.there)
    if len(deletion.files) > most:
        counts = deletion.counts
        raise UsageError(
            f"{counts.objects} of {deletion.there} files would be deleted ({counts.bytes} bytes), and {most} may be "
            f"({asked.most}): nothing was changed", where=where,
            hint=f"see which with --dry-run -v; if it is meant, --max-delete {counts.objects}",
        )  # fmt: skip


def delete(
    deletion: Deletion,
    foreign: frozenset[bytes],
    root_fd: int,
    *,
    checkpoint: Checkpoint = go_on,
) -> Deleted:
    """Remove what was planned, as far as it is still what was looked at, and the directories that this leaves empty.

    Blocks. Raises OSError only for the destination itself.
    """
    went: list[Found] = []
    gone = set(deletion.gone)
    kept: list[bytes] = []
    failed: list[tuple[bytes, OSError]] = []
    with Tree(root_fd) as tree:
        for number, found in enumerate(deletion.files):
            if number % _FILES_A_STEP == 0:
                checkpoint()
            try:
                removed = tree.remove(found)
            except OSError as error:
                failed.append((found.path, error))
                continue
            if not removed:
                kept.append(found.path)
                continue
            went.append(found)
            gone.add(found.path)
        directories = _remove_emptied(tree, gone, foreign, failed, checkpoint)
    return Deleted(
        files=tuple(went),
        directories=directories,
        kept=tuple(kept),
        gone=frozenset(gone),
        failure=_failure(failed),
    )


def _remove_emptied(
    tree: Tree,
    paths: Iterable[bytes],
    foreign: frozenset[bytes],
    failed: list[tuple[bytes, OSError]],
    checkpoint: Checkpoint,
) -> int:
    """The directories above these paths as far as they are empty now, from the bottom up."""
    removed = 0
    left = {path.rpartition(b"/")[0] for path in paths}
    while left:
        checkpoint()
        deepest = max(path.count(b"/") for path in left)
        level = sorted(path for path in left if path.count(b"/") == deepest)
        left.difference_update(level)
        for path in level:
            if not path or path in foreign:
                continue
            try:
                outcome = tree.remove_directory(path)
            except OSError as error:
                failed.append((path, error))
                continue
            removed += outcome == "removed"
            if outcome != "stays":  # a run that was killed may have come as far as this one
                left.add(path.rpartition(b"/")[0])
    return removed


def first_of(paths: Sequence[bytes]) -> str:
    """The first of them, and how many more there are, for people."""
    shown = ", ".join(show(path) for path in paths[:_SHOWN])
    return shown if len(paths) <= _SHOWN else f"{shown} and {len(paths) - _SHOWN} more"


def _count(files: Iterable[Found]) -> Counts:
    sizes = [found.size for found in files]
    return Counts(objects=len(sizes), bytes=sum(sizes))


def _failure(failed: list[tuple[bytes, OSError]]) -> HostError | None:
    if not failed:
        return None
    path, error = failed[0]
    one = from_os_error(error, doing="delete", where=show(path))
    if len(failed) == 1:
        return one
    return HostError(f"{len(failed)} files and directories cannot be deleted; the first: {one.what}", where=show(path))
