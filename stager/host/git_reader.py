"""Reads a commit out of a bare repository of our own: its tree, attributes, blobs, and files as git would write them.

Nothing is fetched: an object that is not there is an error, also where a promisor remote could give it. Of a repository
with packs of earlier runs all that is read here is hashed first; files are by who puts them in place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from stager.errors import IntegrityError, NotFoundError, SourceError
from stager.host.git import GitFailure, error_from, local_environment, run_git, stream_git
from stager.host.git_objects import check_trees, read_objects

__all__ = ["FILE", "LINK", "PROGRAM", "SUBMODULE", "CommitReader", "TreeRow"]

FILE: Final = b"100644"
PROGRAM: Final = b"100755"
LINK: Final = b"120000"
SUBMODULE: Final = b"160000"

_TELLS_DAMAGE: Final = (SourceError, NotFoundError, IntegrityError)


@dataclass(frozen=True, slots=True)
class TreeRow:
    """One line of a tree: path below the root asked for, blob id in hex, git's mode, size in bytes."""

    path: bytes
    blob: bytes
    mode: bytes
    size: int


class CommitReader:
    """See the module. ``index``: a path for git's index, made when it is needed; ``doubtful``: packs of earlier runs
    are in it; ``where``: for errors.
    """

    def __init__(
        self, commit: str, git_dir: str, index: str, *, environ: Mapping[str, str], where: str, doubtful: bool
    ) -> None:
        self.commit = commit
        self._where = where
        self._environment = local_environment(git_dir, environ, GIT_INDEX_FILE=index)
        self._doubtful = doubtful
        self._has_index = False
        self._has_checked = False

    async def list_tree(self, subdir: str | None) -> AsyncIterator[TreeRow]:
        """Every file, link and submodule of a commit, below ``subdir``.

        Raises `NotFoundError`: no such directory. `IntegrityError`.
        """
        await self._check_trees()
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
        """Small blobs by their id; the caller knows their sizes and bounds their sum. Raises `IntegrityError`."""
        return await read_objects(blobs, self._environment, where=self._where)

    async def check_blobs(self, blobs: Iterable[bytes]) -> None:
        """That nobody has put other bytes in their place, whatever their sizes. Raises `IntegrityError`."""
        if self._doubtful:
            await read_objects(blobs, self._environment, where=self._where, keep=False)

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
            await self._check_trees()
            await self._local("read-tree", "--end-of-options", self.commit)
            self._has_index = True

    async def _local(self, *arguments: str, stdin: bytes = b"", cwd: str = "/", **environment: str) -> bytes:
        try:
            return await run_git(arguments, {**self._environment, **environment}, stdin=stdin, cwd=cwd)
        except GitFailure as failure:
            error = error_from(failure, where=self._where)
            if self._doubtful and type(error) in _TELLS_DAMAGE:
                raise IntegrityError(error.what, where=self._where, hint="run this again") from None
            raise error from None

    async def _check_trees(self) -> None:
        if self._doubtful and not self._has_checked:
            await check_trees(self.commit, self._environment, where=self._where)
            self._has_checked = True

    async def _ask(self, *arguments: str) -> str:
        """One line from git; empty when it has no answer."""
        try:
            return (await run_git(arguments, self._environment)).decode().strip()
        except GitFailure:
            return ""


def _joined(paths: Sequence[bytes]) -> bytes:
    return b"".join([path + b"\0" for path in paths])
