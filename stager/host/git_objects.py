"""Objects of a repository, read back and hashed: git itself believes what the index of a pack says.

What git receives it hashes; what lay on this node meanwhile is whatever lies there now.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import chain, repeat
from typing import Final

from stager.errors import IntegrityError
from stager.host.git import GitFailure, error_from, stream_git

__all__ = ["check_trees", "hash_name", "read_objects"]

_SHA1_DIGITS: Final = 40
_HEAD_MAX: Final = 256  # id, kind, size
_ATTRIBUTES: Final = b".gitattributes"
_TREE: Final = b"40000"
_SUBMODULE: Final = b"160000"
_DEEPEST: Final = 2048  # what lies deeper has a path that is longer than a path may be


def hash_name(identity: bytes) -> str:
    """The hash that ids of this length are made by (git's hash-function-transition)."""
    return "sha1" if len(identity) == _SHA1_DIGITS else "sha256"


async def read_objects(
    wanted: Iterable[bytes], environment: Mapping[str, str], *, where: str, keep: bool = True
) -> dict[bytes, bytes]:
    """Read objects by their ids in hex, hash them, and return them unless not ``keep``, whatever their sizes.

    An object's id is the hash of "KIND SIZE", a NUL and its bytes (gitformat-pack(5)). Raises `IntegrityError`: one is
    missing, or has not the bytes that its id says.
    """
    ids = list(dict.fromkeys(wanted))
    if not ids:
        return {}
    arguments, stdin = ["cat-file", "--batch", "--buffer"], b"\n".join(ids) + b"\n"
    try:
        async with aclosing(stream_git(arguments, environment, stdin=stdin)) as pieces:
            return await _take(_Batch(pieces), ids, keep=keep)
    except GitFailure as failure:
        raise IntegrityError(error_from(failure, where=where).what, where=where, hint="run this again") from None
    except IntegrityError as error:
        raise IntegrityError(error.what, where=where, hint="run this again") from None


async def check_trees(commit: str, environment: Mapping[str, str], *, where: str) -> None:
    """That a commit, all its trees and what they say of attributes are what their ids say; each is looked at once, in
    however many places it stands. Raises `IntegrityError`.
    """
    identity = commit.encode()
    told = (await read_objects([identity], environment, where=where))[identity]
    level, seen, attributes = {told.partition(b"\n")[0].removeprefix(b"tree ")}, set[bytes](), set[bytes]()
    for _ in range(_DEEPEST):
        seen |= level
        bodies = await read_objects(level, environment, where=where)
        below = set[bytes]()
        for mode, name, one in chain.from_iterable(map(_entries, bodies.values(), repeat(len(identity) // 2))):
            if mode == _TREE:
                below.add(one)
            elif name.lower() == _ATTRIBUTES and mode != _SUBMODULE:
                attributes.add(one)
        level = below - seen
        if not level:
            break
    await read_objects(attributes, environment, where=where, keep=False)


def _entries(tree: bytes, id_bytes: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Mode without zeros in front, name, id in hex of each entry: "MODE NAME", a NUL and the id's bytes (gitformat-pack
    leaves it to git's tree-walk.c).
    """
    at = 0
    while (end := tree.find(b"\0", at)) >= 0:
        mode, _, name = tree[at:end].partition(b" ")
        at = end + 1 + id_bytes
        yield mode.lstrip(b"0"), name, tree[end + 1 : at].hex().encode()


async def _take(batch: _Batch, ids: Sequence[bytes], *, keep: bool) -> dict[bytes, bytes]:
    kept: dict[bytes, bytes] = {}
    for identity in ids:
        head = (await batch.line()).split(b" ")
        if len(head) != 3 or head[0] != identity or not head[2].isdigit():
            raise IntegrityError(f"the object {identity.decode()} is not there")
        left = int(head[2])
        digest = hashlib.new(hash_name(identity), b"%s %d\0" % (head[1], left), usedforsecurity=False)
        content = []
        while left:
            piece = await batch.some(left)
            digest.update(piece)
            left -= len(piece)
            if keep:
                content.append(piece)
        if digest.hexdigest().encode() != identity:
            raise IntegrityError(f"the object {identity.decode()} is not what its id says")
        if keep:
            kept[identity] = b"".join(content)
        await batch.line()
    return kept


class _Batch:
    """The output of one `git cat-file --batch`, taken bit by bit."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._at = 0

    async def line(self) -> bytes:
        """Without its newline."""
        end = self._piece.find(b"\n", self._at)
        while end < 0:
            rest = self._piece[self._at :]
            if len(rest) > _HEAD_MAX:
                raise IntegrityError("git wrote what is no object")
            self._piece, self._at = rest + await self._next(), 0
            end = self._piece.find(b"\n")
        line = self._piece[self._at : end]
        self._at = end + 1
        return line

    async def some(self, most: int) -> bytes:
        """At least one byte."""
        if self._at == len(self._piece):
            self._piece, self._at = await self._next(), 0
        piece = self._piece[self._at : self._at + most]
        self._at += len(piece)
        return piece

    async def _next(self) -> bytes:
        async for piece in self._pieces:
            return piece
        raise IntegrityError("git ended before all objects were there")
