"""Room on a file system, taken before it is filled, so that two stagers cannot plan into the same free bytes.

Who wants room says so on the board of the node and then looks at what all others have said: so of two at once at least
one sees the other. It goes ahead when it fits beside all of them. When it does not, and others have not decided either,
those that asked later step back until the earlier ones have; so one of them goes ahead. What has arrived is no longer
free, and is taken off what was reserved: both numbers are of one moment, the reservations read before the free space,
because data first takes space and is then taken off.

What others claim counts up to a share of the disk for each user: nobody keeps a disk from the others by claims.
Reservations are an agreement among stagers; correctness does not rest on them: who finds the disk full ends cleanly.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import Final, Self

from msgspec import Struct

from stager.amounts import about_bytes
from stager.errors import NoSpaceError
from stager.host.board import Board, Claimed, Record
from stager.host.mounts import mount_id, read_mountinfo
from stager.host.node import Node
from stager.host.node_settings import NodeSettings
from stager.model import Counts

__all__ = [
    "NOTHING",
    "Ahead",
    "Need",
    "Reservation",
    "Space",
    "Taken",
    "count_taken",
    "device_of",
    "most_of_one",
    "read_claims",
]

_SHARE: Final = 0.5
"""Of a disk: so much of what one other user claims counts, where the site says nothing."""

_LOOK_AGAIN_S: Final = 0.005
_DECIDE_WITHIN_S: Final = 2.0  # who has not decided by then (it is stopped) has what it asks for


_HANDING_ON: Final = threading.Lock()  # what several take out of one at once is taken once


class Need(Struct, frozen=True):
    """Bytes and inodes."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Need) -> Need:
        return Need(self.bytes + other.bytes, self.inodes + other.inodes)

    def __sub__(self, other: Need) -> Need:
        """Not below nothing."""
        return Need(max(0, self.bytes - other.bytes), max(0, self.inodes - other.inodes))

    def at_most(self, other: Need) -> Need:
        """The lesser of each."""
        return Need(min(self.bytes, other.bytes), min(self.inodes, other.inodes))


NOTHING: Final = Need()
_ENDLESS: Final = 1 << 62


class Space(Struct, frozen=True, kw_only=True):
    """Of a file system; inodes are endless where it does not count them."""

    total: Need
    free: Need

    @classmethod
    def of(cls, fd: int) -> Self:
        """What this user may still take there, quotas aside. Blocks. OSError."""
        found = os.fstatvfs(fd)
        all_inodes, inodes = (found.f_files, found.f_favail) if found.f_files else (_ENDLESS, _ENDLESS)
        return cls(
            total=Need(found.f_blocks * found.f_frsize, all_inodes),
            free=Need(found.f_bavail * found.f_frsize, inodes),
        )


class Ahead(Struct, frozen=True, kw_only=True):
    """What was reserved for ``moves``, when so much of it was on the disk already, in files that are continued.

    ``besides``: names of unfinished files that are none of it.
    """

    wanted: Need
    moves: Counts
    unfinished_bytes: int = 0
    besides: frozenset[str] = frozenset()

    def left(self, done: Counts, unfinished_bytes: int) -> Need:
        """What is still to arrive when so much is done, and others are there in part. What files take beside their
        bytes (whole blocks, directories) arrives with them.
        """
        share = done.objects / self.moves.objects if self.moves.objects else 0.0
        beside = self.wanted.bytes + self.unfinished_bytes - self.moves.bytes
        arrived = done.bytes + int(beside * share) + unfinished_bytes - self.unfinished_bytes
        return Need(max(0, self.wanted.bytes - arrived), self.wanted.inodes - int(self.wanted.inodes * share))


class Taken(Struct, frozen=True, kw_only=True):
    """What is reserved already: by each process of one's own, and by all other users together, as far as it counts."""

    own: tuple[tuple[int, Need], ...] = ()
    others: Need = NOTHING

    @property
    def mine(self) -> Need:
        """By one's own processes together."""
        return sum((amount for _, amount in self.own), NOTHING)

    @property
    def total(self) -> Need:
        """All of it."""
        return self.mine + self.others

    def told(self) -> str:
        """For people; of other users the sum alone."""
        parts = [f"{_show(amount)} by your process {pid}" for pid, amount in self.own]
        parts += [f"{_show(self.others)} by other users"] if self.others != NOTHING else []
        return ", ".join(parts)


