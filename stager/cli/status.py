"""``stager status JOB``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
import msgspec

from stager.cli.job_options import scratch_option
from stager.cli.options import common
from stager.cli.state import State
from stager.cli.tell import tell
from stager.cli.text import count, size
from stager.host.record import rfc3339
from stager.job.logs import place_of_logs
from stager.job.look import JobLook, look_at_job
from stager.job.progress import Noted
from stager.model import JobState
from stager.names import lossless

__all__ = ["command"]

_DONE: Final = frozenset({JobState.READY, JobState.RUNNING, JobState.ENDED, JobState.PERSISTED, JobState.REMOVED})


@click.command("status")
@click.argument("job_id", metavar="JOB")
@scratch_option
@common
@click.pass_obj
def command(state: State, /, job_id: str, scratch: str | None) -> None:
    """Say all that is known of a job: how far it is, where its data and its logs lie, what was staged, how it ended.

    While it is staging that is as of two seconds ago at most. States: created, staging, ready, running, ended,
    persisted (its logs are kept), removed; "failed" or "crashed" when it stopped before its end.

    Example: stager status 4711
    """
    look = look_at_job(job_id, scratch, os.environ)
    receipt = look.receipt() if look.record.state in _DONE else {}
    tell(state, "job", _body(look, receipt), "\n".join(_lines(look, receipt)))


def _body(look: JobLook, receipt: Mapping[str, Any]) -> dict[str, Any]:
    record, progress = look.record, look.progress()
    body = {
        **msgspec.to_builtins(record),
        "state": record.shown_state(),
        "times": {state: rfc3339(seconds) for state, seconds in record.times.items()},
        "scratch": look.scratch,
        "tree": look.tree if os.path.isdir(look.tree) else None,
        "logs": place_of_logs(look),
        "keeps": {keep.what: keep.place for keep in look.keeps()},
        "progress": None if progress is None else msgspec.to_builtins(progress.sources),
        "receipt": receipt or None,
        "exit": receipt.get("exit"),
    }
    return {name: lossless(value) for name, value in body.items()}


def _lines(look: JobLook, receipt: Mapping[str, Any]) -> Iterator[str]:
    record = look.record
    since = max(record.times.values(), default=0.0)
    yield f"job {record.id} ({record.name}): {record.shown_state()} since {rfc3339(since)}"
    if record.error is not None:
        yield f"  why: {record.error}"
    yield from (f"  {state}: {rfc3339(seconds)}" for state, seconds in sorted(record.times.items(), key=_when))
    if os.path.isdir(look.tree):
        yield f"  tree: {look.tree}"
    yield from (f"  {below} lies in {part}" for below, part in record.parts.items())
    progress = look.progress()
    yield from (_progress_line(noted) for noted in (progress.sources if progress is not None else ()))
    yield from (_dataset_line(told) for told in receipt.get("datasets", ()) if isinstance(told, dict))
    storage = receipt.get("storage") or {}
    yield from (f"  {target}: {told.get('path')}" for target, told in storage.items() if isinstance(told, dict))
    if (logs := place_of_logs(look)) is not None:
        yield f"  logs: {logs}"
    yield from (f"  {keep.what} are kept in {keep.place}" for keep in look.keeps() if keep.place != logs)
    if record.exit_code is not None:
        ended = receipt.get("exit") or {}
        by = f" (signal {ended['signal']})" if isinstance(ended, dict) and ended.get("signal") is not None else ""
        yield f"  exit: {record.exit_code}{by}"


def _when(item: tuple[str, float]) -> float:
    return item[1]


def _progress_line(noted: Noted) -> str:
    name = noted.destination or noted.source
    if noted.finished:
        return f"  {name}: done, {count(noted.move.objects)}, {size(noted.move.bytes)}"
    here = max(noted.received_bytes, noted.done.bytes)
    whole = f"{noted.done.objects} of {count(noted.move.objects)}"
    return f"  {name}: {whole}, {size(here)} of {size(noted.move.bytes)}"


def _dataset_line(told: Mapping[str, Any]) -> str:
    line = f"  {told.get('destination')}: {told.get('source')}"
    if told.get("how") != "copy":
        return f"{line} ({told.get('how')})"
    total = told.get("total") or {}
    line += f": {count(int(total.get('objects', 0)))}, {size(int(total.get('bytes', 0)))}"
    if commit := (told.get("pinned") or {}).get("commit"):
        line += f"; at commit {commit}"
    if grades := ", ".join(f"{grade} {number}" for grade, number in (told.get("grades") or {}).items()):
        line += f"; grades: {grades}"
    return line
