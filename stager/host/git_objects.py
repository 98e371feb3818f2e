"""Objects of a repository, read back and hashed: git itself believes what the index of a pack says.

What git receives it hashes; what lay on this node meanwhile is whatever lies there now.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from stager.errors import IntegrityError

__all__ = ["hash_name", "read_checked"]

_SHA1_DIGITS: Final = 40
_HEAD_MAX: Final = 256  # id, kind, size


def hash_name(identity: bytes) -> str:
    """The hash that ids of this length are made by (git's hash-function-transition)."""
    return "sha1" if len(identity) == _SHA1_DIGITS else "sha256"


async def read_checked(
    pieces: AsyncIterator[bytes], wanted: Sequence[bytes], *, keep: frozenset[bytes] = frozenset()
) -> dict[bytes, bytes]:
    """Hash all that ``git cat-file --batch`` writes of ``wanted``, ids in hex, whatever the sizes.

    Returns the contents of those in ``keep``. An object's id is the hash of "KIND SIZE", a NUL and its bytes
    (gitformat-pack(5)). Raises `IntegrityError`: one is missing, or has not the bytes that its id says.
    """
    kept: dict[bytes, bytes] = {}
    batch = _Batch(pieces)
    for identity in wanted:
        head = (await batch.line()).split(b" ")
        if len(head) != 3 or head[0] != identity or not head[2].isdigit():
            raise IntegrityError(f"the object {identity.decode()} is not there")
        left = int(head[2])
        digest = hashlib.new(hash_name(identity), b"%s %d\0" % (head[1], left), usedforsecurity=False)
        content = bytearray()
        while left:
            piece = await batch.some(left)
            digest.update(piece)
            left -= len(piece)
            if identity in keep:
                content += piece
        if digest.hexdigest().encode() != identity:
            raise IntegrityError(f"the object {identity.decode()} does not hold what it is named by")
        if identity in keep:
            kept[identity] = bytes(content)
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
