"""What people and programs see of a run: a bar, lines, or JSON; and how an error is told."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

import msgspec

from stager.cli.state import State
from stager.cli.text import count, escaped, size
from stager.errors import InternalError, StagerError
from stager.events import Event, Finished, Found, Listed, Named, Planned, Progress, Started, Verified, Warned
from stager.model import UNVERIFIED, DatasetReceipt
from stager.names import lossless, show, to_json

if TYPE_CHECKING:
    from stager.cli.bar import Bar

__all__ = ["Renderer", "report_error", "summary", "verdict", "write"]

_SCHEMA: Final = 1
_LINE_EVERY_S: Final = 10.0
_JSON_PROGRESS_EVERY_S: Final = 1.0
_PROBLEMS_SHOWN: Final = 20
_NAMES: Final = {
    Started: "started", Listed: "listed", Planned: "planned", Named: "file", Progress: "progress", Warned: "warning",
    Finished: "finished", Found: "found", Verified: "verified",
}  # fmt: skip


class Renderer:
    """A sink of events for one command; a context manager, so that a bar never stays behind."""

    def __init__(self, state: State, *, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._state = state
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._told: dict[str, float] = {}
        self._tells = state.verbosity > 0 and not state.quiet
        self._bar = _make_bar(self._err) if not state.json and not state.quiet and self._err.isatty() else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._state.json:
            self._json(event)
            return
        match event:
            case Warned():
                self._line(f"warning: {event.text}")
            case Started() if self._bar is not None:
                self._bar.begin(event.source)
            case Finished():
                self._finish(event)
            case Progress():
                self._progress(event)
            case Found():
                why = f" ({event.why})" if event.why else ""
                self._say(f"{event.what:10} {show(os.fsencode(event.path))}{why}")
            case Verified():
                self._say(verdict(event))
            case Listed() if self._tells:
                self._line(f"{event.source}: {count(event.total.objects)}, {size(event.total.bytes)}")
            case Planned() if self._tells:
                self._line(f"{event.source}: {_planned(event)}")
            case Named() if not self._state.quiet:
                self._print(f"{event.action} {show(event.path)} ({size(event.bytes)})")

    def _json(self, event: Event) -> None:
        if isinstance(event, Progress) and not self._due(event, _JSON_PROGRESS_EVERY_S):
            return
        body = msgspec.to_builtins(event)
        if isinstance(event, Named):
            body["path"] = to_json(event.path)
        write(self._out, _json_line(_NAMES[type(event)], body))

    def _progress(self, event: Progress) -> None:
        if self._state.quiet:
            return
        if self._bar is not None:
            self._bar.update(event)
        elif event.seconds >= _LINE_EVERY_S and self._due(event, _LINE_EVERY_S):
            self._line(
                f"{event.source}: {event.done.objects} of {count(event.move.objects)}, "
                f"{size(event.received_bytes)} of {size(event.move.bytes)}, {event.seconds:.0f} s"
            )

    def _finish(self, event: Finished) -> None:
        if self._bar is not None:
            self._bar.end(event.source)
        if self._state.quiet:
            return
        text = summary(event.receipt, dry_run=event.dry_run)
        if self._state.verbosity:
            self._line(f"{event.source}: bottleneck: {event.bottleneck.kind}: {event.bottleneck.why}")
            for why, number in event.receipt.unverified.items():
                self._line(f"{event.source}: {count(number)} not of grade A: {UNVERIFIED[why]}")
        self._say(text)

    def _say(self, text: str) -> None:
        if not self._state.quiet:
            self._print(text)

    def _print(self, text: str) -> None:
        if self._bar is not None and self._out.isatty():
            self._bar.print(text)
        else:
            write(self._out, text)

    def _due(self, event: Progress, every_s: float) -> bool:
        now = time.monotonic()
        if now - self._told.get(event.source, -every_s) < every_s:
            return False
        self._told[event.source] = now
        return True

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.print(text)
        else:
            write(self._err, f"stager: {text}")


def _planned(event: Planned) -> str:
    text = f"{count(event.move.objects)} to fetch, {event.keep.objects} unchanged"
    if event.left_out.objects:
        text += f", {event.left_out.objects} left out ({size(event.left_out.bytes)})"
    if event.delete.objects:
        text += f", {event.delete.objects} to delete ({size(event.delete.bytes)})"
    return text


def summary(receipt: DatasetReceipt, *, dry_run: bool = False) -> str:
    """The one line at the end."""
    moved, total = receipt.moved, receipt.total
    verb = "would fetch" if dry_run else "fetched"
    text = f"{receipt.source} -> {receipt.destination}: {verb} {count(moved.objects)}, {size(moved.bytes)}"
    if not dry_run:
        text += f" in {receipt.seconds:.1f} s"
        if moved.bytes and receipt.seconds > 0:
            text += f" ({size(moved.bytes / receipt.seconds)}/s)"
    if receipt.continued_bytes:
        text += f", {size(receipt.continued_bytes)} of it by an earlier run"
    elif (kept := receipt.reused.bytes - (total.bytes - moved.bytes if receipt.cache else 0)) > 0:
        text += f", {size(kept)} of it kept on this node"
    text += f"; {total.objects - moved.objects} {'from the cache' if receipt.cache else 'unchanged'}"
    if receipt.cache:
        text += f" ({receipt.cache['how']})"
    if receipt.left_out.objects:
        text += f"; {receipt.left_out.objects} left out"
    if pointers := receipt.pinned.get("lfs", {}).get("excluded", 0):
        text += f"; {count(pointers, 'LFS pointer')} left as {'it is' if pointers == 1 else 'they are'}"
    if receipt.deleted.objects:
        deleted = f"{count(receipt.deleted.objects, 'file')}, {size(receipt.deleted.bytes)}"
        text += f"; {'would delete' if dry_run else 'deleted'} {deleted}"
    if receipt.skipped:
        text += f"; {receipt.skipped} skipped for their names"
    if receipt.archived.objects:
        text += f"; {receipt.archived.objects} archived and left out"
    if (commit := receipt.pinned.get("commit")):
        text += f"; at commit {commit}" + (f" ({receipt.pinned['ref']})" if "ref" in receipt.pinned else "")
    if grades := ", ".join(f"{grade} {number}" for grade, number in receipt.grades.items()):
        text += f"; grades: {grades}"
    return text


def verdict(event: Verified) -> str:
    """The one line at the end of a verification."""
    text = f"{event.source}: {count(event.same.objects, 'file')}, {size(event.same.bytes)} as recorded"
    told = {"differ": event.differs, "missing": event.missing, "unreadable": event.unreadable, "foreign": event.foreign,
            "repaired": event.repaired}  # fmt: skip
    text += "".join(f"; {number} {word}" for word, number in told.items() if number)
    return f"{text} ({event.seconds:.1f} s)"


def report_error(error: Exception, *, json: bool) -> None:
    """One line on stderr (a line each for the first problems of many), or one object on stdout. Repeats no secret."""
    if not isinstance(error, StagerError):
        error = InternalError(
            f"{type(error).__name__}: {error}", hint="this is a bug; -vv shows where it happened"
        )
    problems: tuple[str, ...] = getattr(error, "problems", ())
    if json:
        told = {"class": type(error).__name__, "exit_code": error.exit_code, "retryable": error.retryable,
                "what": error.what, "where": error.where, "hint": error.hint, "problems": list(problems)}
        write(sys.stdout, _json_line("error", told))
        return
    lines = [f"stager: {StagerError.__str__(error)}", *(f"  {problem}" for problem in problems[:_PROBLEMS_SHOWN])]
    if len(problems) > _PROBLEMS_SHOWN:
        lines.append(f"  ... and {len(problems) - _PROBLEMS_SHOWN} more (--json lists all)")
    write(sys.stderr, "\n".join(lines))


def write(stream: TextIO, text: str) -> None:
    """Write at once, with whatever a terminal might act on escaped.

    Whoever reads may have gone away: the data is what the command is for, so it goes on.
    """
    try:
        stream.write(f"{escaped(text)}\n")
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _json_line(event: str, body: dict[str, Any]) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"schema": _SCHEMA, "event": event, "time": now, **lossless(body)})



def _make_bar(err: TextIO) -> Bar:
    from stager.cli.bar import Bar  # only on a terminal: rich takes as long to import as all the rest

    return Bar(err)
