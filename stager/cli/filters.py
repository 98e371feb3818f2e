"""Which files are wanted, and what may be deleted: the options, in the order in which they were written."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

from stager.deletion import USUAL_MOST, Delete, parse_most
from stager.errors import FilterError, UsageError
from stager.filters import Filter, build_filter, parse_paths
from stager.names import show

__all__ = [
    "FilteringCommand",
    "chosen_deletion",
    "chosen_filter",
    "delete_options",
    "filter_options",
    "given_in_order",
]

Command = Callable[..., Any]

_RULES: Final = ("include", "exclude")
_ORDER: Final = "stager.cli.filters.order"
_DELETE_ALL: Final = "--delete-all"
_MOST_BYTES: Final = 1 << 30
_AT_ONCE: Final = 1 << 20


class FilteringCommand(click.Command):
    """A command with these options.

    click tells in which order parameters were given, but not which of two lists a value came first in: so the order is
    asked for beforehand. And an option with a value that may be left out swallows the argument behind it: so
    ``--delete=all`` is a flag of its own.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's."""
        if any(_DELETE_ALL in param.opts for param in self.params):
            end = args.index("--") if "--" in args else len(args)
            args[:end] = [_DELETE_ALL if arg == "--delete=all" else arg for arg in args[:end]]
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[_ORDER] = [param.name for param in order]
        return super().parse_args(ctx, args)


def filter_options(command: Command) -> Command:
    """Add what chooses files; `chosen_filter` makes a value of it."""
    for option in (
        click.option("-0", "--from0", is_flag=True, help="Paths of --files-from end in NUL, not in a line end."),
        click.option("--files-from", metavar="FILE",
                     help="Only the files listed in FILE (- for standard input), one path a line."),
        click.option("--newer", metavar="WHEN", help="Only files changed since: an age like 12h or 7d, or a time like "
                     "2026-01-31T12:00:00Z."),
        click.option("--max-size", metavar="SIZE", help="Only files of at most this size."),
        click.option("--min-size", metavar="SIZE", help="Only files of at least this size, like 64K."),
        click.option("--exclude", metavar="GLOB", multiple=True, help="Leave out what matches."),
        click.option("--include", metavar="GLOB", multiple=True,
                     help="Take what matches: a glob as in .gitignore. Of all --include and --exclude the last that "
                     "matches decides; if the first is an --include, what none matches is left out."),
    ):
        command = option(command)
    return command


def delete_options(command: Command) -> Command:
    """Add what deletes; `chosen_deletion` makes a value of it."""
    for option in (
        click.option("--max-delete", metavar="N", help=f"Delete nothing if it were more than N files, or N% of those "
                     f"there. [default: {USUAL_MOST}]"),
        click.option(_DELETE_ALL, is_flag=True, hidden=True),
        click.option("--delete", is_flag=True,
                     help="Delete what an earlier sync brought and the source no longer has; --delete=all: whatever "
                     "the source does not have. What the filter leaves out stays."),
    ):
        command = option(command)
    return command


def given_in_order(ctx: click.Context) -> list[str]:
    """The names of the parameters that the command line of a `FilteringCommand` gives, as often and in the order as
    they stand there.
    """
    names: list[str] = ctx.meta.get(_ORDER, [])
    return names


def chosen_filter(ctx: click.Context, options: dict[str, Any]) -> Filter:
    """Take `filter_options` out of a command's arguments. Raises `FilterError` with every mistake; `UsageError`: a list
    that cannot be read.
    """
    given = {name: iter(options.pop(name)) for name in _RULES}
    order = [name for name in given_in_order(ctx) if name in _RULES]
    rules = [(f"--{name}", name == "include", next(given[name])) for name in order]
    problems: list[str] = []
    listing, nul = options.pop("files_from"), options.pop("from0")
    paths: frozenset[bytes] | None = None
    if listing is not None:
        paths, directories = parse_paths(_read(listing), nul=nul)
        problems += [f"--files-from: {show(path)} is a directory: name its files, or use --include"
                     for path in directories]
    elif nul:
        problems.append("--from0: is for --files-from")

    def written(name: str) -> tuple[str, str] | None:
        text = options.pop(name)
        return None if text is None else (f"--{name.replace('_', '-')}", text)

    wanted = build_filter(
        rules,
        paths=paths,
        min_size=written("min_size"),
        max_size=written("max_size"),
        newer=written("newer"),
        now_s=time.time(),
        add=lambda place, what: problems.append(f"{place}: {what}"),
    )
    if problems:
        raise FilterError(f"{len(problems)} mistake{'s' if len(problems) > 1 else ''} in what chooses files", problems)
    return wanted


def chosen_deletion(options: dict[str, Any]) -> Delete | None:
    """Take `delete_options` out of a command's arguments. Raises `UsageError`."""
    synced, everything, most = options.pop("delete"), options.pop("delete_all"), options.pop("max_delete")
    if not synced and not everything:
        if most is not None:
            raise UsageError("is for --delete", where="--max-delete")
        return None
    try:
        return Delete(everything=everything, most=parse_most(most) if most is not None else USUAL_MOST)
    except ValueError as error:
        raise UsageError(str(error), where="--max-delete") from None


def _read(path: str) -> bytes:
    """A file, a pipe or standard input to its end."""
    pieces: list[bytes] = []
    size = 0
    try:
        fd = os.dup(sys.stdin.fileno()) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while piece := os.read(fd, _AT_ONCE):
                pieces.append(piece)
                size += len(piece)
                if size > _MOST_BYTES:
                    raise UsageError(f"is longer than {_MOST_BYTES} bytes", where=f"--files-from {path}")
        finally:
            os.close(fd)
    except OSError as error:
        raise UsageError(f"cannot be read: {os.strerror(error.errno or 0)}", where=f"--files-from {path}") from error
    return b"".join(pieces)
