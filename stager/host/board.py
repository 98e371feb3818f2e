"""A directory in which stagers see one another: small records, each of whoever wrote it.

A record is a symlink that leads nowhere: its target is the record, as JSON. So it is there whole or not at all, is read
without opening anything (a FIFO, a device or a file without end in its place is no record), and is at most a page long.
Other users may be adversaries, and the directory is sticky: a record is its file's owner's, and counts only as such; it
says its own name, so that another name for the same file is no second record. Who wrote it is a process of this boot:
what the dead left counts no more, and is removed by whoever may. Of whom cannot be seen from here (another PID
namespace) what was said within the last minute counts; who means it says it again.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from contextlib import suppress
from itertools import islice
from typing import Annotated, Final

import msgspec
from msgspec import Struct

from stager.host.holders import Holder, Life

__all__ = ["Board", "Claimed", "Connected", "Record", "Taking"]

_NAME: Final = re.compile(r"[0-9]{1,10}\.[0-9a-f]{16}")
_FRESH: Final = "~"
_MOST_NAMES: Final = 1 << 16
_MOST_OF_ONE: Final = 1024  # records of one user
_UNKNOWN_FOR_S: Final = 60.0
_FORGOTTEN_AFTER_S: Final = 3600.0
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
_Rate = Annotated[float, msgspec.Meta(ge=0, le=1e18)]


class Claimed(Struct, frozen=True, kw_only=True, tag="claim"):
    """Room on a file system that a stager is about to fill: so much is still missing.

    ``decided``: it goes ahead. ``since_ns`` of CLOCK_BOOTTIME it has asked.
    """

    device: Annotated[str, msgspec.Meta(max_length=64)]
    bytes: _Count
    inodes: _Count
    since_ns: _Count
    decided: bool = False


class Taking(Struct, frozen=True, kw_only=True, tag="share"):
    """A stager that is moving data, and how much of the node's limits it takes a second; 0: of this there is no limit.

    ``most_bytes`` and ``most_requests`` are its own limits, beyond which it takes nothing; 0: none.
    """

    most_bytes: _Rate = 0.0
    most_requests: _Rate = 0.0
    bytes: _Rate = 0.0
    requests: _Rate = 0.0


class Connected(Struct, frozen=True, kw_only=True, tag="connection"):
    """A job has an export of a network file system, or waits for it. ``ticket_ns`` of CLOCK_BOOTTIME, taken after the
    record was on the board; 0: it is about to be.
    """

    export: Annotated[str, msgspec.Meta(max_length=64)]  # its digest
    ticket_ns: _Count = 0


class Record(Struct, frozen=True, kw_only=True):
    """What a living stager says; ``who`` and the file's owner agree."""

    name: str
    who: Holder
    says: Claimed | Connected | Taking


class Board:
    """The open directory. Methods block, and raise OSError unless they say more."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, _DIRECTORY)
        self._me = Holder.of_self()

    def close(self) -> None:
        """Nothing is removed. Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    @property
    def uid(self) -> int:
        """Whose records this process writes."""
        return self._me.uid

    def new_name(self) -> str:
        """For a record of this process."""
        return f"{self._me.uid}.{secrets.token_hex(8)}"

    def post(self, name: str, says: Claimed | Connected | Taking) -> None:
        """Say it, in place of what was said under this name."""
        text = msgspec.json.encode(Record(name=name, who=self._me, says=says))
        fresh = name + _FRESH
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=self._fd)
        os.symlink(text, fresh, dir_fd=self._fd)
        os.rename(fresh, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def withdraw(self, name: str) -> None:
        """Say it no more; never raises."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._fd)

    def look(self, *, within_s: float | None = None) -> list[Record]:
        """What the living say, this process too. What of the dead may be removed is.

        ``within_s``: only what was said so lately, whoever lives; it asks nothing of the kernel but the records.
        """
        found: list[Record] = []
        count: dict[int, int] = {}
        with os.scandir(self._fd) as entries:
            names = [entry.name for entry in islice(entries, _MOST_NAMES) if entry.is_symlink()]
        now_s = time.time()
        for name in names:
            read = self._read(name) if _NAME.fullmatch(name.removesuffix(_FRESH)) else None
            if read is None:
                continue
            record, said_s = read
            if count.get(record.who.uid, 0) >= _MOST_OF_ONE:
                continue
            count[record.who.uid] = count.get(record.who.uid, 0) + 1
            if self._counts(record, now_s - said_s, within_s):
                if record.name == name:
                    found.append(record)
            elif within_s is None and self._me.uid in (0, record.who.uid):
                self._sweep(name, record, now_s - said_s)
        return found

    def _counts(self, record: Record, silent_s: float, within_s: float | None) -> bool:
        """Times are the files': whoever writes one for the future has said nothing."""
        if within_s is not None:
            return abs(silent_s) <= within_s
        life = self._life_of(record.who)
        return life is Life.ALIVE or (life is Life.UNKNOWN and abs(silent_s) <= _UNKNOWN_FOR_S)

    def _life_of(self, who: Holder) -> Life:
        """Whoever lives in another PID namespace is not searched: one search for each of many records takes long."""
        if who == self._me:
            return Life.ALIVE
        if who.boot != self._me.boot:
            return Life.DEAD
        return who.state() if who.pid_ns in (0, self._me.pid_ns) else Life.UNKNOWN

    def _sweep(self, name: str, record: Record, silent_s: float) -> None:
        if self._life_of(record.who) is Life.DEAD or abs(silent_s) > _FORGOTTEN_AFTER_S:
            self.withdraw(name)

    def _read(self, name: str) -> tuple[Record, float] | None:
        """A record, and the Unix time it was written; both of one and the same file. None: it is none, or has gone."""
        try:
            handle = os.open(name, _HANDLE, dir_fd=self._fd)
        except OSError:
            return None
        try:
            status = os.fstat(handle)
            if not stat.S_ISLNK(status.st_mode):
                return None
            record = msgspec.json.decode(os.fsencode(os.readlink("", dir_fd=handle)), type=Record)
        except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
            return None
        finally:
            os.close(handle)
        return (record, status.st_mtime) if record.who.uid == status.st_uid else None
