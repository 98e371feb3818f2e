"""A job and the exports of network file systems that it has, of which the site gives each node so many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager
from typing import Final

from stager.errors import BusyError, HostError
from stager.host.connection_settings import ConnectionSettings
from stager.host.connections import Connections, Export, limited_exports
from stager.host.mounts import read_mountinfo
from stager.host.node import open_node
from stager.host.probe import probe_directories
from stager.host.site import site_connections, site_storage
from stager.job.view import live_mounts
from stager.model import JobSpec

__all__ = ["connected", "in_turn", "live_paths"]

_ANSWER_WITHIN_S: Final = 10.0
_LOOK_S: Final = 0.2
_SAY_AGAIN_S: Final = 20.0  # who is not seen to live counts for a minute


def live_paths(spec: JobSpec) -> list[str]:
    """What will be mounted for a job, its storage aside: paths of this host, and NFS exports."""
    return [mount.source for mount in live_mounts(spec)]


@asynccontextmanager
async def connected(paths: Iterable[str], *, waits: Callable[[Export, int], None]) -> AsyncIterator[None]:
    """Have the exports that these paths and the site's storage lie on while the block is entered; ``waits`` is called
    once when that has to be waited for, with how many have it.

    Raises `BusyError`: as many jobs of this node have it as the site allows, and waiting is not allowed, or was for
    nothing. `HostError`.
    """
    settings = await asyncio.to_thread(site_connections)
    if not settings.limits:
        yield
        return
    with ExitStack() as held:
        connections = await asyncio.to_thread(_take, list(paths), settings, held)
        if connections is None:
            yield
            return
        async with in_turn(connections, waits, settings):
            yield


@asynccontextmanager
async def in_turn(
    connections: Connections, waits: Callable[[Export, int], None], settings: ConnectionSettings | None = None
) -> AsyncIterator[None]:
    """Wait until all are to be had, as long as ``settings`` say or without end, and have them while the block is
    entered. `BusyError`, as `connected`.
    """
    await _wait(connections, settings, waits)
    saying = asyncio.create_task(_say_again_and_again(connections))
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


def _take(paths: list[str], settings: ConnectionSettings, held: ExitStack) -> Connections | None:
    storage = site_storage()
    here = [*filter(None, (storage.cluster, storage.user, storage.shared)), *(each for each in paths if each[0] == "/")]
    probes = probe_directories(here, limit_s=_ANSWER_WITHIN_S) if here else []
    plain = [probe.real for probe in probes if not probe.error]  # what is wrong with the others is told by the view
    exports = limited_exports([*plain, *(each for each in paths if each[0] != "/")], read_mountinfo(), settings)
    if not exports:
        return None
    node = open_node()
    held.callback(node.close)
    if node.board is None:
        hint = "the administrator names a directory for this: [node] directory of the site's configuration"
        raise HostError("the site limits who has it, and nobody can be seen here", where=exports[0].name, hint=hint)
    return held.enter_context(Connections(node.board, exports))


async def _wait(
    connections: Connections, settings: ConnectionSettings | None, waits: Callable[[Export, int], None]
) -> None:
    came_s, told = time.monotonic(), False
    while (missing := await asyncio.to_thread(connections.waits_for)) is not None:
        export, before = missing
        if settings is not None and time.monotonic() >= came_s + settings.wait_s:
            what = f"{before} jobs of this node have it or wait for it, and the site allows {export.most}"
            raise BusyError(f"{what} ({settings.file})", where=export.name, hint="try again when one has ended")
        if not told:
            waits(export, before)
            told = True
        await asyncio.sleep(_LOOK_S)
        await asyncio.to_thread(connections.say_again)


async def _say_again_and_again(connections: Connections) -> None:
    """Until it is cancelled."""
    while True:
        await asyncio.sleep(_SAY_AGAIN_S)
        await asyncio.to_thread(connections.say_again)
