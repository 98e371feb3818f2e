"""The compiler of names: every hostile key is found, no plain one is refused."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stager._native import KeyOrder, KeyTable
from stager.host.judge import judge as judge_natively
from stager.names import Names, compile_names, from_json, show, to_json, what_is_wrong


def table_of(*keys: bytes, size: int = 1) -> KeyTable:
    table = KeyTable()
    for key in keys:
        table.append(key, size, b"etag")
    return table


def judge(*keys: bytes, size: int = 1, margin: int = 0, fold: bool = False) -> Names:
    """The verdict, on which both judges agree."""
    table = table_of(*keys, size=size)
    names = judge_natively(table, KeyOrder(table), margin=margin, fold=fold)
    assert names == compile_names(table, margin=margin, fold=fold)
    return names


def bad(*keys: bytes, fold: bool = False) -> list[bytes]:
    return [problem.key for problem in judge(*keys, fold=fold).bad]


@pytest.mark.parametrize(
    "key",
    [
        b"../x", b"a/../b", b"..", b".", b"a/.", b"./a", b"/etc/passwd", b"/", b"a//b", b"a/b/", b"a\0b", b"",
        b"x" * 256, b"d/" + b"x" * 256 + b"/f", b"/".join([b"x" * 200] * 21),
    ],
)  # fmt: skip
def test_key_that_is_no_relative_path_is_bad(key: bytes) -> None:
    assert bad(b"good", key) == [key]


@pytest.mark.parametrize(
    "segment",
    [".stager", ".STAGER", ".Stager", ".\u017ftager", "\u2024stager", "\uff0e\uff53tager", ".st\u200dager",
     ".sta\ufe0fger", ".\uff33tager", ".stager\u200c"],
)  # fmt: skip
def test_state_directory_in_any_case_or_normal_form_is_bad(segment: str) -> None:
    key = segment.encode() + b"/manifest.jsonl"
    assert bad(key) == [key]
    assert bad(segment.encode()) == [segment.encode()]


@pytest.mark.parametrize(
    "key",
    [b".stagerx", b"a/.stager", b".stage", b"stager", b"...", b"a..b", b" ", b"a\nb", b"\xff\xfe", "é".encode(), b"-rf",
     b"x" * 255, b"a\\..\\b", b"C:", b"~", b".hidden/.x"],
)  # fmt: skip
def test_unusual_but_safe_key_is_good(key: bytes) -> None:
    names = judge(key)
    assert list(names.good) == [0]
    assert not names.bad


def test_path_longer_than_what_the_destination_leaves_is_bad() -> None:
    key = b"/".join([b"x" * 100] * 40)
    assert judge(key).bad == ()
    assert [problem.key for problem in judge(key, margin=60).bad] == [key]


def test_file_that_is_also_a_directory_is_bad_and_what_is_below_it_stays() -> None:
    names = judge(b"a/b/c", b"a", b"a-b", b"a/b/d", b"a/b")
    assert [problem.key for problem in names.bad] == [b"a", b"a/b"]
    assert list(names.good) == [0, 2, 3]


def test_key_listed_twice_is_bad_both_times() -> None:
    names = judge(b"x", b"y", b"x")
    assert [problem.row for problem in names.bad] == [0, 2]
    assert list(names.good) == [1]


def test_keys_of_another_case_collide_only_where_the_file_system_folds() -> None:
    assert bad(b"Readme", b"README", b"d/x", b"D/y") == []
    assert bad(b"Readme", b"README", b"d/x", b"D/y", fold=True) == [b"Readme", b"README"]
    composed, decomposed = "é".encode(), "e\u0301".encode()
    assert bad(composed, decomposed, fold=True) == [composed, decomposed]


def test_directory_marker_is_counted_and_left_out() -> None:
    names = judge(b"a/", b"a/b/", b"", size=0)
    assert (names.markers, list(names.good), names.bad) == (3, [], ())
    assert [problem.key for problem in judge(b"a/", size=1).bad] == [b"a/"]


def test_bad_key_is_found_in_every_chunk() -> None:
    keys = [b"d%d/f%d" % (n // 7, n) for n in range(5000)]
    keys[4321] = b"../evil"
    names = judge(*keys)
    assert [problem.row for problem in names.bad] == [4321]
    assert len(names.good) == 4999


segments = st.binary(min_size=1, max_size=12).filter(lambda s: b"/" not in s and b"\0" not in s)
keys = st.one_of(st.binary(max_size=40), st.lists(segments, min_size=1, max_size=4).map(b"/".join))


hostile = st.one_of(
    keys,
    st.lists(st.sampled_from([b"a", b"b", b"", b".", b"..", b".stager", b".STAGER", "\u017f".encode(), b"\xff", b"a-"]),
             min_size=1, max_size=5).map(b"/".join),
    st.integers(200, 300).map(lambda length: b"a" * length),
    st.integers(4000, 4200).map(lambda length: (b"a" * 99 + b"/") * (length // 100) + b"a" * (length % 100)),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(hostile, max_size=14), st.integers(0, 1), st.integers(0, 90))
def test_both_judges_agree_on_hostile_keys(found: list[bytes], size: int, margin: int) -> None:
    judge(*found, size=size, margin=margin)
    judge(*sorted(found), size=size, margin=margin)


def test_many_keys_that_begin_each_other_are_judged_in_time() -> None:
    keys = [b"a" * length for length in range(1, 250)]
    assert not judge(*keys, *(key + b"-" for key in keys)).bad
    assert len(judge(*[b"x"] * 20_000, b"x/y").bad) == 20_000


@settings(max_examples=300, deadline=None)
@given(st.lists(keys, max_size=12))
def test_good_keys_are_distinct_files_inside_the_destination(found: list[bytes]) -> None:
    names = judge(*found)
    good = [found[row] for row in names.good]
    assert len(set(good)) == len(good)
    for key in good:
        assert not what_is_wrong(key)
        assert os.path.normpath(b"/dst/" + key) == b"/dst/" + key
        assert not any(other.startswith(key + b"/") for other in good)
    assert len(good) + len(names.bad) + names.markers == len(found)


@given(st.binary(max_size=60))
def test_json_form_is_lossless(name: bytes) -> None:
    assert from_json(json.loads(json.dumps(to_json(name)))) == name


@pytest.mark.parametrize("form", [None, 3, {"base64": "%"}, {"base64": 1}, {}, {"base64": "", "x": 1}, ["a"]])
def test_json_form_that_is_no_name_is_refused(form: object) -> None:
    with pytest.raises(ValueError, match=r"path|base64"):
        from_json(form)


@given(st.binary(max_size=80))
def test_shown_name_does_nothing_to_a_terminal(name: bytes) -> None:
    shown = show(name)
    assert shown.isprintable()
    shown.encode("utf-8")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_different_names_are_shown_differently(one: bytes, other: bytes) -> None:
    assert (show(one) == show(other)) == (one == other)


def test_shown_name_escapes_what_deceives() -> None:
    assert show(b"a\x1b[31mb\n") == "a\\x1b[31mb\\x0a"
    assert show("a\u202etxt.exe".encode()) == "a\\u{202e}txt.exe"
    assert show(b"\xff") == "\\xff"
    assert show(b"x" * 400).endswith("... (400 bytes)")