def count_taken(claims: Iterable[Record], uid: int, most: Need) -> Taken:
    """Sum up; of each user but ``uid`` at most ``most``."""
    own: dict[int, Need] = {}
    others: dict[int, Need] = {}
    for record in claims:
        if isinstance(record.says, Claimed):
            amount = Need(record.says.bytes, record.says.inodes)
            if record.who.uid == uid:
                own[record.who.pid] = own.get(record.who.pid, NOTHING) + amount
            else:
                others[record.who.uid] = others.get(record.who.uid, NOTHING) + amount
    return Taken(
        own=tuple(sorted(own.items())), others=sum((each.at_most(most) for each in others.values()), NOTHING)
    )


def most_of_one(settings: NodeSettings, total: Need) -> Need:
    """What one user may have reserved of such a disk."""
    share = _SHARE if settings.reserved_share is None else settings.reserved_share
    most = Need(int(share * total.bytes), int(share * total.inodes))
    return most if settings.reserved_bytes is None else Need(settings.reserved_bytes, most.inodes)


def device_of(fd: int) -> str:
    """The file system as mountinfo names it, "MAJOR:MINOR". Blocks. OSError."""
    number = os.fstat(fd).st_dev
    if os.major(number) == 0:  # not of one disk: btrfs has a number of its own for each subvolume
        with suppress(OSError, ValueError, KeyError):  # no /proc
            mount = mount_id(fd)
            return {row.mount_id: row.device for row in read_mountinfo()}[mount]
    return f"{os.major(number)}:{os.minor(number)}"


def read_claims(board: Board, device: str) -> list[Record]:
    """What is reserved there now, by everybody. Blocks. OSError."""
    return [record for record in board.look() if isinstance(record.says, Claimed) and record.says.device == device]


