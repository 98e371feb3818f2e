"""How numbers and names are written for people."""

from __future__ import annotations

__all__ = ["count", "escaped", "size"]


def count(number: int, noun: str = "object") -> str:
    """``1 object``, ``2 objects``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Bytes for people: 1023 B, 1.5 KiB, 20.0 GiB."""
    if number < 1024:
        return f"{number:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        number /= 1024
        if number < 1024 or unit == "TiB":
            return f"{number:.1f} {unit}"
    raise AssertionError


def escaped(text: str) -> str:
    """Text with whatever a terminal might act on written out; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
