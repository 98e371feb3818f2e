"""Git objects that git's own commands would not make, put into a repository as one pack."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import zlib
from pathlib import Path

from servers.repositories import GIT_ENVIRONMENT, git

__all__ = ["RawPack"]

_KINDS = {"commit": 1, "tree": 2, "blob": 3}
_MOST_BITS = 7


class RawPack:
    """Objects by the bytes they are made of; `write` makes a repository of them."""

    def __init__(self) -> None:
        self._objects: dict[bytes, tuple[str, bytes]] = {}

    def add(self, kind: str, body: bytes) -> bytes:
        """The new object's id, 20 bytes."""
        identity = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(body)) + body, usedforsecurity=False).digest()
        self._objects[identity] = (kind, body)
        return identity

    def tree(self, *rows: tuple[bytes, bytes, bytes]) -> bytes:
        """Of (mode, name, id), in this order."""
        return self.add("tree", b"".join(b"%s %s\0%s" % row for row in rows))

    def commit(self, tree: bytes) -> str:
        """With this tree and no parent; the id in hex."""
        who = b"a <a@example.org> 1 +0000"
        return self.add("commit", b"tree %s\nauthor %s\ncommitter %s\n\nx\n" % (tree.hex().encode(), who, who)).hex()

    def body(self) -> bytes:
        """The pack."""
        body = b"PACK" + struct.pack(">II", 2, len(self._objects)) + b"".join(map(_packed, self._objects.values()))
        return body + hashlib.sha1(body, usedforsecurity=False).digest()

    def write(self, repository: Path, commit: str) -> None:
        """Put them into a repository, made when it is not there, and let main be the commit."""
        if not repository.exists():
            repository.mkdir(parents=True)
            git(repository, "init", "-q", "-b", "main")
        subprocess.run(
            ["git", "-C", str(repository), "index-pack", "--stdin"],
            env={**os.environ, **GIT_ENVIRONMENT}, check=True, capture_output=True,
            input=self.body(),
        )  # fmt: skip
        git(repository, "update-ref", "refs/heads/main", commit)


def _packed(one: tuple[str, bytes]) -> bytes:
    """An entry of a pack: gitformat-pack(5)."""
    kind, body = one
    size = len(body)
    head = bytearray([_KINDS[kind] << 4 | size & 15])
    size >>= 4
    while size:
        head[-1] |= 128
        head.append(size & 127)
        size >>= _MOST_BITS
    return bytes(head) + zlib.compress(body, 1)
