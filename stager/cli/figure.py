"""Numbers on the command line that have to be numbers."""

from __future__ import annotations

import math
from typing import Any

import click

__all__ = ["Figure"]


class Figure(click.FloatRange):
    """A number between two; ``nan``, which no comparison finds outside of them, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click's, which lets ``nan`` pass."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is no number.", param, ctx)
        return number
