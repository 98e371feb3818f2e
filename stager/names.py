"""The one compiler of names: which source keys may become files below a destination, and how names are shown.

A key is hostile input (behaviour.md 5.8). It is judged whole, before the first byte moves, and never repaired: a
key is either its own path below the destination, byte for byte, or it is bad.

Directory markers (a key that ends in ``/`` with no content, as the S3 console writes them) are no files: they are
counted and left out. Directories exist as their files need them.
"""

from __future__ import annotations

import base64
import binascii
import os
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final, Protocol

from msgspec import Struct

from stager.errors import BadKeysError

__all__ = [
    "DIRECTORY_TOO",
    "NAME_MAX",
    "PATH_MAX",
    "TWICE",
    "TWICE_FOLDED",
    "BadKey",
    "KeyRows",
    "Names",
    "bad_keys_error",
    "compile_names",
    "directories_above",
    "directories_below",
    "from_json",
    "lossless",
    "show",
    "steps_above",
    "to_json",
    "what_is_wrong",
]

NAME_MAX: Final = 255
"""Bytes in one segment, as Linux file systems allow."""

PATH_MAX: Final = 4095
"""Bytes in a whole path, without the closing NUL."""

DIRECTORY_TOO: Final = "is a file and also a directory of other keys"
TWICE: Final = "is there more than once"
TWICE_FOLDED: Final = "is the same name as another key on this file system"

_RESERVED: Final = ".stager"
_CHUNK: Final = 1024
_SHOWN_CHARACTERS: Final = 300

Row = tuple[bytes, int, bytes, int, int]


class KeyRows(Protocol):
    """What is asked of a table: (key, size, identity, mtime_ns, mode) of every row, in order, repeatedly."""

    def rows(self) -> Iterator[Row]:
        """Every row, in order."""
        ...


class BadKey(Struct, frozen=True):
    """A key that cannot be a file below the destination, and why."""

    row: int
    key: bytes
    why: str

    def __str__(self) -> str:
        return f"{show(self.key)}: {self.why}"


class Names(Struct, frozen=True, kw_only=True):
    """The verdict: rows that may become files (ascending), how many markers were left out, and what is bad."""

    good: array[int]
    markers: int
    bad: tuple[BadKey, ...]


def compile_names(table: KeyRows, *, margin: int = 0, fold: bool = False) -> Names:
    """Judge every key of a table; `stager.host.judge` does the same for most tables, natively.

    ``margin`` is what stands in front of a path when users spell it out: the destination's length and a slash, in
    bytes. ``fold``: the destination does not tell upper from lower case or one Unicode form from another, so keys
    equal under both collide. Never raises for a key.
    """
    limit = PATH_MAX - margin
    good = array("I")
    bad: list[BadKey] = []
    markers = 0
    keys: set[bytes] = set()
    parents: set[bytes] = set()
    rows = table.rows()
    start = 0
    while chunk := list(islice(rows, _CHUNK)):
        texts = [row[0] for row in chunk]
        if _all_plain(texts, limit):
            good.extend(range(start, start + len(texts)))
        else:
            texts = []
            for row, (key, size, *_) in enumerate(chunk, start):
                if size == 0 and (key.endswith(b"/") or not key):
                    markers += 1
                elif why := what_is_wrong(key, limit):
                    bad.append(BadKey(row, key, why))
                else:
                    good.append(row)
                    texts.append(key)
        if fold:
            texts = [_folded(key) for key in texts]
        keys.update(texts)
        parents.update([key.rpartition(b"/")[0] for key in texts])
        start += len(chunk)
    both = keys & _with_ancestors(parents)
    if both or len(keys) != len(good):
        late = _collisions(table, good, both, fold)
        out = {problem.row for problem in late}
        good = array("I", (row for row in good if row not in out))
        bad = sorted([*bad, *late], key=lambda problem: problem.row)
    return Names(good=good, markers=markers, bad=tuple(bad))


def bad_keys_error(bad: Iterable[BadKey], *, where: str) -> BadKeysError:
    """The error that lists every bad key of a source."""
    problems = [str(problem) for problem in bad]
    return BadKeysError(
        f"{len(problems)} of the source's names cannot be files here",
        problems,
        where=where,
        hint="rename them at the source, or leave them out with --on-bad-key skip",
    )


def _all_plain(keys: list[bytes], limit: int) -> bool:
    """Whether no key of a chunk needs a closer look; a handful of memory scans instead of a loop over keys."""
    blob = b"/" + b"/\0/".join(keys) + b"/"
    return (
        b"//" not in blob
        and b"/." not in blob
        and blob.count(b"\0") == len(keys) - 1
        and blob.isascii()
        and max(map(len, keys)) <= min(NAME_MAX, limit)
    )


