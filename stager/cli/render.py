"""What people and programs see of a run: a bar, lines, or JSON; and how an error is told."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TextIO

import msgspec

from stager.cli.state import State
from stager.errors import InternalError, StagerError
from stager.events import Event, Finished, Listed, Planned, Progress, Warned
from stager.model import DatasetReceipt
from stager.names import lossless

__all__ = ["Renderer", "count", "report_error", "size", "summary", "write"]

_SCHEMA: Final = 1
_LINE_EVERY_S: Final = 10.0
_JSON_PROGRESS_EVERY_S: Final = 1.0
_PROBLEMS_SHOWN: Final = 20
_NAMES: Final = {Listed: "listed", Planned: "planned", Progress: "progress", Warned: "warning", Finished: "finished"}


class Renderer:
    """A sink of events for one command; a context manager, so that a bar never stays behind."""

    def __init__(self, state: State, *, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._state = state
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._told: dict[str, float] = {}
        self._bar: Any = None
        if not state.json and not state.quiet and self._err.isatty():
            self._bar = _make_bar(self._err)
        self._rows: dict[str, Any] = {}

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
            case Finished():
                if not self._state.quiet:
                    write(self._out, summary(event.receipt, dry_run=event.dry_run))
            case Progress():
                self._progress(event)
            case Listed() if self._state.verbosity:
                self._line(f"{event.source}: {count(event.total.objects)}, {size(event.total.bytes)}")
            case Planned() if self._state.verbosity:
                self._line(f"{event.source}: {count(event.move.objects)} to fetch, {event.keep.objects} unchanged")

    def _json(self, event: Event) -> None:
        if isinstance(event, Progress) and not self._due(event, _JSON_PROGRESS_EVERY_S):
            return
        write(self._out, _json_line(_NAMES[type(event)], msgspec.to_builtins(event)))

    def _progress(self, event: Progress) -> None:
        if self._state.quiet:
            return
        if self._bar is not None:
            if event.source not in self._rows:
                name = _escaped(event.source)
                self._rows[event.source] = self._bar.add_task(name, total=event.move.bytes, objects="")
            objects = f"{event.done.objects}/{event.move.objects}"
            self._bar.update(self._rows[event.source], completed=event.received_bytes, objects=objects)
        elif event.seconds >= _LINE_EVERY_S and self._due(event, _LINE_EVERY_S):
            self._line(
                f"{event.source}: {event.done.objects} of {count(event.move.objects)}, "
                f"{size(event.received_bytes)} of {size(event.move.bytes)}, {event.seconds:.0f} s"
            )

    def _due(self, event: Progress, every_s: float) -> bool:
        now = time.monotonic()
        if now - self._told.get(event.source, -every_s) < every_s:
            return False
        self._told[event.source] = now
        return True

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(_escaped(text), markup=False, highlight=False)
        else:
            write(self._err, f"stager: {text}")


def summary(receipt: DatasetReceipt, *, dry_run: bool = False) -> str:
    """The one line at the end."""
    moved, total = receipt.moved, receipt.total
    verb = "would fetch" if dry_run else "fetched"
    text = f"{receipt.source} -> {receipt.destination}: {verb} {count(moved.objects)}, {size(moved.bytes)}"
    if not dry_run:
        text += f" in {receipt.seconds:.1f} s"
        if moved.bytes and receipt.seconds > 0:
            text += f" ({size(moved.bytes / receipt.seconds)}/s)"
    text += f"; {total.objects - moved.objects} unchanged"
    if receipt.skipped:
        text += f"; {receipt.skipped} skipped for their names"
    if grades := ", ".join(f"{grade} {number}" for grade, number in receipt.grades.items()):
        text += f"; grades: {grades}"
    return text


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
        stream.write(f"{_escaped(text)}\n")
        stream.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def count(number: int, noun: str = "object") -> str:
    """``1 object``, ``2 objects``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Bytes for people: 1023 B, 1.5 KiB, 20.0 GiB."""
    if number < 1024:
        return f"{number:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        number /= 1024
        if number < 1024 or unit == "TiB":
            return f"{number:.1f} {unit}"
    raise AssertionError


def _json_line(event: str, body: dict[str, Any]) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"schema": _SCHEMA, "event": event, "time": now, **lossless(body)})


def _make_bar(err: TextIO) -> Any:
    from rich.console import Console  # only on a terminal: rich takes as long to import as all the rest
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[objects]}"),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=err),
        transient=True,
    )
