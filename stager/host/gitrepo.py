"""A private bare repository that receives one commit of a remote.

It lives in a directory made for one run and seen by nobody else, so no configuration, hook or index of an earlier run
or of a job is ever read. The remote is only read: ls-remote and fetch.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from stager.config import Retry
from stager.errors import NotFoundError, TransientError, UsageError
from stager.host.git import GitFailure, error_from, local_environment, network_environment, run_git
from stager.host.git_reader import CommitReader
from stager.retry import wait_s

__all__ = ["Pin", "PinnedRepository"]

_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_ID = re.compile(r"[0-9a-f]{7,63}")
_PINNED = "refs/stager/pinned"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """The commit, and the name that led to it ("refs/heads/main"; None: a commit was asked for)."""

    commit: str
    ref: str | None


class PinnedRepository:
    """See the module. ``directory`` is private and empty; ``url`` holds no password."""

    def __init__(
        self, directory: str, url: str, *, environ: Mapping[str, str], retry: Retry, proxy: str | None = None
    ) -> None:
        self._git_dir = os.path.join(directory, "repository.git")
        self._url = url
        self._retry = retry
        self._environ = environ
        self._network_environment = network_environment(self._git_dir, url, environ, proxy)
        self._local_environment = local_environment(self._git_dir, environ)
        self._directory = directory
        self._fetched: Pin | None = None

    def reader(self, commit: str) -> CommitReader:
        """What gives out a commit that has been fetched; one at a time."""
        index = os.path.join(self._directory, "index")
        return CommitReader(commit, self._git_dir, index, environ=self._environ, where=self._url)

    async def find(self, ref: str | None) -> Pin:
        """The commit that ``ref`` (None: the remote's HEAD) is now; nothing is fetched.

        The id of a commit, whole or its start, is taken as it is.
        Raises `NotFoundError`, `AccessDeniedError`, `TransientError`, `UsageError`.
        """
        if ref is not None and _FULL_ID.fullmatch(ref):
            return Pin(commit=ref, ref=None)
        await self._init("")
        found = await self._resolve(ref)
        return Pin(commit=found[1], ref=found[0]) if found else Pin(commit=ref or "", ref=None)

    async def fetch(self, wanted: Pin) -> Pin:
        """Bring a commit here, without its history; the start of an id is looked for in all of it. Once is enough.

        Raises `NotFoundError`, `AccessDeniedError`, `TransientError`, `IntegrityError`, `UsageError`, `NoSpaceError`.
        """
        if self._fetched is None:
            if _FULL_ID.fullmatch(wanted.commit):
                await self._init(wanted.commit)
                self._fetched = Pin(commit=await self._fetch(wanted.commit, wanted.ref), ref=wanted.ref)
            else:
                await self._fetch_everything()
                self._fetched = Pin(commit=await self._commit_of(wanted.commit), ref=None)
        return self._fetched

    async def _init(self, identity: str) -> None:
        object_format = "sha256" if len(identity) == 64 else "sha1"
        if object_format == "sha256":
            self._git_dir += "256"
            self._network_environment["GIT_DIR"] = self._local_environment["GIT_DIR"] = self._git_dir
        await self._local("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}")

    async def _resolve(self, ref: str | None) -> tuple[str, str] | None:
        """The ref's full name and its commit; None when it can only be the start of a commit's id."""
        wanted = ["HEAD"] if ref is None else [ref, f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]
        output = await self._network("ls-remote", "--quiet", "--symref", "--", self._url, *wanted)
        found: dict[str, str] = {}
        for line in output.decode("utf-8", "replace").splitlines():
            value, _, name = line.partition("\t")
            found[f"symref {name}" if value.startswith("ref: ") else name] = value
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

    async def _fetch(self, identity: str, name: str | None) -> str:
        """Bring one commit here: by its id; by its name where the server gives no ids; else from all history."""
        for wanted in filter(None, (identity, name)):
            try:
                await self._network(
                    "fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--update-shallow",
                    "--", self._url, f"+{wanted}:{_PINNED}",
                )  # fmt: skip
                commit = await self._commit_of(_PINNED)
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

    async def _local(self, *arguments: str) -> bytes:
        try:
            return await run_git(arguments, self._local_environment)
        except GitFailure as failure:
            raise error_from(failure, where=self._url) from None

    async def _ask(self, *arguments: str) -> str:
        """One line from git; empty when it has no answer."""
        try:
            return (await run_git(arguments, self._local_environment)).decode().strip()
        except GitFailure:
            return ""

    async def _network(self, *arguments: str) -> bytes:
        attempt = 0
        while True:
            try:
                return await run_git(arguments, self._network_environment)
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
