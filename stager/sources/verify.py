"""Whether the bytes of one file, whose parts come in any order, have the digest that the source announces of it.

CRCs of whole objects are computed of each part while it is received, and combined. All others are taken of the file in
order by one thread at a time (`stager._native.Frontier`), which follows the parts that are whole from its start on and
reads what was just written from the page cache. Use:

    async with Verifier(announced, size=size, fd=fd) as verifier:
        ...  # fetch, with verifier.crc; tell verifier.part_done of every part, also of those an earlier run fetched
        difference = await verifier.difference()
"""

from __future__ import annotations

import asyncio
import errno
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from stager._native import Frontier, crc_combine
from stager.host.threads import blocking

__all__ = ["NOTHING", "Announced", "Told", "Verifier", "is_available"]

_CRCS: Final = {"crc32": 4, "crc32c": 4, "crc64nvme": 8}
_SHOWN: Final = {"sha1": "SHA-1", "sha256": "SHA-256"}
_STEP_BYTES: Final = 32 << 20  # in one call, which cannot be interrupted: 50 ms of MD5


class Announced(Struct, frozen=True, kw_only=True):
    """A digest of an object: ``kind`` and ``value`` as of `stager._native.Batch.announced`; kind "" is none, for the
    reason ``why`` (a key of `stager.model.UNVERIFIED`).

    ``parts``: 0, or of how many stored parts' digests it is the digest. They end at ``ends``, which ``told`` says
    whether the server told or the first part's length suggests.
    """

    kind: str = ""
    value: bytes = b""
    parts: int = 0
    why: str = "no-checksum"
    ends: tuple[int, ...] = ()
    told: bool = True


NOTHING: Final = Announced()


class Told(Struct, frozen=True, kw_only=True):
    """What is told of an object before its parts come. ``mtime_ns``: the time of change, in ns since 1970; None when
    nothing says one.
    """

    announced: Announced = NOTHING
    mtime_ns: int | None = None


def is_available(announced: Announced) -> bool:
    """Whether this machine's OpenSSL computes it: where only FIPS is allowed it has no MD5."""
    try:
        return not announced.kind or Frontier(announced.kind) is not None
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return False
        raise


class Verifier:
    """Told of the parts of one object on the loop; a context manager: leaving it ends what still runs.

    ``crc``: what is to be computed of each part, or None.
    """

    def __init__(self, announced: Announced, *, size: int, fd: int) -> None:
        self._announced = announced
        self._size = size
        self._fd = fd
        self._parts: dict[int, tuple[int, int]] = {}  # those behind a gap, by offset: length and CRC
        self._whole = 0  # bytes from the start of the file on that are there
        self._crc_value = 0
        self.crc = announced.kind if announced.kind in _CRCS and not announced.parts else None
        self._frontier = Frontier(announced.kind, announced.ends) if announced.kind and not self.crc else None
        self._grown = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._frontier is not None:
            self._task = asyncio.create_task(self._follow(self._frontier))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def read_back_bytes(self) -> int:
        """What was read from the file so far."""
        return self._frontier.at if self._frontier is not None else 0

    def part_done(self, offset: int, length: int, crc: int = 0) -> None:
        """These bytes of the file are there, each once; ``crc`` is theirs where `crc` asks for it."""
        self._parts[offset] = length, crc
        while (part := self._parts.pop(self._whole, None)) is not None:
            self._whole += part[0]
            if self.crc is not None:
                self._crc_value = crc_combine(self.crc, self._crc_value, part[1], part[0])
        self._grown.set()

    async def difference(self) -> str:
        """What is different, "" for nothing. All parts must be there. Raises OSError of reading the file."""
        if self._whole != self._size:
            raise ValueError("not all parts are there")
        if not self._announced.kind:
            return ""
        value = await self._value()
        if value == self._announced.value:
            return ""
        shown = _SHOWN.get(self._announced.kind, self._announced.kind.upper())
        return f"{shown} is {value.hex()}, and {self._announced.value.hex()} was announced"

    async def _value(self) -> bytes:
        if self._task is not None and self._frontier is not None:
            await self._task
            return self._frontier.finish()
        return self._crc_value.to_bytes(_CRCS[self._announced.kind], "big")

    async def _follow(self, frontier: Frontier) -> None:
        while frontier.at < self._size:
            if frontier.at == self._whole:
                self._grown.clear()
                await self._grown.wait()
            else:
                await blocking(frontier.advance, self._fd, min(self._whole, frontier.at + _STEP_BYTES))
