"""A git remote as a source: one commit, pinned, fetched without history by the `git` program.

What a tree looks like here: exactly what `git archive COMMIT` holds, export-ignore and export-subst aside (those
describe releases, not data). That is: blobs as committed, with `eol`, `ident` and `working-tree-encoding` of
.gitattributes applied by git itself; executable bits; symlinks as links; in place of Git LFS pointers the objects that
they stand for (`stager.sources.lfs`). Refused by name, because the tree would not be what its authors mean: submodules,
other filters.

Grade A: git computes every object's id from the bytes it received (index-pack with fsck), up to the commit's; and
each file that lies there afterwards is hashed here and compared with its blob's id, where git converts nothing.
"""

from __future__ import annotations

import functools
import importlib
import ipaddress
import json
import os
import re
from array import array
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import urlsplit

from msgspec.structs import replace

from stager import _native
from stager.config import GitOptions, Remote, Retry
from stager.errors import BadKeysError, IntegrityError, UsageError
from stager.host.git_place import GitPlace
from stager.host.gitrepo import Pin, PinnedRepository
from stager.host.threads import blocking, together
from stager.model import Grade, SourceRef
from stager.names import show
from stager.sources.base import Capabilities, Earlier, Landing, OnLanded, Snapshot, Wanted, everything
from stager.sources.git_checkout import check_out
from stager.sources.git_problems import first_of
from stager.sources.git_tree import GitTree, Listed
from stager.sources.lfs_rows import LfsLeft, lfs_choice, lfs_counts, lfs_warnings, part_lfs
from stager.transfer import Transfer

if TYPE_CHECKING:
    from stager.sources.git_lfs import GitLfs

__all__ = ["GitSource"]

Result = TypeVar("Result")

_VERSION = re.compile(r"(?s)(?P<commit>[0-9a-f]{40}|[0-9a-f]{64}):(?P<subdir>.*?)(#\[(true|false), .*\])?")
_LFS: Final = "stager.sources.git_lfs"  # imported where a tree has objects of it


