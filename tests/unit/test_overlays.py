"""Whether an overlay can be mounted is found out without harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.host import overlays


def test_attempt_that_does_not_end_says_no_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlays, "_WITHIN_S", 0.0)
    assert not overlays.can_overlay(str(tmp_path))
    assert os.listdir(tmp_path) == []
