"""The ``.git`` directory beside a staged tree: made when all files are in place, kept while it is of the same commit,
exchanged for a new commit's while nobody has worked in it, and otherwise never touched.

It appears by one rename. Whether somebody has worked in it is judged before anything is moved; and once more, of what
was exchanged, before that goes.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Mapping
from typing import Any, Final, cast

from stager.errors import UsageError, from_os_error
from stager.host.commit import Commit
from stager.host.git_look import GIT_NAME, Found, look_at, what_changed
from stager.host.syscalls import exchange
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.workspace import Workspace
from stager.model import SourceRef
from stager.names import show
from stager.sources.base import Beside, Historian, Snapshot, Source
from stager.sources.git_times import refresh_history
from stager.stages.publish import read_receipt

__all__ = ["History", "refresh_index"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SHOWN: Final = 3
_CANNOT_EXCHANGE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class History:
    """Of one sync that wants it."""

    def __init__(self, workspace: Workspace, ref: SourceRef) -> None:
        self._workspace = workspace
        self._url = ref.location
        self._where = f"{workspace.root}/{GIT_NAME}"
        self._found = Found(what="absent")
        self._theirs: frozenset[tuple[str, bytes]] = frozenset()
        self._is_wanted = True
        self._told_before: Mapping[str, Any] = {}
        self._is_stale = False  # the index says of files how they lay before this run

    @property
    def changes(self) -> bool:
        """Whether `publish` puts another directory in place, as `judge` has found."""
        return self._is_wanted

    def judge(self, source: Source, snapshot: Snapshot, *, moves: bool) -> None:
        """Before anything is moved, look at what is there. ``moves``: files of the tree will change.

        Blocks. Raises `UsageError`: somebody's work would go, or lose the files that it is about; `HostError`.
        """
        root_fd = self._workspace.root_fd
        if root_fd is None:
            return
        self._is_wanted, self._is_stale = True, False
        self._found = found = look_at(root_fd)
        if found.what == "foreign":
            raise UsageError("is there already, and is none that a sync made", where=self._where, hint="move it away")
        if found.mark is None:
            return
        commit, ref = snapshot.pinned["commit"], snapshot.pinned.get("ref") or ""
        is_same = found.mark.is_of(self._url, commit)
        head = f"ref: {ref}\n" if ref.startswith("refs/heads/") else f"{commit}\n"
        self._is_wanted = not is_same or found.mark.head != head
        self._told_before = _refs_told(self._workspace.state_fd)
        if not self._is_wanted and not moves:
            return
        self._theirs = cast("Historian", source).history_refs()
        changes = what_changed(root_fd, found.mark, theirs=self._theirs)
        if changes and is_same and not moves:
            self._is_wanted = False
        elif changes:
            more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
            what = f"somebody has worked in it since it was made: {'; '.join(changes[:_SHOWN])}{more}"
            raise UsageError(what, where=self._where, hint="push or copy what is to stay, and move it away")
        self._is_stale = not changes and not self._is_wanted

    async def publish(self, source: Source, beside: Beside, commit: Commit | None) -> Mapping[str, Any]:
        """Make it, unless what is there stays. Returns what a receipt says of it.

        Raises what `Historian.make_history` raises; `UsageError`: somebody has worked in it meanwhile.
        """
        root_fd, _, tmp_fd = self._workspace.descriptors()
        told: dict[str, Any] = {"history": True}
        if self._is_wanted:
            name = f"git-{secrets.token_hex(8)}"
            where = os.path.join(os.readlink(f"/proc/self/fd/{tmp_fd}"), name)
            await cast("Historian", source).make_history(where, beside)
            made = (await blocking(look_at, tmp_fd, name)).mark
            await blocking(self._place, name, tmp_fd, root_fd, commit)
            return told if made is None else {**told, "refs": made.refs}
        if self._is_stale:
            await stoppable(refresh_index, root_fd, beside)
        return {**told, **self._told_before}

    def _place(self, name: str, tmp_fd: int, root_fd: int, commit: Commit | None) -> None:
        if commit is not None:
            commit.flush()
        mark = self._found.mark
        try:
            if mark is None:
                os.rename(name, GIT_NAME, src_dir_fd=tmp_fd, dst_dir_fd=root_fd)
            else:
                self._exchange(name, tmp_fd, root_fd)
                if what_changed(tmp_fd, mark, name, theirs=self._theirs):
                    self._exchange(name, tmp_fd, root_fd)
                    raise UsageError("somebody works in it", where=self._where, hint="run this again, without that")
            if commit is not None:
                os.fsync(root_fd)
        except OSError as error:
            where = show(os.fsencode(self._where))
            raise from_os_error(error, doing="put the directory in place", where=where) from error

    def _exchange(self, name: str, tmp_fd: int, root_fd: int) -> None:
        try:
            exchange(tmp_fd, name, root_fd, GIT_NAME)
        except OSError as error:
            if error.errno not in _CANNOT_EXCHANGE:
                raise
            aside = f"{name}.old"
            os.rename(GIT_NAME, aside, src_dir_fd=root_fd, dst_dir_fd=tmp_fd)
            os.rename(name, GIT_NAME, src_dir_fd=tmp_fd, dst_dir_fd=root_fd)
            os.rename(aside, name, src_dir_fd=tmp_fd, dst_dir_fd=tmp_fd)


def _refs_told(state_fd: int | None) -> Mapping[str, Any]:
    """As the receipt has it that is there, and not as the directory says: whoever works in that can write it."""
    receipt = read_receipt(state_fd) or {}
    pinned = receipt.get("pinned")
    refs = pinned.get("refs") if isinstance(pinned, dict) else None
    return {"refs": refs} if isinstance(refs, int) else {}


def refresh_index(checkpoint: Checkpoint, root_fd: int, beside: Beside) -> None:
    """Files were put back: let the index say how they lie now, where nobody has worked in the directory. Blocks.

    Raises `HostError`, `NoSpaceError`.
    """
    mark = look_at(root_fd).mark
    if mark is None or what_changed(root_fd, mark):
        return
    git_fd = os.open(GIT_NAME, _DIRECTORY, dir_fd=root_fd)
    try:
        refresh_history(checkpoint, git_fd, mark.commit, beside)
    finally:
        os.close(git_fd)
