"""What is asked of a dataset beside its source, in a job file or by options: and whether that source can give it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from stager.config import Integrity
from stager.filters import EVERYTHING, Filter
from stager.host.listing_file import LISTED
from stager.model import SourceRef
from stager.stages.spec_schema import Problems

__all__ = ["Choices", "check_choices"]


class Choices(Struct, frozen=True, kw_only=True):
    """What is asked for; each left out is as if it were not there. ``frozen``: the path of a listing, as written."""

    filter: Filter = EVERYTHING
    integrity: Literal["light", "standard", "strict"] | None = None
    require_integrity: Literal["A", "B"] | None = None
    on_archived: Literal["fail", "skip"] | None = None
    frozen: str | None = None

    def as_integrity(self) -> Integrity:
        """As a sync takes it."""
        return Integrity(level=self.integrity or "standard", require=self.require_integrity)


def check_choices(choices: Choices, source: SourceRef, named: Callable[[str], str], problems: Problems) -> None:
    """Mistakes go to ``problems``; ``named`` says where a choice of that name stands. What a filter says in itself has
    been looked at before.
    """
    if choices.frozen is not None and (source.scheme not in LISTED or not choices.frozen or "\0" in choices.frozen):
        problems.add(named("frozen"), "names the file of a listing, of an s3:// or git+ source")
    if source.is_mounted:
        for name in ("integrity", "require_integrity"):
            if getattr(choices, name) is not None:
                problems.add(named(name), "is for what is copied")
        if choices.filter:
            problems.add(named(""), "include, exclude and their kind are for sources that are copied; a bind shows all")
    if source.scheme == "git" and choices.filter.since_ns is not None:
        problems.add(named("newer"), "a git source has no times")
