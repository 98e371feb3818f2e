"""What can be asked of a sync."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from stager.config import GitOptions, Integrity, Remote
from stager.deletion import Delete
from stager.errors import UsageError
from stager.filters import EVERYTHING, Filter
from stager.stages.pin import Pinning

__all__ = ["SyncOptions"]


class SyncOptions(Struct, frozen=True, kw_only=True):
    """How to sync. ``state_dir``: where manifest, journal and receipt live, None for DST/.stager.

    ``on_archived``: whether objects that have to be restored first are an error or left out. ``verify``: hash what is
    there again instead of believing size, mtime and ctime. ``preserve``: what is fetched gets the time of change that
    the source says. ``on_change``: "retry" lists the source again, at most twice, when something changed while it was
    copied. ``fsync``: all has reached the disk before the receipt is written. ``filter``: which files are wanted.
    ``delete``: what the source no longer has goes; None: it stays. ``names``: the sink is told each name of a dry run's
    plan, and of what was deleted. ``integrity``: which of the source's own digests are compared, and the grade that
    every file must reach. ``git``: what is wanted of a git source. ``room_for_two``: what the source has must fit once
    more beside what is fetched, for a copy of it. ``scratch``: where a source keeps what it has fetched for others,
    mirrors and LFS objects, unless this node has it already; None: in STAGER_SCRATCH or the default. ``prove_access``:
    where nothing has to be fetched the source is asked for one object all the same, because who may list need not be
    one who may read.
    """

    remote: Remote | None = None
    state_dir: str | None = None
    on_bad_key: Literal["fail", "skip"] = "fail"
    on_archived: Literal["fail", "skip"] = "fail"
    dry_run: bool = False
    verify: bool = False
    preserve: bool = False
    pinning: Pinning = Pinning()
    on_change: Literal["fail", "retry"] = "fail"
    fsync: bool = False
    filter: Filter = EVERYTHING
    delete: Delete | None = None
    names: bool = False
    integrity: Integrity = Integrity()
    git: GitOptions = GitOptions()
    room_for_two: bool = False
    scratch: str | None = None
    prove_access: bool = False

    def check(self) -> None:
        """Raises `UsageError` for options that exclude each other."""
        self.pinning.check(list_again=self.on_change == "retry")
        if self.git.history and self.filter:
            hint = "bring all files, or leave the history out"
            raise UsageError("history is of a whole tree, and is not available with what chooses files", hint=hint)
        if self.delete is not None and self.pinning.frozen is not None:
            hint = "a kept listing may have been made in parts: delete in a run that lists"
            raise UsageError("--frozen and --delete exclude each other", hint=hint)
