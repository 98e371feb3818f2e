"""What does not fit rounds of clients: each module runs one question and returns figures for the results file.

A study has ``SHORT`` (part of `make bench`, not only of `make bench-full`) and
``run(cores, scratch, quick=...)``, which raises RuntimeError or ValueError when the figures would be worth nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from lab import Cores

from studies import kept, one_100gib_object, pace_large, pace_small, sha256, start

__all__ = ["STUDIES", "Study"]


class Study(Protocol):
    SHORT: bool

    def run(self, cores: Cores, scratch: Path, *, quick: bool) -> dict[str, Any]: ...


STUDIES: dict[str, Study] = {
    "start": start,
    "pace-large": pace_large,
    "pace-small": pace_small,
    "one-100GiB-object": one_100gib_object,
    "sha256": sha256,
    "kept": kept,
}
