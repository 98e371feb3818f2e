"""The command line: what must be so before anything else is imported, and the version, for which nothing is."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from gc import freeze, set_threshold

from stager.version import __version__

__all__ = ["main"]

_AS_USER = "--as-user"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code of behaviour.md section 4. Never raises."""
    arguments = sys.argv[1:] if argv is None else argv
    _open_missing_streams()
    if list(arguments) == ["--version"] and _say(f"stager {__version__}\n"):
        return 0
    if any(argument.startswith(_AS_USER) for argument in arguments):  # before anything of root's is in memory
        from stager.cli.as_user import run_for_another

        if (code := run_for_another(arguments)) is not None:
            return code
    # Collecting what imports build, meanwhile and once more at exit, was 0.3 of 1.0 CPU seconds of a sync.
    set_threshold(50_000, 20, 100)
    atexit.register(freeze)
    from stager.cli.group import run  # click takes three times as long as Python's own start

    return run(arguments)


def _say(text: str) -> bool:
    """Write to standard output without a buffer that would fail once more at exit; whether it took all."""
    try:
        return os.write(1, text.encode("ascii")) == len(text)
    except OSError:
        return False


def _open_missing_streams() -> None:
    """Started without one of its standard streams (a daemon, `0<&-`), stager reads nothing there and writes to nobody.

    Left closed, its number would be given to the next file or socket that is opened.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
