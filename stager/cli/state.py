"""What the options common to all commands said; click carries it as ``ctx.obj``."""

from __future__ import annotations

__all__ = ["State"]


class State:
    """``verbosity`` counts the ``-v``."""

    def __init__(self, *, json: bool = False, quiet: bool = False, verbosity: int = 0) -> None:
        self.json = json
        self.quiet = quiet
        self.verbosity = verbosity
