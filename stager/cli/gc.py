"""``stager gc``."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from stager.cli.job_options import scratch_option
from stager.cli.options import common
from stager.cli.state import State
from stager.cli.tell import tell, tell_losses, warn
from stager.cli.text import count, size
from stager.errors import StagerError, UsageError
from stager.filters import parse_since
from stager.host.cluster_storage import ClusterStorage, remove_cluster_storage
from stager.host.record import rfc3339
from stager.host.trash import sweep_trash
from stager.job.ended import EndedJob, find_ended, remove_ended, size_of
from stager.job.placing import job_scratches
from stager.job.storages import cluster_storages

__all__ = ["command"]


@click.command("gc")
@click.option("--older-than", metavar="AGE", help="Only of jobs that ended so long ago, like 12h or 30d, or before a "
              "time; also the records of jobs whose tree was removed before.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would go and what not, and remove nothing.")
@click.option("--discard-uncollected", is_flag=True, help="Also trees whose logs are kept nowhere else.")
@scratch_option
@common
@click.pass_obj
def command(
    state: State, /, older_than: str | None, dry_run: bool, discard_uncollected: bool, scratch: str | None
) -> None:
    """Remove what jobs that have ended left: their trees, what lies in their cluster storage, and with --older-than
    the records of those removed before.

    Never what a running job has, nor one that is created or staged and has not run; never a source, what was kept of
    logs and results, user or shared storage. A tree whose logs are kept nowhere else stays, and is named. What the jobs
    share is for `stager cache gc`.

    Example: stager gc --dry-run --older-than 7d
    """
    before_s = _since_s(older_than) if older_than is not None else time.time()
    scratches = job_scratches(scratch, os.environ)
    for top in () if dry_run else scratches:
        sweep_trash(top)
    failed: list[StagerError] = []
    for ended in find_ended(scratches, before_s=before_s, records=older_than is not None):
        why, losses = ended.judge(discard_uncollected=discard_uncollected)
        if why:
            _tell_kept(state, ended, why)
            continue
        amount = size_of([ended.directory, *ended.record.parts.values()])
        tell_losses(state, losses)
        if not dry_run:
            try:
                remove_ended(ended, discard_uncollected=discard_uncollected)
            except StagerError as error:
                failed.append(error)
                warn(state, str(error))
                continue
        body = {**_body(ended), "files": amount.objects, "bytes": amount.bytes, "dry_run": dry_run}
        verb = "would remove" if dry_run else "removed"
        much = f"{count(amount.objects, 'file')}, {size(amount.bytes)}"
        tell(state, "removed", body, f"{verb} the {ended.what} of job {_named(ended)}: {much}")
    for left in cluster_storages() if scratch is None else ():
        try:
            _remove_storage(state, left, before_s=before_s, dry_run=dry_run)
        except StagerError as error:
            failed.append(error)
            warn(state, str(error))
    if failed:
        raise failed[0]


def _remove_storage(state: State, left: ClusterStorage, *, before_s: float, dry_run: bool) -> None:
    """What a job that has ended left in its cluster storage, on whatever node."""
    if left.changed_s >= before_s:
        return
    body = {
        "job": left.job_id, "what": "cluster storage", "since": rfc3339(left.changed_s), "directory": left.path,
    }  # fmt: skip
    named = f"the cluster storage of job {left.job_id} (unchanged since {rfc3339(left.changed_s)})"
    if left.used_by:
        why = f"in use on {', '.join(left.used_by)}"
        if state.json or state.verbosity:
            tell(state, "kept", {**body, "why": why}, f"keeps {named}: {why}")
        return
    amount = size_of([left.path])
    if not dry_run:
        remove_cluster_storage(left)
    verb = "would remove" if dry_run else "removed"
    much = f"{count(amount.objects, 'file')}, {size(amount.bytes)}"
    told = {**body, "files": amount.objects, "bytes": amount.bytes, "dry_run": dry_run}
    tell(state, "removed", told, f"{verb} {named}: {much}")


def _tell_kept(state: State, ended: EndedJob, why: str) -> None:
    hint = f"; `stager collect {ended.record.id}` keeps them elsewhere" if "logs are kept nowhere" in why else ""
    tell(state, "kept", {**_body(ended), "why": why}, f"keeps the {ended.what} of job {_named(ended)}: {why}{hint}")


def _named(ended: EndedJob) -> str:
    return f"{ended.record.id} ({ended.record.shown_state()} since {rfc3339(ended.since_s)})"


def _body(ended: EndedJob) -> dict[str, Any]:
    return {
        "job": ended.record.id, "what": ended.what, "state": ended.record.shown_state(),
        "since": rfc3339(ended.since_s), "directory": ended.directory,
    }  # fmt: skip


def _since_s(text: str) -> float:
    try:
        return parse_since(text, now_s=time.time()) / 1e9
    except ValueError as error:
        raise UsageError(str(error), where="--older-than") from None
