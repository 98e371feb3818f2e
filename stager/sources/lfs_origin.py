"""The hosts that LFS objects come from: for each one the engine's endpoint, and a lane of requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, Self

from stager._native import Endpoint, KeyTable, Targets, Template
from stager.errors import StagerError
from stager.sources.lfs_batch import LfsServer
from stager.sources.lfs_failures import LFS
from stager.sources.lfs_href import Action, Target
from stager.sources.lfs_rows import oid_of
from stager.sources.lfs_way import Way, unusable
from stager.transfer import Lane, Transfer
from stager.version import __version__

__all__ = ["Origin", "Origins", "targets_of"]

_FRESHEN_EVERY_S: Final = 60.0


def targets_of(table: KeyTable, actions: Sequence[tuple[int, Action]]) -> Targets:
    """What the engine needs to ask for rows by their actions, of which none is of a file of this host's."""
    return Targets(
        [
            (action.place.path.encode("ascii"), action.headers, bytes.fromhex(oid_of(table, row)))
            for row, action in actions
            if isinstance(action.place, Target)
        ]
    )


class Origin:
    """One scheme, host and port. ``has_ranges``: whether it answers a range with a range, where that is known."""

    def __init__(self, target: Target, way: Way, transfer: Transfer, where: str) -> None:
        proxy = way.proxy
        self.name = target.origin
        try:
            self.endpoint = Endpoint(
                transfer.engine,
                host=way.host,
                port=way.port,
                tls=way.tls,
                addresses=way.addresses,
                ca_file=way.ca_file,
                verify=way.verify,
                proxy=proxy.for_endpoint() if proxy else None,
                certificate=way.certificate,
            )
        except OSError as error:
            if way.certificate is not None and error.filename == way.certificate[0]:
                raise unusable(way.certificate) from None
            raise
        agent = ("user-agent", f"stager/{__version__}")
        self.template = Template(
            self.endpoint, None, host_header=target.host_header, path_prefix=b"/", headers=(agent,)
        )
        self._transfer = transfer
        self._where = where
        self._steering = transfer.steer(self.endpoint)
        self.lane = self.new_lane()
        self.has_ranges: bool | None = None

    def new_lane(self) -> Lane:
        """A lane of its own for one object, whose link is renewed alone."""
        return Lane(transfer=self._transfer, where=self._where, steering=self._steering, policy=LFS)


class Origins:
    """Those of one fetch, each made when it is first met. A context manager: their addresses stay fresh inside it."""

    def __init__(self, server: LfsServer, transfer: Transfer, where: str) -> None:
        self._server = server
        self._transfer = transfer
        self._where = where
        self._made: dict[str, asyncio.Task[Origin]] = {}
        self._links: dict[str, Target] = {}  # by origin, one to it

    async def __aenter__(self) -> Self:
        self._fresh = asyncio.create_task(self._stay_fresh())
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = (self._fresh, *self._made.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def of(self, target: Target) -> Origin:
        """Where a link leads. Raises as `LfsServer.way_to`."""
        if target.origin not in self._made:
            self._made[target.origin] = asyncio.create_task(self._make(target))
        return await asyncio.shield(self._made[target.origin])

    async def _make(self, target: Target) -> Origin:
        way = await self._server.way_to(target)
        self._links[target.origin] = target
        return Origin(target, way, self._transfer, self._where)

    async def _stay_fresh(self) -> None:
        while True:
            await asyncio.sleep(_FRESHEN_EVERY_S)
            for name, link in list(self._links.items()):
                with contextlib.suppress(StagerError):
                    way = await self._server.way_to(link)
                    self._made[name].result().endpoint.update(way.addresses)
