"""A path that another user could lead elsewhere is refused, wherever on the way that is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.errors import HostError
from stager.host.safe_path import make_safe_directory
from stager.host.scratch import open_scratch

OTHER = 4712

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


def test_missing_directories_are_made_private(tmp_path: Path) -> None:
    assert make_safe_directory(f"{tmp_path}/a//./b") == f"{tmp_path}/a/b"
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_own_symlinks_are_followed_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "up").symlink_to("../made/here")
    (tmp_path / "scratch").symlink_to(tmp_path / "disk")
    assert make_safe_directory(f"{tmp_path}/scratch/up/x") == f"{tmp_path}/made/here/x"


def test_symlinks_without_end_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(HostError, match="symbolic links"):
        make_safe_directory(f"{tmp_path}/round/x")


def test_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match=r"file: .*[Nn]ot a directory"):
        make_safe_directory(f"{tmp_path}/file/x")


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722])
def test_scratch_below_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)
    for asked in ("open", "open/mine"):
        with pytest.raises(HostError, match="open: can be written by others"):
            open_scratch(f"{tmp_path}/{asked}", {})
    assert os.listdir(tmp_path / "open") == []
    (tmp_path / "open").chmod(mode | 0o1000)
    assert open_scratch(f"{tmp_path}/open/mine", {}) == f"{tmp_path}/open/mine"


@as_root
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_scratch_below_a_directory_of_another_user_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "theirs" / "sub").mkdir(parents=True)
    (tmp_path / "theirs").chmod(mode)
    os.chown(tmp_path / "theirs", OTHER, OTHER)
    for asked in ("theirs", "theirs/sub"):
        with pytest.raises(HostError, match=r"theirs: belongs to another user \(uid 4712\)"):
            open_scratch(f"{tmp_path}/{asked}", {})


@as_root
def test_symlink_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    tmp_path.chmod(0o1777)
    (tmp_path / "way").symlink_to("mine")
    os.lchown(tmp_path / "way", OTHER, OTHER)
    with pytest.raises(HostError, match="way: is a symlink of another user"):
        open_scratch(f"{tmp_path}/way", {})