class GitSource:
    """See the module.

    The repository lives in a fresh private directory in the user's scratch, and takes from the mirror there what
    earlier runs fetched; where there is none, below ``state_dir`` (None: the scratch), which is there when the source
    is entered. It is gone at exit. Plain http is for loopback, or when ``allow_plain_http`` says so.
    """

    capabilities = Capabilities(modes=True, times="never", grade=Grade.A)

    def __init__(
        self,
        ref: SourceRef,
        *,
        remote: Remote | None = None,
        transfer: Transfer | None = None,
        git: GitOptions = GitOptions(),  # noqa: B008  (frozen)
        state_dir: str | None = None,
        environ: Mapping[str, str] | None = None,
        retry: Retry = Retry(attempts=4, base_s=0.5),  # noqa: B008  (frozen)
        allow_plain_http: bool = False,
    ) -> None:
        """``remote`` and ``transfer`` are what every source is made with; of the first this one needs only the proxy,
        and the second for what Git LFS keeps.
        """
        if urlsplit(ref.location).scheme == "http" and not allow_plain_http and not _is_loopback(ref.location):
            raise UsageError("git over plain http is refused", where=ref.text, hint="use git+https:// or git+ssh://")
        self._ref = ref
        self._options = git
        self._transfer = transfer
        self._left = LfsLeft()
        self._state_dir = state_dir
        self._environ = dict(os.environ if environ is None else environ)
        self._retry = retry
        self._proxy = remote.proxy if remote is not None else None
        self._pin: Pin | None = None
        self._prefix = f"{ref.subdir}/".encode() if ref.subdir else b""

    async def __aenter__(self) -> Self:
        """Make the private directory. Raises `NoSpaceError`, `HostError`."""
        self._place = await blocking(GitPlace, self._ref.location, self._state_dir, self._environ)
        self._repository = PinnedRepository(
            self._place, self._ref.location, environ=self._environ, retry=self._retry, proxy=self._proxy
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Remove the private directory."""
        await blocking(self._place.close)

    async def snapshot(self, earlier: Earlier | None = None, wanted: Wanted = everything) -> Snapshot:
        """Pin a commit and list its tree. Identity: the blob id, and what git changes in it on the way.

        The commit is fetched, unless ``earlier`` is the same one: then not before a file of it is wanted.
        Raises what `Source.snapshot` names; `BadKeysError`: submodules, LFS pointers, filters, damaged links.
        """
        ref = None if self._ref.ref == "HEAD" else self._ref.ref
        pin = await self._repository.find(ref)
        if earlier is not None and earlier.version == self._version(pin):
            recorded = await blocking(earlier.read_table)
            if recorded is not None:
                self._pin = pin
                return self._snapshot(pin, recorded)
        self._pin = pin = await self._repository.fetch(pin)
        listed = await self._believing(functools.partial(self._list, pin, wanted))
        self._refuse_submodules(listed, wanted)
        self._left = listed.lfs
        snapshot = replace(self._snapshot(pin, listed.table), warnings=lfs_warnings(listed.lfs))
        return snapshot if listed.whole else replace(snapshot, version="", part_of=snapshot.version)

    async def adopt(self, listed: Snapshot) -> Snapshot:
        """The commit that was listed, whatever its ref is at now; it is fetched when a file of it is wanted."""
        found = _VERSION.fullmatch(listed.version)
        if found is None or found["subdir"] != (self._ref.subdir or ""):
            raise UsageError("the listing is of something else", where=self._ref.text, hint="name what was listed")
        self._pin = pin = await self._repository.find(found["commit"])
        return replace(self._snapshot(pin, listed.table), version=listed.version)

    def _version(self, pin: Pin) -> str:
        """The commit, and all else that makes a table of it: the subdirectory, which LFS objects are wanted."""
        text = f"{pin.commit}:{self._ref.subdir or ''}"
        asked = self._options
        if asked == GitOptions():
            return text
        return f"{text}#{json.dumps([asked.lfs, asked.lfs_include, asked.lfs_exclude])}"

    def _refuse_submodules(self, listed: Listed, wanted: Wanted) -> None:
        names = [show(row.path) for row in listed.submodules if wanted(row.path[len(self._prefix) :])]
        if names:
            raise BadKeysError(
                "submodules are not available in this version", first_of(names), where=self._ref.text,
                hint="stage each submodule's repository as a dataset of its own",
            )  # fmt: skip

    def _snapshot(self, pin: Pin, table: _native.KeyTable) -> Snapshot:
        pinned = {"commit": pin.commit, "ref": pin.ref, "asked": self._ref.ref, "subdir": self._ref.subdir,
                  "lfs": lfs_counts(table, self._left) or None}
        return Snapshot(
            table=table, pinned={k: v for k, v in pinned.items() if v is not None}, version=self._version(pin)
        )

    async def fetch(self, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded) -> None:
        """See `Source.fetch` and `stager.sources.git_checkout`."""
        if not rows or self._pin is None:
            return
        pin = await self._repository.fetch(self._pin)
        has_landed = bytearray(len(snapshot.table))

        def landed(finished: array[int]) -> None:
            for row in finished:
                has_landed[row] = 1
            done(finished)

        async def bring() -> None:
            reader = self._repository.reader(pin.commit)
            plain, objects = part_lfs(snapshot.table, array("I", (row for row in rows if not has_landed[row])))
            work = [check_out(reader, self._prefix, snapshot, plain, landing, landed)] if plain else []
            if objects:
                work.append(self._lfs().fetch(reader, snapshot.table, objects, landing, landed))
            await together(*work)

        await self._believing(bring)

    async def _list(self, pin: Pin, wanted: Wanted) -> Listed:
        tree = GitTree(
            reader=self._repository.reader(pin.commit),
            paths=(self._prefix[:-1],) if self._prefix else (), root=self._prefix,
            lfs=self._options.lfs, lfs_wanted=lfs_choice(self._options),
            private=self._place.directory, where=self._ref.text,
        )  # fmt: skip
        return await tree.read(wanted)

    def _lfs(self) -> GitLfs:
        if self._transfer is None:
            raise ValueError("what Git LFS keeps needs a transfer")
        made: GitLfs = importlib.import_module(_LFS).GitLfs(
            url=self._ref.location, ref=self._pin.ref if self._pin else None, environ=self._environ,
            proxy=self._proxy, retry=self._retry, transfer=self._transfer, where=self._ref.text,
        )  # fmt: skip
        return made

    async def _believing(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """What comes of ``work``; once more, with the commit fetched anew, when what the mirror lent is damaged."""
        try:
            return await work()
        except IntegrityError:
            if not self._repository.borrows:
                raise
            await self._repository.fetch_anew()
            return await work()


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
