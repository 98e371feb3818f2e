"""A bare repository of one run, which receives one commit of a remote.

It is made for one run and seen by nobody else, so no configuration, hook or index of an earlier run or of a job is ever
read. What earlier runs fetched comes from the user's mirror on this node (`stager.host.git_mirror`), and is hashed
when it is read; what is new goes there. The remote is only read: ls-remote and fetch.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from stager.config import Retry
from stager.errors import (
    AccessDeniedError,
    HostError,
    NoSpaceError,
    NotFoundError,
    SourceError,
    TransientError,
    UsageError,
    from_os_error,
)
from stager.host.git import GitFailure, error_from, local_environment, network_environment, run_git
from stager.host.git_bare import make_bare_repository, read_shallow
from stager.host.git_mirror import Loan
from stager.host.git_place import GitPlace
from stager.host.git_reader import CommitReader
from stager.host.threads import blocking
from stager.retry import wait_s

__all__ = ["FULL_ID", "PINNED", "Pin", "PinnedRepository"]

FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_ID = re.compile(r"[0-9a-f]{7,63}")
PINNED = "refs/stager/pinned"
_SHA256_DIGITS = 64


@dataclass(frozen=True, kw_only=True)
class Pin:
    """The commit, and the name that led to it ("refs/heads/main"; None: a commit was asked for)."""

    commit: str
    ref: str | None


class PinnedRepository:
    """See the module. ``url`` holds no password.

    ``partial``: blobs of what was fetched are not here before they are brought. ``refs``: ids and names of the remote's
    branches, as git-clone(1) names them here, and tags, where all of them were fetched.
    """

    partial = False
    refs: Sequence[tuple[str, bytes]] = ()

    def __init__(
        self, place: GitPlace, url: str, *, environ: Mapping[str, str], retry: Retry, proxy: str | None = None
    ) -> None:
        self._place = place
        self._url = self.url = url
        self._environ = environ
        self._retry = retry
        self._network_environment = network_environment("", url, environ, proxy)
        self._local_environment = local_environment("", environ)
        self._git_dir = ""
        self._packs = ""
        self._loan = Loan()
        self._fetched: Pin | None = None

    @property
    def borrows(self) -> bool:
        """Whether something came from the mirror, which may be damaged: `fetch_anew` goes on without it."""
        return bool(self._loan.packs)

    @property
    def directory(self) -> str:
        """A private one, gone at the end of the run."""
        return self._place.directory

    def reader(self, commit: str) -> CommitReader:
        """What gives out a commit that has been fetched; one at a time."""
        index = os.path.join(self._git_dir, "index")
        return CommitReader(
            commit, self._git_dir, index, environ=self._environ, where=self._url, doubtful=self.borrows
        )

    async def find(self, ref: str | None) -> Pin:
        """The commit that ``ref`` (None: the remote's HEAD) is now; nothing is fetched.

        The id of a commit, whole or its start, is taken as it is.
        Raises `NotFoundError`, `AccessDeniedError`, `TransientError`, `UsageError`, `NoSpaceError`.
        """
        if ref is not None and FULL_ID.fullmatch(ref):
            return Pin(commit=ref, ref=None)
        try:
            await self._begin("")
        except NoSpaceError:
            if not await blocking(self._place.leave_mirror):
                raise
            await self._begin("")
        found = await self._resolve(ref)
        return Pin(commit=found[1], ref=found[0]) if found else Pin(commit=ref or "", ref=None)

    async def fetch(self, wanted: Pin) -> Pin:
        """Bring a commit here, without its history; the start of an id is looked for in all of it. Once is enough.

        Raises `NotFoundError`, `AccessDeniedError`, `TransientError`, `IntegrityError`, `UsageError`, `NoSpaceError`.
        """
        if self._fetched is None:
            try:
                self._fetched = await self._obtain(wanted)
            except NoSpaceError:
                if not await blocking(self._place.leave_mirror):
                    raise
                self._fetched = await self._bring(wanted, Loan())
        return self._fetched

    async def tree_of(self, commit: str) -> str:
        """The id of the tree of a commit that was fetched."""
        return await self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{tree}}")

    def pack_bytes(self) -> int:
        """What the packs take of all that is here; 0 before anything was fetched. Blocks. Raises `HostError`."""
        if self._fetched is None:
            return 0
        try:
            return sum(os.stat(os.path.join(self._packs, name)).st_size for name in os.listdir(self._packs))
        except OSError as error:
            raise from_os_error(error, doing="look at the packs", where=self._git_dir) from error

    async def bring(self, blobs: Iterable[bytes]) -> None:
        """Fetch blobs that are not here yet; here all are."""

    async def fetch_anew(self) -> None:
        """What came from the mirror is damaged: throw that away, and bring the commit again. Raises as `fetch`."""
        wanted, self._fetched = self._fetched, None
        await self._throw_away()
        if wanted is not None:
            await self.fetch(wanted)

    async def _begin(self, identity: str, loan: Loan | None = None) -> None:
        """A new repository for ids like ``identity``, in which there is what was lent."""
        self._loan = loan or Loan()
        self._git_dir = self._place.new_repository()
        for environment in (self._network_environment, self._local_environment):
            environment["GIT_DIR"] = self._git_dir
        await blocking(self._make, identity)

    def _make(self, identity: str) -> None:
        loan, object_format = self._loan, "sha256" if len(identity) == _SHA256_DIGITS else "sha1"
        try:
            self._packs = make_bare_repository(
                self._git_dir, object_format=object_format, known=loan.tips, shallow=loan.shallow
            )
            loan.link(self._packs)
        except OSError as error:
            raise from_os_error(error, doing="make a repository", where=self._git_dir) from error

    async def _obtain(self, wanted: Pin) -> Pin:
        """From the mirror what it has, and there what it has not."""
        mirror = self._place.mirror
        if mirror is None:
            return await self._bring(wanted, Loan())
        if found := await self._borrow(wanted):
            return found
        async with mirror.alone():
            if found := await self._borrow(wanted):  # somebody else has fetched it meanwhile
                return found
            loan = await blocking(mirror.lend_all)
            try:
                pin = await self._bring(wanted, loan)
            except (NotFoundError, AccessDeniedError, TransientError):
                raise
            except SourceError:
                if not loan.packs:
                    raise
                await self._throw_away()
                pin = await self._bring(wanted, Loan())
            with suppress(HostError):  # what cannot be kept serves this run all the same
                await self._keep(pin)
            return pin

    async def _borrow(self, wanted: Pin) -> Pin | None:
        mirror = self._place.mirror
        if mirror is None or not FULL_ID.fullmatch(wanted.commit):
            return None
        loan = await blocking(mirror.lend, wanted.commit)
        if loan is None:
            return None
        await self._begin(wanted.commit, loan)
        return wanted

    async def _bring(self, wanted: Pin, loan: Loan) -> Pin:
        await self._begin(wanted.commit if FULL_ID.fullmatch(wanted.commit) else "", loan)
        if FULL_ID.fullmatch(wanted.commit):
            return Pin(commit=await self._fetch(wanted.commit, wanted.ref), ref=wanted.ref)
        await self._fetch_everything()
        return Pin(commit=await self._commit_of(wanted.commit), ref=None)

    async def _keep(self, pin: Pin) -> None:
        """Let later runs have it: beside what is there, or in one pack with all that it leads to."""
        mirror = self._place.mirror
        if mirror is None:
            return
        shallow = await blocking(read_shallow, self._git_dir)
        kept = Loan(packs=self._loan.packs, shallow=shallow)
        if not await blocking(mirror.is_full, self._loan):
            await blocking(mirror.keep, self._packs, kept, commit=pin.commit)
            return
        anew = os.path.join(self._git_dir, "anew")
        await blocking(os.mkdir, anew)
        options = ("--revs", "--quiet", "--delta-base-offset")
        await self._local("pack-objects", *options, f"{anew}/pack", stdin=pin.commit.encode() + b"\n")
        await blocking(mirror.keep, anew, Loan(shallow=shallow & {pin.commit}), commit=pin.commit, anew=True)

    async def _throw_away(self) -> None:
        self._loan = Loan()
        if self._place.mirror is not None:
            with suppress(HostError):
                await blocking(self._place.mirror.discard)

    async def _resolve(self, ref: str | None) -> tuple[str, str] | None:
        """The ref's full name and its commit; None when it can only be the start of a commit's id."""
        wanted = ["HEAD"] if ref is None else [ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]
        found = await self._ask_remote(wanted)
        if ref is None:
            if "HEAD" not in found:
                raise NotFoundError("the repository has no default branch", where=self._url, hint="name a ref")
            return found.get("symref HEAD", "HEAD").removeprefix("ref: "), found["HEAD"]
        if ref.startswith("refs/") and ref in found:
            return ref, found.get(f"{ref}^{{}}", found[ref])
        branch = found.get(f"refs/heads/{ref}")
        tag = found.get(f"refs/tags/{ref}^{{}}", found.get(f"refs/tags/{ref}"))
        if branch and tag and branch != tag:
            raise UsageError(
                f"{ref} is a branch and a tag", where=self._url, hint=f"write refs/heads/{ref} or refs/tags/{ref}"
            )
        if branch or tag:
            return f"refs/{'tags' if tag else 'heads'}/{ref}", tag or branch or ""
        if _SHORT_ID.fullmatch(ref):
            return None
        raise NotFoundError(f"no branch, tag or commit {ref}", where=self._url, hint="check ref")

    async def _ask_remote(self, names: Sequence[str]) -> dict[str, str]:
        """What refs the remote has of these names: ids, and by "symref NAME" what a symbolic one stands for."""
        output = await self._network("ls-remote", "--quiet", "--symref", "--", self._url, *names)
        found: dict[str, str] = {}
        for line in output.decode("utf-8", "replace").splitlines():
            value, _, name = line.partition("\t")
            found[f"symref {name}" if value.startswith("ref: ") else name] = value
        return found

    async def _fetch(self, identity: str, name: str | None) -> str:
        """Bring one commit here: by its id; by its name where the server gives no ids; else from all history."""
        for wanted in filter(None, (identity, name)):
            try:
                await self._network(
                    "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--update-shallow",
                    "--", self._url, f"+{wanted}:{PINNED}",
                )  # fmt: skip
                commit = await self._commit_of(PINNED)
            except NotFoundError:
                continue
            if name is None or commit == identity:
                return commit
        await self._fetch_everything()
        return await self._commit_of(identity)

    async def _fetch_everything(self) -> None:
        await self._network(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow",
            "--", self._url, "+refs/heads/*:refs/stager/heads/*", "+refs/tags/*:refs/stager/tags/*",
        )  # fmt: skip

    async def _commit_of(self, name: str) -> str:
        commit = await self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if not commit:
            raise NotFoundError(f"no commit {name}", where=self._url, hint="check ref")
        return commit

    async def _local(self, *arguments: str, stdin: bytes = b"", cwd: str = "/", **environment: str) -> bytes:
        try:
            return await run_git(arguments, {**self._local_environment, **environment}, stdin=stdin, cwd=cwd)
        except GitFailure as failure:
            raise error_from(failure, where=self._url) from None

    async def _ask(self, *arguments: str) -> str:
        """One line from git; empty when it has no answer."""
        try:
            return (await run_git(arguments, self._local_environment)).decode().strip()
        except GitFailure:
            return ""

    async def _network(self, *arguments: str, most_bytes: int | None = None) -> bytes:
        attempt = 0
        while True:
            try:
                return await run_git(arguments, self._network_environment, most_bytes=most_bytes)
            except GitFailure as failure:
                error = error_from(failure, where=self._url)
                if "Could not resolve host" in failure.stderr and await _resolver_is_down(self._url):
                    error = TransientError("no name server answers", where=self._url, hint="check the network")
            attempt += 1
            if not error.retryable or attempt >= self._retry.attempts:
                raise error
            await asyncio.sleep(wait_s(self._retry, attempt, 0, random.random()))  # noqa: S311


async def _resolver_is_down(url: str) -> bool:
    """Whether an unknown host is unknown only because nobody could be asked."""
    try:
        await asyncio.get_running_loop().getaddrinfo(urlsplit(url).hostname, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_AGAIN
    return False
