"""The processes that one launcher has started for one job on this node, by their number among them (``srun -n 8``).

Rank 0 stages the data and makes the view; the others come to its job's directory, which only its user can enter, and
note here that they have come, and that they have ended. So the view stays until the last of them has ended, also when
one is killed: a note names its process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from enum import StrEnum
from typing import Final

import msgspec

from stager.errors import HostError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.holders import Holder, Life
from stager.host.names_in import names_in

__all__ = ["Presence", "forget_ranks", "note_rank", "rank_presence"]

_DIRECTORY: Final = "ranks"
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_BYTES: Final = 1 << 12


class Presence(StrEnum):
    """Whether a rank has been seen at a job."""

    ABSENT = "absent"
    HERE = "here"
    GONE = "gone"


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    who: Holder
    ended: bool


_decoder: Final = msgspec.json.Decoder(_Note)


def note_rank(job: str, rank: int, *, ended: bool) -> None:
    """This process is that rank. ``job``: the job's directory. Blocks. Raises `HostError`, `NoSpaceError`."""
    path = os.path.join(job, _DIRECTORY)
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        fd = os.open(path, _FLAGS)
    except OSError as error:
        raise from_os_error(error, doing="come to the job", where=path) from error
    try:
        write_file(fd, str(rank), [msgspec.json.encode(_Note(who=Holder.of_self(), ended=ended))], mode=0o600)
    finally:
        os.close(fd)


def rank_presence(job: str, ranks: Iterable[int]) -> dict[int, Presence]:
    """Of each of these. What cannot be read has not come; of whom nothing can be seen is here. Blocks. Never raises."""
    try:
        fd = os.open(os.path.join(job, _DIRECTORY), _FLAGS)
    except OSError:
        return dict.fromkeys(ranks, Presence.ABSENT)
    try:
        return {rank: _presence(fd, str(rank)) for rank in ranks}
    finally:
        os.close(fd)


def _presence(fd: int, name: str) -> Presence:
    try:
        note = _decoder.decode(read_regular(name, dir_fd=fd, most=_MOST_BYTES))
    except (OSError, HostError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return Presence.ABSENT
    return Presence.GONE if note.ended or note.who.state() is Life.DEAD else Presence.HERE


def forget_ranks(job_fd: int) -> None:
    """Nobody has come yet. Raises `HostError`."""
    try:
        fd = os.open(_DIRECTORY, _FLAGS, dir_fd=job_fd)
        try:
            for name in names_in(fd):
                os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="forget an earlier job's ranks", where=_DIRECTORY) from error
