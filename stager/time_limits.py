"""How long a job's command may run, and how long it has after that to end by itself."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

__all__ = ["Deadline", "TimeLimit", "seconds_in"]

_DURATION: Final = re.compile(r"(?:([0-9]{1,5})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,9})s)?")
_UNITS_S: Final = (86400, 3600, 60, 1)
_MOST_S: Final = 10 * 365 * 86400


class TimeLimit(Struct, frozen=True, kw_only=True):
    """``seconds`` from the start of the command, then SIGTERM, after ``grace_s`` more SIGKILL. None: no limit."""

    seconds: int | None = None
    grace_s: int = 30

    def after(self, started_s: float) -> Deadline | None:
        """For a job that was started at this Unix time; None: there is no limit."""
        return Deadline(at_s=started_s + self.seconds, grace_s=self.grace_s) if self.seconds is not None else None


class Deadline(Struct, frozen=True, kw_only=True):
    """A `TimeLimit` as a Unix time, the same for all processes of a job."""

    at_s: float
    grace_s: int


def seconds_in(text: str) -> int:
    """``90s``, ``2h``, ``1h30m``, ``7d`` in seconds, at most ten years. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"{text[:40]!a} is no duration; write 90s, 30m, 2h, 1h30m or 7d")
    seconds = sum(int(number) * unit for number, unit in zip(found.groups(default="0"), _UNITS_S, strict=True))
    if seconds > _MOST_S:
        raise ValueError(f"{text[:40]!a} is more than ten years")
    return seconds
