"""Amounts of bytes as people write them: a number and a unit, which is a power of two."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MOST_BYTES", "about_bytes", "parse_bytes", "show_bytes"]

MOST_BYTES: Final = 1 << 60
"""No amount is larger."""

_UNITS: Final = "BKMGT"
_AMOUNT: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([BKMGT])(?:i?B)?", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """``64M`` as bytes: B, K, M, G or T, powers of 1024. ``64MiB`` is the same. ValueError says what is wrong.

    A number alone is refused: rclone takes it for KiB, others for bytes. Only 0 is the same to all.
    """
    if text == "0":
        return 0
    if re.fullmatch(r"[0-9]+", text):
        raise ValueError(f"{text!r} has no unit: write {text}K, {text}M or {text}G")
    found = _AMOUNT.fullmatch(text)
    if found is None or (found[2] in "Bb" and "." in found[1]):
        raise ValueError(f"{text!r} is not an amount: write a number and B, K, M, G or T, like 64M")
    amount = round(float(found[1]) * (1 << 10 * _UNITS.index(found[2].upper())))
    if amount > MOST_BYTES:
        raise ValueError(f"{text!r} is more than can be had: at most {show_bytes(MOST_BYTES)}")
    return amount


def show_bytes(amount: int) -> str:
    """The shortest that `parse_bytes` reads back as the same."""
    power = 0
    while power < len(_UNITS) - 1 and amount and amount % (1 << 10 * (power + 1)) == 0:
        power += 1
    return f"{amount >> 10 * power}{_UNITS[power]}"


def about_bytes(amount: float) -> str:
    """Bytes for people: 1023 B, 1.5 KiB, 20.0 GiB."""
    if amount < 1024:
        return f"{amount:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        amount /= 1024
        if amount < 1024 or unit == "TiB":
            return f"{amount:.1f} {unit}"
    raise AssertionError
