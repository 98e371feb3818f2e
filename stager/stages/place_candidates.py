"""The places that the data of a job could lie in, from what was asked for, what is configured, and what is found."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import closing

from msgspec import Struct
from msgspec.structs import replace

from stager.errors import UsageError
from stager.host.cache_settings import chosen_quota, user_cache
from stager.host.find_roots import Named, find_roots, this_node
from stager.host.memory import available_bytes
from stager.host.node import open_node
from stager.host.placement_settings import Chosen, chosen_placement, user_placement
from stager.host.rates import rate_of, read_rates
from stager.host.reserved_room import less_reserved
from stager.host.site import site_cache, site_placement
from stager.keeping import Quota
from stager.placement import Root, Rules

__all__ = ["Candidates", "asked_scratch", "candidates", "placement_in_force", "quota_in_force", "scratch_in"]


class Candidates(Struct, frozen=True, kw_only=True):
    """``asked``: one scratch was named, by option or variable, and there is no other."""

    roots: tuple[Root, ...]
    rules: Rules
    chosen: Chosen
    asked: bool


def scratch_in(root: Root) -> str:
    """What `stager.stages.place.place` is asked for there.

    What was found, or is a dataset's wish, may hold other things of its owner, and a scratch is hidden from its jobs:
    stager keeps to a directory of its own in it.
    """
    return os.path.join(root.path, f"stager-{os.geteuid()}") if root.origin in ("found", "job") else root.path


def asked_scratch(option: str | None, environ: Mapping[str, str]) -> Named | None:
    """The scratch that was asked for, by --scratch or else STAGER_SCRATCH."""
    if option:
        return Named(option, "option")
    named = environ.get("STAGER_SCRATCH")
    return Named(named, "environment") if named else None


def placement_in_force(environ: Mapping[str, str]) -> Chosen:
    """What site and user say. Raises `HostError`. Blocks."""
    return chosen_placement(site_placement(), user_placement(environ))


def quota_in_force(environ: Mapping[str, str]) -> Quota:
    """What site and user allow the cache, down to the floor of the places. Raises `HostError`. Blocks."""
    rules = placement_in_force(environ).rules
    quota = chosen_quota(site_cache(), user_cache(environ))
    return replace(quota, floor_bytes=rules.floor_bytes, floor_share=rules.floor_share)


def candidates(
    option: str | None, environ: Mapping[str, str], *, wished: Collection[str] = (), clone: bool = False
) -> Candidates:
    """All of them, whether they can be used or not. Nothing is made. Blocks.

    ``wished``: paths that datasets ask for. ``clone``: reflinks are tried. Raises `HostError`: settings that cannot be
    believed. `UsageError`: what was asked for is no absolute path.
    """
    chosen = placement_in_force(environ)
    asked = asked_scratch(option, environ)
    if asked is not None:
        if not asked.path.startswith("/") or "\0" in asked.path:
            raise UsageError(
                "the scratch directory needs an absolute path", where=repr(asked.path), hint="check --scratch"
            )
        named = [asked._replace(path=os.path.normpath(asked.path))]
    else:
        named = [Named(root.path, "configuration") for root in chosen.roots]
        named += [Named(path, "job") for path in wished]
    named = [each._replace(device_class=chosen.classes.get(each.path)) for each in named]
    discover = chosen.discover and asked is None
    there = find_roots(this_node(), named, environ, discover=discover, clone=clone)
    with closing(open_node()) as node:
        roots = less_reserved(there, node)
    rates = read_rates()
    return Candidates(
        roots=tuple(replace(root, rate=rate_of(root, rates)) for root in roots),
        rules=replace(chosen.rules, memory_bytes=available_bytes()),
        chosen=chosen,
        asked=asked is not None,
    )
