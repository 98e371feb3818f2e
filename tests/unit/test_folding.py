"""Whether names fold, told without writing: by what is there, by an attribute, by the kind of file system."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers.slow_fuse import SlowFuse
from stager.host.folding import folds_when_written, seems_to_fold

MAKERS = {"vfat": ["mkfs.vfat"], "ext4": ["mkfs.ext4", "-q", "-O", "casefold"]}


@contextmanager
def mounted(kind: str, tmp_path: Path) -> Iterator[Path]:
    """A file system of this kind in a file; skips where the kernel has none that folds."""
    image, place = tmp_path / "image", tmp_path / "place"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    try:
        subprocess.run([*MAKERS[kind], str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-t", kind, "-o", "loop", str(image), str(place)], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip(f"no {kind} that folds names here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def found_by_writing(directory: Path) -> bool:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return folds_when_written(fd, fd)
    finally:
        os.close(fd)


@pytest.mark.root
def test_directory_of_a_folding_file_system_is_told_by_its_entries_and_those_above(slow_disk: SlowFuse) -> None:
    slow_disk.fold()
    there = slow_disk.mountpoint / "dst"
    there.mkdir()
    assert seems_to_fold(str(there))  # an empty one, by its own name
    assert seems_to_fold(str(there / "not/yet"))
    (there / "file").touch()
    assert seems_to_fold(str(there))
    assert found_by_writing(there)
    assert sorted(os.listdir(there)) == ["file"]


@pytest.mark.root
def test_dry_run_makes_nothing_to_find_it_out(slow_disk: SlowFuse) -> None:
    slow_disk.fold()
    (slow_disk.mountpoint / "entry").touch()
    before = os.stat(slow_disk.mountpoint).st_mtime_ns
    assert seems_to_fold(str(slow_disk.mountpoint / "dst"))
    assert os.listdir(slow_disk.backing) == ["entry"]
    assert os.stat(slow_disk.mountpoint).st_mtime_ns == before


def test_names_that_differ_by_case_are_two_files_also_when_one_is_the_others_link(tmp_path: Path) -> None:
    (tmp_path / "Name").write_bytes(b"x")
    os.link(tmp_path / "Name", tmp_path / "nAME")
    assert not seems_to_fold(str(tmp_path))
    assert not found_by_writing(tmp_path)


@pytest.mark.root
def test_fat_folds_when_nothing_is_in_it_and_when_something_is(tmp_path: Path) -> None:
    with mounted("vfat", tmp_path) as place:
        assert seems_to_fold(str(place))
        (place / "file").touch()
        assert seems_to_fold(str(place / "dst"))
        assert found_by_writing(place)


@pytest.mark.root
def test_ext4_folds_in_directories_with_the_attribute_alone(tmp_path: Path) -> None:
    with mounted("ext4", tmp_path) as place:
        (place / "folds").mkdir()
        subprocess.run(["chattr", "+F", str(place / "folds")], check=True)
        assert seems_to_fold(str(place / "folds"))
        assert seems_to_fold(str(place / "folds/new"))
        assert not seems_to_fold(str(place / "new"))
        assert (found_by_writing(place / "folds"), found_by_writing(place)) == (True, False)