class Reservation:
    """Room for one thing on one file system; nothing at first. Its methods block."""

    def __init__(self, node: Node, fd: int, *, where: str) -> None:
        """``fd``: a directory there, of which this has its own; ``where`` it is, for errors. OSError."""
        self._node = node
        self._fd = os.dup(fd)
        self._where = where
        self._device = device_of(fd) if node.board is not None else ""
        self._name = ""
        self._amount = NOTHING
        self._since_ns = 0

    @property
    def device(self) -> str:
        """The file system; "" where nobody sees one another."""
        return self._device

    @property
    def amount(self) -> Need:
        """What is reserved now."""
        return self._amount

    @property
    def name(self) -> str:
        """Of its record; "" while there is none."""
        return self._name

    def take(self, wanted: Need, *, within: Reservation | None = None) -> str:
        """Reserve so much, in place of what was; ``within``: it comes out of that one, which has less then.

        Returns why it could not be put on the board, "" usually: then nobody knows of it, and it is not refused.
        Raises `NoSpaceError`: with what others have reserved it does not fit.
        """
        self.drop()
        board = self._node.board
        if board is None or wanted == NOTHING:
            return ""
        self._since_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        try:
            with _HANDING_ON if within is not None else nullcontext():
                self._agree(board, wanted, within)
                if within is not None:
                    within.lower(within.amount - wanted)
        except OSError as error:
            self.drop()
            return f"{board.path}: nothing can be reserved: {error.strerror}"
        except BaseException:
            self.drop()
            raise
        return ""

    def lower(self, left: Need) -> None:
        """So much of it is still missing. Never raises: what cannot be taken off stays reserved."""
        board = self._node.board
        if board is None or not self._name:
            return
        try:
            self._post(board, left, decided=True)
        except OSError:
            return

    def drop(self) -> None:
        """Give back what is left of it. Idempotent; never raises."""
        if self._node.board is not None and self._name:
            self._node.board.withdraw(self._name)
        self._name = ""
        self._amount = NOTHING

    def close(self) -> None:
        """The same, for good."""
        self.drop()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _agree(self, board: Board, wanted: Need, within: Reservation | None) -> None:
        deadline_s = time.monotonic() + _DECIDE_WITHIN_S
        self._name = board.new_name()
        self._post(board, wanted, decided=False)
        mine = {self._name, within.name} if within is not None else {self._name}
        inside = within.amount if within is not None else NOTHING
        stands = True
        while True:
            others = [each for each in read_claims(board, self._device) if each.name not in mine]
            undecided = [each.says for each in others if isinstance(each.says, Claimed) and not each.says.decided]
            is_late = time.monotonic() > deadline_s
            has_earlier = any(each.since_ns < self._since_ns for each in undecided)
            if stands:
                refusal = self._judge(board, wanted, inside, others, Space.of(self._fd))
                if refusal is None:
                    self._post(board, wanted, decided=True)
                    return
                if not undecided or is_late:
                    raise refusal
                if has_earlier:
                    board.withdraw(self._name)
                    stands = False
            elif is_late or not has_earlier:
                self._post(board, wanted, decided=False)
                stands = True
                continue
            time.sleep(_LOOK_AGAIN_S)

    def _judge(
        self, board: Board, wanted: Need, inside: Need, others: Sequence[Record], space: Space
    ) -> NoSpaceError | None:
        """None: it fits."""
        most = most_of_one(self._node.settings, space.total)
        taken = count_taken(others, board.uid, most)
        more = wanted - inside
        whole = taken.mine + wanted
        if self._has_cap and (whole.bytes > most.bytes or whole.inodes > most.inodes):
            return self._above_cap(wanted, taken, most)
        room = space.free - taken.total - inside
        if more.bytes <= room.bytes and more.inodes <= room.inodes:
            return None
        return self._refusal(wanted, taken, space)

    @property
    def _has_cap(self) -> bool:
        settings = self._node.settings
        return settings.reserved_bytes is not None or settings.reserved_share is not None

    def _above_cap(self, wanted: Need, taken: Taken, most: Need) -> NoSpaceError:
        told = f", and you have reserved {_show(taken.mine)}: {taken.told()}" if taken.own else ""
        error = NoSpaceError(
            f"{_show(wanted)} are needed, one user may have reserved {_show(most)} there{told}", where=self._where,
            hint=f"reserved_per_user of {self._node.settings.file} says so; choose another disk, or less data",
        )  # fmt: skip
        error.missing_bytes, error.missing_inodes = _ENDLESS, _ENDLESS  # no room that is made changes that
        return error

    def _refusal(self, wanted: Need, taken: Taken, space: Space) -> NoSpaceError:
        """Somebody may also just have written there: then nothing is reserved."""
        free, total = space.free, taken.total
        if wanted.bytes > max(0, free.bytes - total.bytes):
            what = (
                f"{wanted.bytes} bytes are needed, {free.bytes} are free and {total.bytes} of them are reserved "
                f"({about_bytes(wanted.bytes)}, {about_bytes(free.bytes)}, {about_bytes(total.bytes)})"
            )
        else:
            what = f"{wanted.inodes} inodes are needed, {free.inodes} are free and {total.inodes} of them are reserved"
        error = NoSpaceError(
            f"{what}: {taken.told() or 'nothing'}", where=self._where,
            hint="wait for their end, free some or choose another disk",
        )  # fmt: skip
        missing = wanted - (free - total)
        error.missing_bytes, error.missing_inodes = missing.bytes, missing.inodes
        return error

    def _post(self, board: Board, wanted: Need, *, decided: bool) -> None:
        board.post(
            self._name,
            Claimed(
                device=self._device, bytes=wanted.bytes, inodes=wanted.inodes, since_ns=self._since_ns, decided=decided
            ),
        )
        self._amount = wanted


def _show(amount: Need) -> str:
    return f"{about_bytes(amount.bytes)} and {amount.inodes:,} inode{'' if amount.inodes == 1 else 's'}"