def what_is_wrong(key: bytes, limit: int = PATH_MAX) -> str:
    """Why a key can be no path of at most ``limit`` bytes below a destination; empty when it can."""
    if not key:
        return "is empty"
    if key.startswith(b"/"):
        return "is an absolute path"
    if b"\0" in key:
        return "holds a NUL"
    if len(key) > limit:
        return f"is longer than a path may be here ({len(key)} bytes, at most {limit})"
    segments = key.split(b"/")
    if b"" in segments:
        return "has an empty segment"
    if b".." in segments or b"." in segments:
        return "has a . or .. segment"
    longest = max(map(len, segments))
    if longest > NAME_MAX:
        return f"has a segment of {longest} bytes, at most {NAME_MAX} are allowed"
    if _is_reserved(segments[0]):
        return f"begins with {_RESERVED}, where stager keeps its state"
    return ""


def _is_reserved(segment: bytes) -> bool:
    if segment.isascii():
        return segment.lower() == b".stager"
    return _folded(segment) == b".stager"


def _folded(key: bytes) -> bytes:
    """The key without case, normal form and characters that file systems ignore (ext4's casefold drops those)."""
    if key.isascii():
        return key.lower()
    text = key.decode("utf-8", "surrogateescape")
    for _ in range(2):  # folding can leave what normalises again
        text = unicodedata.normalize("NFKC", "".join(c for c in text if not _is_ignorable(c))).casefold()
    return text.encode("utf-8", "surrogateescape")


def _is_ignorable(character: str) -> bool:
    """Unicode's Default_Ignorable_Code_Point, near enough: format characters, fillers, variation selectors."""
    if character.isascii():
        return False
    code = ord(character)
    return (
        unicodedata.category(character) == "Cf"
        or code in (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0)
        or 0x180B <= code <= 0x180F
        or 0xFE00 <= code <= 0xFE0F
        or 0xE0000 <= code <= 0xE0FFF
    )


def steps_above(path: bytes) -> Iterator[bytes]:
    """The directories above a path, the outermost first."""
    end = path.find(b"/")
    while end >= 0:
        yield path[:end]
        end = path.find(b"/", end + 1)


def directories_above(paths: Iterable[bytes]) -> set[bytes]:
    """Every directory above any of these paths."""
    return _with_ancestors({path.rpartition(b"/")[0] for path in paths})


def directories_below(files: Iterable[bytes], directories: Iterable[bytes]) -> set[bytes]:
    """Those of these directories that cannot be there while all of the files are: at the path of one, or below it."""
    taken = frozenset(files)
    return {path for path in directories if not taken.isdisjoint((path, *steps_above(path)))}


def _with_ancestors(directories: set[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for directory in directories:
        while directory and directory not in found:
            found.add(directory)
            directory = directory.rpartition(b"/")[0]
    return found


def _collisions(table: KeyRows, good: array[int], both: set[bytes], fold: bool) -> list[BadKey]:
    wanted = set(good)
    named = [
        (row, key, _folded(key) if fold else key) for row, (key, *_) in enumerate(table.rows()) if row in wanted
    ]
    counts = Counter(name for _, _, name in named)
    bad = []
    for row, key, name in named:
        if name in both:
            bad.append(BadKey(row, key, DIRECTORY_TOO))
        elif counts[name] > 1:
            bad.append(BadKey(row, key, TWICE_FOLDED if fold else TWICE))
    return bad


def show(name: bytes) -> str:
    r"""A name for people: what a terminal might act on, and what is no UTF-8, becomes ``\xNN`` or ``\u{N}``.

    Reversible (a backslash is doubled) unless the name has more than 300 characters; then its end is left out.
    """
    text = name.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text and len(text) <= _SHOWN_CHARACTERS:
        return text
    shown = "".join(_shown_character(c) for c in text[:_SHOWN_CHARACTERS])
    return shown if len(text) <= _SHOWN_CHARACTERS else f"{shown}... ({len(name)} bytes)"


def _shown_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
        return f"\\x{code:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{{{code:x}}}"


def to_json(name: bytes) -> str | dict[str, str]:
    """The lossless JSON form of a byte path: its text, or ``{"base64": ...}`` when it is no UTF-8."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(name).decode("ascii")}


def lossless(value: Any) -> Any:
    """A value of dicts, lists and scalars, ready for JSON: each text in it that was a path of raw bytes (as the
    operating system's paths are decoded) in the form of `to_json`.
    """
    match value:
        case str():
            return value if value.isascii() else to_json(os.fsencode(value))
        case dict():
            return {name: lossless(inner) for name, inner in value.items()}
        case list() | tuple():
            return [lossless(inner) for inner in value]
    return value


def from_json(form: object) -> bytes:
    """Undo `to_json`. ValueError: neither form."""
    if isinstance(form, str):
        return form.encode("utf-8")
    if isinstance(form, dict) and set(form) == {"base64"} and isinstance(form["base64"], str):
        try:
            return base64.b64decode(form["base64"], validate=True)
        except binascii.Error as error:
            raise ValueError("no base64") from error
    raise ValueError("no path")
