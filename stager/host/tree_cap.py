"""How many trees of jobs one user may leave on a node: as the site says, refused before another is begun."""

from __future__ import annotations

import os
from collections.abc import Iterable

from stager.errors import HostError
from stager.host.node_settings import NodeSettings
from stager.host.record import Record, list_jobs
from stager.host.scratch import used_scratches
from stager.model import JobState

__all__ = ["refuse_too_many_trees", "trees_in"]


def refuse_too_many_trees(settings: NodeSettings, scratch: str, job_id: str) -> None:
    """Before job ``job_id`` begins a tree in ``scratch``; its own from before does not count. Blocks.

    Raises `HostError`: as many are there already as the site allows.
    """
    most = settings.trees_per_user
    if most is None:
        return
    trees = [(record, top) for record, top in trees_in({scratch, *used_scratches()}) if record.id != job_id]
    if len(trees) < most:
        return
    oldest, top = min(trees, key=lambda tree: tree[0].begun_s())
    what = f"{len(trees)} trees of jobs are not removed yet, and this site allows each user {most} ({settings.file})"
    raise HostError(
        f"{what}; the oldest is that of job {oldest.id} ({oldest.shown_state()})",
        where=os.path.join(top, "jobs", oldest.id),
        hint=f"`stager teardown {oldest.id}` removes it, `stager ls` names all",
    )


def trees_in(scratches: Iterable[str]) -> list[tuple[Record, str]]:
    """The jobs whose trees are there, or about to be made, each with its scratch. Blocks."""
    return [
        (record, top)
        for top in {os.path.realpath(path) for path in scratches}
        for record in list_jobs(top)
        if os.path.isdir(os.path.join(top, "jobs", record.id, "tree"))
        or (record.state is JobState.STAGING and record.is_active())
    ]
