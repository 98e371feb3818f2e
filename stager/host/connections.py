"""Jobs of this node that have one export of a network file system, counted where the site limits them
(`stager.host.connection_settings`), on the board of the node (`stager.host.board`).

A job that has several directories of an export counts once: binds of one mount are one client of its server. Who wants
an export says so first, then takes a ticket, the time, and then looks: whoever it does not see then has a later ticket.
It has the export when fewer than the limit have earlier ones; so no more than those ever do, and whoever waits gets it
in turn. What a stager said that is gone counts no more.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple, Self

from stager.errors import from_os_error
from stager.host.board import Board, Connected
from stager.host.connection_settings import ConnectionSettings
from stager.host.mounts import Row, is_network, mount_of_path

__all__ = ["Connections", "Export", "limited_exports"]

_TICKET_WITHIN_S: Final = 2.0
_LOOK_AGAIN_S: Final = 0.005


class Export(NamedTuple):
    """An export, as mountinfo writes it, and how many jobs may have it."""

    name: str
    most: int


def limited_exports(paths: Sequence[str], rows: Sequence[Row], settings: ConnectionSettings) -> list[Export]:
    """The exports that these paths (without symlinks in them) lie on and whose jobs the site counts; "SERVER:/PATH" is
    one itself.
    """
    found: dict[str, Export] = {}
    for path in paths:
        name = path
        if path.startswith("/"):
            row = mount_of_path(path, rows)
            name = row.source if row is not None and is_network(row.fstype) else ""
        most = settings.limit_of(name) if name else None
        if most is not None:
            found[name] = Export(name, most)
    return list(found.values())


class Connections:
    """What one job has, or waits for. Methods block."""

    def __init__(self, board: Board, exports: Sequence[Export]) -> None:
        """Take a ticket for each. Raises `HostError`: the board cannot be written."""
        self._board = board
        self._exports = {board.new_name(): export for export in exports}
        self._tickets: dict[str, int] = {}
        try:
            for name, export in self._exports.items():
                board.post(name, Connected(export=_digest(export.name)))
                self._tickets[name] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                board.post(name, Connected(export=_digest(export.name), ticket_ns=self._tickets[name]))
        except OSError as error:
            self.close()
            raise from_os_error(error, doing="say which exports are wanted", where=board.path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Have none of them. Never raises."""
        for name in self._exports:
            self._board.withdraw(name)

    def say_again(self) -> None:
        """For whoever cannot see whether this process lives. Never raises: what was said stands."""
        with suppress(OSError):
            for name, ticket_ns in self._tickets.items():
                self._board.post(name, Connected(export=_digest(self._exports[name].name), ticket_ns=ticket_ns))

    def waits_for(self) -> tuple[Export, int] | None:
        """An export that it may not have yet, and how many have it or come before; None: it may have all of them.

        Raises `HostError`.
        """
        for name, export in self._exports.items():
            before = self._count_before(name, export)
            if before >= export.most:
                return export, before
        return None

    def _count_before(self, name: str, export: Export) -> int:
        """Who is about to take a ticket is waited for a moment, and counts as earlier when it does not go on."""
        digest, own, until = _digest(export.name), (self._tickets[name], name), time.monotonic() + _TICKET_WITHIN_S
        while True:
            try:
                records = self._board.look()
            except OSError as error:
                raise from_os_error(error, doing="see who has an export", where=self._board.path) from error
            others = [
                (record.says.ticket_ns, record.name)
                for record in records
                if isinstance(record.says, Connected) and record.says.export == digest and record.name != name
            ]
            if all(ticket for ticket, _ in others) or time.monotonic() > until:
                return sum(other < own for other in others)
            time.sleep(_LOOK_AGAIN_S)


def _digest(export: str) -> str:
    return hashlib.sha256(export.encode("utf-8", "surrogateescape")).hexdigest()[:32]
