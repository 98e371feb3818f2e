"""A job staged into volumes that are mounted already, where nobody may mount anything: an init container's work."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from msgspec.structs import replace

from stager.config import Remote
from stager.errors import UsageError
from stager.events import Sink, nowhere
from stager.host.record import rfc3339
from stager.host.volumes import Volume
from stager.job.copies import Copy, copies_of, options_of, sync_copies
from stager.model import JobSpec
from stager.stages.layout import Layout, check_layout
from stager.sync_options import SyncOptions
from stager.transfer import Transfer

__all__ = ["stage_into_volumes"]


async def stage_into_volumes(
    spec: JobSpec,
    job_id: str,
    layout: Layout,
    *,
    scratch: str | None,
    transfer: Transfer,
    remote: Remote | None = None,
    save_listing: str | None = None,
    sink: Sink = nowhere,
) -> dict[str, Any]:
    """Bring every dataset and the code, all at once, and publish them in the volumes; the receipt is returned.

    It is written into each volume, last of all. When one copy fails nothing is published. ``scratch``: for mirrors of
    Git repositories; None: in a volume, for as long as this takes.
    Raises what `stager.pipeline.sync` raises; `SpecError`: something has no place; `UsageError`: a name is taken.
    """
    began_s = time.time()
    copies = copies_of(spec, remote, save_listing)
    await asyncio.to_thread(check_layout, layout, spec)
    async with AsyncExitStack() as held:
        volumes: dict[str, Volume] = {}
        for name, path in (("data", layout.data), ("code", layout.code)):
            if path is not None:
                volumes[name] = held.enter_context(await asyncio.to_thread(Volume, path))
        await asyncio.to_thread(_refuse_foreign, volumes, [copy for copy in copies if copy.below != "code"])
        if scratch is None and volumes:
            scratch = next(iter(volumes.values())).scratch()
        receipts = await sync_copies(
            copies,
            lambda copy: _volume_of(copy, volumes).staging(f"tree/{copy.below}"),
            lambda copy: _how(copy, volumes, scratch),
            transfer=transfer,
            sink=sink,
        )
        told = [
            {"name": copy.name, **msgspec.to_builtins(replace(receipt, destination=_target(copy, layout)))}
            for copy, receipt in zip(copies, receipts, strict=True)
        ]
        receipt = {
            "schema": 1, "job": job_id, "name": spec.name, "layout": msgspec.to_builtins(layout), "datasets": told,
            "times": {"staging": rfc3339(began_s), "ready": rfc3339(time.time())},
        }  # fmt: skip
        await asyncio.to_thread(_publish, volumes, copies, receipt)
    return receipt


def _volume_of(copy: Copy, volumes: dict[str, Volume]) -> Volume:
    return volumes["code" if copy.below == "code" else "data"]


def _target(copy: Copy, layout: Layout) -> str:
    return f"{layout.data}/{copy.name}" if copy.below != "code" else str(layout.code)


def _how(copy: Copy, volumes: dict[str, Volume], scratch: str | None) -> SyncOptions:
    state = _volume_of(copy, volumes).staging(f"state/{copy.below}")
    return replace(options_of(copy), state_dir=state, scratch=scratch)


def _children(copies: list[Copy], name: str, volume: Volume) -> dict[str, str]:
    """What appears in a volume, and where it lies in its staging: a dataset as a whole, of the code each entry."""
    if name == "data":
        return {copy.name: f"tree/{copy.below}" for copy in copies if copy.below != "code"}
    if not any(copy.below == "code" for copy in copies):
        return {}
    return {entry: f"tree/code/{entry}" for entry in volume.staged_names("tree/code")}


def _refuse_foreign(volumes: dict[str, Volume], copies: list[Copy]) -> None:
    if (volume := volumes.get("data")) is not None:
        _refuse(volume, [copy.name for copy in copies])


def _refuse(volume: Volume, targets: list[str]) -> None:
    if taken := volume.foreign(targets):
        more = f" and {len(taken) - 5} more" if len(taken) > 5 else ""
        raise UsageError(
            f"{', '.join(ascii(name) for name in taken[:5])}{more}: something lies there that stager did not put there",
            where=volume.path, hint="move it away, or give the job an empty volume",
        )  # fmt: skip


def _publish(volumes: dict[str, Volume], copies: list[Copy], receipt: dict[str, Any]) -> None:
    children = {name: _children(copies, name, volume) for name, volume in volumes.items()}
    for name, volume in volumes.items():
        _refuse(volume, list(children[name]))
    for name, volume in volumes.items():
        volume.publish(children[name], receipt)
