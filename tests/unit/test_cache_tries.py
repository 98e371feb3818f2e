"""What stager tries a disk with lies in the cache for a moment, or for longer when it is killed: it is no kept tree."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from stager.host import clones
from stager.host.cache import Cache


def test_try_of_the_disk_is_no_kept_tree_and_goes_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    top = tmp_path / "scratch"
    top.mkdir(mode=0o700)
    cache = Cache(str(top))
    kept = Path(cache.path)
    with mock.patch.object(clones.os, "unlink"):  # killed before that
        clones.clones_in(cache.path)
    assert len(list(kept.iterdir())) == 2
    (kept / ".overlay-x/lower").mkdir(parents=True)
    assert list(cache.entries()) == []
    cache.sweep()
    assert len(list(kept.iterdir())) == 3
    for path in kept.iterdir():
        os.utime(path, (0, 0))
    cache.sweep()
    assert list(kept.iterdir()) == []
