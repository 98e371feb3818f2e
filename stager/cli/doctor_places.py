"""The part of `stager doctor` about places for data: which there are, in which order, and what old jobs left there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from stager.cli.state import State
from stager.cli.tell import tell
from stager.cli.text import count, size
from stager.errors import StagerError
from stager.host.measure import measure
from stager.host.rates import Rate, keep_rate, key_of, read_rates
from stager.host.record import Record, list_jobs, rfc3339
from stager.host.scratch import open_scratch
from stager.model import JobState
from stager.names import lossless, show
from stager.placement import DeviceClass, Root
from stager.stages.collect import holds_anything
from stager.stages.place_candidates import Candidates, scratch_in
from stager.stages.place_policy import in_order, usable_for

__all__ = ["measured", "tell_places", "tell_uncollected"]

_NOT_MEASURED = (DeviceClass.RAM, DeviceClass.NETWORK)
_MOST_BYTES = 512 << 20


def measured(state: State, found: Candidates) -> Candidates:
    """The same with a new rate for every root that can be used and has disks that can be told from others. Blocks."""
    roots = []
    for root in found.roots:
        new = root
        if not root.problem and root.device_class not in _NOT_MEASURED:
            try:
                rate = measure(open_scratch(scratch_in(root), {}), most_bytes=min(_MOST_BYTES, root.free_bytes // 8))
                new = replace(root, rate=rate.bytes_per_s)
                if not keep_rate(root, rate):
                    tell(state, "warning", {"text": f"{root.path}: not kept"}, f"{root.path}: its rate cannot be kept")
            except StagerError as error:
                tell(state, "warning", {"text": str(error)}, f"not measured: {error}")
        roots.append(new)
    return msgspec.structs.replace(found, roots=tuple(roots))


def tell_places(state: State, found: Candidates) -> None:
    """One line each, the best first; those that would not be used at the end, with why."""
    rates = read_rates()
    used = usable_for("any", found.roots)
    for number, root in enumerate([*in_order(used), *in_order([r for r in found.roots if r not in used])], 1):
        chosen = root in used
        why_not = root.problem or ("only for who asks: place = \"ram\"" if root.device_class is DeviceClass.RAM
                                   else "only where there is no disk")  # fmt: skip
        told = {"rank": number if chosen else None, "why_not": "" if chosen else why_not}
        body = {**lossless(msgspec.to_builtins(root)), **told, "measured": _measured(root, rates)}
        head = f"  {number}. " if chosen else "  -  "
        lines = [f"{head}{show(os.fsencode(root.path))}: {root.device_class}, {root.told}"]
        lines.append(f"     {_facts(root, rates)}")
        if not chosen:
            lines.append(f"     not used: {why_not}")
        lines += [f"     {note}" for note in root.notes]
        tell(state, "place", body, "\n".join(lines))


def _measured(root: Root, rates: Mapping[str, Rate]) -> dict[str, Any] | None:
    key = key_of(root)
    if key is None or key not in rates:
        return None
    rate = rates[key]
    return {"bytes_per_s": round(rate.bytes_per_s), "time": rfc3339(rate.measured_s), "how": rate.how}


def _facts(root: Root, rates: Mapping[str, Rate]) -> str:
    inodes = "" if root.free_inodes is None else f" and {count(root.free_inodes, 'inode')}"
    facts = [root.file_system, f"{size(root.free_bytes)} of {size(root.total_bytes)}{inodes} free"]
    if root.reserved_bytes:
        facts.append(f"{size(root.reserved_bytes)} more reserved by stagers")
    facts += [f"by {layer}" for layer in root.layers]
    facts.append({True: "reflinks", False: "no reflinks", None: "reflinks not known"}[root.reflink])
    if root.root_disk:
        facts.append("the root disk")
    if root.busy >= 0.1:
        facts.append(f"{root.busy:.0%} busy")
    told = _measured(root, rates)
    if told is not None:
        day = time.strftime("%Y-%m-%d", time.gmtime(rates[key_of(root) or ""].measured_s))
        facts.append(f"wrote {size(told['bytes_per_s'])}/s on {day} ({told['how']})")
    elif root.rate is not None:
        facts.append(f"writes {size(root.rate)}/s")
    return ", ".join(facts)


def _is_uncollected(record: Record, tree: str) -> bool:
    if record.state in (JobState.PERSISTED, JobState.REMOVED) or record.is_active() or not record.has_run():
        return False
    try:
        return holds_anything(os.path.join(tree, "logs"))
    except StagerError:  # what cannot be looked into has not been collected
        return True


def tell_uncollected(state: State, scratches: Iterable[str]) -> None:
    """Jobs that have ended, or whose stager is gone, with logs that are kept nowhere else."""
    for scratch in scratches:
        try:
            records = list_jobs(scratch)
        except StagerError as error:
            tell(state, "warning", {"text": str(error)}, f"jobs not listed: {error}")
            continue
        for record in records:
            tree = os.path.join(scratch, "jobs", record.id, "tree")
            if not _is_uncollected(record, tree):
                continue
            body = {"job": record.id, "state": record.shown_state(), "tree": lossless(tree)}
            how = f"stager collect {record.id}" if record.persist else f"copy {show(os.fsencode(tree))}/logs"
            text = f"  job {record.id} ({record.shown_state()}): its logs are kept nowhere else: {how}"
            tell(state, "uncollected", body, f"{text}, then stager teardown {record.id}")
