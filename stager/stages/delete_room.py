"""What stands where the source has a directory or a file now: what of it makes room, and what is in the way.

A file that became a directory at the source, or a directory that became a file, has its place taken by what an earlier
sync put there. That makes room exactly when a deletion takes it anyway: nothing else is ever removed for it. A
directory goes when all that lies in it goes, and an earlier sync made it and all that are in it.
"""

from __future__ import annotations

import errno
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from msgspec import Struct

from stager._native import KeyTable
from stager.errors import BadKeysError, from_os_error
from stager.host.removal import Found, Tree
from stager.host.threads import Checkpoint, go_on
from stager.names import directories_above, show, steps_above
from stager.stages.delete import Deletion, first_of

__all__ = ["NO_ROOM", "Room", "make_room", "plan_room"]

_FILES_A_STEP: Final = 1024
_OURS: Final = "an earlier sync put it there"
_CHANGED: Final = "changed here since a sync put it there"
_LEFT_OUT: Final = "left out by the filter, or a name that the source has too"
_FOREIGN: Final = "no sync put it there"
_MOUNTED: Final = "something is mounted there"
_LATE: Final = "changed while this ran"


class Room(Struct, frozen=True, kw_only=True):
    """What goes before what is blocked can be fetched: files, and then directories, each after all that lie in it."""

    files: tuple[Found, ...] = ()
    directories: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(found.size for found in self.files)


NO_ROOM: Final = Room()


class _Goes(Struct, frozen=True, kw_only=True):
    """What a deletion takes, and why it leaves the rest."""

    files: dict[bytes, Found]
    directories: AbstractSet[bytes]
    changed: AbstractSet[bytes]
    ours: AbstractSet[bytes]

    def why_not(self, path: bytes) -> str:
        if path in self.changed:
            return _CHANGED
        return _LEFT_OUT if path in self.ours else _FOREIGN


def plan_room(
    table: KeyTable,
    blocked: array[int],
    deletion: Deletion,
    ours: Iterable[bytes],
    foreign: AbstractSet[bytes],
    root_fd: int,
    *,
    asked: bool,
    checkpoint: Checkpoint = go_on,
) -> Room:
    """Find what stands in the way of the ``blocked`` rows, each thing once. Writes nothing. Blocks.

    ``deletion``: what goes, or would if it were ``asked`` for. ``ours``: paths that earlier syncs put there.
    ``foreign``: directories that were there before. Raises `BadKeysError`, which names everything that does not make
    room; `HostError`.
    """
    files, ours = {found.path: found for found in deletion.files}, frozenset(ours)
    goes = _Goes(
        files=files,
        directories=directories_above((*files, *ours)) - foreign,
        changed=frozenset(deletion.changed),
        ours=ours,
    )
    taken: list[Found] = []
    directories: list[bytes] = []
    problems: list[str] = []
    try:
        with Tree(root_fd) as tree:
            for path, found in _obstacles(tree, table, blocked, checkpoint):
                if found is None:
                    what, reasons = "something stands in the way", {_MOUNTED: [path]}
                elif not stat.S_ISDIR(found.mode):
                    what = _kind(found) + " stands where a directory must go"
                    reasons = {} if path in files else {goes.why_not(path): [path]}
                    taken.append(found)
                else:
                    what = "a directory stands where a file must go"
                    reasons = _look_into(tree, path, goes, taken, directories, checkpoint)
                if reasons or not asked:
                    problems.append(f"{show(path)}: {what} ({_told(path, reasons)})")
    except OSError as error:
        raise from_os_error(error, doing="look at what is in the way", where=error.filename or b"") from error
    if problems:
        hint = "move what is there out of the way"
        if not asked:
            hint = "--delete removes what an earlier sync put there and nobody changed; move the rest out of the way"
        raise BadKeysError(f"{len(problems)} names are taken in the destination", problems, hint=hint)
    directories.sort(key=lambda path: path.count(b"/"), reverse=True)
    return Room(files=tuple(taken), directories=tuple(directories))


def make_room(room: Room, root_fd: int, *, checkpoint: Checkpoint = go_on) -> None:
    """Remove it, if all of it still is what was looked at. Blocks. Raises `BadKeysError`, and then nothing was removed
    unless it changed this very moment; `HostError`.
    """
    where = b""
    try:
        with Tree(root_fd) as tree:
            late: list[bytes] = []
            for number, found in enumerate(room.files):
                if number % _FILES_A_STEP == 0:
                    checkpoint()
                where = found.path
                if tree.look(where) != found:
                    late.append(where)
            _refuse(late)
            for number, found in enumerate(room.files):
                if number % _FILES_A_STEP == 0:
                    checkpoint()
                where = found.path
                if not tree.remove(found):
                    late.append(where)
            for where in room.directories:
                checkpoint()
                if tree.remove_directory(where) == "stays":
                    late.append(where)
            _refuse(late)
    except OSError as error:
        raise from_os_error(error, doing="make room", where=show(where)) from error


def _refuse(late: Sequence[bytes]) -> None:
    if late:
        raise BadKeysError(
            f"{len(late)} names are taken in the destination", [f"{show(path)}: {_LATE}" for path in late],
            hint="look at them, and run it again",
        )  # fmt: skip


def _obstacles(
    tree: Tree, table: KeyTable, blocked: array[int], checkpoint: Checkpoint
) -> Iterator[tuple[bytes, Found | None]]:
    """What stands in the way of each row, each once; None: it lies on another mount. OSError."""
    told: set[bytes] = set()
    for number, row in enumerate(blocked):
        if number % _FILES_A_STEP == 0:
            checkpoint()
        key = table.key(row)
        above = list(steps_above(key))
        if not told.isdisjoint(above):
            continue
        for path in (*above, key):
            try:
                found = tree.stat(path)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                found, path = None, key
            else:
                if found is None:  # it has gone meanwhile
                    break
                if stat.S_ISDIR(found.mode) != (path == key):
                    continue
            told.add(path)
            yield path, found
            break


def _look_into(
    tree: Tree, path: bytes, goes: _Goes, taken: list[Found], directories: list[bytes], checkpoint: Checkpoint
) -> dict[str, list[bytes]]:
    """Why a directory does not go: reasons, and of what. What goes with it is appended to the two lists. OSError."""
    reasons: dict[str, list[bytes]] = {}
    if path in goes.directories:
        directories.append(path)
    else:
        reasons[_FOREIGN] = [path]
    try:
        for found in tree.contents(path, checkpoint):
            if stat.S_ISDIR(found.mode):
                if found.path in goes.directories:
                    directories.append(found.path)
                else:
                    reasons.setdefault(_FOREIGN, []).append(found.path)
            elif found.path in goes.files:
                taken.append(goes.files[found.path])
            else:
                reasons.setdefault(goes.why_not(found.path), []).append(found.path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        reasons.setdefault(_MOUNTED, []).append(path)
    return reasons


def _told(path: bytes, reasons: dict[str, list[bytes]]) -> str:
    if not reasons:
        return _OURS
    return "; ".join(
        why if paths == [path] else f"{why}: {first_of(sorted(paths))}" for why, paths in reasons.items()
    )


def _kind(found: Found) -> str:
    return "a symlink, which is not followed," if stat.S_ISLNK(found.mode) else "a file"
