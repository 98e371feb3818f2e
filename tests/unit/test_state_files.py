"""What stands in the place of a state file: read when it is a file of a sane size, refused at once when not."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entries import in_place
from stager._native import KeyOrder
from stager.errors import BusyError, HostError
from stager.host.atomic import open_regular, read_regular
from stager.host.journal import JOURNAL_NAME, Journal, recall_journal
from stager.host.record import JobDirectory, list_jobs
from stager.host.workspace import Workspace
from stager.manifest import MANIFEST_MAX_BYTES, MANIFEST_NAME
from stager.stages.recall import read_manifest

TIB = 1 << 40


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.mkdir()


def _symlink(path: Path) -> None:
    path.with_name("victim").write_bytes(b"whole\n")
    path.symlink_to("victim")


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("this user makes no devices")


def _socket(path: Path) -> None:
    above = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{above}/{path.name}")
    os.close(above)


@pytest.fixture(params=[_fifo, _directory, _symlink, _device, _socket], ids=lambda make: make.__name__[1:])
def strange(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Puts something that is no file in a place."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def _begin_journal(directory: int) -> Journal:
    entries = in_place()
    return Journal(directory, JOURNAL_NAME, entries, KeyOrder(entries.table), source="s", boot="b")


def _recall_nothing(directory: int) -> int:
    """How many records there are, of files that no table has."""
    entries = in_place()
    order = KeyOrder(entries.table)
    return recall_journal(directory, JOURNAL_NAME, entries, order, source="s", trusted_boot="b")


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(TIB)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT])
def test_what_is_no_file_is_refused_and_not_waited_for(
    strange: Callable[[Path], None], directory: int, tmp_path: Path, flags: int
) -> None:
    strange(tmp_path / "state")
    with pytest.raises(HostError, match="state: is not a regular file; move it away"):
        open_regular("state", flags, dir_fd=directory)


def test_file_over_its_bound_is_not_read(directory: int, tmp_path: Path) -> None:
    _sparse(tmp_path / "state")
    with pytest.raises(HostError, match="larger than 100 bytes"):
        read_regular("state", dir_fd=directory, most=100)


def test_strange_manifest_is_refused(strange: Callable[[Path], None], directory: int, tmp_path: Path) -> None:
    strange(tmp_path / MANIFEST_NAME)
    with pytest.raises(HostError, match="not a regular file"):
        read_manifest(directory)


def test_manifest_over_its_bound_is_damaged_without_being_read(directory: int, tmp_path: Path) -> None:
    _sparse(tmp_path / MANIFEST_NAME)
    assert read_manifest(directory).damage == "larger than any manifest"
    os.truncate(tmp_path / MANIFEST_NAME, MANIFEST_MAX_BYTES)
    assert read_manifest(directory).damage == "the last line is cut"


def test_strange_journal_is_refused_for_reading_and_for_writing(
    strange: Callable[[Path], None], directory: int, tmp_path: Path
) -> None:
    strange(tmp_path / JOURNAL_NAME)
    with pytest.raises(HostError, match="not a regular file"):
        _recall_nothing(directory)
    with pytest.raises(HostError, match="not a regular file"):
        _begin_journal(directory)


def test_endless_journal_is_read_up_to_its_last_whole_record_and_cut_there(directory: int, tmp_path: Path) -> None:
    _begin_journal(directory).close()
    whole = (tmp_path / JOURNAL_NAME).stat().st_size
    os.truncate(tmp_path / JOURNAL_NAME, TIB)
    assert _recall_nothing(directory) == 0
    _begin_journal(directory).close()
    assert (tmp_path / JOURNAL_NAME).stat().st_size == whole


def test_strange_lock_of_a_destination_is_refused(strange: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / ".stager").mkdir()
    strange(tmp_path / ".stager" / "lock")
    with pytest.raises(HostError, match="not a regular file"):
        Workspace(str(tmp_path), None, read_only=False)


@pytest.mark.parametrize("name", ["lock", "job.json"])
def test_strange_file_of_a_job_is_refused(strange: Callable[[Path], None], tmp_path: Path, name: str) -> None:
    job = tmp_path / "jobs" / "7"
    job.mkdir(parents=True)
    strange(job / name)
    with pytest.raises(HostError, match="not a regular file"):
        JobDirectory.open(str(tmp_path), "7")


def test_strange_or_endless_records_are_left_out_of_the_list(strange: Callable[[Path], None], tmp_path: Path) -> None:
    with JobDirectory.create(str(tmp_path), "good", "n"):
        pass
    for name, make in (("strange", strange), ("endless", _sparse)):
        (tmp_path / "jobs" / name).mkdir()
        make(tmp_path / "jobs" / name / "job.json")
    assert [record.id for record in list_jobs(str(tmp_path))] == ["good"]


@pytest.mark.parametrize("how", ["owner", "mode"])
def test_state_directory_that_somebody_else_can_change_is_refused(tmp_path: Path, how: str) -> None:
    """Who can is believed on what is in place, and could lead git elsewhere by a link."""
    with Workspace(str(tmp_path), None, read_only=False):
        pass
    state = tmp_path / ".stager"
    state.mkdir(exist_ok=True)
    if how == "mode":
        state.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(state, 4711, -1)
    else:
        pytest.skip("only root gives a directory away")
    with pytest.raises(HostError, match="somebody else"), Workspace(str(tmp_path), None, read_only=False):
        pass
    assert not list(state.glob("tmp.*"))


def test_file_that_is_the_lock_by_another_name_stays_as_it_is(tmp_path: Path) -> None:
    """As in a tree that was copied by hard links."""
    (tmp_path / "dst" / ".stager").mkdir(parents=True, mode=0o700)
    (tmp_path / "dst" / ".stager").chmod(0o700)
    (tmp_path / "victim").write_bytes(b"precious")
    os.link(tmp_path / "victim", tmp_path / "dst" / ".stager" / "lock")
    with Workspace(str(tmp_path / "dst"), None, read_only=False), pytest.raises(BusyError):
        Workspace(str(tmp_path / "dst"), None, read_only=False)
    assert (tmp_path / "victim").read_bytes() == b"precious"
