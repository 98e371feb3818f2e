"""What ``stager run`` and ``stager exec`` share: a command behind ``--``, whose exit status is passed on."""

from __future__ import annotations

from typing import Any, Final

import click

from stager.cli.filters import FilteringCommand
from stager.errors import CommandError, StagerError

__all__ = ["COMMAND", "WithCommand", "own_failure"]

COMMAND: Final = "stager.command"
"""In the context's ``meta``: the words behind ``--``."""

_PERMANENT: Final = 125
_TRANSIENT: Final = 75


class _WrongOptionError(click.UsageError):
    exit_code = _PERMANENT


class WithCommand(FilteringCommand):
    """Everything after the first ``--`` is the job's command; a wrong option is our own failure, not the job's."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Split the arguments before click sees them."""
        argv: list[str] = []
        if "--" in args:
            at = args.index("--")
            args, argv = args[:at], args[at + 1 :]
        try:
            ctx = super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise _WrongOptionError(error.format_message(), ctx=error.ctx) from None
        ctx.meta[COMMAND] = tuple(argv)
        return ctx

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What click knows, and what it does not see."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD ...]"]


def own_failure(error: Exception) -> int:
    """The exit code when no command has run: 126 and 127 as env(1), 75 for what may succeed later, else 125."""
    if isinstance(error, CommandError):
        return error.status
    return _TRANSIENT if isinstance(error, StagerError) and error.retryable else _PERMANENT
