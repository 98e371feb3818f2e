"""What is asked of the data that a command line names with ``--data``: which files, how sure, as it was listed.

Such an option is for every ``--data``, wherever it stands before or behind them. Between two of them it could be meant
for one alone, and is refused: datasets of which each wants something else are written in a job file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from stager.cli.filters import chosen_filter, filter_options, given_in_order
from stager.cli.options import integrity_options
from stager.errors import FilterError
from stager.filters import EVERYTHING
from stager.stages.spec_choices import Choices

__all__ = ["data_options", "take_choices"]

Command = Callable[..., Any]

_CHOICES: Final = frozenset({
    "include", "exclude", "files_from", "from0", "min_size", "max_size", "newer",
    "integrity", "require_integrity", "on_archived", "frozen",
})  # fmt: skip
_IN_A_FILE: Final = "datasets of which each wants something else are written in a job file"


def data_options(command: Command) -> Command:
    """Add them; `take_choices` makes a value of them. The command is a `stager.cli.filters.FilteringCommand`."""
    for option in (
        click.option("--frozen", metavar="FILE", type=click.Path(),
                     help="Copy exactly what FILE says was listed of the one --data, and list nothing."),
        click.option("--on-archived", type=click.Choice(["fail", "skip"]),
                     help="What to do with objects in Glacier and the like that have to be restored first. "
                     "[default: fail]"),
    ):
        command = option(command)
    return filter_options(integrity_options(command))


def take_choices(ctx: click.Context, options: dict[str, Any], data: Sequence[str]) -> tuple[Choices, list[str]]:
    """Take `data_options` out of a command's arguments: what is chosen, and every mistake. Raises `UsageError`: a list
    that cannot be read.
    """
    order = given_in_order(ctx)
    given = {name for name in order if name in _CHOICES}
    problems = _misplaced(order, len(data))
    wanted = EVERYTHING
    try:
        wanted = chosen_filter(ctx, options)
    except FilterError as error:
        problems += error.problems
    integrity, required = options.pop("integrity"), options.pop("require_integrity")
    choices = Choices(
        filter=wanted,
        integrity=integrity if "integrity" in given else None,
        require_integrity=required,
        on_archived=options.pop("on_archived"),
        frozen=options.pop("frozen"),
    )
    return choices, problems


def _misplaced(order: Sequence[str], count: int) -> list[str]:
    places = [place for place, name in enumerate(order) if name == "data"]
    problems = []
    for name in dict.fromkeys(name for name in order if name in _CHOICES):
        here = [place for place, other in enumerate(order) if other == name]
        option = f"--{name.replace('_', '-')}"
        if not places:
            problems.append(f"{option}: is for --data, and there is none; in a job file each dataset says it")
        elif any(places[0] < place < places[-1] for place in here):
            where = "write it before or behind them all"
            problems.append(f"{option}: is for every --data, and stands between two: {where}; {_IN_A_FILE}")
        elif name == "frozen" and count > 1:
            problems.append(f"{option}: is the listing of one source, and there are {count} --data; {_IN_A_FILE}")
    return problems
