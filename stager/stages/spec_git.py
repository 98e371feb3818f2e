"""What a job file's table wants of a git source."""

from __future__ import annotations

from stager.config import GitOptions
from stager.git_options import check_git_options
from stager.model import SourceRef
from stager.stages.spec_schema import GitTable, Problems

__all__ = ["git_of"]


def git_of(place: str, table: GitTable, source: SourceRef, problems: Problems) -> GitOptions:
    """The git options of ``[code]`` or one ``[[dataset]]``. Mistakes go to ``problems``."""
    options = GitOptions(
        history=table.history,
        paths=tuple(table.paths),
        submodules=table.submodules,
        lfs=table.lfs,
        lfs_include=tuple(table.lfs_include),
        lfs_exclude=tuple(table.lfs_exclude),
    )
    check_git_options(
        options, scheme=source.scheme, subdir=source.subdir,
        add=lambda name, text: problems.add(f"{place}.{name}", text),
    )  # fmt: skip
    return options
