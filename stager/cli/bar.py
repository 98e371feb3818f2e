"""The progress bar of a terminal: a row for each source under way; what is said meanwhile stands above it."""

from __future__ import annotations

from typing import Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from stager import events
from stager.cli.text import count, escaped, size

__all__ = ["Bar"]

_NAME_COLUMNS: Final = 40
_BAR_COLUMNS: Final = 20
_NUMBERS_COLUMNS: Final = 63  # of amount, rate, time left and what is between
_LEAST_NAME_COLUMNS: Final = 12


class Bar:
    """Rows come with `begin` and go with `end`; `stop` leaves the terminal as it was."""

    def __init__(self, err: TextIO) -> None:
        self._console = Console(file=err, markup=False, highlight=False, soft_wrap=True)
        self._live = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn(
                "{task.description}", markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", max_width=_NAME_COLUMNS),
            ),
            *([BarColumn(bar_width=_BAR_COLUMNS)] if self._has_room_for_a_bar() else []),
            TextColumn("{task.fields[amount]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
            TimeRemainingColumn(compact=True),
            console=self._console,
            transient=True,
        )  # fmt: skip
        self._rows: dict[str, TaskID] = {}

    def _has_room_for_a_bar(self) -> bool:
        return self._console.width >= _NAME_COLUMNS + _BAR_COLUMNS + _NUMBERS_COLUMNS

    def _short(self, source: str) -> str:
        """Its end, which tells sources apart, as far as there is room beside the numbers."""
        room = _NAME_COLUMNS
        if not self._has_room_for_a_bar():
            room = min(room, max(_LEAST_NAME_COLUMNS, self._console.width - _NUMBERS_COLUMNS))
        return source if len(source) <= room else f"\N{HORIZONTAL ELLIPSIS}{source[1 - room:]}"

    def start(self) -> None:
        """Show it."""
        self._live.start()

    def stop(self) -> None:
        """Remove it from the terminal; what was printed stays."""
        self._live.stop()

    def print(self, text: str) -> None:
        """A line above the rows."""
        self._console.print(escaped(text))

    def begin(self, source: str) -> None:
        """A row for a source that is being listed; two datasets of one source share it."""
        if source not in self._rows:
            self._rows[source] = self._live.add_task(self._short(escaped(source)), total=None, amount="listing")

    def update(self, event: events.Progress) -> None:
        """How far a source is."""
        if event.source not in self._rows:
            return
        rate = f", {size(event.received_bytes / event.seconds)}/s" if event.seconds > 0 else ""
        amount = (
            f"{event.done.objects} of {count(event.move.objects)}, "
            f"{size(event.received_bytes)} of {size(event.move.bytes)}{rate}"
        )
        self._live.update(
            self._rows[event.source], total=event.move.bytes, completed=event.received_bytes, amount=amount
        )

    def end(self, source: str) -> None:
        """The source is done; its row goes."""
        if source in self._rows:
            self._live.remove_task(self._rows.pop(source))
