"""A prefix of an S3 bucket as the place for logs and results.

::

    ABOVE/JOB_ID/NODE_RANK/...                  what the job left, and nothing else
    ABOVE/.stager/JOB_ID/NODE_RANK/job          the mark: whose it is
    ABOVE/.stager/JOB_ID/NODE_RANK/receipt.json written last

An object store has no directories, no symlinks and no holes: symlinks stand in the receipt, as text; a file that is
nearly all hole is not brought, for it would be that long there.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from stager.config import Remote
from stager.errors import ChangedError, HostError, SourceError, TransientError
from stager.host.leaves import Leaf, Steps, open_file
from stager.host.threads import blocking, together
from stager.model import Counts
from stager.names import to_json
from stager.sources.s3_upload import OBJECT_BYTES_MAX, Prefix
from stager.stages.collect_sink import OutOfTimeError, Tally

__all__ = ["S3Sink"]

_AT_ONCE: Final = 32
_ASK_EVERY_S: Final = 0.1
_KEY_BYTES_MAX: Final = 1024
"""Amazon S3 User Guide, "Naming Amazon S3 objects"."""

_LINKS_MAX: Final = 10_000
_HOLLOW_FROM_BYTES: Final = 1 << 30
_HOLLOW: Final = 16  # so many times longer than what it holds


class S3Sink:
    """``place`` is s3://BUCKET/KEY..., of which the last ``own_parts`` are this job's. To be used in one thread."""

    def __init__(self, place: str, own_parts: int, remote: Remote) -> None:
        self.place = place
        bucket, *parts = place.removeprefix("s3://").split("/")
        above, own = parts[: len(parts) - own_parts], parts[len(parts) - own_parts :]
        system = "/".join((*above, ".stager", *own))
        self._mark, self._receipt = f"{system}/job", f"{system}/receipt.json"
        self._where = (bucket, "/".join((*above, *own)) + "/")
        self._remote = remote
        self._runner = asyncio.Runner()
        self._opened: Prefix | None = None
        self._links: list[Any] = []
        self._proofs = Counter[str]()

    def close(self) -> None:
        """See `Sink`."""
        with suppress(Exception):
            if self._opened is not None:
                self._runner.run(self._opened.__aexit__())
        self._runner.close()

    def ask(self, within_s: float) -> None:
        """See `Sink`: who may list the prefix."""

        async def ask() -> None:
            try:
                async with asyncio.timeout(within_s):
                    await (await self._open()).sizes(most=1)
            except TimeoutError:
                raise TransientError(f"no answer within {within_s:g} s", where=self.place, hint="try again") from None

        self._runner.run(ask())

    def claim(self, token: str) -> bool:
        """See `Sink`. What a stager that was killed had begun to write is forgotten."""
        return self._runner.run(self._claim(token))

    async def _claim(self, token: str) -> bool:
        prefix = await self._open(token)
        mark = token.encode() + b"\n"
        found = await prefix.read(self._mark)
        if found is None:
            if await prefix.sizes(most=1):
                raise HostError(
                    "holds objects that are not this job's", where=self.place, hint="choose an empty prefix"
                )
            await prefix.write(self._mark, mark, only_new=True)
            found = await prefix.read(self._mark)  # without conditions the last of two that write at once has it
        return found == mark

    def release(self, token: str) -> None:
        """See `Sink`."""

        async def release() -> None:
            prefix = await self._open(token)
            if await prefix.read(self._mark) == token.encode() + b"\n" and not await prefix.sizes(most=1):
                await prefix.delete(self._mark)

        with suppress(SourceError, HostError, TimeoutError):
            self._runner.run(asyncio.wait_for(release(), 5.0))

    def put(self, root_fd: int, leaves: Sequence[Leaf], tally: Tally) -> None:
        """See `Sink`."""
        self._runner.run(self._put(root_fd, leaves, tally))

    async def _put(self, root_fd: int, leaves: Sequence[Leaf], tally: Tally) -> None:
        prefix = await self._open()
        there = await prefix.sizes()
        if not tally.running:
            await prefix.abort_uploads()
        files = [leaf for leaf in leaves if self._is_to_be_put(leaf, tally)]
        waiting = iter(files)
        done: set[bytes] = set()

        async def worker() -> None:
            for leaf in waiting:
                name = leaf.path.decode("utf-8")
                await self._put_one(prefix, root_fd, leaf, tally, there=self._where[1] + name in there)
                done.add(leaf.path)

        workers = [worker() for _ in range(min(_AT_ONCE, len(files)))]
        if await _until_told(asyncio.ensure_future(together(*workers)), tally):
            tally.miss((leaf for leaf in files if leaf.path not in done), "there was no time left")

    async def _put_one(self, prefix: Prefix, root_fd: int, leaf: Leaf, tally: Tally, *, there: bool) -> None:
        try:
            fd = await blocking(_open, root_fd, leaf, tally)
        except OSError as error:
            tally.miss([leaf], f"cannot be read: {os.strerror(error.errno or 0)}")
            return
        if fd is None:
            tally.leave_out(leaf.path, "changed while it was looked at")
            return
        try:
            size = os.fstat(fd).st_size
            proof = await prefix.put(
                leaf.path.decode("utf-8"), lambda at, length: _read(fd, at, length), size, there=there
            )
        except ChangedError as error:
            tally.miss([leaf], error.what)
            return
        except OSError as error:
            tally.miss([leaf], f"cannot be read: {os.strerror(error.errno or 0)}")
            return
        finally:
            os.close(fd)
        self._proofs[proof] += 1
        tally.total += Counts(objects=1, bytes=size)

    def _is_to_be_put(self, leaf: Leaf, tally: Tally) -> bool:
        """Whether it is a file that becomes an object; what it is else is noted."""
        if stat.S_ISLNK(leaf.mode):
            if len(self._links) < _LINKS_MAX:
                self._links.append([to_json(leaf.path), to_json(leaf.target)])
            else:
                tally.leave_out(leaf.path, f"there are more than {_LINKS_MAX} symlinks")
            return False
        if not stat.S_ISREG(leaf.mode):
            return False
        if why := self._why_not(leaf):
            tally.miss([leaf], why)
        return not why

    def _why_not(self, leaf: Leaf) -> str:
        try:
            leaf.path.decode("utf-8")
        except UnicodeDecodeError:
            return "the name is no UTF-8, which keys must be"
        if len(self._where[1].encode()) + len(leaf.path) > _KEY_BYTES_MAX:
            return f"the key would be longer than {_KEY_BYTES_MAX} bytes"
        if leaf.size > OBJECT_BYTES_MAX:
            return "is larger than an object can be"
        if leaf.size >= _HOLLOW_FROM_BYTES and leaf.occupied * _HOLLOW < leaf.size:
            return f"is {leaf.size} bytes long and holds {leaf.occupied}: an object has no holes"
        return ""

    def finish(self, receipt: dict[str, Any]) -> None:
        """See `Sink`: every object was proved when it was put. A receipt that cannot be read back is an error."""
        whole = {**receipt, "symlinks": self._links, "proved": dict(self._proofs)}
        body = msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"

        async def write() -> None:
            await (await self._open()).write(self._receipt, body)

        self._runner.run(write())

    async def _open(self, token: str = "") -> Prefix:
        if self._opened is None:
            bucket, prefix = self._where
            self._opened = await Prefix(self._remote, bucket, prefix, token).__aenter__()
        return self._opened


async def _until_told(work: asyncio.Future[Any], tally: Tally) -> bool:
    """Wait for the end of ``work``; True: it was ended because time is over. Raises what it raises, and `HostError`."""
    try:
        while not (await asyncio.wait({work}, timeout=_ASK_EVERY_S))[0]:
            tally.go_on()
    except OutOfTimeError:
        return True
    else:
        work.result()
        return False
    finally:
        if not work.done():
            work.cancel()
            await asyncio.wait({work})


def _open(root_fd: int, leaf: Leaf, tally: Tally) -> int | None:
    with Steps(root_fd) as source:
        dir_fd, name = source.directory_of(leaf.path)
        return open_file(name, dir_fd, mend=not tally.running)


def _read(fd: int, at: int, length: int) -> bytes:
    pieces = []
    while length and (piece := os.pread(fd, length, at)):
        pieces.append(piece)
        at, length = at + len(piece), length - len(piece)
    if length:
        raise ChangedError("became shorter while it was read")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
