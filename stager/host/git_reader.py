"""Reads a commit out of a bare repository of our own: its tree, attributes, blobs, and files as git would write them.

Nothing is fetched: an object that is not there is an error, also where a promisor remote could give it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from stager.errors import IntegrityError, NotFoundError
from stager.host.git import GitFailure, error_from, local_environment, run_git, stream_git

__all__ = ["FILE", "LINK", "PROGRAM", "SUBMODULE", "CommitReader", "TreeRow"]

FILE: Final = b"100644"
PROGRAM: Final = b"100755"
LINK: Final = b"120000"
SUBMODULE: Final = b"160000"


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One line of a tree: path below the root asked for, blob id in hex, git's mode, size in bytes."""

    path: bytes
    blob: bytes
    mode: bytes
    size: int


class CommitReader:
    """See the module. ``index``: a path for git's index, made when it is needed; ``where``: for errors."""

    def __init__(self, commit: str, git_dir: str, index: str, *, environ: Mapping[str, str], where: str) -> None:
        self.commit = commit
        self._where = where
        self._environment = local_environment(git_dir, environ, GIT_INDEX_FILE=index)
        self._has_index = False

    async def list_tree(self, subdir: str | None) -> AsyncIterator[TreeRow]:
        """Every file, link and submodule of a commit, below ``subdir``. Raises `NotFoundError`: no such directory."""
        root = f"{self.commit}:{subdir}" if subdir else self.commit
        if subdir and await self._ask("cat-file", "-t", root) != "tree":
            raise NotFoundError(f"the commit has no directory {subdir!r}", where=self._where, hint="check subdir")
        rest = b""
        listing = stream_git(["ls-tree", "-r", "-z", "--long", root], self._environment)
        async with aclosing(listing) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\0")
                for line in lines:
                    head, _, path = line.partition(b"\t")
                    mode, _, blob, size = head.split()
                    yield TreeRow(path, blob, mode, 0 if size == b"-" else int(size))

    async def attributes(self, paths: Sequence[bytes]) -> dict[bytes, dict[bytes, bytes]]:
        """What .gitattributes of the commit say of full ``paths``, as far as it could change a file's bytes."""
        await self._read_index()
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
                raise IntegrityError("git gave another object than was asked for", where=self._where)
            contents[blob] = output[end + 1 : end + 1 + int(size)]
            at = end + 2 + int(size)
        return contents

    async def check_out(self, paths: Sequence[bytes], directory: str) -> None:
        """Write full ``paths`` of the commit below ``directory``, converted as its .gitattributes say; no filter runs.

        Raises `IntegrityError`: git refuses to write one of them. `NoSpaceError`.
        """
        await self._read_index()
        options = ["-c", "core.bare=false", "-c", "core.symlinks=true", "-c", "core.autocrlf=false"]
        options += ["-c", "core.eol=lf", "-c", "core.safecrlf=false", "-c", "checkout.workers=0"]
        await self._local(
            *options, "checkout-index", "--force", "-z", "--stdin",
            stdin=_joined(paths), cwd=directory, GIT_WORK_TREE=directory,
        )  # fmt: skip

    async def _read_index(self) -> None:
        if not self._has_index:
            await self._local("read-tree", "--end-of-options", self.commit)
            self._has_index = True

    async def _local(self, *arguments: str, stdin: bytes = b"", cwd: str = "/", **environment: str) -> bytes:
        try:
            return await run_git(arguments, {**self._environment, **environment}, stdin=stdin, cwd=cwd)
        except GitFailure as failure:
            raise error_from(failure, where=self._where) from None

    async def _ask(self, *arguments: str) -> str:
        """One line from git; empty when it has no answer."""
        try:
            return (await run_git(arguments, self._environment)).decode().strip()
        except GitFailure:
            return ""


def _joined(paths: Sequence[bytes]) -> bytes:
    return b"".join([path + b"\0" for path in paths])
