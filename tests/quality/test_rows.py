"""Every behaviour that the three platforms' users are owed has a test that is named after it.

The rows are those of the table of behaviours: C of Clusterone, Q of Qarnot, A of Anyscale, X of all three together.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_BUILT = {"a15"}  # gs:// comes with its source
MOST = {"c": 27, "q": 16, "a": 19, "x": 1}
ROWS = {f"{kind}{number}" for kind, most in MOST.items() for number in range(1, most + 1)}
NAMES = re.compile(r"def test((?:_[cqax]\d+)+)_")


def test_every_row_has_its_test() -> None:
    named = {
        row
        for path in ROOT.rglob("test_*.py")
        for rows in NAMES.findall(path.read_text())
        for row in rows.strip("_").split("_")
    }
    assert named == ROWS - NOT_BUILT
