"""Keys as numbers, to guess from a few of them how many are still to come and where to cut what is left.

A guess decides how fast a listing is, never what is listed. Keys are raw bytes in byte order, which for UTF-8 is that
of the code points; cuts are valid UTF-8 and need not be keys. ``upto`` None: there is no end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

__all__ = ["KeySpace"]

_PLACES: Final = 24  # characters that count, from the first one that differs
_FINE_BITS: Final = 64  # of a fraction
_FURTHEST: Final = 2.0**60  # times what was listed
_SURROGATES: Final = range(0xD800, 0xE000)  # no characters in UTF-8
_LAST: Final = 0x10FFFF
_LONGEST_KEY: Final = 1024  # bytes; Amazon S3 User Guide, "Naming Amazon S3 objects"


class KeySpace:
    """Texts are fractions, each place to the base of its characters.

    ``alike``: keys to come are taken to have the same characters at each place as those that were seen (between two
    keys of ``train/0001/...`` lie none with a letter in the number); else at each place those seen at any.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._seen_at: defaultdict[int, set[str]] = defaultdict(set)

    def see(self, keys: Iterable[bytes]) -> None:
        """Learn of what characters keys are made."""
        for text in map(_text, keys):
            self._seen.update(text)
            for place, character in enumerate(text):
                self._seen_at[place].add(character)

    def to_come(self, first: bytes, last: bytes, upto: bytes | None, *, alike: bool) -> float:
        """How many times what lies in first..last follows in (last, upto], were keys spread evenly; may be infinite."""
        low, high = _text(first), _text(last)
        scale = self._scale([low, high], upto, alike=alike)
        listed = scale.number(high) - scale.number(low)
        return (scale.end(upto) - scale.number(high)) / listed if listed else float("inf")

    def width(self, low: bytes, upto: bytes | None) -> float:
        """The part of all texts that lies in (low, upto]."""
        scale = self._scale([_text(low), ""], upto, alike=True)
        return (scale.end(upto) - scale.number(_text(low))) / scale.end(None)

    def even_cuts(self, low: bytes, upto: bytes | None, count: int, *, alike: bool) -> list[bytes]:
        """At most ``count`` keys that cut (low, upto] in parts of the same width, ascending."""
        return self._cuts(low, upto, [part / (count + 1) for part in range(1, count + 1)], alike=alike)

    def searching_cuts(self, first: bytes, last: bytes, upto: bytes | None, count: int) -> list[bytes]:
        """At most ``count`` keys that cut (last, upto] in parts that widen, ascending: nobody knows where keys end.

        Where those from ``first`` to ``last`` have a long head in common, half of the cuts are above all that share
        the head, or less and less of it.
        """
        low = _text(last)
        agreed = len(_common([_text(first), low]))
        head = 0 if upto is None else len(_common([low, _text(upto)]))
        deep = count // 2 if agreed - head > _PLACES else 0
        depths = [head + (agreed - head) * part // (deep + 1) for part in range(1, deep + 1)]
        above = (next(_above(low[:depth]), "") for depth in depths)
        far = max(1.0, min(self.to_come(first, last, upto, alike=False), _FURTHEST))
        wide = count - deep
        fractions = [far ** (part / (wide + 1) - 1) for part in range(1, wide + 1)]
        return sorted({*_between(last, above, upto), *self._cuts(last, upto, fractions, alike=False)})

    def _cuts(self, low: bytes, upto: bytes | None, fractions: Iterable[float], *, alike: bool) -> list[bytes]:
        text = _text(low)
        scale = self._scale([text], upto, alike=alike)
        start = scale.number(text)
        width = scale.end(upto) - start
        cuts = set()
        for fraction in fractions:
            cut = scale.text(start + (width * round(fraction * (1 << _FINE_BITS)) >> _FINE_BITS))
            heads = (cut[:end] for end in range(len(scale.head) + 1, len(cut) + 1))
            fit = list(_between(low, heads, upto))
            cuts.update(fit[:2][-1:])  # with a character more than it needs, to lie about right
        return sorted(cuts)

    def _scale(self, texts: list[str], upto: bytes | None, *, alike: bool) -> _Scale:
        end = [] if upto is None else [_text(upto)]
        head = _common([*texts, *end]) if end else ""
        if not alike:
            everywhere = sorted(self._seen.union(*texts, *end))
            return _Scale(head, [everywhere] * _PLACES)
        places = range(len(head), len(head) + _PLACES)
        ours = [{text[place : place + 1] for text in (*texts, *end)} - {""} for place in places]
        return _Scale(head, [sorted(self._seen_at[place] | own) for place, own in zip(places, ours, strict=True)])


class _Scale:
    """Numbers of the texts that begin with ``head``; a text's end is less than any character."""

    def __init__(self, head: str, alphabets: list[list[str]]) -> None:
        self.head = head
        self._alphabets = alphabets

    def number(self, text: str) -> int:
        value = 0
        for place, alphabet in enumerate(self._alphabets, len(self.head)):
            value = value * (len(alphabet) + 1) + (bisect_left(alphabet, text[place]) + 1 if place < len(text) else 0)
        return value

    def end(self, upto: bytes | None) -> int:
        if upto is not None:
            return self.number(_text(upto))
        value = 1
        for alphabet in self._alphabets:
            value *= len(alphabet) + 1
        return value

    def text(self, number: int) -> str:
        """The text of a number, up to its first end."""
        digits = []
        for alphabet in reversed(self._alphabets):
            number, digit = divmod(number, len(alphabet) + 1)
            digits.append(digit)
        text = self.head
        for digit, alphabet in zip(reversed(digits), self._alphabets, strict=True):
            if not digit:
                break
            text += alphabet[digit - 1]
        return text


def _text(key: bytes) -> str:
    """The longest head of a key that is UTF-8."""
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        return key[: error.start].decode()


def _common(texts: list[str]) -> str:
    """What all of them begin with."""
    low, high = min(texts), max(texts)
    return next((low[:place] for place, character in enumerate(low) if character != high[place : place + 1]), low)


def _above(head: str) -> Iterator[str]:
    """The first text above all that begin with ``head``, then with shorter ones."""
    for end in range(len(head) - 1, -1, -1):
        code = ord(head[end]) + 1
        if code <= _LAST:
            yield head[:end] + chr(_SURROGATES.stop if code in _SURROGATES else code)


def _between(low: bytes, texts: Iterable[str], upto: bytes | None) -> Iterator[bytes]:
    for key in (text.encode() for text in texts):
        if low < key and (upto is None or key < upto) and len(key) <= _LONGEST_KEY:
            yield key
