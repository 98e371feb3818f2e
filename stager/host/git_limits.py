"""What git may take for a repository whose publisher nobody trusts: memory, and time without progress.

A pack of 2 KB can unfold to an object of any size, and of what is no blob, or a delta, git has all in memory at once
(index-pack.c, packfile.c: unpack_entry). A server that sends a byte now and then keeps git's own limit of slowness
content: it has to be below the byte a second that git's servers send while they think (uploadpack.keepAlive), and ssh
has none at all.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from stager.host.memory import available_bytes

__all__ = ["limited", "memory_kib", "until_it_stalls"]

_ALWAYS_BYTES: Final = 1 << 30  # enough for packs of a million usual objects
_LOOK_EVERY_S: Final = 60.0
_STALLED_LOOKS: Final = 30  # servers count the objects of the largest repositories for minutes
_SLOWEST: Final = 16  # bytes a second, as of objects of other sources
_CPU_SHARE: Final = 0.01  # of one core: deltas are being resolved
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def memory_kib() -> int:
    """A quarter of what can be had now, for up to four are at work at once: of each process, what it writes to
    (setrlimit(2), RLIMIT_DATA; mapped packs are no part of it).
    """
    wanted = max(available_bytes() // 4, _ALWAYS_BYTES)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    return (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)) >> 10


def limited(argv: Sequence[str | bytes], environment: Mapping[str, str]) -> tuple[str | bytes, ...]:
    """The command line that runs this one with no more than that. FileNotFoundError: there is no such program."""
    if shutil.which(os.fsdecode(argv[0]), path=environment.get("PATH")) is None:
        raise FileNotFoundError(argv[0])
    return "sh", "-c", 'ulimit -d "$1"; shift; exec "$@"', "sh", str(memory_kib()), *argv


async def until_it_stalls(session: int, packs: str) -> None:
    """Return when the processes of a session have, for half an hour, neither added 16 bytes a second to the directory
    ``packs`` nor computed.
    """
    stalled = 0
    before = await asyncio.to_thread(_progress, session, packs)
    while stalled < _STALLED_LOOKS:
        await asyncio.sleep(_LOOK_EVERY_S)
        now = await asyncio.to_thread(_progress, session, packs)
        is_slow = abs(now[0] - before[0]) < _SLOWEST * _LOOK_EVERY_S and now[1] - before[1] < _CPU_SHARE * _LOOK_EVERY_S
        stalled, before = stalled + 1 if is_slow else 0, now


def _progress(session: int, packs: str) -> tuple[int, float]:
    """Bytes in the directory, and seconds of the processor (proc(5), stat: fields 6, 14 to 17)."""
    size, ticks = 0, 0
    with suppress(OSError), os.scandir(packs) as entries:
        size = sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                if int(fields[3]) == session:
                    ticks += sum(map(int, fields[11:15]))
    return size, ticks / _TICKS_PER_S
