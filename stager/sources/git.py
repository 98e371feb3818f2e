"""A git remote as a source: one commit, pinned, fetched by the `git` program, with its history when that is wanted.

What a tree looks like here: exactly what `git archive COMMIT` holds, export-ignore and export-subst aside (those
describe releases, not data). That is: blobs as committed, with `eol`, `ident` and `working-tree-encoding` of
.gitattributes applied by git itself; executable bits; symlinks as links; in place of Git LFS pointers the objects that
they stand for (`stager.sources.lfs`). Refused by name, because the tree would not be what its authors mean: other
filters. Submodules are part of it when they are asked for, each as it is at its pinned commit; otherwise, as with git
clone, they are left out, which is told.

Grade A: git computes every object's id from the bytes it received (index-pack with fsck), up to the commit's; and
each file that lies there afterwards is hashed here and compared with its blob's id, where git converts nothing.
"""

from __future__ import annotations

import importlib
import os
import stat
from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from msgspec.structs import replace

from stager import _native
from stager.config import GitOptions, Remote, Retry
from stager.errors import StagerError, UsageError
from stager.host.git_partial import PartialRepository
from stager.host.git_place import GitPlace
from stager.host.git_settings import GitSettings
from stager.host.gitrepo import FULL_ID, Pin, PinnedRepository
from stager.host.threads import blocking, together
from stager.model import Grade, SourceRef
from stager.sources.base import Beside, Capabilities, Earlier, Landing, OnLanded, Snapshot, Wanted, everything
from stager.sources.git_checkout import bring_files, check_out
from stager.sources.git_forest import Forest, Grown, Member, believing, named, rows_of
from stager.sources.git_lfsconfig import read_lfsconfig, to_record
from stager.sources.git_urls import is_loopback, submodule_url
from stager.sources.git_version import GitVersion, LfsConfig, LfsSeen
from stager.sources.lfs_choice import Configured, LfsChoice, configured_for
from stager.sources.lfs_rows import lfs_counts, part_lfs
from stager.transfer import Transfer
from stager.urls import redacted

if TYPE_CHECKING:
    from stager.sources.git_lfs import GitLfs

__all__ = ["GitSource"]

