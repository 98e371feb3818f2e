"""What is wanted of a git source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from stager.config import GitOptions
from stager.errors import UsageError
from stager.git_options import check_git_options
from stager.model import SourceRef

__all__ = ["git_of", "git_options"]

Command = Callable[..., Any]

_OPTIONS: Final = {"paths": "--path", "lfs": "--no-lfs"}


def git_options(command: Command) -> Command:
    """Add what is wanted of a git source; `git_of` makes a `GitOptions` of it."""
    for option in (
        click.option("--lfs-exclude", metavar="GLOB", multiple=True, help="Git: leave pointers where this matches."),
        click.option("--lfs-include", metavar="GLOB", multiple=True,
                     help="Git: fetch LFS objects only where this matches."),
        click.option("--no-lfs", is_flag=True, help="Git: leave LFS pointers as they are."),
        click.option("--submodules", is_flag=True, help="Git: submodules too, each at its pinned commit."),
        click.option("--path", "paths", metavar="PATH", multiple=True,
                     help="Git: only what lies at or below PATH, and fetch nothing else where the server allows."),
        click.option("--history", is_flag=True, help="Git: a .git directory with the whole history too."),
    ):
        command = option(command)
    return command


def git_of(options: dict[str, Any], *, source: SourceRef) -> GitOptions:
    """Take `git_options` out of a command's arguments. Raises `UsageError` for what cannot be."""
    chosen = GitOptions(
        history=options.pop("history"),
        paths=options.pop("paths"),
        submodules=options.pop("submodules"),
        lfs=not options.pop("no_lfs"),
        lfs_include=options.pop("lfs_include"),
        lfs_exclude=options.pop("lfs_exclude"),
    )
    problems: list[str] = []

    def add(name: str, text: str) -> None:
        problems.append(f"{_OPTIONS.get(name) or '--' + name.replace('_', '-')} {text}")

    check_git_options(chosen, scheme=source.scheme, subdir=source.subdir, add=add)
    if problems:
        raise UsageError("; ".join(problems))
    return chosen
