"""What the job commands print: one line for people, or one JSON object."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from stager.cli.render import write
from stager.cli.state import State
from stager.cli.text import count, size
from stager.host.record import JobDirectory, rfc3339
from stager.job_end import find_losses
from stager.names import show, to_json
from stager.stages.discard import Discarded
from stager.stages.place import Placement

__all__ = ["tell", "tell_losses", "tell_placement", "warn", "warn_of_losses"]

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


def warn_of_losses(state: State, job: JobDirectory) -> None:
    """Say what goes with the tree of a job and is nowhere else."""
    tell_losses(state, find_losses(job))


def tell_losses(state: State, losses: Mapping[str, Discarded]) -> None:
    """The same, of what was found, by its path in the view."""
    for target, lost in losses.items():
        names = ", ".join(lost.first) + (", ..." if lost.total.objects > len(lost.first) else "")
        amount = f"{count(lost.total.objects, 'file')} ({size(lost.total.bytes)})"
        warn(state, f"discarded with the job: {amount} written or changed in {target}: {names}")
