"""``stager --as-user USER COMMAND ...``: root's stager for somebody else; nothing else of the command line is read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from stager.errors import HostError, StagerError, UsageError
from stager.host.broker import run_as
from stager.host.principal import find_principal

__all__ = ["run_for_another", "taken_out"]

_OPTION: Final = "--as-user"
_WITH_STATUS: Final = ("run", "exec")  # their own failures are 125: the rest is the command's
_PERMANENT: Final = 125


def run_for_another(arguments: Sequence[str]) -> int | None:
    """Its exit code; None when the option is not among the arguments, or names who runs this already. Never raises."""
    try:
        user, rest = taken_out(arguments)
        if user is None:
            return None
        if os.geteuid() != 0:
            raise HostError("only root acts for another user", where=_OPTION, hint="leave it out")
        principal = find_principal(user, os.environ)
        if principal.uid == 0:
            raise UsageError("the user is root itself", where=_OPTION, hint="leave it out to act as root")
        return run_as(principal, rest, os.environ)
    except StagerError as error:
        from stager.cli.render import report_error  # only when something went wrong

        report_error(error, json="--json" in arguments)
        return _PERMANENT if _has_status(arguments) else error.exit_code


def taken_out(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """The user, and the arguments without the option, which stands anywhere before a ``--``.

    Raises `UsageError`: it is there twice, or without a user.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    ours, users, rest = list(arguments[:end]), [], []
    while ours:
        argument = ours.pop(0)
        if argument == _OPTION:
            users.append(ours.pop(0) if ours else "")
        elif argument.startswith(f"{_OPTION}="):
            users.append(argument.partition("=")[2])
        else:
            rest.append(argument)
    if len(users) > 1 or users == [""]:
        raise UsageError("needs one user", where=_OPTION, hint="stager --as-user alice run JOB.toml")
    return (users[0] if users else None), [*rest, *arguments[end:]]


def _has_status(arguments: Sequence[str]) -> bool:
    return any(argument in _WITH_STATUS for argument in arguments[:3])
