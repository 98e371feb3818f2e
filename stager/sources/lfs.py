"""The files of a git tree that Git LFS keeps elsewhere: fetched by the native engine, from where the batch API says.

A row of such a file has the object's size and the identity ``BLOB lfs=OID``: the pointer's blob, and the SHA-256 of the
object in hex. So nothing of git is needed to know it again. Every object is compared with its SHA-256 (grade A): a
small one while it is received, a large one by `stager.sources.verify` behind its ranges.

Order: what the node's store has is copied; the rest is asked for, in rounds ahead of need, each object once; what is
the same object at other paths is cloned or copied. Small objects go together, large ones in ranges, which go on where
an earlier run was killed; where a server gives no ranges they come whole, in one answer each.
"""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from stager._native import Batch, Failure, KeyTable
from stager.errors import SourceError, StagerError
from stager.host.lfs_store import LfsStore, is_worth_a_copy
from stager.host.scratch import open_scratch, used_scratches
from stager.host.threads import blocking, in_threads, together
from stager.model import Counts
from stager.names import show
from stager.retry import Action as Deed
from stager.sources.base import Landing, OnLanded
from stager.sources.large import LargeObject, fetch_large, sweep
from stager.sources.lfs_batch import LfsServer
from stager.sources.lfs_failures import LFS, is_redirect, is_without_ranges
from stager.sources.lfs_href import Action
from stager.sources.lfs_origin import Origin, Origins, targets_of
from stager.sources.lfs_place import Places
from stager.sources.lfs_pointer import Pointer
from stager.sources.lfs_rows import oid_of
from stager.sources.verify import Announced, Told
from stager.transfer import Lane, Transfer, Work

__all__ = ["fetch_lfs", "open_store"]

_FIRST_ROUND: Final = 100  # objects: what the batch API is asked for at once
_LARGEST_ROUND: Final = 1000
_ROUND_BYTES: Final = 4 << 30
_ROUNDS_AT_ONCE: Final = 3
_LARGE_AT_ONCE: Final = 4
_REFUSALS: Final = 3  # in a row, of new links, with nothing fetched between them
_HOPS: Final = 5  # redirects, one after the other
_ROWS_A_CALL: Final = 64

Actions = dict[int, Action]
"""By row."""


async def fetch_lfs(
    server: LfsServer,
    transfer: Transfer,
    table: KeyTable,
    rows: Sequence[int],
    landing: Landing,
    done: OnLanded,
    *,
    where: str,
    store: LfsStore | None,
) -> None:
    """Put LFS rows in place; see the module and `stager.sources.base.Source.fetch`."""
    places = await blocking(Places, table, landing, store)
    async with Origins(server, transfer, where) as origins:
        await _Fetch(server, transfer, table, landing, done, where, places, origins).run(rows)


def open_store(environ: Mapping[str, str], scratch: str | None = None) -> LfsStore | None:
    """The store of objects in a scratch, and with it those that this user has elsewhere on the node; without one that
    of STAGER_SCRATCH or the default. None where there can be none. Blocks.
    """
    with contextlib.suppress(OSError, StagerError):
        return LfsStore(scratch, used_scratches()) if scratch else LfsStore(open_scratch(None, environ))
    return None


class _ElsewhereError(Exception):
    """A new link leads to another host: what is under way for a large object begins again there. Never leaves here."""

    def __init__(self, action: Action) -> None:
        super().__init__()
        self.action = action


class _Turn:
    """Some objects asked for once, and what came of them that is no file."""

    def __init__(self, actions: Actions, hops: dict[int, int]) -> None:
        self.actions = actions
        self.hops = hops
        self.landed = False
        self.refused: dict[int, Failure] = {}
        self.moved: dict[int, str] = {}
        self.is_without_ranges = False

    def defer(self, row: int, failure: Failure) -> bool:
        """See `stager.transfer.Work`: a link that is refused is asked for anew, and a redirect is followed later."""
        if LFS.action_for(failure) is Deed.REFRESH:
            self.refused[row] = failure
            return True
        return self._is_moved(row, failure)

    def defer_part(self, row: int, failure: Failure) -> bool:
        """The same of a part of a large object, whose lane renews its link."""
        self.is_without_ranges |= is_without_ranges(failure)
        return self.is_without_ranges or self._is_moved(row, failure)

    def _is_moved(self, row: int, failure: Failure) -> bool:
        if not is_redirect(failure) or not failure.location:
            return False
        self.moved[row] = failure.location
        return True


