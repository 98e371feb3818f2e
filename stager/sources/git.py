"""A git remote as a source: one commit, pinned, fetched without history by the `git` program.

What a tree looks like here: exactly what `git archive COMMIT` holds, export-ignore and export-subst aside (those
describe releases, not data). That is: blobs as committed, with `eol`, `ident` and `working-tree-encoding` of
.gitattributes applied by git itself; executable bits; symlinks as links. Refused by name, because the tree would not be
what its authors mean: submodules, Git LFS pointers, other filters.

Grade A: git computes every object's id from the bytes it received (index-pack with fsck), up to the commit's; and
each file that lies there afterwards is hashed here and compared with its blob's id, where git converts nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
from array import array
from collections.abc import Mapping
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from msgspec.structs import replace

from stager import _native
from stager.config import GitOptions, Remote, Retry
from stager.errors import UsageError
from stager.host.gitrepo import Pin, PinnedRepository
from stager.host.scratch import PrivateDirectory, open_scratch
from stager.host.threads import blocking
from stager.model import Grade, SourceRef
from stager.sources.base import Capabilities, Earlier, Landing, OnLanded, Snapshot, Wanted, everything
from stager.sources.git_checkout import check_out
from stager.sources.git_tree import GitTree

__all__ = ["GitSource"]

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class GitSource:
    """See the module.

    The repository lives in a fresh private directory below ``state_dir`` (None: the user's scratch), which is there
    when the source is entered, and is gone at exit. Plain http is for loopback, or when ``allow_plain_http`` says so.
    """

    capabilities = Capabilities(modes=True, times="never", grade=Grade.A)

    def __init__(
        self,
        ref: SourceRef,
        *,
        remote: Remote | None = None,
        transfer: object = None,
        git: GitOptions = GitOptions(),  # noqa: B008  (frozen)
        state_dir: str | None = None,
        environ: Mapping[str, str] | None = None,
        retry: Retry = Retry(attempts=4, base_s=0.5),  # noqa: B008  (frozen)
        allow_plain_http: bool = False,
    ) -> None:
        """``remote`` and ``transfer`` are what every source is made with; of them this one needs only the proxy."""
        if urlsplit(ref.location).scheme == "http" and not allow_plain_http and not _is_loopback(ref.location):
            raise UsageError("git over plain http is refused", where=ref.text, hint="use git+https:// or git+ssh://")
        self._ref = ref
        self._options = git
        self._state_dir = state_dir
        self._environ = dict(os.environ if environ is None else environ)
        self._retry = retry
        self._proxy = remote.proxy if remote is not None else None
        self._pin: Pin | None = None
        self._prefix = f"{ref.subdir}/".encode() if ref.subdir else b""

    async def __aenter__(self) -> Self:
        """Make the private directory. Raises `NoSpaceError`, `HostError`."""
        self._private = await asyncio.to_thread(self._make_private)
        self._repository = PinnedRepository(
            self._private.path, self._ref.location, environ=self._environ, retry=self._retry, proxy=self._proxy
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Remove the private directory."""
        await asyncio.to_thread(self._private.close)

    async def snapshot(self, earlier: Earlier | None = None, wanted: Wanted = everything) -> Snapshot:
        """Pin a commit and list its tree. Identity: the blob id, and what git changes in it on the way.

        The commit is fetched, unless ``earlier`` is the same one: then not before a file of it is wanted.
        Raises what `Source.snapshot` names; `BadKeysError`: submodules, LFS pointers, filters, damaged links.
        """
        ref = None if self._ref.ref == "HEAD" else self._ref.ref
        pin = await self._repository.find(ref)
        if earlier is not None and earlier.version == self._version(pin):
            table = await blocking(earlier.read_table)
            if table is not None:
                self._pin = pin
                return self._snapshot(pin, table)
        self._pin = pin = await self._repository.fetch(pin)
        tree = GitTree(self._repository.reader(pin.commit), self._ref.subdir, self._private.path, self._ref.text)
        table, whole = await tree.table(wanted)
        snapshot = self._snapshot(pin, table)
        return snapshot if whole else replace(snapshot, version="", part_of=snapshot.version)

    async def adopt(self, listed: Snapshot) -> Snapshot:
        """The commit that was listed, whatever its ref is at now; it is fetched when a file of it is wanted."""
        commit, _, subdir = listed.version.partition(":")
        if not _COMMIT.fullmatch(commit) or subdir != (self._ref.subdir or ""):
            raise UsageError("the listing is of something else", where=self._ref.text, hint="name what was listed")
        self._pin = pin = await self._repository.find(commit)
        return self._snapshot(pin, listed.table)

    def _version(self, pin: Pin) -> str:
        return f"{pin.commit}:{self._ref.subdir or ''}"

    def _snapshot(self, pin: Pin, table: _native.KeyTable) -> Snapshot:
        pinned = {"commit": pin.commit, "ref": pin.ref, "asked": self._ref.ref, "subdir": self._ref.subdir}
        return Snapshot(
            table=table, pinned={k: v for k, v in pinned.items() if v is not None}, version=self._version(pin)
        )

    async def fetch(self, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded) -> None:
        """See `Source.fetch` and `stager.sources.git_checkout`."""
        if rows and self._pin is not None:
            await self._repository.fetch(self._pin)
            await check_out(self._repository.reader(self._pin.commit), self._prefix, snapshot, rows, landing, done)

    def _make_private(self) -> PrivateDirectory:
        return PrivateDirectory(self._state_dir or open_scratch(None, self._environ), "git-")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
