"""A directory that is kept open is listed as it is now, also on btrfs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.real_disks import disk
from stager.host.names_in import entries_in, names_in


@pytest.mark.root
@pytest.mark.parametrize("kind", ["btrfs", "ext4"])
def test_what_came_since_it_was_opened_is_listed(tmp_path: Path, kind: str) -> None:
    top = tmp_path / "disk"
    with disk(top, kind):
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for number in range(3):
                (top / f"x{number}").mkdir()
                assert f"x{number}" in names_in(fd)
            (top / "last").mkdir()
            with entries_in(fd) as found:
                assert "last" in {entry.name for entry in found}
        finally:
            os.close(fd)
