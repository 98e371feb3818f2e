"""Parts of a job on other disks: made, found again, and removed, whatever happened meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from stager.errors import HostError
from stager.host.parts import MARK, make_part, part_path, remove_part, sweep_parts
from stager.host.record import JobDirectory


class GoneError(BaseException):
    """The process is no more."""


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    for name in ("main", "other"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path / "other"


def new_part(scratch: Path) -> tuple[JobDirectory, str]:
    """A job in main with a part in the other scratch."""
    job = JobDirectory.create(str(scratch.parent / "main"), "j", "job")
    path = part_path(str(scratch), "j")
    job.lie_in({"data/a/x": path})
    make_part(path, job.path, ["data/a/x"])
    return job, path


@pytest.mark.parametrize("call", ["rename", "makedirs"])
def test_part_whose_maker_was_killed_is_removed(scratch: Path, call: str) -> None:
    path = part_path(str(scratch), "j")
    gone = mock.Mock(side_effect=GoneError)
    with mock.patch(f"os.{call}", gone), mock.patch("os.unlink"), pytest.raises(GoneError):
        make_part(path, str(scratch.parent / "main/jobs/j"), ["data/a/x"])
    assert os.listdir(path)
    remove_part(path)
    assert not os.path.lexists(path)
    remove_part(path)


def test_what_carries_no_mark_is_not_removed(scratch: Path) -> None:
    job, path = new_part(scratch)
    with job:
        os.unlink(f"{path}/{MARK}")
        with pytest.raises(HostError, match="is no part of a job; nothing was removed"):
            remove_part(path)
        assert os.path.isdir(f"{path}/tree/data/a/x")


def test_part_of_another_user_is_not_removed(scratch: Path) -> None:
    job, path = new_part(scratch)
    with job:
        os.chmod(path, 0o755)
        with pytest.raises(HostError, match="is not a directory of your own alone"):
            remove_part(path)
        assert os.path.isdir(f"{path}/tree/data/a/x")


def test_parts_are_swept_that_their_job_knows_nothing_of_and_no_others(scratch: Path) -> None:
    job, path = new_part(scratch)
    with job:
        sweep_parts(str(scratch))
        assert os.path.isdir(path)
        hidden = scratch.parent / "hidden"
        (scratch.parent / "main").rename(hidden)  # a disk that is not mounted here
        sweep_parts(str(scratch))
        assert os.path.isdir(path)
        hidden.rename(scratch.parent / "main")
        Path(job.path, "job.json").write_bytes(b"{")
        sweep_parts(str(scratch))
        assert os.path.isdir(path)
        job.lie_in({})
        sweep_parts(str(scratch))
        assert not os.path.lexists(path)


def test_part_of_a_job_that_was_removed_is_swept(scratch: Path) -> None:
    job, path = new_part(scratch)
    with job:
        Path(job.path).rename(scratch.parent / "elsewhere")
        sweep_parts(str(scratch))
        assert not os.path.lexists(path)
