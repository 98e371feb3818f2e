"""From a commit to files in place: git writes and converts, what lies there is hashed, then renamed."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import tempfile
from array import array
from collections.abc import Iterable
from contextlib import aclosing
from typing import Final

from stager import _native
from stager.errors import ChangedError, IntegrityError, from_os_error
from stager.host.git_reader import CommitReader, is_blob, pieces_of
from stager.host.threads import in_threads
from stager.model import Grade
from stager.names import show
from stager.sources.base import Landing, OnLanded, Snapshot

__all__ = ["check_out"]

_FILES_A_CALL: Final = 128


async def check_out(
    reader: CommitReader,
    prefix: bytes,
    snapshot: Snapshot,
    rows: array[int],
    landing: Landing,
    done: OnLanded,
) -> None:
    """Put ``rows`` in place, whose keys are paths below ``prefix`` of the commit; see `Source.fetch`.

    Git writes into a private directory below ``landing.tmp_fd``; each file is hashed there, then renamed into place.
    Cancelling ends git at once and waits for the renames in flight.
    """
    where = os.readlink(f"/proc/self/fd/{landing.tmp_fd}")
    try:
        checkout = await asyncio.to_thread(tempfile.mkdtemp, prefix="git-", dir=where)
    except OSError as error:
        raise from_os_error(error, doing="make a directory", where=landing.root) from error
    try:
        keys = [snapshot.table.key(row) for row in rows]
        identities = map(snapshot.table.identity, rows)
        await reader.check_blobs(one.partition(b" ")[0] for one in identities if b" " in one)
        await reader.check_out([prefix + key for key in keys], checkout)
        below = os.fsencode(os.path.basename(checkout)) + b"/" + prefix
        pieces = [rows[at : at + _FILES_A_CALL] for at in range(0, len(rows), _FILES_A_CALL)]

        def publish(piece: array[int]) -> array[int]:
            for row in piece:
                _publish(snapshot, row, below, landing)
            return piece

        async with aclosing(in_threads(publish, pieces)) as finished:
            async for landed in finished:
                done(landed)
    finally:
        await asyncio.to_thread(shutil.rmtree, checkout, ignore_errors=True)


def _publish(snapshot: Snapshot, row: int, below: bytes, landing: Landing) -> None:
    key, identity = snapshot.table.key(row), snapshot.table.identity(row)
    written = below + key
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
                _check_blob(key, identity, size, pieces_of(fd))
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
