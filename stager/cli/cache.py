"""``stager cache ls|gc|rm|pin|unpin|verify``: what jobs on this node share: trees, Git mirrors, LFS objects."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from stager.amounts import parse_bytes
from stager.cli.job_options import scratch_option
from stager.cli.options import common, run_async
from stager.cli.render import Renderer
from stager.cli.state import State
from stager.cli.tell import tell
from stager.cli.text import count, escaped, size
from stager.cli.verify import verify_all
from stager.errors import BusyError, NotFoundError, UsageError
from stager.filters import parse_since
from stager.host.cache import About, Kept
from stager.host.cache_items import items_in, pin_item, remove_item
from stager.host.record import rfc3339
from stager.host.trash import sweep_trash
from stager.job.placing import job_scratches
from stager.keeping import Item
from stager.stages.inspect import Staged

__all__ = ["command"]

Command = Callable[..., Any]

_UNKNOWN: Final = About(source="?")
_SHOWN_DIGITS: Final = 14


@click.group("cache")
def command() -> None:
    """What this user's jobs on this node share, each fetched once: trees, mirrors of Git repositories, LFS objects.

    Example: stager cache ls
    """


def _shared(metavar: str = "") -> Callable[[Command], Command]:
    def decorate(function: Command) -> Command:
        function = scratch_option(common(function))
        if metavar:
            function = click.argument("names", metavar=metavar, nargs=-1)(function)
        return function

    return decorate


@command.command("ls", short_help="What is kept: name, kind, size, inodes, last use, source.")
@_shared()
@click.pass_obj
def _ls(state: State, /, scratch: str | None) -> None:
    """List it: name, kind, size, inodes, last use, whether it is in use or pinned, what it is of.

    Example: stager cache ls --json
    """
    for item in _open(scratch):
        marks = ", ".join(word for word, is_so in (("in use", item.in_use), ("pinned", item.is_pinned)) if is_so)
        text = f"{item.name[:_SHOWN_DIGITS]:{_SHOWN_DIGITS}}  {item.kind:6}  {size(item.bytes):>10}"
        text += f"  {count(item.inodes, 'inode'):>14}  {rfc3339(item.last_use_s)}  {marks or '-':13}"
        tell(state, "kept", _body(item), f"{text}  {escaped(item.source)}")


@command.command("gc", short_help="Remove the longest unused, by age or size.")
@click.option("--older-than", metavar="AGE", help="What was not used for so long, like 12h or 30d, or since a time.")
@click.option("--keep", metavar="SIZE", help="So much that no more than this is left, like 500G; 0: all.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@_shared()
@click.pass_obj
def _gc(state: State, /, older_than: str | None, keep: str | None, dry_run: bool, scratch: str | None) -> None:
    """Remove what nobody uses and is not pinned, that first that was not used for the longest time.

    When a disk is full, staging does that by itself.

    Example: stager cache gc --older-than 30d
    """
    if older_than is None and keep is None:
        raise UsageError("what is to go?", where="stager cache gc", hint="--older-than AGE, --keep SIZE, or both")
    before_s = _since_s(older_than) if older_than is not None else 0.0
    most = _bytes(keep) if keep is not None else None
    for top in _tops(scratch):
        sweep_trash(top)
    items = _open(scratch)
    kept = sum(item.bytes for item in items)
    for item in items:
        is_old = item.last_use_s < before_s
        if not item.may_go or not (is_old or (most is not None and kept > most)):
            continue
        if dry_run or remove_item(item, pinned=False):
            kept -= item.bytes
            _tell_removed(state, item, dry_run=dry_run)


@command.command("rm", short_help="Remove things by name, or all.")
@click.option("--all", "everything", is_flag=True, help="All that nobody uses, pinned or not.")
@_shared("NAME...")
@click.pass_obj
def _rm(state: State, /, names: tuple[str, ...], everything: bool, scratch: str | None) -> None:
    """Remove things by their names, or the beginnings of these. One that a job uses stays, and is an error.

    Example: stager cache rm 3f2a9c
    """
    items = _open(scratch) if everything else _named(_open(scratch), names)
    busy = []
    for item in items:
        if remove_item(item):
            _tell_removed(state, item)
        else:
            busy.append(item.name[:_SHOWN_DIGITS])
    if busy:
        raise BusyError("a job uses what was to be removed", where=", ".join(busy), hint="wait for its end")


@command.command("pin")
@_shared("NAME...")
@click.pass_obj
def _pin(state: State, /, names: tuple[str, ...], scratch: str | None) -> None:
    """Keep things until they are unpinned, or removed by name; of LFS objects all on that disk.

    Example: stager cache pin 3f2a9c
    """
    _set_pinned(state, scratch, names, is_pinned=True)


@command.command("unpin")
@_shared("NAME...")
@click.pass_obj
def _unpin(state: State, /, names: tuple[str, ...], scratch: str | None) -> None:
    """Let things go again when their room is needed.

    Example: stager cache unpin 3f2a9c
    """
    _set_pinned(state, scratch, names, is_pinned=False)


@command.command("verify")
@_shared("[NAME]...")
@click.pass_obj
def _verify(state: State, /, names: tuple[str, ...], scratch: str | None) -> None:
    """Hash the files of trees again, of all when none is named. The next job that wants one mends it.

    What comes out of a mirror or of the LFS objects is hashed whenever it is used.

    Example: stager cache verify
    """
    items = _named(_open(scratch), names) if names else _open(scratch)
    newest = [found for item in items if item.kind == "tree" and (found := Kept(item.path).newest()) is not None]
    with Renderer(state) as sink:
        run_async(
            verify_all([Staged(tree=one.tree, state=one.state) for one in newest], False, None, sink),
            how_to_continue="run the same command again",
        )


def _tops(scratch: str | None) -> list[str]:
    """The scratch that was asked for, else all that jobs were in."""
    return job_scratches(scratch, os.environ)


def _open(scratch: str | None) -> list[Item]:
    """All that is kept there, the longest unused first."""
    return sorted((item for top in _tops(scratch) for item in items_in(top)), key=lambda item: item.last_use_s)


def _named(kept: Sequence[Item], names: Sequence[str]) -> list[Item]:
    """One name may be kept on several disks; LFS objects are named together too. Raises `NotFoundError`, `UsageError`:
    all that is wrong with the names.
    """
    if not names:
        raise UsageError("no names", where="stager cache", hint="stager cache ls tells them")
    found = {name: [item for item in kept if item.name.startswith(name)] for name in names}
    if missing := [name for name, matches in found.items() if not matches]:
        raise NotFoundError("nothing of this name is kept", where=", ".join(missing), hint="see stager cache ls")
    if several := [name for name, matches in found.items() if len({_together(item) for item in matches}) > 1]:
        raise UsageError("more than one name begins so", where=", ".join(several), hint="write more of it")
    return [item for matches in found.values() for item in matches]


def _together(item: Item) -> str:
    return "lfs" if item.kind == "lfs" else f"{item.kind} {item.name}"


def _set_pinned(state: State, scratch: str | None, names: Sequence[str], *, is_pinned: bool) -> None:
    for item in _named(_open(scratch), names):
        pin_item(item, is_pinned=is_pinned)
        text = f"{'pinned' if is_pinned else 'unpinned'} {item.name[:_SHOWN_DIGITS]}: {escaped(item.source)}"
        body = {"name": item.name, "kind": item.kind, "source": item.source}
        tell(state, "pinned" if is_pinned else "unpinned", body, text)


def _tell_removed(state: State, item: Item, *, dry_run: bool = False) -> None:
    verb = "would remove" if dry_run else "removed"
    body = {"name": item.name, "kind": item.kind, "source": item.source, "bytes": item.bytes, "files": item.files,
            "inodes": item.inodes, "dry_run": dry_run}  # fmt: skip
    text = f"{verb} {item.name[:_SHOWN_DIGITS]}: {size(item.bytes)}, {escaped(item.source)}"
    tell(state, "removed", body, text)


def _body(item: Item) -> dict[str, Any]:
    body = {
        "name": item.name, "kind": item.kind, "source": item.source, "bytes": item.bytes, "files": item.files,
        "inodes": item.inodes, "last_use": rfc3339(item.last_use_s), "in_use": item.in_use, "pinned": item.is_pinned,
    }  # fmt: skip
    if item.kind != "tree":
        return body
    entry = Kept(item.path)
    about, newest = entry.about() or _UNKNOWN, entry.newest()
    tree = newest.tree if newest is not None else None
    return {**body, "wanted": about.wanted, "grades": about.grades, "tree": tree}


def _since_s(text: str) -> float:
    try:
        return parse_since(text, now_s=time.time()) / 1e9
    except ValueError as error:
        raise UsageError(str(error), where="--older-than") from None


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(str(error), where="--keep") from None
