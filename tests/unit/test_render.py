"""What a run prints: lines for people, JSON for programs, nothing that a terminal would act on."""

from __future__ import annotations

import io
import json

import pytest
from msgspec.structs import replace

from stager.bottleneck import Bottleneck
from stager.cli.render import Renderer, report_error, summary
from stager.cli.state import State
from stager.cli.text import size
from stager.errors import BadKeysError, NotFoundError
from stager.events import Finished, Listed, Planned, Progress, Started, Warned
from stager.model import Counts, DatasetReceipt
from stager.names import from_json

RECEIPT = DatasetReceipt(
    source="s3://b/p", destination="/dst", how="copy", pinned={}, total=Counts(objects=10, bytes=3 << 20),
    moved=Counts(objects=1, bytes=2 << 20), grades={"A": 1, "B": 9}, seconds=2.0, skipped=3,
)  # fmt: skip
PROGRESS = Progress(
    source="s3://b/p", done=Counts(objects=1, bytes=10), move=Counts(objects=2, bytes=4096), received_bytes=1024,
    seconds=11.0,
)  # fmt: skip

BOTTLENECK = Bottleneck(kind="network", why="100 MB/s over 3 connections", figures={})


def render(*events: object, **state: object) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    with Renderer(State(**state), out=out, err=err) as sink:  # type: ignore[arg-type]
        for event in events:
            sink(event)  # type: ignore[arg-type]
    return out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (20 << 30, "20.0 GiB")],
)
def test_bytes_are_shown_in_units(number: int, text: str) -> None:
    assert size(number) == text


def test_summary_has_objects_bytes_seconds_rate_and_grades() -> None:
    assert summary(RECEIPT) == (
        "s3://b/p -> /dst: fetched 1 object, 2.0 MiB in 2.0 s (1.0 MiB/s); 9 unchanged; "
        "3 skipped for their names; grades: A 1, B 9"
    )
    assert "would fetch 1 object, 2.0 MiB; 9 unchanged" in summary(RECEIPT, dry_run=True)


def test_summary_says_which_commit_and_what_did_not_come_over_the_network() -> None:
    pinned = {"commit": "3f2a9c", "ref": "refs/heads/main", "lfs": {"excluded": 2}}
    reused = Counts(objects=1, bytes=1 << 20)
    assert "2.0 MiB in 2.0 s (1.0 MiB/s), 1.0 MiB of it kept on this node; 9 unchanged; 3 skipped" in summary(
        replace(RECEIPT, reused=reused)
    )
    text = summary(replace(RECEIPT, pinned=pinned, reused=reused, cache={"how": "clone"}))
    assert "(1.0 MiB/s); 9 from the cache (clone); 2 LFS pointers left as they are;" in text
    assert "; at commit 3f2a9c (refs/heads/main); grades" in text


def test_away_from_a_terminal_progress_is_a_line_every_ten_seconds() -> None:
    early = replace(PROGRESS, seconds=9.0)
    _, err = render(early, PROGRESS, PROGRESS)
    assert err == "stager: s3://b/p: 1 of 2 objects, 1.0 KiB of 4.0 KiB, 11 s\n"


def test_quiet_shows_warnings_and_nothing_else() -> None:
    finished = Finished(source="s", receipt=RECEIPT, dry_run=False, bottleneck=BOTTLENECK)
    assert render(PROGRESS, finished, Warned(source="s", text="look"), quiet=True) == ("", "stager: warning: look\n")


def test_verbose_tells_what_held_the_run_up() -> None:
    finished = Finished(source="s", receipt=RECEIPT, dry_run=False, bottleneck=BOTTLENECK)
    _, err = render(finished, verbosity=1)
    assert err == "stager: s: bottleneck: network: 100 MB/s over 3 connections\n"
    assert render(finished)[1] == ""


def test_verbose_tells_the_plan() -> None:
    counts = Counts(objects=2, bytes=2048)
    _, err = render(
        Listed(source="s", total=counts), Planned(source="s", move=counts, keep=counts, skipped=0), verbosity=1
    )
    assert err.splitlines() == ["stager: s: 2 objects, 2.0 KiB", "stager: s: 2 objects to fetch, 2 unchanged"]


def test_json_is_one_object_a_line_with_schema_and_time() -> None:
    out, err = render(PROGRESS, PROGRESS, Warned(source="s", text="look\n"), json=True)
    progress, warning = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert (progress["schema"], progress["event"], progress["done"]) == (1, "progress", {"objects": 1, "bytes": 10})
    assert (warning["event"], warning["text"]) == ("warning", "look\n")
    assert warning["time"].endswith("Z")


def test_many_problems_are_shown_in_part_and_listed_whole_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    error = BadKeysError("25 names", [f"k{n}" for n in range(25)], where="s", hint="rename")
    report_error(error, json=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "stager: s: 25 names; rename"
    assert len(lines) == 22
    assert lines[-1] == "  ... and 5 more (--json lists all)"
    report_error(error, json=True)
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 25


def test_our_own_bug_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report_error(KeyError("x"), json=False)
    assert capsys.readouterr().err == "stager: KeyError: 'x'; this is a bug; -vv shows where it happened\n"
    report_error(NotFoundError("gone", where="w"), json=True)
    assert json.loads(capsys.readouterr().out)["exit_code"] == 3


def test_names_from_outside_do_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report_error(NotFoundError("gone \x1b[31m", where="/d\udcff/\u202e"), json=False)
    assert capsys.readouterr().err == "stager: /d\\udcff/\\u202e: gone \\x1b[31m\n"


def test_source_does_nothing_to_the_terminal_in_bar_lines_and_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")  # there is room for all of the source

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    evil = "s3://b/\x9b31m\u202e\x1b]0;pwned\x07\udcff"
    out, err = io.StringIO(), Terminal()
    with Renderer(State(verbosity=1), out=out, err=err) as sink:
        sink(Started(source=evil))
        sink(replace(PROGRESS, source=evil))
    assert "\\u202e" in err.getvalue()
    with Renderer(State(verbosity=1), out=out, err=err) as sink:
        sink(Started(source=evil))
        sink(Listed(source=evil, total=Counts()))
        sink(replace(PROGRESS, source=evil))
        sink(Warned(source=evil, text=evil))
        sink(Finished(source=evil, receipt=replace(RECEIPT, source=evil), dry_run=False, bottleneck=BOTTLENECK))
    shown = out.getvalue() + err.getvalue()
    assert all(part not in shown for part in ("\x9b", "\u202e", "\x1b]0;", "\x07", "\udcff"))
    assert shown.count("\\u202e") >= 4


def test_json_of_a_name_that_is_no_utf8_is_valid_and_lossless() -> None:
    out, _ = render(Warned(source="/d\udcff", text="ä"), json=True)
    told = json.loads(out.encode("utf-8"))
    assert (from_json(told["source"]), told["text"]) == (b"/d\xff", "ä")


@pytest.mark.parametrize("columns", [80, 140])
def test_terminals_row_shows_the_sources_end_and_the_rate(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    source, err = "git+https://git.example/a/very/long/way/to/vision/scans", Terminal()
    with Renderer(State(), out=io.StringIO(), err=err) as sink:
        sink(Started(source=source))
        sink(replace(PROGRESS, source=source, received_bytes=PROGRESS.move.bytes * 1000))
    assert "/scans" in err.getvalue() and "KiB/s" in err.getvalue()
