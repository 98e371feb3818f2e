"""Which files of a source are wanted: one language for the command line and the job file.

Patterns are globs of gitignore (`stager.globs`), meant from the source's root, and **the last one that matches a file,
or a directory above it, decides**: as in a .gitignore, and as ``aws s3 sync`` has it (rsync and rclone let the first
one decide). What none matches is in, unless the first pattern includes: who begins with what is wanted wants no more.
``!`` in front turns a pattern round. Unlike in git, a later pattern may bring back what lies in a directory that an
earlier one left out, because a listing knows no directories that were not entered.

All of it must hold: patterns, the list of files, sizes (both bounds are in), time (at or after).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import Struct

from stager.amounts import parse_bytes
from stager.globs import compile_glob
from stager.names import show

__all__ = ["EVERYTHING", "Filter", "Rule", "build_filter", "parse_paths", "parse_since"]

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE: Final = re.compile(r"([0-9]{1,7}(?:\.[0-9]{1,6})?)([smhdw])")
_TIME: Final = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2}))?"
)
_MILLIARD: Final = 1_000_000_000

Add = Callable[[str, str], None]
"""Takes one mistake: where it stands, and what it is."""


class Rule(Struct, frozen=True):
    """One pattern: files that it names are in, or out."""

    include: bool
    glob: bytes

    @classmethod
    def parse(cls, text: str, *, include: bool) -> Rule:
        """A pattern as it is written, which ``!`` turns round. ValueError says what is wrong with it."""
        turned = text.startswith("!")
        rule = cls(include != turned, os.fsencode(text[1:] if turned else text))
        if b"\0" in rule.glob:
            raise ValueError("holds a NUL")
        compile_glob(rule.glob)
        return rule


class Filter(Struct, frozen=True, kw_only=True):
    """What is wanted; each field left out wants everything. Sizes in bytes, ``since_ns`` in Unix time."""

    rules: tuple[Rule, ...] = ()
    paths: frozenset[bytes] | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    since_ns: int | None = None

    def __bool__(self) -> bool:
        """Whether anything can be left out."""
        return self != EVERYTHING

    def wants_name(self) -> Callable[[bytes], bool]:
        """What the patterns say of a path."""
        default = not (self.rules and self.rules[0].include)
        if not self.rules:
            return lambda _: True
        runs: list[tuple[bool, list[bytes]]] = []
        for rule in reversed(self.rules):
            if not runs or runs[-1][0] != rule.include:
                runs.append((rule.include, []))
            runs[-1][1].append(compile_glob(rule.glob))
        match = re.compile(b"|".join(b"(?:" + b"|".join(globs) + b")()" for _, globs in runs)).match
        verdicts = (default, *(include for include, _ in runs))

        def wants(path: bytes) -> bool:
            found = match(path)
            return verdicts[found.lastindex or 0] if found else default

        return wants

    def wants_path(self) -> Callable[[bytes], bool]:
        """What patterns and list say of a path."""
        wants_name, paths = self.wants_name(), self.paths
        return wants_name if paths is None else lambda path: path in paths and wants_name(path)

    def wants_size(self, size: int) -> bool:
        """Whether a size is within the bounds."""
        return (self.min_bytes or 0) <= size and (self.max_bytes is None or size <= self.max_bytes)

    def described(self) -> dict[str, Any]:
        """For receipts."""
        told: dict[str, Any] = {}
        if self.rules:
            told["patterns"] = [
                {"include" if rule.include else "exclude": os.fsdecode(rule.glob)} for rule in self.rules
            ]
        if self.paths is not None:
            told["files"] = {"paths": len(self.paths), "blake2b": _digest(self.paths)}
        if self.min_bytes is not None:
            told["min_bytes"] = self.min_bytes
        if self.max_bytes is not None:
            told["max_bytes"] = self.max_bytes
        if self.since_ns is not None:
            told["newer"] = _rfc3339(self.since_ns)
        return told


EVERYTHING: Final = Filter()


def build_filter(
    rules: Iterable[tuple[str, bool, str]],
    *,
    paths: frozenset[bytes] | None = None,
    min_size: tuple[str, str] | None = None,
    max_size: tuple[str, str] | None = None,
    newer: tuple[str, str] | None = None,
    now_s: float,
    add: Add,
) -> Filter:
    """A filter of what was written: of each pattern where it stands, whether it includes, and its text; of the others
    where they stand and their text. Every mistake goes to ``add``, and is left out then.
    """
    parsed: list[Rule] = []
    for place, include, text in rules:
        try:
            parsed.append(Rule.parse(text, include=include))
        except ValueError as error:
            add(place, f"the pattern {_quoted(text)} {error}")
    least, most = _parsed(min_size, parse_bytes, add), _parsed(max_size, parse_bytes, add)
    if least is not None and most is not None and least > most and min_size and max_size:
        add(max_size[0], f"{max_size[1]} is less than {min_size[0]} {min_size[1]}: no file is of such a size")
    since = _parsed(newer, lambda text: parse_since(text, now_s=now_s), add)
    return Filter(rules=tuple(parsed), paths=paths, min_bytes=least, max_bytes=most, since_ns=since)


def _parsed(given: tuple[str, str] | None, parse: Callable[[str], int], add: Add) -> int | None:
    if given is None:
        return None
    try:
        return parse(given[1])
    except ValueError as error:
        add(given[0], str(error))
        return None


def parse_since(text: str, *, now_s: float) -> int:
    """Unix time in ns of an age (``90s``, ``15m``, ``12h``, ``7d``, ``2w``) or of a time of RFC 3339.

    A day alone is its midnight, UTC. ValueError says what is wrong.
    """
    if found := _AGE.fullmatch(text):
        return round((now_s - float(found[1]) * _UNITS_S[found[2]]) * _MILLIARD)
    if found := _TIME.fullmatch(text):
        zone = (found["zone"] or "Z").upper().replace("Z", "+00:00")
        with suppress(ValueError):
            moment = datetime.fromisoformat(f"{found['day']}T{found['time'] or '00:00:00'}{zone}")
            return int(moment.timestamp()) * _MILLIARD + int((found["fraction"] or "0").ljust(9, "0"))
    raise ValueError(f"{_quoted(text)} is neither an age like 7d (s, m, h, d, w) nor a time like 2026-01-31T12:00:00Z")


def parse_paths(data: bytes, *, nul: bool) -> tuple[frozenset[bytes], list[bytes]]:
    """The paths of a list, one a line or each ended by a NUL, and those among them that name a directory.

    Empty ones are passed over; a ``./`` or ``/`` in front is left out, as `find` and rsync write and read it.
    """
    paths = {_from_root(line) for line in data.split(b"\0" if nul else b"\n")}
    paths.discard(b"")
    directories = sorted(path for path in paths if path.endswith(b"/"))
    return frozenset(paths.difference(directories)), directories


def _from_root(path: bytes) -> bytes:
    while path.startswith((b"./", b"/")):
        path = path[1 + path.startswith(b".") :]
    return path


def _digest(paths: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(paths):
        digest.update(path + b"\0")
    return digest.hexdigest()


def _rfc3339(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, _MILLIARD)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest:09d}Z" if rest else f"{whole}Z"


def _quoted(text: str) -> str:
    return f"'{show(os.fsencode(text))}'"
