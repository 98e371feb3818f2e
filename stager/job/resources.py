"""Resources: several sources put together in TASK_PATH, the last one wins.

Each is a copy of its own, whole and verified, below ``tree/resource`` first; then they are moved together in order.
What excludes each other, a file and a directory of one name, is found by listing all of them before the first byte.
What was put in is kept in the job's state: the job cannot reach it, and what it wrote is told by it at the end.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from msgspec.structs import replace

from stager._native import KeyOrder, KeyTable
from stager.decision import Decision, Seen
from stager.errors import from_os_error
from stager.events import nowhere
from stager.host.inputs_file import write_inputs
from stager.host.judge import judge
from stager.host.leaves import Lister
from stager.host.record import JobDirectory
from stager.host.threads import Checkpoint, blocking, stoppable
from stager.host.trees import remove_at
from stager.host.workspace import Workspace
from stager.job.copies import NOWHERE, Copy, options_of
from stager.names import DIRECTORY_TOO, show
from stager.opening import open_source
from stager.stages.unite import kinds_clash, unite
from stager.transfer import Transfer

__all__ = ["TASK_BELOW", "put_together", "refuse_clashes"]

TASK_BELOW: Final = "task"
"""In a job's tree and in its state."""

_RESOURCES: Final = "resource"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def refuse_clashes(copies: Sequence[Copy], *, transfer: Transfer, scratch: str | None) -> None:
    """Raise `BadKeysError` when a file of one resource is a directory of another. Lists all of them; moves nothing.

    Raises also what `stager.pipeline.sync` raises for a source that cannot be listed.
    """
    if len(copies) < 2:
        return
    tables: list[tuple[KeyTable, KeyOrder]] = []
    for copy in copies:
        seen = await _see(copy, transfer, scratch)
        tables.append((seen.snapshot.table.select(seen.names.good), KeyOrder(seen.snapshot.table)))
    problems = await stoppable(_find_clashes, tables)
    if problems:
        raise kinds_clash(problems)


async def _see(copy: Copy, transfer: Transfer, scratch: str | None) -> Seen:
    options = replace(options_of(copy), dry_run=True, scratch=scratch)
    source = open_source(
        copy.source, remote=copy.remote, transfer=transfer, integrity=copy.integrity, git=copy.git, scratch=scratch
    )
    async with AsyncExitStack() as closing:
        workspace = await blocking(Workspace, os.path.join(NOWHERE, copy.below), None, read_only=True)
        closing.push_async_callback(blocking, workspace.close)
        entered = await closing.enter_async_context(source)
        return await Decision(copy.source, options, nowhere, entered, workspace).see()


def _find_clashes(checkpoint: Checkpoint, tables: Sequence[tuple[KeyTable, KeyOrder]]) -> list[str]:
    """All names once in one table, judged together."""
    merged = KeyTable()
    for number, (table, _) in enumerate(tables):
        earlier = [order for _, order in tables[:number]]
        for key, *_rest in table.rows():
            checkpoint()
            if not any(order.find(key) >= 0 for order in earlier):
                merged.append(key, 0, b"")
    found = judge(merged, KeyOrder(merged), checkpoint=checkpoint)
    return [f"{show(bad.key)}: is a file in one and a directory in another" for bad in found.bad
            if bad.why == DIRECTORY_TOO]  # fmt: skip


def put_together(job: JobDirectory, copies: Sequence[Copy]) -> int:
    """Move the job's resources into its TASK_PATH and keep what is there then; how many files. Blocks.

    Raises `BadKeysError` where a source has changed since `refuse_clashes`, `HostError`, `NoSpaceError`.
    """
    if not copies:
        return 0
    task, state = os.path.join(job.tree, TASK_BELOW), os.path.join(job.state_dir, TASK_BELOW)
    unite([job.tree_of(copy.below) for copy in copies], task)
    try:
        for top in (job.tree, job.state_dir):  # manifests of trees that are no more would only mislead
            top_fd = os.open(top, _DIRECTORY)
            try:
                remove_at(_RESOURCES, top_fd)
            finally:
                os.close(top_fd)
        os.makedirs(state, mode=0o700, exist_ok=True)
        state_fd, task_fd = os.open(state, _DIRECTORY), os.open(task, _DIRECTORY)
        try:
            leaves = Lister(task_fd, left=lambda _: None).leaves()
            return write_inputs(state_fd, (leaf for leaf in leaves if not stat.S_ISDIR(leaf.mode)))
        finally:
            os.close(task_fd)
            os.close(state_fd)
    except OSError as error:
        raise from_os_error(error, doing="note what the resources are", where=task) from error
