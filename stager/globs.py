r"""Globs of gitignore, compiled to regular expressions over raw bytes.

As gitignore(5) has them: ``*`` and ``?`` stop at a slash, ``**`` between slashes is any number of directories,
``[a-z]``, ``[!a]``, ``[^a]`` and ``[[:digit:]]`` are one byte, ``\`` takes the next byte for itself; a slash at the
beginning or in the middle anchors the glob at the root, else it names a file or directory at any depth; a slash at the
end names directories only; and what is named with a directory is everything below it. ``?`` is one byte, not one
character, as with git. What git takes for a glob that never matches is refused here.

No glob takes more than linear time for one place of a name where it may begin: between two ``*`` the first match of
what stands between them is as good as any, so nothing is tried twice (atomic groups).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["compile_glob"]

_STAR: Final = b"*"
_ALL: Final = frozenset(range(256)) - {ord("/")}
_CLASSES: Final[dict[bytes, Callable[[bytes], bool]]] = {
    b"alnum": bytes.isalnum, b"alpha": bytes.isalpha, b"digit": bytes.isdigit, b"lower": bytes.islower,
    b"upper": bytes.isupper, b"space": bytes.isspace, b"blank": lambda byte: byte in b" \t",
    b"cntrl": lambda byte: byte < b" " or byte == b"\x7f", b"graph": lambda byte: b"!" <= byte <= b"~",
    b"print": lambda byte: b" " <= byte <= b"~",
    b"punct": lambda byte: b"!" <= byte <= b"~" and not byte.isalnum(),
    b"xdigit": lambda byte: byte in b"0123456789abcdefABCDEF",
}  # fmt: skip


def compile_glob(glob: bytes) -> bytes:
    """The regular expression that matches at the start of every path that the glob names; it has no capturing group.

    ValueError says what is wrong with a glob that could match nothing.
    """
    text = glob.removesuffix(b"/")
    anchored = b"/" in text
    segments = text.removeprefix(b"/").split(b"/")
    if not text.strip(b"/"):
        raise ValueError("names nothing")
    if b"" in segments:
        raise ValueError("has an empty segment")
    if b"." in segments or b".." in segments:
        raise ValueError("has a . or .. segment; it is meant from the source's root")
    parts = [] if anchored else [b"**"]
    for segment in segments:
        if not _is_any_directories(segment):
            parts.append(_compile_segment(segment))
        elif parts[-1:] != [b"**"]:
            parts.append(b"**")
    return _join(parts, only_directories=glob.endswith(b"/"))


def _is_any_directories(segment: bytes) -> bool:
    return len(segment) > 1 and not segment.strip(_STAR)


def _join(parts: list[bytes], *, only_directories: bool) -> bytes:
    """Whole segments, each group of them behind a ``**`` at the first place where it matches."""
    last = len(parts) - 1
    ending = b"/" if only_directories else rb"(?:/|\Z)"
    made = b""
    groups = 0
    for place, part in enumerate(parts):
        if part == b"**" and place == last:
            made += b"[^/]*/" if only_directories else b""
        elif part == b"**":
            made += b")" * groups + rb"(?>(?:[^/]*/)*?"
            groups = 1
        else:
            made += part + (b"/" if place < last else ending)
    return made + b")" * groups


def _compile_segment(segment: bytes) -> bytes:
    first, *rest = _pieces(segment)
    if not rest:
        return first
    inner = b"".join(b"(?>[^/]*?" + piece + b")" for piece in rest[:-1] if piece)
    return b"(?>" + first + inner + b"[^/]*" + rest[-1] + rb"(?=/|\Z))"


def _pieces(segment: bytes) -> list[bytes]:
    """What stands between the stars of a segment, compiled."""
    pieces = [b""]
    at = 0
    while at < len(segment):
        byte = segment[at : at + 1]
        if byte == _STAR:
            pieces.append(b"")
            at += 1
        elif byte == b"?":
            pieces[-1] += b"[^/]"
            at += 1
        elif byte == b"[":
            found, at = _bracket(segment, at + 1)
            pieces[-1] += _one_of(found)
        else:
            at += byte == b"\\"
            if at == len(segment):
                raise ValueError("ends in a backslash that escapes nothing")
            pieces[-1] += b"\\x%02x" % segment[at]
            at += 1
    return pieces


def _bracket(segment: bytes, at: int) -> tuple[set[int], int]:
    """The bytes that a bracket expression stands for, and where it ends. Like git's wildmatch.c, byte by byte."""
    found: set[int] = set()
    negated = segment[at : at + 1] in (b"!", b"^")
    at += negated
    first = at
    before = -1  # what a range may begin with
    while at == first or segment[at : at + 1] != b"]":
        if at >= len(segment):
            raise ValueError("has a [ without a ] in its segment")
        if segment.startswith(b"[:", at) and (end := _class_end(segment, at)):
            found |= _class(segment[at + 2 : end - 1])
            before, at = -1, end + 1
        elif segment[at] == ord("-") and before >= 0 and segment[at + 1 : at + 2] not in (b"", b"]"):
            last, at = _member(segment, at + 1)
            if last < before:
                raise ValueError("has a range in [] that ends before it begins")
            found |= set(range(before, last + 1))
            before = -1
        else:
            before, at = _member(segment, at)
            found.add(before)
    return set(_ALL - found) if negated else found - {ord("/")}, at + 1


def _member(segment: bytes, at: int) -> tuple[int, int]:
    at += segment[at : at + 1] == b"\\"
    if at >= len(segment):
        raise ValueError("has a [ without a ] in its segment")
    return segment[at], at + 1


def _class_end(segment: bytes, at: int) -> int:
    """Where the ``]`` of ``[:name:]`` stands; 0: this is no such class, and ``[`` one of the bytes."""
    end = segment.find(b"]", at + 2)
    if end < 0:
        raise ValueError("has a [ without a ] in its segment")
    return end if end > at + 2 and segment[end - 1 : end] == b":" else 0


def _class(name: bytes) -> set[int]:
    if name not in _CLASSES:
        raise ValueError(f"has an unknown class [:{name.decode('ascii', 'replace')}:]")
    is_in = _CLASSES[name]
    return {code for code in range(128) if is_in(bytes([code]))}


def _one_of(codes: set[int]) -> bytes:
    if not codes:
        raise ValueError("has a [] that no byte is in")
    return b"[" + b"".join(b"\\x%02x" % code for code in sorted(codes)) + b"]"
