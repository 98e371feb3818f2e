"""A tree that is kept on this node as a source: what an earlier run recorded of it, for another tree.

Nothing is listed and nothing read that need not be: a file is believed while it is the user's own and has the size and
times that were recorded, and where the file system can it shares its blocks with the new one; elsewhere it is copied,
and what was read compared with the digest that was recorded. Grades and identities are
those of the source that the tree came from, so that the new tree is one of that source's like any other.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final, NoReturn, Self

from stager import _native
from stager.errors import ChangedError, HostError, from_os_error
from stager.host.manifest_file import Manifest, load_manifest
from stager.host.threads import blocking, until_stopped
from stager.manifest import DamagedManifestError
from stager.model import Grade
from stager.names import from_json
from stager.sources.base import Capabilities, Earlier, Landing, OnLanded, Snapshot, Wanted, everything

__all__ = ["KeptTree"]

_FILES_A_CALL: Final = 1024
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class KeptTree:
    """See the module. Its user keeps it from being changed meanwhile. ``shared_bytes``: what was not copied."""

    def __init__(
        self, tree: str, state: str, *, pinned: Mapping[str, Any], shares_blocks: bool, keep_cached_bytes: int = 0
    ) -> None:
        """``pinned``: what the source was pinned to; ``shares_blocks``: whether its files can be cloned;
        ``keep_cached_bytes``: so much of what is copied stays in the page cache, 0: all.
        """
        self.capabilities = Capabilities(
            modes=True, times="always", grade=Grade.C, best=Grade.A, shares_blocks=shares_blocks
        )
        self.shared_bytes = 0
        self._tree = tree
        self._state = state
        self._pinned = pinned
        self._keep_cached_bytes = keep_cached_bytes
        self._manifest: Manifest | None = None
        self._open = ExitStack()

    async def __aenter__(self) -> Self:
        """Open its directory. Raises `HostError`."""
        try:
            self._fd = os.open(self._tree, _DIRECTORY)
        except OSError as error:
            raise from_os_error(error, doing="open", where=self._tree) from error
        self._open.callback(os.close, self._fd)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close it."""
        self._open.close()

    async def snapshot(self, earlier: Earlier | None = None, wanted: Wanted = everything) -> Snapshot:
        """What was recorded. Raises `HostError`: it cannot be read, or is no more."""
        self._manifest = manifest = await blocking(self._read)
        return Snapshot(
            table=manifest.table, pinned=self._pinned, version=manifest.header.version,
            part_of=manifest.header.part_of, folder=from_json(manifest.header.folder),
        )  # fmt: skip

    async def adopt(self, listed: Snapshot) -> Snapshot:
        """Never asked for: what is kept is what was listed."""
        return await self.snapshot()

    async def prove_access(self, snapshot: Snapshot) -> None:
        """Nothing to do: what is kept is the user's own."""

    async def fetch(self, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded) -> None:
        """See `Source.fetch`. `ChangedError`: a file is not what was recorded."""
        assert self._manifest is not None
        lend = _native.Lend(
            self._manifest.entries, self._fd, tmp_fd=landing.tmp_fd, root_fd=landing.root_fd,
            keep_mtime=landing.preserve, threads=len(os.sched_getaffinity(0)),
            keep_cached_bytes=self._keep_cached_bytes,
        )  # fmt: skip
        begin = 0
        while begin < len(rows):
            calls: list[tuple[array[int], int, int]] = []  # of a cancelled one too: what is in place is told
            work = partial(_give, lend, landing, rows[begin : begin + _FILES_A_CALL], calls)
            try:
                await until_stopped(work, lend.stop)
            finally:
                for given, _, shared in calls:
                    self.shared_bytes += shared
                    done(given)
            for given, code, _ in calls:
                begin += len(given)
                if code:
                    self._refuse(code, landing)

    def _read(self) -> Manifest:
        try:
            fd = os.open(self._state, _DIRECTORY)
            try:
                return load_manifest(fd)
            finally:
                os.close(fd)
        except DamagedManifestError as error:
            raise HostError(f"the manifest is damaged ({error})", where=self._state, hint="run this again") from error
        except OSError as error:
            raise from_os_error(error, doing="read the manifest", where=self._state) from error

    def _refuse(self, code: int, landing: Landing) -> NoReturn:
        if code in (errno.ESTALE, errno.EBADMSG):
            raise ChangedError("a file is not what was kept", where=self._tree, hint="run this again")
        raise from_os_error(OSError(code, os.strerror(code)), doing="put a file in place", where=landing.root)


def _give(
    lend: _native.Lend, landing: Landing, rows: array[int], calls: list[tuple[array[int], int, int]]
) -> None:
    calls.append(lend.give(landing.entries, rows))
