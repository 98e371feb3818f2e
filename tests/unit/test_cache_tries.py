"""What stager tries a disk with lies in the cache for a moment, or for longer when it is killed: it is no kept tree."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from stager.eviction import make_room
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
    (kept / ".overlay-h1ha0gyb/lower").mkdir(parents=True)
    assert list(cache.entries()) == []
    cache.sweep()
    assert len(list(kept.iterdir())) == 3
    for path in kept.iterdir():
        os.utime(path, (0, 0))
    cache.sweep()
    assert list(kept.iterdir()) == []


def test_what_a_killed_stager_was_about_to_rename_keeps_nothing_from_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    top = tmp_path / "scratch"
    top.mkdir(mode=0o700)
    cache = Cache(str(top))
    entry = cache.entry("name")
    for name in (".lease.0123456789abcdef", ".about.json.0123456789abcdef"):
        Path(entry.path, name).write_text("{}")
    Path(entry.path, ".lease.7.0123456789abcdef").mkdir()
    assert [item.name for item in make_room(cache, "other")] == ["name"]
    assert not os.path.exists(entry.path)


def test_what_cannot_be_removed_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever needs room asks again as long as something went."""
    monkeypatch.setenv("HOME", str(tmp_path))
    top = tmp_path / "scratch"
    top.mkdir(mode=0o700)
    cache = Cache(str(top))
    Path(cache.entry("name").path, "planted").touch()
    assert make_room(cache, "other") == []
