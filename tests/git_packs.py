"""A mirror as an attacker would leave it: packs whose index lies about what they hold."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
from pathlib import Path

from servers.repositories import GIT_ENVIRONMENT, git

__all__ = ["cat", "generations", "poison", "repository_mirror"]

_IDS = 20  # bytes of a SHA-1


def repository_mirror(scratch: Path) -> Path:
    """The mirror of the one repository that was staged."""
    (found,) = (scratch / "mirrors").iterdir()
    return found


def generations(scratch: Path) -> list[Path]:
    """Those of it, the oldest first."""
    found = repository_mirror(scratch).glob("*.[0-9]*")
    return sorted(found, key=lambda path: int(path.name.partition(".")[2]))


def cat(git_dir: Path, kind: str, identity: str) -> bytes:
    """What git reads where it is asked for an object."""
    return _git(git_dir, "cat-file", kind, identity)


def poison(generation: Path, origin: Path, commit: str, identity: str, other: str, *, history: bool = False) -> None:
    """Make the packs of a generation hold the commit, but the bytes of ``other`` under the id of one of its objects;
    ``history``: and all that leads to it and to any other ref.
    """
    told = git(origin, "rev-list", "--objects", *(("--all",) if history else ("--no-walk", commit))).splitlines()
    names = {line.split(" ")[0] for line in told} - {identity} | {other}
    pack = _git(origin / ".git", "pack-objects", "--stdout", "-q", stdin="\n".join(names).encode())
    for old in generation.glob("pack-*"):
        old.unlink()
    where = generation / f"pack-{'e' * 40}.pack"
    where.write_bytes(pack)
    _git(origin / ".git", "index-pack", str(where))
    index = where.with_suffix(".idx")
    lying = _rename(index.read_bytes(), bytes.fromhex(other), bytes.fromhex(identity))
    index.unlink()
    index.write_bytes(lying)
    for record in generation.glob("*.json"):
        told_of = json.loads(record.read_bytes())
        told_of["packs"] = {path.name: path.stat().st_size for path in generation.glob("pack-*")}
        record.write_text(json.dumps(told_of))


def _rename(index: bytes, old: bytes, new: bytes) -> bytes:
    """The same index with one object under another id (gitformat-pack(5), version 2, offsets below 2 GiB)."""
    (count,) = struct.unpack_from(">I", index, 8 + 255 * 4)
    at = 8 + 256 * 4
    ids = [index[at + n * _IDS :][:_IDS] for n in range(count)]
    sums = [index[at + count * _IDS + 4 * n :][:4] for n in range(count)]
    offsets = [index[at + count * (_IDS + 4) + 4 * n :][:4] for n in range(count)]
    rows = sorted((new if one == old else one, *rest) for one, *rest in zip(ids, sums, offsets, strict=True))
    fanout = b"".join(struct.pack(">I", sum(row[0][0] <= first for row in rows)) for first in range(256))
    columns = b"".join(b"".join(column) for column in zip(*rows, strict=True))
    body = index[:8] + fanout + columns + index[-2 * _IDS : -_IDS]
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def _git(git_dir: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", "--git-dir", str(git_dir), *arguments], input=stdin, env={**os.environ, **GIT_ENVIRONMENT},
        capture_output=True, check=True,
    ).stdout  # fmt: skip
