"""How numbers and names are written for people."""

from __future__ import annotations

from stager.amounts import about_bytes as size

__all__ = ["count", "escaped", "size"]


def count(number: int, noun: str = "object") -> str:
    """``1 object``, ``2 objects``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def escaped(text: str) -> str:
    """Text with whatever a terminal might act on written out; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
