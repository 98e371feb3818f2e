"""Where a job file says that logs and results go: ``[logs]`` and ``[results]``."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import replace

from stager.config import Remote
from stager.filters import build_filter
from stager.host.expressions import check_expression
from stager.model import LogsSpec, ResultsSpec
from stager.stages.spec_copied import check_remote
from stager.stages.spec_schema import LogsTable, Problems, ResultsTable, convert_table, shown

__all__ = ["PERSIST_FIELDS", "logs_of", "persist_of", "refuse_same_place", "results_of"]

PERSIST_FIELDS: Final = ("{job.id}", "{job.name}", "{node.rank}")
"""What may stand in braces in ``persist``."""

_STORE: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", re.DOTALL)
_EVERY: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhd])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LEAST_S: Final = 0.1


def logs_of(table: Mapping[str, Any], base: str, remotes: Mapping[str, Remote], problems: Problems) -> LogsSpec:
    """``[logs]``; ``base``: what a relative directory is meant from. Mistakes go to ``problems``."""
    found = convert_table("logs", table["logs"], LogsTable, problems) if "logs" in table else None
    if found is None:
        return LogsSpec()
    remote = _remote("logs", found.remote, found.persist, remotes, problems)
    drain_s = _every("logs.drain", found.drain, found.persist, problems)
    place = persist_of("logs.persist", found.persist, base, problems) if found.persist is not None else None
    return LogsSpec(persist=place, remote=remote, drain_s=drain_s)


def results_of(
    table: Mapping[str, Any], base: str, remotes: Mapping[str, Remote], problems: Problems
) -> ResultsSpec:
    """``[results]``, in the same way."""
    found = convert_table("results", table["results"], ResultsTable, problems) if "results" in table else None
    if found is None:
        return ResultsSpec()
    if found.persist is None:
        problems.add("results.persist", "is missing: where do they go?")
        return ResultsSpec()
    rules = [
        (f"results.{name}", name == "include", text) for name in ("include", "exclude") for text in getattr(found, name)
    ]
    for name in ("whitelist", "blacklist"):
        if why := check_expression(getattr(found, name)):
            problems.add(f"results.{name}", why)
    return ResultsSpec(
        persist=persist_of("results.persist", found.persist, base, problems),
        remote=_remote("results", found.remote, found.persist, remotes, problems),
        filter=build_filter(rules, now_s=time.time(), add=problems.add),
        whitelist=found.whitelist,
        blacklist=found.blacklist,
        snapshot_s=_every("results.snapshot", found.snapshot, found.persist, problems),
    )


def persist_of(place: str, text: str, base: str, problems: Problems) -> str:
    """A directory, absolute, or an s3:// prefix; with what may stand in braces still in it. Mistakes go to
    ``problems``.
    """
    if text.startswith("s3://"):
        if not text.isprintable() or not _STORE.fullmatch(text):
            problems.add(place, f"{shown(text)} is no s3://BUCKET/PREFIX")
    elif not text or not text.isprintable() or re.match(r"[a-z0-9+]+:", text):
        problems.add(place, f"{shown(text)} is not a directory")
    for piece in re.findall(r"\{[^{}]*\}?|\}", text):
        if piece not in PERSIST_FIELDS:
            problems.add(place, f"{shown(piece)} is not known; write one of {', '.join(PERSIST_FIELDS)}")
    if ".." in text.split("/"):
        problems.add(place, "'..' is refused")
    return text if text.startswith("s3://") else os.path.join(base, text)


def refuse_same_place(logs: LogsSpec, results: ResultsSpec, problems: Problems) -> None:
    """One name of each would be one file. Mistakes go to ``problems``."""
    places = [os.path.normpath(place) for place in (logs.persist, results.persist) if place is not None]
    if len(places) > len(set(places)):
        problems.add("results.persist", "is the place of the logs: name another")


def _remote(
    place: str, name: str | None, persist: str | None, remotes: Mapping[str, Remote], problems: Problems
) -> Remote | None:
    check_remote(place, name, remotes, problems)
    if name is None:
        return None
    if not (persist or "").startswith("s3://"):
        problems.add(f"{place}.remote", "remote is for s3:// places")
    remote = remotes.get(name)
    if remote is not None and remote.sse_c_key_file is not None:
        problems.add(f"{place}.remote", f"[s3.{name}] has sse_c_key_file, which is for sources")
        return replace(remote, sse_c_key_file=None)
    return remote


def _every(place: str, text: str | None, persist: str | None, problems: Problems) -> float:
    if text is None:
        return 0.0
    found = _EVERY.fullmatch(text)
    seconds = float(found[1]) * _UNITS_S[found[2]] if found else 0.0
    if found is None:
        problems.add(place, f"{shown(text)} is no time: write a number and s, m, h or d, like 30s")
    elif seconds < _LEAST_S:
        problems.add(place, f"{shown(text)} is less than {_LEAST_S} s")
    if persist is None:
        problems.add(place, "needs persist: where to?")
    return seconds
