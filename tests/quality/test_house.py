"""Rules of the house that no tool checks: sizes, leftovers, exports, nothing of the machine it grew on."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = 400

LONGER_FOR_A_REASON: dict[str, str] = {
    "stager/_native.pyi": "one stub for one native module, whose documentation it is",
}
"""Path and reason of each file that may be longer."""

LEFTOVERS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
FOREIGN_PATHS = re.compile(r"(?<![\w.])/(?:work|root|home/\w+)/")

tracked = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT,
    capture_output=True,
    check=True,
    text=True,
).stdout
FILES = sorted({name for name in tracked.split("\0") if name and (ROOT / name).is_file()})
SOURCES = [name for name in FILES if name.startswith(("stager/", "csrc/")) and (ROOT / name).suffix != ".typed"]
TEXTS = [name for name in FILES if name not in ("LICENSE", "tests/quality/test_house.py") and not name.endswith(".png")]
PYTHON = [name for name in FILES if name.startswith("stager/") and name.endswith(".py")]


def lines_matching(pattern: re.Pattern[str], names: list[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name in names
        for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_source_file_is_longer_than_it_may_be() -> None:
    lengths = {name: (ROOT / name).read_bytes().count(b"\n") for name in SOURCES}
    too_long = {name: lines for name, lines in lengths.items() if lines > MOST_LINES}
    assert too_long.keys() == LONGER_FOR_A_REASON.keys(), too_long


def test_no_leftovers_in_any_file() -> None:
    assert lines_matching(LEFTOVERS, TEXTS) == []


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    assert lines_matching(FOREIGN_PATHS, TEXTS) == []


@pytest.mark.parametrize("name", PYTHON)
def test_every_module_says_what_it_exports(name: str) -> None:
    """Once, as a literal; that it is sorted and names what exists is ruff's to check."""
    exports = [
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / name).read_bytes()).body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    ]
    assert len(exports) == 1 or name.endswith(("__init__.py", "__main__.py"))


def test_every_package_is_in_what_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {str(Path(name).parent).replace("/", ".") for name in PYTHON if name.endswith("/__init__.py")}
    assert set(settings["packages"]) == there
