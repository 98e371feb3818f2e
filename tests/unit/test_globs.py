"""Globs: what git says of the same pattern and path, what is refused, and how long the worst takes."""

from __future__ import annotations

import random
import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.globs import compile_glob

NAMES = [
    b"a", b"b", b"ab", b"abc", b"a.b", b"x1", b"[a]", b"a*b", b"-", b"]", b" a", b"\xff\xfe", b"A", b"a\\b", b"!a",
    b"^",
]  # fmt: skip
PIECES = [
    b"a", b"b", b"ab", b"x", b"1", b"*", b"*", b"?", b"[ab]", b"[!a]", b"[^b]", b"[a-c]", b"[]-]", b"[a-]", b"[--/]",
    b"[[:alpha:]]", b"[![:digit:]x]", b"[[:upper:][:punct:]]", b"[a\\-c]", b"[[a]", b"[:a]", b"\\*", b"\\[", b"\\\\",
    b".", b"\xff", b"\\a", b"]", b"-", b"[\\]]", b"!", b"[[:xdigit:]-z]",
]  # fmt: skip


def matches(glob: bytes, path: bytes) -> bool:
    return re.match(compile_glob(glob), path) is not None


def some_glob(chance: random.Random) -> bytes:
    segments = [
        b"**" if chance.random() < 0.25 else b"".join(chance.choices(PIECES, k=chance.randint(1, 4)))
        for _ in range(chance.choice((1, 1, 2, 3, 4)))
    ]
    segments = [re.sub(rb"\*\*+", b"*", segment) if segment != b"**" else segment for segment in segments]
    glob = b"/".join(segments)
    return (b"/" if chance.random() < 0.2 else b"") + glob + (b"/" if chance.random() < 0.25 else b"")


def git_says(root: Path, globs: list[bytes], paths: list[bytes]) -> set[tuple[int, bytes]]:
    """Which of the globs ignore which of the paths: one .gitignore for each, in a directory of its own."""
    subprocess.run(["git", "init", "-q", root], check=True)
    for number, glob in enumerate(globs):
        (root / f"g{number}").mkdir()
        written = b"\\" + glob if glob.startswith((b"#", b"!")) else glob
        (root / f"g{number}" / ".gitignore").write_bytes(written + b"\n")
    asked = b"".join(b"g%d/%s\0" % (number, path) for number in range(len(globs)) for path in paths)
    done = subprocess.run(
        ["git", "-C", root, "check-ignore", "--no-index", "--stdin", "-z"],
        input=asked, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    ignored = set()
    for told in done.stdout.split(b"\0")[:-1]:
        directory, _, path = told.partition(b"/")
        ignored.add((int(directory[1:]), path))
    return ignored


def test_single_globs_match_what_git_ignores_by_them(tmp_path: Path, seed: int, soak: int) -> None:
    chance = random.Random(seed)
    globs = b"** **/ a/** a/**/ **/a /a a/ a/**/b **/a/**/b/** * /* /*/ ab*".split()
    while len(globs) < 500 * soak:
        glob = some_glob(chance)
        try:
            compile_glob(glob)
        except ValueError:
            continue
        globs.append(glob)
    paths = sorted({b"/".join(chance.choices(NAMES, k=chance.choice((1, 2, 2, 3, 4)))) for _ in range(60)})
    expected = git_says(tmp_path / "repository", globs, paths)
    found = {(number, path) for number, glob in enumerate(globs) for path in paths if matches(glob, path)}
    wrong = [(globs[number], path, (number, path) in expected) for number, path in sorted(found ^ expected)]
    assert wrong == []
    assert len(expected) > 1000


@pytest.mark.parametrize(
    ("glob", "why"),
    [
        (b"", "names nothing"), (b"/", "names nothing"), (b"a//b", "empty segment"), (b"//a", "empty segment"),
        (b"./a", r"\. or \.\. segment"), (b"a/../b", r"\. or \.\. segment"), (b"[a", "without a ]"),
        (b"[", "without a ]"), (b"[]", "without a ]"), (b"[a/b]", "without a ]"), (b"[z-a]", "ends before it begins"),
        (b"a\\", "escapes nothing"), (b"a\\/b", "escapes nothing"), (b"[a\\", "without a ]"),
        (b"[[:nix:]]", r"unknown class \[:nix:\]"),
    ],
)  # fmt: skip
def test_glob_that_could_match_nothing_is_refused(glob: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        compile_glob(glob)


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_any_bytes_are_a_glob_or_refused_with_a_reason(glob: bytes, path: bytes) -> None:
    try:
        compiled = re.compile(compile_glob(glob))
    except ValueError as error:
        assert str(error)
    else:
        assert compiled.groups == 0
        compiled.match(path)


SEGMENTS = st.binary(min_size=1, max_size=6).filter(lambda s: not set(s) & {0, 47} and s not in (b".", b".."))


@given(st.lists(SEGMENTS, min_size=1, max_size=4))
def test_escaped_name_matches_itself_and_what_lies_below(segments: list[bytes]) -> None:
    path = b"/".join(segments)
    glob = b"/" + re.sub(rb"([\\*?\[\]!^-])", rb"\\\1", path)
    assert matches(glob, path)
    assert matches(glob, path + b"/below")
    assert not matches(glob, path + b"x")
    assert not matches(glob, b"above/" + path)
    assert not matches(glob + b"/", path)


@pytest.mark.parametrize("glob", [b"*a" * 30 + b"b", b"**/a/" * 20 + b"b", b"*[ab]" * 20 + b"/" + b"?*" * 20 + b"c"])
def test_worst_glob_takes_no_exponential_time(glob: bytes) -> None:
    began = time.process_time()
    assert not matches(glob, b"a" * 2000)
    assert not matches(glob, b"a/" * 1000 + b"a" * 200)
    assert time.process_time() - began < 2
