"""``stager cache ls|gc|rm|pin|unpin|verify``: the trees that jobs on this node share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import click
from msgspec.structs import replace

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
from stager.host.cache import About, Cache, Kept
from stager.host.record import rfc3339
from stager.host.scratch import CACHE
from stager.placing import job_scratches
from stager.stages.inspect import Staged

__all__ = ["command"]

Command = Callable[..., Any]

_UNKNOWN: Final = About(source="?")
_SHOWN_DIGITS: Final = 12


@click.group("cache")
def command() -> None:
    """The trees that this user's jobs on this node share, each fetched once.

    Example: stager cache ls
    """


def _shared(metavar: str = "") -> Callable[[Command], Command]:
    def decorate(function: Command) -> Command:
        function = scratch_option(common(function))
        if metavar:
            function = click.argument("names", metavar=metavar, nargs=-1)(function)
        return function

    return decorate


@command.command("ls", short_help="What is kept: name, size, files, last use, source.")
@_shared()
@click.pass_obj
def _ls(state: State, /, scratch: str | None) -> None:
    """List them: name, size, files, last use, whether it is in use or pinned, what it is of.

    Example: stager cache ls --json
    """
    for entry in _open(scratch):
        about = entry.about() or _UNKNOWN
        body = _body(entry, about)
        marks = ", ".join(word for word, is_so in (("in use", body["in_use"]), ("pinned", body["pinned"])) if is_so)
        text = f"{entry.name[:_SHOWN_DIGITS]}  {size(about.bytes):>10}  {count(about.files, 'file'):>14}"
        text += f"  {body['last_use']}  {marks or '-':13}  {escaped(about.source)}"
        tell(state, "kept", body, text)


@command.command("gc", short_help="Remove the longest unused, by age or size.")
@click.option("--older-than", metavar="AGE", help="What was not used for so long, like 12h or 30d, or since a time.")
@click.option("--keep", metavar="SIZE", help="So much that no more than this is left, like 500G; 0: all.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@_shared()
@click.pass_obj
def _gc(state: State, /, older_than: str | None, keep: str | None, dry_run: bool, scratch: str | None) -> None:
    """Remove trees that nobody uses and that are not pinned, those first that were not used for the longest time.

    When a disk is full, staging does that by itself.

    Example: stager cache gc --older-than 30d
    """
    if older_than is None and keep is None:
        raise UsageError("what is to go?", where="stager cache gc", hint="--older-than AGE, --keep SIZE, or both")
    before_s = _since_s(older_than) if older_than is not None else 0.0
    most = _bytes(keep) if keep is not None else None
    kept = [(entry, entry.about() or _UNKNOWN) for entry in _open(scratch)]
    total = sum(about.bytes for _, about in kept)
    for entry, about in kept:
        is_old = entry.last_use_s() < before_s
        if about.is_pinned or not (is_old or (most is not None and total > most)):
            continue
        stays = entry.is_in_use() if dry_run else not entry.remove()
        if stays:
            continue
        total -= about.bytes
        _tell_removed(state, entry, about, dry_run=dry_run)


@command.command("rm", short_help="Remove trees by name, or all.")
@click.option("--all", "everything", is_flag=True, help="All that nobody uses, pinned or not.")
@_shared("NAME...")
@click.pass_obj
def _rm(state: State, /, names: tuple[str, ...], everything: bool, scratch: str | None) -> None:
    """Remove trees by their names, or the beginnings of these. One that a job uses stays, and is an error.

    Example: stager cache rm 3f2a9c
    """
    entries = _open(scratch) if everything else _named(_open(scratch), names)
    busy = []
    for entry in entries:
        about = entry.about() or _UNKNOWN
        if entry.remove():
            _tell_removed(state, entry, about)
        else:
            busy.append(entry.name[:_SHOWN_DIGITS])
    if busy:
        raise BusyError("a job uses what was to be removed", where=", ".join(busy), hint="wait for its end")


@command.command("pin")
@_shared("NAME...")
@click.pass_obj
def _pin(state: State, /, names: tuple[str, ...], scratch: str | None) -> None:
    """Keep trees until they are unpinned, or removed by name.

    Example: stager cache pin 3f2a9c
    """
    _set_pinned(state, scratch, names, is_pinned=True)


@command.command("unpin")
@_shared("NAME...")
@click.pass_obj
def _unpin(state: State, /, names: tuple[str, ...], scratch: str | None) -> None:
    """Let trees go again when their room is needed.

    Example: stager cache unpin 3f2a9c
    """
    _set_pinned(state, scratch, names, is_pinned=False)


@command.command("verify")
@_shared("[NAME]...")
@click.pass_obj
def _verify(state: State, /, names: tuple[str, ...], scratch: str | None) -> None:
    """Hash the files of trees again, of all when none is named. The next job that wants one mends it.

    Example: stager cache verify
    """
    entries = _named(_open(scratch), names) if names else _open(scratch)
    newest = [found for entry in entries if (found := entry.newest()) is not None]
    with Renderer(state) as sink:
        run_async(
            verify_all([Staged(tree=one.tree, state=one.state) for one in newest], False, None, sink),
            how_to_continue="run the same command again",
        )


def _open(scratch: str | None) -> list[Kept]:
    """All that is kept, the longest unused first: in the scratch that was asked for, else in all that jobs were in."""
    tops = [top for top in job_scratches(scratch, os.environ) if os.path.isdir(os.path.join(top, CACHE))]
    return sorted((entry for top in tops for entry in Cache(top).entries()), key=Kept.last_use_s)


def _named(kept: Sequence[Kept], names: Sequence[str]) -> list[Kept]:
    """One name may be kept on several disks. Raises `NotFoundError`, `UsageError`: all that is wrong with the names."""
    if not names:
        raise UsageError("no names", where="stager cache", hint="stager cache ls tells them")
    found = {name: [entry for entry in kept if entry.name.startswith(name)] for name in names}
    if missing := [name for name, matches in found.items() if not matches]:
        raise NotFoundError("nothing of this name is kept", where=", ".join(missing), hint="see stager cache ls")
    if several := [name for name, matches in found.items() if len({entry.name for entry in matches}) > 1]:
        raise UsageError("more than one name begins so", where=", ".join(several), hint="write more of it")
    return [entry for matches in found.values() for entry in matches]


def _set_pinned(state: State, scratch: str | None, names: Sequence[str], *, is_pinned: bool) -> None:
    for entry in _named(_open(scratch), names):
        about = entry.about() or _UNKNOWN
        entry.tell(replace(about, is_pinned=is_pinned))
        text = f"{'pinned' if is_pinned else 'unpinned'} {entry.name[:_SHOWN_DIGITS]}: {escaped(about.source)}"
        tell(state, "pinned" if is_pinned else "unpinned", {"name": entry.name, "source": about.source}, text)


def _tell_removed(state: State, entry: Kept, about: About, *, dry_run: bool = False) -> None:
    verb = "would remove" if dry_run else "removed"
    body = {"name": entry.name, "source": about.source, "bytes": about.bytes, "files": about.files,
            "inodes": about.inodes, "dry_run": dry_run}  # fmt: skip
    text = f"{verb} {entry.name[:_SHOWN_DIGITS]}: {size(about.bytes)}, {escaped(about.source)}"
    tell(state, "removed", body, text)


def _body(entry: Kept, about: About) -> dict[str, Any]:
    newest = entry.newest()
    return {
        "name": entry.name, "source": about.source, "wanted": about.wanted, "bytes": about.bytes, "files": about.files,
        "inodes": about.inodes, "grades": about.grades, "last_use": rfc3339(entry.last_use_s()),
        "in_use": entry.is_in_use(), "pinned": about.is_pinned, "tree": newest.tree if newest is not None else None,
    }  # fmt: skip


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