_LFS: Final = "stager.sources.git_lfs"  # imported where a tree has objects of it
_HISTORY: Final = "stager.sources.git_history"  # imported where it is wanted


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
        scratch: str | None = None,
        environ: Mapping[str, str] | None = None,
        retry: Retry = Retry(attempts=4, base_s=0.5),  # noqa: B008  (frozen)
        allow_plain_http: bool = False,
    ) -> None:
        """``remote`` and ``transfer`` are what every source is made with; of the first this one needs only the proxy,
        and the second for what Git LFS keeps. ``scratch``: where what is fetched is kept for others, unless it is kept
        on this node already; None: STAGER_SCRATCH or the default.
        """
        scheme, host = urlsplit(ref.location).scheme, urlsplit(ref.location).hostname or ""
        if scheme == "http" and not allow_plain_http and not is_loopback(host):
            raise UsageError("git over plain http is refused", where=ref.text, hint="use git+https:// or git+ssh://")
        self._ref = ref
        self._options = git
        self._transfer = transfer
        self._state_dir = state_dir
        self._scratch = scratch
        self._environ = dict(os.environ if environ is None else environ)
        self._retry = retry
        self._proxy = remote.proxy if remote is not None else None
        self._allow_plain_http = allow_plain_http
        self._places: list[GitPlace] = []
        self._pin: Pin | None = None
        self._version = GitVersion(commit="")
        self._members: Sequence[Member] = ()

    async def __aenter__(self) -> Self:
        """Make the private directory. Raises `NoSpaceError`, `HostError`."""
        asked = self._options
        self._repository = await self._open(self._ref.location, bool(asked.paths or self._ref.subdir))
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Remove the private directories."""
        for place in self._places:
            await blocking(place.close)

    async def snapshot(self, earlier: Earlier | None = None, wanted: Wanted = everything) -> Snapshot:
        """Pin a commit and list its tree. Identity: the blob id, and what git changes in it on the way.

        The commit is fetched, unless ``earlier`` is the same one: then not before a file of it is wanted.
        Raises what `Source.snapshot` names; `BadKeysError`: submodules, LFS pointers, filters, damaged links.
        """
        pin = await self._repository.find(None if self._ref.ref == "HEAD" else self._ref.ref)
        known = GitVersion.parse(earlier.version) if earlier is not None else None
        if earlier is not None and known is not None and known.is_of(self._asked(pin)):
            recorded = await blocking(earlier.read_table) if await self._wants_as(known) else None
            if recorded is not None:
                return self._snapshot(pin, recorded, known)
        pin = await self._repository.fetch(pin)
        configured = await self._configured()
        forest = Forest(
            open=self._open, with_submodules=self._options.submodules, environ=self._environ,
            lfs=LfsChoice(options=self._options, configured=configured) if self._options.lfs else None,
            allow_plain_http=self._allow_plain_http, where=self._ref.text,
            known=await blocking(_known_sizes, earlier) if self._repository.partial else {},
        )  # fmt: skip
        grown = await forest.grow(self._root(pin, self._options), wanted)
        version = replace(
            self._asked(pin), tree=await self._repository.tree_of(pin.commit), submodules=grown.submodules(),
            left_out=tuple(grown.left_out), lfs=_seen(grown, configured),
        )  # fmt: skip
        snapshot = self._snapshot(pin, grown.table, version)
        self._members = grown.members
        return snapshot if grown.whole else replace(snapshot, version="", part_of=snapshot.version)

    async def adopt(self, listed: Snapshot) -> Snapshot:
        """The commit that was listed, whatever its ref is at now; it is fetched when a file of it is wanted."""
        version = GitVersion.parse(listed.version)
        if version is None or version.subdir != (self._ref.subdir or ""):
            raise UsageError("the listing is of something else", where=self._ref.text, hint="name what was listed")
        if version.options.paths and not self._repository.partial:  # asked for then, not now
            self._repository = await self._open(self._ref.location, True)
        pin = await self._repository.find(version.commit)
        return replace(self._snapshot(pin, listed.table, version), version=listed.version)

    async def prove_access(self, snapshot: Snapshot) -> None:
        """Nothing to do: who may list a repository may fetch it."""

    async def fetch(self, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded) -> None:
        """See `Source.fetch` and `stager.sources.git_checkout`."""
        if not rows or self._pin is None:
            return
        if not self._members:
            self._members = await self._recorded_members()
        for member, part in rows_of(self._members, snapshot.table, rows):
            try:
                await self._fetch_from(member, snapshot, part, landing, done)
            except StagerError as error:
                raise named(error, member) from error

    def history_bytes(self) -> int:
        """See `Historian.history_bytes`."""
        return self._repository.pack_bytes()

    def history_refs(self) -> frozenset[tuple[str, bytes]]:
        """See `Historian.history_refs`."""
        return frozenset(self._repository.refs)

    async def make_history(self, where: str, beside: Beside) -> None:
        """See `Historian.make_history` and `stager.sources.git_history`. Raises `ValueError`: it was not wanted."""
        pin = self._pin
        if pin is None or not self._options.history:
            raise ValueError("there is no history without a snapshot, and where none was wanted")
        make, repository = importlib.import_module(_HISTORY).make_history, self._repository
        _, objects = part_lfs(beside.entries.table, beside.entries.stands())
        await believing(repository, lambda: make(repository, pin, where, beside, lfs=bool(objects)))

    async def _fetch_from(
        self, member: Member, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded
    ) -> None:
        plain, objects = part_lfs(snapshot.table, rows)
        if not plain and member.lfsconfig is not None:  # nothing of the commit is needed
            await self._lfs(member).fetch(member.lfsconfig, snapshot.table, objects, landing, done)
            return
        await member.repository.fetch(member.pin)
        has_landed = bytearray(len(snapshot.table))

        def landed(finished: array[int]) -> None:
            for row in finished:
                has_landed[row] = 1
            done(finished)

        async def bring() -> None:
            reader = member.repository.reader(member.pin.commit)
            plain, objects = part_lfs(snapshot.table, array("I", (row for row in rows if not has_landed[row])))
            work = []
            if plain:
                await bring_files(member.repository, reader, snapshot.table, plain)
                work.append(
                    check_out(reader, snapshot, plain, landing, landed, root=member.root, mount=member.mount)
                )
            if objects:
                config = member.lfsconfig
                if config is None:
                    config = await read_lfsconfig(
                        member.repository, reader, self._environ, where=self._ref.text
                    )
                work.append(self._lfs(member).fetch(config, snapshot.table, objects, landing, landed))
            await together(*work)

        await believing(member.repository, bring)

    async def _open(self, url: str, partial: bool) -> PinnedRepository:
        """``partial``: perhaps only some of its files will be asked for. Raises `NoSpaceError`, `HostError`."""
        history = self._options.history
        place = await blocking(
            GitPlace, url, self._state_dir, self._environ, kind="history" if history else "commits",
            scratch=self._scratch,
        )  # fmt: skip
        self._places.append(place)
        kind = PartialRepository if partial else PinnedRepository
        if history:
            kind = importlib.import_module(_HISTORY).HistoryRepository
        return kind(place, url, environ=self._environ, retry=self._retry, proxy=self._proxy)

    async def _configured(self) -> Configured:
        return await configured_for(self._options, self._ref.location, self._environ, self._proxy)

    async def _wants_as(self, known: GitVersion) -> bool:
        """Whether the user's configuration wants of Git LFS what it wanted then."""
        return known.lfs is None or known.lfs.configured == await self._configured()

    def _asked(self, pin: Pin) -> GitVersion:
        return GitVersion.of(pin.commit, self._ref.subdir, self._options)

    def _root(self, pin: Pin, options: GitOptions) -> Member:
        """The superproject."""
        prefix = os.fsencode(f"{self._ref.subdir}/") if self._ref.subdir else b""
        paths = tuple(prefix + os.fsencode(path.strip("/")) for path in options.paths)
        return Member(
            repository=self._repository, url=self._ref.location, pin=pin, root=prefix,
            paths=paths or ((prefix[:-1],) if prefix else ()),
        )  # fmt: skip

    async def _recorded_members(self) -> list[Member]:
        """Of a version that was not listed in this run. Raises `UsageError`: a URL that no listing could have told."""
        assert self._pin is not None
        root_config = self._version.lfs.lfsconfig if self._version.lfs is not None else None
        members = [replace(self._root(self._pin, GitOptions()), lfsconfig=_settings(root_config))]
        for one in self._version.submodules:
            try:
                url = submodule_url(self._ref.location, one.url, allow_plain_http=self._allow_plain_http)
            except ValueError as error:
                raise UsageError(f"the URL of a submodule {error}", where=redacted(one.url)) from None
            members.append(
                Member(
                    repository=await self._open(url, False), url=url, pin=Pin(commit=one.commit, ref=None),
                    mount=one.mount, root=one.root, at=one.mount.removesuffix(b"/") or b"?",
                    lfsconfig=_settings(one.lfsconfig),
                )
            )  # fmt: skip
        return members

    def _snapshot(self, pin: Pin, table: _native.KeyTable, version: GitVersion) -> Snapshot:
        self._pin, self._version, self._members = pin, version, []
        pinned = {"commit": pin.commit, "ref": pin.ref, "asked": self._ref.ref, "subdir": self._ref.subdir,
                  "lfs": lfs_counts(table, version.lfs_left) or None, **version.pinned()}  # fmt: skip
        return Snapshot(
            table=table, pinned={k: v for k, v in pinned.items() if v is not None}, version=version.text,
            warnings=version.warnings(),
        )  # fmt: skip

    def _lfs(self, member: Member) -> GitLfs:
        if self._transfer is None:
            raise ValueError("what Git LFS keeps needs a transfer")
        made: GitLfs = importlib.import_module(_LFS).GitLfs(
            url=member.url, ref=member.pin.ref, environ=self._environ, proxy=self._proxy, retry=self._retry,
            transfer=self._transfer, where=self._ref.text, scratch=self._scratch,
        )  # fmt: skip
        return made


def _seen(grown: Grown, configured: Configured) -> LfsSeen | None:
    """For a version."""
    if not grown.lfs.undeclared and all(member.lfsconfig is None for member in grown.members):
        return None
    return LfsSeen(
        configured=configured, excluded=grown.lfs.excluded, undeclared=grown.lfs.undeclared,
        lfsconfig=to_record(grown.members[0].lfsconfig),
    )  # fmt: skip


def _settings(config: LfsConfig) -> GitSettings | None:
    return None if config is None else GitSettings(config)


def _known_sizes(earlier: Earlier | None) -> dict[tuple[bool, bytes], int]:
    """Sizes of blobs that an earlier run has listed and judged, by whether they are links, and id. Blocks."""
    table = earlier.read_table() if earlier is not None else None
    return {
        (stat.S_ISLNK(mode), identity): size
        for _, size, identity, _, mode in (table.rows() if table is not None else ())
        if FULL_ID.fullmatch(identity.decode("latin-1"))
    }
