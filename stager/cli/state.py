"""What the options common to all commands said; click carries it as ``ctx.obj``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["State"]


@dataclass
class State:
    """``verbosity`` counts the ``-v``."""

    json: bool = False
    quiet: bool = False
    verbosity: int = 0
