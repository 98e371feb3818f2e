"""Places that a view closes, and that somebody removes at that moment."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from stager.host import mounts, view


def test_place_that_is_removed_while_it_is_closed_is_closed(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    row = mounts.mount_of_path(str(place), mounts.read_mountinfo())
    assert row is not None

    def is_gone(_: int) -> None:
        """As move_mount(2) has it for a directory that was removed."""
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def go(descriptor: int) -> None:
        place.rmdir()
        is_gone(descriptor)

    with pytest.raises(FileNotFoundError):
        view._at_row(row, str(place), is_gone)
    view._at_row(row, str(place), go)