class _Fetch:
    """One `fetch_lfs`."""

    def __init__(
        self,
        server: LfsServer,
        transfer: Transfer,
        table: KeyTable,
        landing: Landing,
        done: OnLanded,
        where: str,
        places: Places,
        origins: Origins,
    ) -> None:
        self._server = server
        self._transfer = transfer
        self._table = table
        self._landing = landing
        self._done = done
        self._where = where
        self._places = places
        self._origins = origins
        self._others: dict[int, list[int]] = {}  # by the row that is fetched, further ones of the same object

    async def run(self, rows: Sequence[int]) -> None:
        """Fetch them all."""
        first: dict[str, int] = {}
        for row in rows:
            leader = first.setdefault(oid_of(self._table, row), row)
            if leader != row:
                self._others.setdefault(leader, []).append(row)
        small, large = self._table.part_rows(array("I", first.values()), self._transfer.limits.part_bytes)
        await blocking(sweep, self._landing, self._table, large)
        rounds, singles = _rounds(self._table, small), iter(large)
        await together(
            *(self._small(rounds) for _ in range(_ROUNDS_AT_ONCE)),
            *(self._large(singles) for _ in range(min(_LARGE_AT_ONCE, len(large)))),
        )

    # ---- small objects ----

    async def _small(self, rounds: Iterator[list[int]]) -> None:
        for rows in rounds:
            missing = await self._from_store(rows)
            if missing:
                started = time.monotonic()
                await self._fetch(await self._ask(missing))
                await self._keep(missing, time.monotonic() - started)
            await self._copy_to_others(rows)

    async def _fetch(self, actions: Actions) -> None:
        """Whole objects, each in one answer, until all are in place."""
        refusals = 0
        hops: dict[int, int] = {}
        while actions:
            turn = _Turn(actions, hops)
            await self._run_turn(turn)
            again = await self._ask(list(turn.refused)) if turn.refused else {}
            refusals = refusals + 1 if turn.refused and not turn.landed else 0
            if refusals == _REFUSALS:
                row, failure = next(iter(turn.refused.items()))
                raise LFS.error_for(failure, self._name(row), _REFUSALS)
            actions = {**again, **await self._redirected(turn)}

    async def _run_turn(self, turn: _Turn) -> None:
        here: dict[int, str] = {}
        of: dict[Origin, list[int]] = {}
        for row, action in turn.actions.items():
            if isinstance(action.place, str):
                here[row] = action.place
            else:
                of.setdefault(await self._origins.of(action.place), []).append(row)
        if here:
            await self._in_threads(lambda row: self._places.from_file(here[row], row), list(here))
        await together(*(self._run_at(origin, rows, turn) for origin, rows in of.items()))

    async def _run_at(self, origin: Origin, rows: list[int], turn: _Turn) -> None:
        engine, table, landing = self._transfer.engine, self._table, self._landing

        def submit(some: Sequence[int]) -> Batch:
            targets = targets_of(table, [(row, turn.actions[row]) for row in some])
            return engine.fetch_objects(
                origin.template, table, some, landing.root_fd, landing.tmp_fd, targets=targets
            )

        def landed(batch: Batch, _rows: Sequence[int], finished: array[int]) -> None:
            turn.landed = True
            self._done(landing.entries.take(batch, finished, verified="A", pinned="B", unpinned="C"))

        await origin.lane.run(
            Work(items=rows, submit=submit, landed=landed, name=self._name, defer=turn.defer)
        )

    async def _redirected(self, turn: _Turn) -> Actions:
        for row in turn.moved:
            turn.hops[row] = turn.hops.get(row, 0) + 1
            if turn.hops[row] > _HOPS:
                raise SourceError("the server redirects without end", where=self._name(row))
        return {
            row: await self._server.redirected(turn.actions[row], location) for row, location in turn.moved.items()
        }

    # ---- large objects ----

    async def _large(self, singles: Iterator[int]) -> None:
        for row in singles:
            if await self._from_store([row]):
                started = time.monotonic()
                await self._fetch_in_parts(row, (await self._ask([row]))[row])
                await self._keep([row], time.monotonic() - started)
            await self._copy_to_others([row])

    async def _fetch_in_parts(self, row: int, action: Action) -> None:
        hops: dict[int, int] = {}
        while True:
            origin = None if isinstance(action.place, str) else await self._origins.of(action.place)
            if origin is None or origin.has_ranges is False:
                await self._fetch({row: action})
                return
            turn = _Turn({row: action}, hops)
            try:
                if await fetch_large(self._in_parts(origin, row, turn), self._landing, asked=self._told(row)):
                    origin.has_ranges = True
                    self._done(array("I", [row]))
                    return
            except _ElsewhereError as elsewhere:
                action = elsewhere.action
                continue
            if turn.is_without_ranges:
                origin.has_ranges = False
            action = (await self._redirected(turn)).get(row, action)

    def _in_parts(self, origin: Origin, row: int, turn: _Turn) -> LargeObject:
        engine, table = self._transfer.engine, self._table

        async def renew() -> bool:
            fresh = (await self._ask([row]))[row]
            if isinstance(fresh.place, str) or await self._origins.of(fresh.place) is not origin:
                raise _ElsewhereError(fresh)
            turn.actions[row] = fresh
            return True

        def submit(ranges: Sequence[tuple[int, int]], fd: int, crc: str | None) -> Batch:
            targets = targets_of(table, [(row, turn.actions[row])])
            return engine.fetch_ranges(origin.template, table, row, ranges, fd, crc, targets)

        lane: Lane = origin.new_lane()
        lane.refresh = renew
        return LargeObject(
            lane=lane,
            table=table,
            row=row,
            name=self._name(row),
            submit=submit,
            defer=lambda _, failure: turn.defer_part(row, failure),
            first_alone=origin.has_ranges is None,
        )

    async def _told(self, row: int) -> Told:
        return Told(announced=Announced(kind="sha256", value=bytes.fromhex(oid_of(self._table, row))))

    # ---- what both need ----

    async def _ask(self, rows: Sequence[int]) -> Actions:
        """Links to the objects of these rows, which are all different. Raises as `LfsServer.actions`."""
        oids = {row: oid_of(self._table, row) for row in rows}
        names = {oids[row]: show(self._table.key(row)) for row in rows}
        found = await self._server.actions([Pointer(oids[row], self._table.size(row)) for row in rows], names)
        return {row: found[oids[row]] for row in rows}

    async def _from_store(self, rows: Sequence[int]) -> list[int]:
        """Those that the node's store has not; the others are in place."""
        found: set[int] = set()

        def take(row: int) -> None:
            if self._places.from_store(row):
                found.add(row)

        if self._places.has_store:
            await self._in_threads(take, rows, found)
            size = self._table.sum_sizes(array("I", sorted(found)))
            self._landing.tally.reused += Counts(objects=len(found), bytes=size)
        return [row for row in rows if row not in found]

    async def _keep(self, rows: Sequence[int], seconds: float) -> None:
        size = sum(self._table.size(row) for row in rows)
        if self._places.clones or (is_worth_a_copy(len(rows), size, seconds) and self._places.has_room(size)):
            async with contextlib.aclosing(in_threads(self._places.keep, rows)) as kept:
                async for _ in kept:
                    pass

    async def _copy_to_others(self, rows: Iterable[int]) -> None:
        source = {other: row for row in rows for other in self._others.get(row, ())}
        await self._in_threads(lambda row: self._places.from_row(source[row], row), list(source))

    async def _in_threads(
        self, work: Callable[[int], None], rows: Sequence[int], landed: set[int] | None = None
    ) -> None:
        """Do each; those that are ``landed`` then (None: all) are done."""

        def several(some: Sequence[int]) -> Sequence[int]:
            for row in some:
                work(row)
            return some

        pieces = [rows[at : at + _ROWS_A_CALL] for at in range(0, len(rows), _ROWS_A_CALL)]
        if not pieces:
            return
        async with contextlib.aclosing(in_threads(several, pieces)) as finished:
            async for some in finished:
                if there := array("I", [row for row in some if landed is None or row in landed]):
                    self._done(there)

    def _name(self, row: int) -> str:
        return f"{self._where}: {show(self._table.key(row))} ({oid_of(self._table, row)})"


def _rounds(table: KeyTable, rows: array[int]) -> Iterator[list[int]]:
    """Rows in rounds: the first few at once, so that they come soon, then as many as their links are good for."""
    most, some, size = _FIRST_ROUND, [], 0
    for row in rows:
        some.append(row)
        size += table.size(row)
        if len(some) >= most or size >= _ROUND_BYTES:
            yield some
            most, some, size = min(2 * most, _LARGEST_ROUND), [], 0
    if some:
        yield some
