"""What a filter wants: the order of patterns, sizes, times, lists; and what is a mistake."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager._native import KeyTable
from stager.deletion import USUAL_MOST, parse_most
from stager.errors import FilterError, UsageError
from stager.filters import EVERYTHING, Filter, build_filter, parse_paths, parse_since
from stager.model import Counts
from stager.sources.base import Capabilities
from stager.stages.choose import Chosen, check_filter, choose

TIMED = Capabilities(modes=False, times="listed", grade="B")
TIMELESS = Capabilities(modes=True, times="never", grade="A")
NOW_S = 1_700_000_000.0


def build(*rules: str, **given: str) -> Filter:
    """``+GLOB`` includes, ``-GLOB`` excludes."""
    problems: list[str] = []
    found = build_filter(
        [(rule[0], rule[0] == "+", rule[1:]) for rule in rules],
        now_s=NOW_S,
        add=lambda place, what: problems.append(f"{place}: {what}"),
        **{name: (name, text) for name, text in given.items()},  # type: ignore[arg-type]
    )
    if problems:
        raise FilterError("mistakes", problems)
    return found


def table(*rows: tuple[bytes, int, int]) -> KeyTable:
    made = KeyTable()
    for key, size, mtime_ns in rows:
        made.append(key, size, b"etag", mtime_ns)
    return made


def keys(chosen: Chosen) -> list[bytes]:
    return [row[0] for row in chosen.table.rows()]


def chosen(wanted: Filter, *rows: tuple[bytes, int, int]) -> Chosen:
    return choose(table(*rows), wanted, TIMED, where="s3://b")


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ((), "a.jpg bad.jpg d/a.jpg d/keep t"),
        (("+*.jpg",), "a.jpg bad.jpg d/a.jpg"),
        (("-*.jpg",), "d/keep t"),
        (("+*.jpg", "-bad*"), "a.jpg d/a.jpg"),
        (("-bad*", "+*.jpg"), "a.jpg bad.jpg d/a.jpg d/keep t"),
        (("-*", "+*.jpg"), "a.jpg bad.jpg d/a.jpg"),
        (("+*.jpg", "-*"), ""),
        (("-d/", "+d/keep"), "a.jpg bad.jpg d/keep t"),
        (("-d/", "-!d/keep"), "a.jpg bad.jpg d/keep t"),
        (("+!*.jpg",), "d/keep t"),
        (("+d/",), "d/a.jpg d/keep"),
        (("-/t", "-a.jpg"), "bad.jpg d/keep"),
    ],
)
def test_last_pattern_that_matches_decides(rules: tuple[str, ...], wanted: str) -> None:
    wants = build(*rules).wants_name()
    names = ["a.jpg", "bad.jpg", "d/a.jpg", "d/keep", "t"]
    assert [name for name in names if wants(name.encode())] == wanted.split()


GLOBS = st.sampled_from(["a", "b*", "*c", "/a", "a/", "**/b", "a/**", "?", "[ab]", "*"])


@given(
    st.lists(st.tuples(st.booleans(), GLOBS), max_size=6),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda parts: "/".join(parts).encode()),
)
def test_many_patterns_at_once_say_what_they_say_one_by_one(rules: list[tuple[bool, str]], path: bytes) -> None:
    written = [f"{'+' if include else '-'}{glob}" for include, glob in rules]
    decided = [include for include, glob in rules if build(f"+{glob}").wants_name()(path)]
    default = not (rules and rules[0][0])
    assert build(*written).wants_name()(path) == (decided[-1] if decided else default)


def test_all_mistakes_are_told_at_once_escaped() -> None:
    with pytest.raises(FilterError) as caught:
        build("+a//b", "-\x1b[", "-ok", min_size="12", max_size="1Q", newer="yesterday")
    assert len(caught.value.problems) == 5
    assert "the pattern '\\x1b[' has a [ without" in caught.value.problems[1]
    with pytest.raises(FilterError, match="max_size: 1K is less than min_size 2K"):
        build(min_size="2K", max_size="1K")


def test_sizes_are_bounds_that_are_in_and_what_is_left_out_is_counted() -> None:
    rows = [(b"a", 0, 1), (b"b", 1024, 1), (b"c", 1025, 1), (b"d", 2048, 1), (b"e", 2049, 1), (b"marker/", 0, 1)]
    found = chosen(build(min_size="1K", max_size="2K"), *rows)
    assert keys(found) == [b"b", b"c", b"d"]
    assert found.left_out == Counts(objects=2, bytes=2049)
    assert keys(chosen(build(max_size="0"), *rows)) == [b"a"]


def test_nothing_asked_for_is_the_very_table() -> None:
    whole = table((b"a", 1, 0), (b"../b", 1, 0))
    assert choose(whole, EVERYTHING, TIMED, where="").table is whole
    assert choose(whole, build("-other"), TIMED, where="").table is whole


def test_rows_keep_all_that_is_known_of_them() -> None:
    made = KeyTable()
    made.append(b"\xff", 5, b"etag", 77, 0o755)
    made.append(b"out", 6, b"other", 78, 0)
    found = choose(made, build("-out"), TIMED, where="").table
    assert list(found.rows()) == [(b"\xff", 5, b"etag", 77, 0o755)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", NOW_S), ("90s", NOW_S - 90), ("15m", NOW_S - 900), ("1.5h", NOW_S - 5400), ("7d", NOW_S - 604800),
        ("2w", NOW_S - 1209600), ("2023-11-14T22:13:20Z", NOW_S), ("2023-11-15t00:13:20.5+02:00", NOW_S + 0.5),
        ("2023-11-14", 1_699_920_000),
    ],
)  # fmt: skip
def test_times_are_ages_or_rfc_3339(text: str, seconds: float) -> None:
    assert parse_since(text, now_s=NOW_S) == round(seconds * 1_000_000_000)


@pytest.mark.parametrize(
    "text", ["", "7", "7y", "-1d", "2023-13-01", "2023-11-14T22:13:20", "14.11.2023", "1e3s", "\u0667d"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither an age like 7d"):
        parse_since(text, now_s=NOW_S)


def test_newer_is_at_or_after_and_needs_times() -> None:
    since = build(newer="1s")
    at = round((NOW_S - 1) * 1e9)
    assert keys(chosen(since, (b"old", 1, at - 1), (b"at", 1, at), (b"new", 1, at + 1))) == [b"at", b"new"]
    with pytest.raises(UsageError, match="no time for 1 of 2 objects"):
        chosen(since, (b"a", 1, 0), (b"b", 1, at))
    with pytest.raises(UsageError, match="has no times"):
        check_filter(since, TIMELESS, where="git+https://x")


def test_listed_paths_are_taken_as_they_are_and_missing_ones_all_named() -> None:
    paths, directories = parse_paths(b"./a*\n/d/b\n\nd/\n\xff\n#x\n", nul=False)
    assert (paths, directories) == (frozenset([b"a*", b"d/b", b"\xff", b"#x"]), [b"d/"])
    assert parse_paths(b"a\nb\0c\0", nul=True)[0] == frozenset([b"a\nb", b"c"])
    rows = [(b"a*", 1, 0), (b"ab", 1, 0), (b"d/b", 5, 0), (b"\xff", 1, 0), (b"#x", 1, 0), (b"../bad", 1, 0)]
    assert keys(chosen(Filter(paths=paths), *rows)) == [b"a*", b"d/b", b"\xff", b"#x"]
    assert keys(chosen(Filter(paths=paths, max_bytes=4), *rows)) == [b"a*", b"\xff", b"#x"]
    with pytest.raises(FilterError) as caught:
        chosen(Filter(paths=frozenset([b"d", b"gone", b"no\n", b"ab"]), max_bytes=0), *rows)
    assert caught.value.problems == (
        "d: is a directory: name its files, or use --include", "gone: is not there", "no\\x0a: is not there",
    )  # fmt: skip


def test_filter_that_wants_nothing_is_warned_of() -> None:
    assert "wants none" in chosen(build("+nothing"), (b"a", 1, 0)).warnings[0]
    assert chosen(build("+nothing")).warnings == ()


def test_receipts_say_what_was_wanted() -> None:
    wanted = build("+*.jpg", "-!x", min_size="1K", newer="2023-11-14T22:13:20.25Z")
    assert wanted.described() == {
        "patterns": [{"include": "*.jpg"}, {"include": "x"}],
        "min_bytes": 1024,
        "newer": "2023-11-14T22:13:20.250000000Z",
    }
    assert Filter(paths=frozenset([b"a"])).described()["files"]["paths"] == 1
    assert EVERYTHING.described() == {}


def test_a_row_is_taken_twice_when_it_is_listed_twice() -> None:
    """So that names are judged as they are listed."""
    assert keys(chosen(Filter(paths=frozenset([b"a"])), (b"a", 1, 0), (b"a", 2, 0))) == [b"a", b"a"]


def test_amounts_to_delete_are_numbers_or_shares() -> None:
    assert parse_most("0").of(100) == 0
    assert parse_most("7").of(3) == 7
    assert [parse_most(text).of(9) for text in ("0%", "50%", "33.4%", "100%")] == [0, 4, 3, 9]
    assert (USUAL_MOST.of(4), USUAL_MOST.of(20), USUAL_MOST.of(101)) == (10, 10, 50)
    assert [parse_most("0.7%").of(there) for there in (999, 1000, 10**15)] == [6, 7, 7 * 10**12]
    assert (str(parse_most("0.7%")), str(parse_most("12")), str(USUAL_MOST)) == ("0.7%", "12", "50%, at least 10")
    for text in ("", "-1", "101%", "ten", "5 %", "1e3"):
        with pytest.raises(ValueError, match="neither a number"):
            parse_most(text)


def test_tables_give_rows_by_number_and_refuse_those_they_have_not() -> None:
    made = table((b"a", 1, 0), (b"b", 2, 0))
    assert made.keys(array("I", [1, 0])) == [b"b", b"a"]
    for ask in (made.keys, made.select):
        with pytest.raises(IndexError):
            ask(array("I", [2]))
