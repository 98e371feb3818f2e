"""Whether a server tells anything of objects that were uploaded in parts, learned while they are fetched.

A digest of stored parts can be compared only when a HEAD has told it before the bytes come (`s3_announced`). Many
servers keep no checksums: there, a HEAD for each small object is a round trip and a request for nothing. So after the
first answers that told nothing, objects of one part at most are fetched whole, like those that came in one piece.

No grade is lost by that. What a HEAD announces the answer to a GET does too (RFC 9110, 9.3.2: a HEAD has the fields
that the GET would have, or fewer), and a digest of the whole is compared on the way. One of parts ends the answer
before its body (csrc/request.h): such an object is put aside and asked for, and from then on all are asked for again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from stager.sources.s3_announced import Told

__all__ = ["Silence"]

_ANSWERS: Final = 16
"""So many that told nothing, and none that told anything, are believed."""


class Silence:
    """What has been heard of one run's objects. ``must_ask``: it is never believed, for a grade is required that only
    something announced can give.
    """

    def __init__(self, *, must_ask: bool) -> None:
        self._silent = 0
        self._broken = must_ask

    @property
    def lasts(self) -> bool:
        """Nothing is announced, as far as is known."""
        return not self._broken and self._silent >= _ANSWERS

    @property
    def unknown(self) -> bool:
        """Too little has been heard to tell."""
        return not self._broken and self._silent < _ANSWERS

    def break_it(self) -> None:
        """Something is announced."""
        self._broken = True

    def hear(self, told: Told) -> None:
        """An answer came. Where parts are announced whose ends were not told, something was."""
        if told.announced.kind or told.announced.why == "parts-unknown":
            self.break_it()
        else:
            self._silent += 1

    def draw(self, rows: deque[int]) -> Iterator[int]:
        """Take rows to ask for, until there are none, or this is no longer what it was: unknown, or broken."""
        unknown = self.unknown
        while rows and self.unknown == unknown:
            yield rows.popleft()
