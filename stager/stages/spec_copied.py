"""What is copied for a job, a dataset or a resource, from what its table says beside its name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from msgspec.structs import replace

from stager.config import Remote
from stager.model import JOB_NAME, DatasetSpec, SourceRef
from stager.stages.spec_choices import Choices, check_choices
from stager.stages.spec_filter import filter_of
from stager.stages.spec_git import git_of
from stager.stages.spec_schema import Problems, SourceTable, shown

__all__ = ["check_remote", "chosen_dataset", "copied_of"]


def copied_of(
    place: str,
    name: str,
    table: SourceTable,
    source: SourceRef,
    *,
    remotes: Mapping[str, Remote],
    base: str,
    problems: Problems,
) -> DatasetSpec:
    """``base``: the directory that relative paths are meant from. Mistakes go to ``problems``."""
    if table.remote is not None and source.scheme != "s3":
        problems.add(f"{place}.remote", "remote is for s3:// sources")
    choices = Choices(
        filter=filter_of(place, table, base, problems),
        integrity=table.integrity,
        require_integrity=table.require_integrity,
        on_archived=table.on_archived,
        frozen=table.frozen,
    )
    check_choices(choices, source, partial(_key_of, place), problems)
    git = git_of(place, table, source, problems)
    if git.history and choices.filter:
        problems.add(f"{place}.history", "is of a whole tree, and is not available with what chooses files")
    remote = remotes.get(table.remote) if table.remote is not None else None
    return replace(chosen_dataset(name, source, choices, base), remote=remote, git=git)


def check_remote(place: str, name: str | None, remotes: Mapping[str, Remote], problems: Problems) -> None:
    """That a remote that is named is there. Mistakes go to ``problems``."""
    if name is not None and name not in remotes:
        problems.add(f"{place}.remote", f"no [s3.{name}] in this file" if JOB_NAME.fullmatch(name)
                     else f"{shown(name)} is no remote's name")  # fmt: skip


def chosen_dataset(name: str, source: SourceRef, choices: Choices, base: str) -> DatasetSpec:
    """A dataset of which no more is asked than ``choices``."""
    return DatasetSpec(
        name=name,
        source=source,
        frozen=os.path.join(base, choices.frozen) if choices.frozen is not None else None,
        filter=choices.filter,
        integrity=choices.as_integrity(),
        on_archived=choices.on_archived or "fail",
    )


def _key_of(place: str, choice: str) -> str:
    return f"{place}.{choice}" if choice else place
