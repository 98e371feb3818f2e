"""What the job commands print: one line for people, or one JSON object."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stager.cli.render import write
from stager.cli.state import State
from stager.cli.text import count, size
from stager.errors import HostError
from stager.host.record import JobDirectory, rfc3339
from stager.job.end import find_losses, read_receipt
from stager.names import show, to_json
from stager.stages.collect import Collected
from stager.stages.discard import Discarded
from stager.stages.place import Placement
from stager.view_paths import LOCAL_STORAGE

__all__ = [
    "refuse_partial",
    "tell",
    "tell_collected",
    "tell_losses",
    "tell_placement",
    "tell_storage",
    "warn",
    "warn_of_losses",
    "warn_of_uncollected",
]

_SCHEMA = 1


def tell(state: State, event: str, body: dict[str, Any], text: str, *, err: bool = False) -> None:
    """With ``--json`` the event with its body on stdout; else ``text``, unless ``-q``, on stdout or stderr."""
    if state.json:
        write(sys.stdout, json.dumps({"schema": _SCHEMA, "event": event, "time": rfc3339(time.time()), **body}))
    elif not state.quiet:
        write(sys.stderr if err else sys.stdout, text)


def warn(state: State, text: str) -> None:
    """Something the user must know even with ``-q``."""
    if state.json:
        tell(state, "warning", {"text": text}, text)
    else:
        write(sys.stderr, f"stager: {text}")


def tell_placement(state: State, placement: Placement) -> None:
    """Say where the data goes, when that was a choice."""
    if placement.why:
        where = show(os.fsencode(placement.scratch))
        body = {"scratch": to_json(os.fsencode(placement.scratch)), **placement.told()}
        text = f"stager: data goes to {where} ({placement.device_class}): {placement.why}"
        tell(state, "placed", body, text, err=True)
    for name, other in placement.apart.items():
        where = show(os.fsencode(other.scratch))
        body = {"scratch": to_json(os.fsencode(other.scratch)), "name": name, **other.told()}
        text = f"stager: {name} goes to {where} ({other.device_class}): {other.why}"
        tell(state, "placed", body, text, err=True)


def tell_storage(state: State, job: JobDirectory) -> None:
    """Say which of the storages below /mnt are not what they are where a site has places for them."""
    storage = read_receipt(job).get("storage", {})
    lacking = {target: one for target, one in storage.items() if one["fallback"]}
    local = lacking.pop(LOCAL_STORAGE, None)
    said = [f"{LOCAL_STORAGE} is {local['told']}"] if local else []
    if lacking:
        said.append(f"{', '.join(map(os.path.basename, lacking))} on this node alone, and yours alone")
    if said:
        tell(state, "storage", {"job": job.record.id, "storage": storage}, f"stager: {'; '.join(said)}", err=True)


def warn_of_losses(state: State, job: JobDirectory) -> None:
    """Say what goes with the tree of a job and is nowhere else."""
    tell_losses(state, find_losses(job))


def tell_losses(state: State, losses: Mapping[str, Discarded]) -> None:
    """The same, of what was found, by its path in the view."""
    for target, lost in losses.items():
        names = ", ".join(lost.first) + (", ..." if lost.total.objects > len(lost.first) else "")
        amount = f"{count(lost.total.objects, 'file')} ({size(lost.total.bytes)})"
        warn(state, f"discarded with the job: {amount} written or changed in {target}: {names}")


def tell_collected(state: State, job_id: str, collected: Collected, *, err: bool = False) -> None:
    """Say what of a job is kept now, and what is not."""
    what, total = collected.what, collected.total
    amount = f"{count(total.objects)}, {size(total.bytes)}"
    text = f"{what} ({amount}) are kept in {collected.destination}" if total.objects else f"no {what} to keep"
    tell(state, "collected", {"job": job_id, **msgspec.to_builtins(collected)}, f"stager: {text}", err=err)
    for name in collected.left_out:
        warn(state, f"left out of the {what}: {name}")
    for name in collected.missing:
        warn(state, f"missing from the {what}: {name}")
    if unwanted := collected.unwanted.objects:
        warn(state, f"no rule of [{what}] wants {count(unwanted, 'file')} ({size(collected.unwanted.bytes)})")


def refuse_partial(job_id: str, found: Sequence[Collected]) -> None:
    """Raise `HostError` when something should be kept and is not: it was named, and that is no success."""
    what = " and ".join(one.what for one in found if not one.is_whole)
    if what:
        raise HostError(
            f"not all {what} are kept", where=f"job {job_id}",
            hint=f"the tree stays: stager collect {job_id} tries again",
        )  # fmt: skip


def warn_of_uncollected(state: State, job: JobDirectory) -> None:
    """Say of a job that has ended that its logs are kept nowhere else, and how they can be."""
    warn(
        state, f"logs are in {job.tree}/logs and kept nowhere else (--logs DIR keeps them); "
        f"stager teardown --discard-uncollected {job.record.id} removes them",
    )  # fmt: skip
