"""A private bare repository that receives one commit of a remote and gives its files out.

It lives in a directory made for one run and seen by nobody else, so no configuration, hook or index of an earlier run
or of a job is ever read. The remote is only read: ls-remote and fetch.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urlsplit

from stager.config import Retry
from stager.errors import IntegrityError, NotFoundError, TransientError, UsageError
from stager.host.git import GitFailure, error_from, local_environment, network_environment, run_git, stream_git
from stager.retry import wait_s

__all__ = ["FILE", "LINK", "PROGRAM", "SUBMODULE", "Pin", "PinnedRepository", "TreeRow"]

FILE, PROGRAM, LINK, SUBMODULE = b"100644", b"100755", b"120000", b"160000"

_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHORT_ID = re.compile(r"[0-9a-f]{7,63}")
_PINNED = "refs/stager/pinned"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """The commit, and the name that led to it ("refs/heads/main"; None: a commit was asked for)."""

    commit: str
    ref: str | None


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One line of a tree: path below the root asked for, blob id in hex, git's mode, size in bytes."""

    path: bytes
    blob: bytes
    mode: bytes
    size: int


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
        self._local_environment = local_environment(
            self._git_dir, environ, GIT_INDEX_FILE=os.path.join(directory, "index")
        )
        self._has_index = False
        self._fetched: Pin | None = None

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

    async def list_tree(self, commit: str, subdir: str | None) -> AsyncIterator[TreeRow]:
        """Every file, link and submodule of a commit, below ``subdir``. Raises `NotFoundError`: no such directory."""
        root = f"{commit}:{subdir}" if subdir else commit
        if subdir and await self._ask("cat-file", "-t", root) != "tree":
            raise NotFoundError(f"the commit has no directory {subdir!r}", where=self._url, hint="check subdir")
        rest = b""
        listing = stream_git(["ls-tree", "-r", "-z", "--long", root], self._local_environment)
        async with aclosing(listing) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\0")
                for line in lines:
                    head, _, path = line.partition(b"\t")
                    mode, _, blob, size = head.split()
                    yield TreeRow(path, blob, mode, 0 if size == b"-" else int(size))

    async def attributes(self, commit: str, paths: Sequence[bytes]) -> dict[bytes, dict[bytes, bytes]]:
        """What .gitattributes of the commit say of full ``paths``, as far as it could change a file's bytes."""
        await self._read_index(commit)
        names = ("filter", "eol", "ident", "working-tree-encoding")
        output = await self._local("check-attr", "--cached", "-z", "--stdin", *names, stdin=_joined(paths))
        found: dict[bytes, dict[bytes, bytes]] = {}
        texts = output.split(b"\0")
        for path, name, value in zip(texts[0::3], texts[1::3], texts[2::3], strict=False):
            if value not in (b"unspecified", b"unset"):
                found.setdefault(path, {})[name] = value
        return found

    async def read_blobs(self, blobs: Iterable[bytes]) -> dict[bytes, bytes]:
        """Small blobs by their id; the caller knows their sizes and bounds their sum."""
        wanted = list(dict.fromkeys(blobs))
        if not wanted:
            return {}
        output = await self._local("cat-file", "--batch", "--buffer", stdin=b"\n".join(wanted) + b"\n")
        contents: dict[bytes, bytes] = {}
        at = 0
        for blob in wanted:
            end = output.index(b"\n", at)
            identity, kind, size = output[at:end].split()
            if identity != blob or kind != b"blob":
                raise IntegrityError("git gave another object than was asked for", where=self._url)
            contents[blob] = output[end + 1 : end + 1 + int(size)]
            at = end + 2 + int(size)
        return contents

    async def check_out(self, commit: str, paths: Sequence[bytes], directory: str) -> None:
        """Write full ``paths`` of the commit below ``directory``, converted as its .gitattributes say; no filter runs.

        Raises `IntegrityError`: git refuses to write one of them. `NoSpaceError`.
        """
        await self._read_index(commit)
        options = ["-c", "core.bare=false", "-c", "core.symlinks=true", "-c", "core.autocrlf=false"]
        options += ["-c", "core.eol=lf", "-c", "core.safecrlf=false", "-c", "checkout.workers=0"]
        await self._local(
            *options, "checkout-index", "--force", "-z", "--stdin",
            stdin=_joined(paths), cwd=directory, GIT_WORK_TREE=directory,
        )  # fmt: skip

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

    async def _read_index(self, commit: str) -> None:
        if not self._has_index:
            await self._local("read-tree", "--end-of-options", commit)
            self._has_index = True

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


def _joined(paths: Sequence[bytes]) -> bytes:
    return b"".join([path + b"\0" for path in paths])


async def _resolver_is_down(url: str) -> bool:
    """Whether an unknown host is unknown only because nobody could be asked."""
    try:
        await asyncio.get_running_loop().getaddrinfo(urlsplit(url).hostname, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_AGAIN
    return False
