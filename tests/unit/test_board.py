"""The board on which the stagers of a node see one another, among neighbours that mean no good."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from stager.errors import HostError
from stager.host.board import Board, Claimed, Record, Taking
from stager.host.holders import Holder
from stager.host.node import check_directory, open_node
from stager.host.node_settings import NodeSettings

SOMEBODY = 54321
CLAIM = Claimed(device="7:0", bytes=10, inodes=1, since_ns=1)


@pytest.fixture
def place() -> Iterator[Path]:
    """As a site makes it, where every user can reach it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        path = Path(made) / "node"
        Path(made).chmod(0o755)
        path.mkdir()
        path.chmod(0o1777)
        yield path


@contextmanager
def child(work: Callable[[], None], uid: int | None = None) -> Iterator[int]:
    """A process, of another user, that has done ``work`` and stays until the end."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if uid is not None:
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            work()
            os.write(told, b"x")
            signal.pause()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(told)
    try:
        assert os.read(ready, 1) == b"x"
        yield pid
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def said(board: Board) -> list[object]:
    return [record.says for record in board.look()]


def test_what_is_posted_is_seen_until_it_is_withdrawn(place: Path) -> None:
    board, other = Board(str(place)), Board(str(place))
    name = board.new_name()
    board.post(name, CLAIM)
    assert said(other) == [CLAIM]
    board.post(name, Taking(bytes=5))
    assert said(other) == said(board) == [Taking(bytes=5)]
    board.withdraw(name)
    board.withdraw(name)
    assert said(other) == [] == os.listdir(place)


def test_what_the_dead_said_counts_no_more_and_is_swept(place: Path) -> None:
    board = Board(str(place))

    def post() -> None:
        mine = Board(str(place))
        mine.post(mine.new_name(), CLAIM)
        os.symlink("left by a death in between", place / f"{mine.new_name()}~")

    with child(post):
        assert said(board) == [CLAIM]
    assert said(board) == []
    assert [name for name in os.listdir(place) if not name.endswith("~")] == []


def test_what_another_boot_said_counts_no_more(place: Path) -> None:
    board = Board(str(place))
    who = msgspec.structs.replace(Holder.of_self(), boot="another")
    name = board.new_name()
    os.symlink(msgspec.json.encode(Record(name=name, who=who, says=CLAIM)), place / name)
    assert said(board) == []


def test_of_another_pid_namespace_only_what_was_said_lately_counts(place: Path) -> None:
    board = Board(str(place))
    name = board.new_name()
    who = msgspec.structs.replace(Holder.of_self(), pid_ns=1)
    os.symlink(msgspec.json.encode(Record(name=name, who=who, says=CLAIM)), place / name)
    assert said(board) == [CLAIM]
    an_hour_ago = time.time() - 3500
    os.utime(place / name, (an_hour_ago, an_hour_ago), follow_symlinks=False)
    assert said(board) == []
    assert os.listdir(place) == [name]


def test_only_what_was_said_lately_is_seen_when_asked_so(place: Path) -> None:
    board = Board(str(place))
    name = board.new_name()
    board.post(name, CLAIM)
    assert len(board.look(within_s=5)) == 1
    for when in (1.0, time.time() + 1000):
        os.utime(place / name, (when, when), follow_symlinks=False)
        assert board.look(within_s=5) == []
        assert said(board) == [CLAIM]


@pytest.mark.root
def test_hostile_entries_are_no_records_and_hold_nobody_up(place: Path, tmp_path: Path) -> None:
    board = Board(str(place))
    mine = board.new_name()
    board.post(mine, CLAIM)
    text = os.readlink(place / mine)
    nasty = {name: f"{SOMEBODY}.{number:016x}" for number, name in enumerate(
        ("fifo", "file", "directory", "endless", "json", "deep", "forged", "unknown", "negative", "device")
    )}  # fmt: skip

    def spoil() -> None:
        os.mkfifo(place / nasty["fifo"])
        (place / nasty["file"]).write_text(text)
        with (place / f"{SOMEBODY}.{99:016x}").open("wb") as endless:
            endless.truncate(1 << 40)
        (place / nasty["directory"]).mkdir()
        os.symlink("/proc/self/fd/0", place / nasty["endless"])
        os.symlink("{", place / nasty["json"])
        os.symlink("[" * 4000, place / nasty["deep"])
        os.symlink(text, place / nasty["forged"])  # root's, says root's record
        os.symlink(text.replace('"claim"', '"wish"'), place / nasty["unknown"])
        os.symlink(text.replace('"bytes":10', '"bytes":-10'), place / nasty["negative"])
        os.symlink(text, place / f"0.{'0' * 16}")
        with pytest.raises(PermissionError):
            os.unlink(place / mine)
        with pytest.raises(PermissionError):
            os.rename(place / nasty["forged"], place / mine)

    with child(spoil, uid=SOMEBODY):
        assert said(board) == [CLAIM]
    os.link(place / mine, place / f"0.{'1' * 16}", follow_symlinks=False)  # as where protected_hardlinks is off
    assert said(board) == [CLAIM]


@pytest.mark.root
def test_record_counts_as_its_owners_who_may_be_anybody(place: Path) -> None:
    board = Board(str(place))

    def post() -> None:
        mine = Board(str(place))
        mine.post(mine.new_name(), CLAIM)

    with child(post, uid=SOMEBODY):
        (record,) = board.look()
        assert record.who.uid == SOMEBODY


@pytest.mark.root
def test_directory_that_somebody_could_exchange_is_refused(place: Path) -> None:
    check_directory(str(place))
    for mode, why in ((0o777, "can be written by others"), (0o1755, "not 1777"), (0o755, "mode 755, not 1777")):
        place.chmod(mode)
        with pytest.raises(HostError, match=why):
            check_directory(str(place))
    place.chmod(0o1777)
    os.chown(place, SOMEBODY, -1)
    with pytest.raises(HostError, match="belongs to another user"):
        check_directory(str(place))
    os.chown(place, 0, -1)
    os.chown(place.parent, SOMEBODY, -1)
    with pytest.raises(HostError, match="belongs to another user"):
        check_directory(str(place))
    os.chown(place.parent, 0, -1)
    (place.parent / "link").symlink_to(place)
    for path in (place.parent / "link", place.parent / "none" / "node"):
        with pytest.raises(HostError, match="see one another") as caught:
            open_node(NodeSettings(directory=str(path)))
        assert caught.value.exit_code == 6
        assert "install -d" in caught.value.hint


@pytest.mark.root
def test_root_makes_a_directory_that_is_missing(place: Path) -> None:
    open_node(NodeSettings(directory=str(place.parent / "made"))).close()
    assert (place.parent / "made").stat().st_mode & 0o7777 == 0o1777


def test_without_a_site_a_users_stagers_have_a_place_of_their_own() -> None:
    node = open_node(NodeSettings())
    assert node.board is not None
    found = os.stat(node.board.path)
    assert (found.st_uid, found.st_mode & 0o777) == (os.geteuid(), 0o700)
    program = (
        "import sys; from stager.host.node import *; from stager.host.node_settings import NodeSettings;"
        "print(open_node(NodeSettings()).board.path)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == node.board.path
