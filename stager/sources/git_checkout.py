"""From a commit to files in place: git writes and converts, what lies there is hashed, then renamed."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from typing import Final

from stager import _native
from stager.errors import ChangedError, IntegrityError, from_os_error
from stager.host.git_reader import CommitReader, is_blob
from stager.host.threads import in_threads
from stager.model import Grade
from stager.names import show
from stager.sources.base import Landing, OnLanded, Snapshot
from stager.sources.git_tree import Repository, is_attributes

__all__ = ["bring_files", "check_out"]

_FILES_A_CALL: Final = 128
_PIECE_BYTES: Final = 1 << 20


async def bring_files(repository: Repository, reader: CommitReader, table: _native.KeyTable, rows: array[int]) -> None:
    """Fetch what `check_out` needs for these rows and is not here."""
    if not repository.partial:
        return
    identities = [table.identity(row) for row in rows]
    needed = [identity.partition(b" ")[0] for identity in identities]
    if any(b" " in identity for identity in identities):
        async for listed in reader.list_tree(sizes=False):
            needed += [row.blob for row in listed if is_attributes(row.path)]
    await repository.bring(needed)


async def check_out(
    reader: CommitReader,
    snapshot: Snapshot,
    rows: array[int],
    landing: Landing,
    done: OnLanded,
    *,
    root: bytes = b"",
    mount: bytes = b"",
) -> None:
    """Put ``rows`` in place; see `Source.fetch`. Their keys begin with ``mount``, their paths in the commit with
    ``root`` in its place.

    Git writes into a private directory below ``landing.tmp_fd``; each file is hashed there, then renamed into place.
    Cancelling ends git at once and waits for the renames in flight.
    """
    where = os.readlink(f"/proc/self/fd/{landing.tmp_fd}")
    try:
        checkout = await asyncio.to_thread(tempfile.mkdtemp, prefix="git-", dir=where)
    except OSError as error:
        raise from_os_error(error, doing="make a directory", where=landing.root) from error
    try:
        paths = [root + key[len(mount) :] for key in snapshot.table.keys(rows)]
        identities = map(snapshot.table.identity, rows)
        await reader.check_blobs(one.partition(b" ")[0] for one in identities if b" " in one)
        await reader.check_out(paths, checkout)
        below = os.fsencode(os.path.basename(checkout)) + b"/"
        pieces = [slice(at, at + _FILES_A_CALL) for at in range(0, len(rows), _FILES_A_CALL)]

        def publish(piece: slice) -> array[int]:
            for row, path in zip(rows[piece], paths[piece], strict=True):
                _publish(snapshot, row, below + path, landing)
            return rows[piece]

        async with aclosing(in_threads(publish, pieces)) as finished:
            async for landed in finished:
                done(landed)
    finally:
        await asyncio.to_thread(shutil.rmtree, checkout, ignore_errors=True)


def _publish(snapshot: Snapshot, row: int, written: bytes, landing: Landing) -> None:
    key, identity = snapshot.table.key(row), snapshot.table.identity(row)
    try:
        status = os.lstat(written, dir_fd=landing.tmp_fd)
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(written, dir_fd=landing.tmp_fd)
            size, digest = len(target), _native.digest_bytes(target)
            _check_blob(key, identity, size, [target])
        else:
            fd = os.open(written, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=landing.tmp_fd)
            try:
                size, digest = _native.digest_fd(fd)
                _check_blob(key, identity, size, _pieces_of(fd))
            finally:
                os.close(fd)
        if size != snapshot.table.size(row):
            raise ChangedError("git wrote another length than the tree says", where=show(key))
        mtime_ns, ctime_ns = _native.publish(landing.tmp_fd, written, landing.root_fd, key)
    except OSError as error:
        raise from_os_error(error, doing="put a file in place", where=f"{landing.root}/{show(key)}") from error
    mode = status.st_mode if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
    landing.entries.put(row, digest, mtime_ns, ctime_ns, mode, Grade.A)


def _check_blob(key: bytes, identity: bytes, size: int, pieces: Iterable[bytes]) -> None:
    """`IntegrityError` unless these are the bytes of the blob; what git converts has an identity that says so."""
    if b" " not in identity and not is_blob(identity, size, pieces):
        raise IntegrityError("what git wrote is not what the commit holds", where=show(key), hint="run this again")


def _pieces_of(fd: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(fd, _PIECE_BYTES, at):
        yield piece
        at += len(piece)
