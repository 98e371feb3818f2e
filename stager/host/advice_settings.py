"""What is too large a file for a network file system, as the site and the user say it in the files of ``[placement]``.

::

    [advice]                          # in either file; the user's counts where both say it
    large_file = "10G"                # a file of more than this belongs in object storage
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from msgspec import Struct

from stager.host.placement_settings import USERS, user_tables
from stager.host.settings_file import as_bytes, read_table

__all__ = ["LARGE_FILE_BYTES", "AdviceSettings", "advice_in", "chosen_large_file", "user_advice"]

LARGE_FILE_BYTES: Final = 10_000_000_000
"""Anyscale's 10 GB, where nobody says otherwise."""


class AdviceSettings(Struct, frozen=True, kw_only=True):
    """One file's ``[advice]``; None: it says nothing of that."""

    file: str = ""
    large_file: int | None = None


def user_advice(environ: Mapping[str, str]) -> AdviceSettings:
    """What the user's file says. Raises as `user_tables`. Blocks."""
    path, tables = user_tables(environ)
    return advice_in(tables, path, USERS) if path else AdviceSettings()


def chosen_large_file(site: AdviceSettings, user: AdviceSettings) -> int:
    """Both files together, in bytes."""
    return next((each.large_file for each in (user, site) if each.large_file is not None), LARGE_FILE_BYTES)


def advice_in(tables: Mapping[str, Any], path: str, what: str) -> AdviceSettings:
    """The ``[advice]`` of a file's tables. Raises `HostError` naming the first key that is not understood."""
    return AdviceSettings(file=path, **read_table(tables, "advice", _READERS, path=path, what=what))


_READERS: Final[dict[str, Callable[[object], Any]]] = {"large_file": partial(as_bytes, least=1)}
