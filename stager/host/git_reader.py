"""Reads a commit out of a bare repository of our own: its tree, attributes, blobs, and files as git would write them.

Nothing is fetched: an object that is not there is an error, also where a promisor remote could give it. Of a repository
with packs of earlier runs all that is read here is hashed first; files are by who puts them in place.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from stager.errors import IntegrityError, NotFoundError, SourceError, StagerError
from stager.host.git import GitFailure, error_from, local_environment, run_git, stream_git
from stager.host.git_objects import check_trees, hash_name, read_objects
from stager.host.git_pipe import GitPipe

__all__ = ["FILE", "LINK", "PROGRAM", "SUBMODULE", "CommitReader", "TreeRow", "is_blob"]

FILE: Final = b"100644"
PROGRAM: Final = b"100755"
LINK: Final = b"120000"
SUBMODULE: Final = b"160000"
_TREE: Final = b"040000"

_ARGUMENTS_MAX_BYTES: Final = 64 << 10  # paths that are told to git; of more it is asked for everything
_ATTRIBUTES: Final = ("filter", "text", "crlf", "eol", "ident", "working-tree-encoding")  # what convert.c looks at

_TELLS_DAMAGE: Final = (SourceError, NotFoundError, IntegrityError)


class TreeRow(NamedTuple):
    """One entry of a tree that is no tree: path from the root, id in hex, git's mode, size (-1: not asked for)."""

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

    async def list_tree(
        self, paths: Sequence[bytes] = (), *, sizes: bool = True
    ) -> AsyncGenerator[list[TreeRow], None]:
        """Every file, link and submodule at or below one of ``paths`` (none: all), some at a time; use it, as what
        else is a generator here, inside `contextlib.aclosing`.

        ``sizes``: those of blobs are told, which have to be there then.
        """
        few = sum(map(len, paths)) < _ARGUMENTS_MAX_BYTES
        options = ("-r", "-z", "--long") if sizes else ("-r", "-z")
        await self._check_trees()
        rest = b""
        async with aclosing(self._stream("ls-tree", *options, self.commit, "--", *(paths if few else ()))) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\0")
                yield [_row(line) for line in lines]

    async def entries(self, paths: Sequence[bytes]) -> dict[bytes, TreeRow]:
        """Files, links and submodules that stand at exactly these paths, few of them."""
        if not paths:
            return {}
        await self._check_trees()
        output = await self._local("ls-tree", "-z", self.commit, "--", *paths)
        rows = {row.path: row for row in map(_row, output.split(b"\0")[:-1]) if row.mode != _TREE}
        return {path: rows[path] for path in paths if path in rows}

    async def sizes(self, blobs: Iterable[bytes]) -> dict[bytes, int]:
        """Sizes of blobs, as far as they are here."""
        found: dict[bytes, int] = {}
        asked = b"".join([blob + b"\n" for blob in dict.fromkeys(blobs)])
        rest = b""
        command = self._stream("cat-file", "--buffer", "--batch-check=%(objectname) %(objectsize)", stdin=asked)
        async with aclosing(command) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    blob, _, size = line.partition(b" ")
                    if size.isdigit():
                        found[blob] = int(size)
        return found

    async def attributes(self, paths: Sequence[bytes]) -> dict[bytes, dict[bytes, bytes]]:
        """What .gitattributes of the commit say of ``paths``, as far as it could change a file's bytes on the way out
        ("set", "unset" or a value); only of those that have something said of them.
        """
        await self._read_index()
        found: dict[bytes, dict[bytes, bytes]] = {}
        rest: list[bytes] = [b""]
        command = self._stream("check-attr", "--cached", "-z", "--stdin", *_ATTRIBUTES, stdin=_joined(paths))
        async with aclosing(command) as pieces:
            async for piece in pieces:
                texts = (rest.pop() + piece).split(b"\0")
                texts = rest + texts
                whole = (len(texts) - 1) // 3 * 3
                for at in range(0, whole, 3):
                    if texts[at + 2] != b"unspecified":
                        found.setdefault(texts[at], {})[texts[at + 1]] = texts[at + 2]
                rest = texts[whole:]
        return found

    async def read_blobs(self, blobs: Iterable[bytes]) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """Small blobs, each once: id and bytes. The caller knows their sizes. Raises `IntegrityError`."""
        wanted = list(dict.fromkeys(blobs))
        asked = b"".join([blob + b"\n" for blob in wanted])
        data, at = b"", 0
        numbered = iter(wanted)
        blob = next(numbered, None)
        async with aclosing(self._stream("cat-file", "--batch", "--buffer", stdin=asked)) as pieces:
            async for piece in pieces:
                data, at = data[at:] + piece, 0
                while blob is not None and (end := data.find(b"\n", at)) >= 0:
                    head = data[at:end].split()
                    if len(head) != 3 or head[0] != blob or head[1] != b"blob":
                        raise IntegrityError(f"git has no blob {blob.decode()}", where=self._where)
                    begin, size = end + 1, int(head[2])
                    if len(data) <= begin + size:
                        break
                    content = data[begin : begin + size]
                    if self._doubtful and not is_blob(blob, size, [content]):
                        raise IntegrityError(f"blob {blob.decode()} is not what its id says", where=self._where)
                    yield blob, content
                    at = begin + size + 1
                    blob = next(numbered, None)

    async def configuration(self, blob: bytes) -> list[tuple[bytes, bytes | None]]:
        """Keys and values (None: without one) of a small blob that is a file of git's configuration; nothing that it
        includes. Raises `SourceError`: it is none.
        """
        content = b"".join([content async for _, content in self.read_blobs([blob])])
        listing = await self._local("config", "--file", "-", "--no-includes", "--null", "--list", stdin=content)
        pairs = [entry.partition(b"\n") for entry in listing.split(b"\0")[:-1]]
        return [(key, value if newline else None) for key, newline, value in pairs]

    def pipe_blobs(self, blobs: Iterable[bytes]) -> GitPipe:
        """``git cat-file --batch`` for these blobs, whatever their sizes, for `stager._native.Blobs`."""
        asked = b"".join([blob + b"\n" for blob in blobs])
        return GitPipe("cat-file", "--batch", "--buffer", environment=self._environment, stdin=asked)

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

    async def _local(self, *arguments: str | bytes, stdin: bytes = b"", cwd: str = "/", **environment: str) -> bytes:
        try:
            return await run_git(arguments, {**self._environment, **environment}, stdin=stdin, cwd=cwd)
        except GitFailure as failure:
            raise self.error_of(failure) from None

    async def _check_trees(self) -> None:
        if self._doubtful and not self._has_checked:
            await check_trees(self.commit, self._environment, where=self._where)
            self._has_checked = True

    async def _stream(self, *arguments: str | bytes, stdin: bytes = b"") -> AsyncGenerator[bytes, None]:
        if arguments[0] != "ls-tree" and not stdin:
            return  # nothing is asked
        try:
            async with aclosing(stream_git(arguments, self._environment, stdin=stdin)) as pieces:
                async for piece in pieces:
                    yield piece
        except GitFailure as failure:
            raise self.error_of(failure) from None

    def error_of(self, failure: GitFailure) -> StagerError:
        """For a local command that failed; of a doubtful repository it may be damage."""
        error = error_from(failure, where=self._where)
        if self._doubtful and type(error) in _TELLS_DAMAGE:
            return IntegrityError(error.what, where=self._where, hint="run this again")
        return error


def is_blob(identity: bytes, size: int, pieces: Iterable[bytes]) -> bool:
    """Whether these ``size`` bytes are the blob of this id in hex.

    It is the hash of "blob SIZE", a NUL and the bytes: gitformat-pack(5), hash-function-transition of git.
    """
    digest = hashlib.new(hash_name(identity), usedforsecurity=False)
    digest.update(b"blob %d\0" % size)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest().encode() == identity


def _row(line: bytes) -> TreeRow:
    """Of ``MODE KIND ID[ SIZE]``, a tab and the path; the size is padded, and "-" for what has none. Raises
    `IntegrityError`: git cannot read the object, and calls its size BAD.
    """
    head, _, path = line.partition(b"\t")
    mode, _, blob, *size = head.split()
    if size == [b"BAD"]:
        raise IntegrityError(f"the object {blob.decode()} cannot be read", hint="run this again")
    return TreeRow(path, blob, mode, int(size[0]) if size and size[0] != b"-" else -1)


def _joined(paths: Sequence[bytes]) -> bytes:
    return b"".join([path + b"\0" for path in paths])
