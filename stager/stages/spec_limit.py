"""``time_limit`` and ``grace`` of ``[job]``, and the options of the same name."""

from __future__ import annotations

from stager.stages.spec_schema import Problems
from stager.time_limits import TimeLimit, seconds_in

__all__ = ["limit_of"]

_NONE = TimeLimit()


def limit_of(
    time_limit: str | None, grace: str | None, problems: Problems, *, known: TimeLimit = _NONE, prefix: str = "job."
) -> TimeLimit:
    """``known``: what counts where something is not said. ``prefix``: "--" for options."""
    option = prefix == "--"
    seconds = _read(f"{prefix}{'time-limit' if option else 'time_limit'}", time_limit, known.seconds, problems)
    grace_s = _read(f"{prefix}grace", grace, known.grace_s, problems)
    if seconds == 0:
        problems.add(f"{prefix}{'time-limit' if option else 'time_limit'}", "is nothing; leave it out for no limit")
    if grace is not None and seconds is None:
        problems.add(f"{prefix}grace", "is what follows a time limit, and there is none")
    return TimeLimit(seconds=seconds, grace_s=known.grace_s if grace_s is None else grace_s)


def _read(place: str, text: str | None, known: int | None, problems: Problems) -> int | None:
    if text is None:
        return known
    try:
        return seconds_in(text)
    except ValueError as error:
        problems.add(place, str(error))
        return known
