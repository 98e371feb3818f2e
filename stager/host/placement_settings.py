"""Where data may lie, as the site and the user say it.

The site's file is `stager.host.site.SITE_FILE`, the user's ``stager/stager.toml`` in ``$XDG_CONFIG_HOME`` (else
``~/.config``)::

    [placement]
    roots = ["/nvme0", { path = "/vol", class = "nvme" }]   # class: what discovery cannot know, as of virtio
    discover = true                   # look for others too; the default is true without roots, false with them
    floor = "20G"                     # or "5%": what stays free on each; of both files the larger one counts

The user's roots and ``discover`` replace the site's. A class that either gives to a path counts wherever it is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from stager.amounts import MOST_BYTES, parse_bytes
from stager.host.settings_file import read_settings, refuse
from stager.placement import DeviceClass, Rules

__all__ = [
    "USERS",
    "Chosen",
    "PlacementSettings",
    "RootSetting",
    "chosen_placement",
    "placement_in",
    "user_file",
    "user_placement",
    "user_tables",
]

USERS: Final = "your configuration"
"""What the user's file is called in errors."""

_KNOWN: Final = ("placement", "cache", "advice")
_KEYS: Final = ("roots", "discover", "floor")
_ROOT_KEYS: Final = ("path", "class")
_PERCENT: Final = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,3})?)%")
_MOST_ROOTS: Final = 256


class RootSetting(Struct, frozen=True, kw_only=True):
    """One root: an absolute path, and the class it is said to be of, if any."""

    path: str
    device_class: DeviceClass | None = None


class PlacementSettings(Struct, frozen=True, kw_only=True):
    """One file's ``[placement]``; None: it says nothing of that. At most one of the floors is set."""

    file: str = ""
    roots: tuple[RootSetting, ...] | None = None
    discover: bool | None = None
    floor_bytes: int | None = None
    floor_share: float | None = None


class Chosen(Struct, frozen=True, kw_only=True):
    """What counts, and the file that each of it comes from ("": nobody said it). ``classes`` by path."""

    roots: tuple[RootSetting, ...]
    roots_from: str
    discover: bool
    discover_from: str
    rules: Rules
    floor_from: str
    classes: Mapping[str, DeviceClass]


def chosen_placement(site: PlacementSettings, user: PlacementSettings) -> Chosen:
    """Both files together."""
    roots = user if user.roots is not None else site
    discover = user if user.discover is not None else site
    usual = Rules()
    floors = [each for each in (site, user) if each.floor_bytes is not None or each.floor_share is not None]
    rules = Rules(
        floor_bytes=max((each.floor_bytes or 0 for each in floors), default=usual.floor_bytes),
        floor_share=max((each.floor_share or 0.0 for each in floors), default=usual.floor_share),
    )
    return Chosen(
        roots=roots.roots or (),
        roots_from=roots.file if roots.roots is not None else "",
        discover=discover.discover if discover.discover is not None else not roots.roots,
        discover_from=discover.file if discover.discover is not None else "",
        rules=rules,
        floor_from=" and ".join(each.file for each in floors),
        classes={
            root.path: root.device_class
            for each in (site, user)
            for root in each.roots or ()
            if root.device_class is not None
        },
    )


def user_file(environ: Mapping[str, str]) -> str | None:
    """The path of the user's file of settings, whether it is there or not; None: the user has no home."""
    top = environ.get("XDG_CONFIG_HOME", "")
    if not top.startswith("/"):
        home = environ.get("HOME", "")
        if not home.startswith("/"):
            return None
        top = os.path.join(home, ".config")
    return os.path.join(top, "stager", "stager.toml")


def user_placement(environ: Mapping[str, str]) -> PlacementSettings:
    """What the user's file says of the places for data. Raises as `user_tables`."""
    path, tables = user_tables(environ)
    return placement_in(tables, path, USERS) if path else PlacementSettings()


def user_tables(environ: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The user's file and its tables; "": the user has no home.

    Raises `HostError`: another user could have written it, or it is not understood. Blocks.
    """
    path = user_file(environ)
    if path is None:
        return "", {}
    tables = read_settings(path, what=USERS, whose="you", owners=(os.geteuid(), 0)) or {}
    for name in tables:
        if name not in _KNOWN:
            known = ", ".join(f"[{known}]" for known in _KNOWN)
            raise refuse(path, USERS, name, f"no such key; known are {known}")
    return path, tables


def placement_in(tables: Mapping[str, Any], path: str, what: str) -> PlacementSettings:
    """The ``[placement]`` of a file's tables. Raises `HostError` naming the first key that is not understood."""
    table = tables.get("placement", {})
    if not isinstance(table, dict):
        raise refuse(path, what, "placement", "is a table: [placement]")
    for name in table:
        if name not in _KEYS:
            raise refuse(path, what, f"placement.{name}", f"no such key; known are {', '.join(_KEYS)}")
    try:
        discover = _yes_or_no("discover", table["discover"]) if "discover" in table else None
        floor_bytes, floor_share = _floor(table["floor"]) if "floor" in table else (None, None)
        roots = _roots(table["roots"]) if "roots" in table else None
    except _Wrong as wrong:
        raise refuse(path, what, f"placement.{wrong.key}", wrong.why) from None
    return PlacementSettings(
        file=path, roots=roots, discover=discover, floor_bytes=floor_bytes, floor_share=floor_share
    )


class _Wrong(Exception):  # noqa: N818  (never leaves this module)
    def __init__(self, key: str, why: str) -> None:
        super().__init__(why)
        self.key = key
        self.why = why


def _yes_or_no(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(key, f"true or false, not {value!r}")
    return value


def _floor(value: object) -> tuple[int | None, float | None]:
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value)):
        return None, float(found[1]) / 100
    try:
        amount = parse_bytes(value) if isinstance(value, str) else value
    except ValueError as error:
        raise _Wrong("floor", str(error)) from None
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= MOST_BYTES:
        raise _Wrong("floor", f'an amount like "20G", or a share like "5%", not {value!r}')
    return amount, None


def _roots(value: object) -> tuple[RootSetting, ...]:
    if not isinstance(value, list) or len(value) > _MOST_ROOTS:
        raise _Wrong("roots", f"a list of at most {_MOST_ROOTS} directories")
    roots: dict[str, RootSetting] = {}
    for number, entry in enumerate(value, 1):
        root = _root(f"roots[{number}]", {"path": entry} if isinstance(entry, str) else entry)
        if root.path in roots:
            raise _Wrong(f"roots[{number}]", f"{root.path!a} is there twice")
        roots[root.path] = root
    return tuple(roots.values())


def _root(key: str, entry: object) -> RootSetting:
    if not isinstance(entry, dict):
        raise _Wrong(key, f"a directory, or a table with path and class, not {entry!r}")
    for name in entry:
        if name not in _ROOT_KEYS:
            raise _Wrong(f"{key}.{name}", f"no such key; known are {', '.join(_ROOT_KEYS)}")
    path, named = entry.get("path"), entry.get("class")
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise _Wrong(f"{key}.path", f"an absolute path, not {path!a}")
    if named is not None and named not in tuple(DeviceClass):
        raise _Wrong(f"{key}.class", f"one of {', '.join(DeviceClass)}, not {named!a}")
    plain = "/" + os.path.normpath(path).lstrip("/")
    return RootSetting(path=plain, device_class=DeviceClass(named) if named is not None else None)
