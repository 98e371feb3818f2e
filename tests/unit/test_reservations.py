"""Room that is taken before it is filled: how it is counted, and that two who ask at once do not both get it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from stager.errors import NoRoomError, NoSpaceError
from stager.host import reservations
from stager.host.board import Board, Claimed, Record
from stager.host.holders import Holder
from stager.host.mounts import mount_of_path, read_mountinfo
from stager.host.node import Node
from stager.host.node_settings import NodeSettings
from stager.host.reservations import (
    NOTHING,
    Ahead,
    Need,
    Reservation,
    Space,
    count_taken,
    device_of,
    most_of_one,
)
from stager.host.reserved_room import less_reserved
from stager.model import Counts
from stager.placement import DeviceClass, Root, Rules, Wanted
from stager.stages.place_policy import choose

DISK = Space(total=Need(1000, 100), free=Need(1000, 100))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "node").mkdir()
    return Node(NodeSettings(), Board(str(tmp_path / "node")))


@pytest.fixture
def fd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """On a disk of a thousand bytes and a hundred inodes."""
    monkeypatch.setattr(Space, "of", lambda _: DISK)
    found = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield found
    os.close(found)


def claim(uid: int, pid: int, amount: Need) -> Record:
    who = Holder(boot="b", pid=pid, start=1, uid=uid)
    says = Claimed(device="7:0", bytes=amount.bytes, inodes=amount.inodes, since_ns=1)
    return Record(name="", who=who, says=says)


def test_of_others_only_a_part_of_the_disk_counts_for_each() -> None:
    claims = [claim(1, 10, Need(70, 1)), claim(1, 10, Need(20, 1)), claim(1, 11, Need(5, 0))]
    claims += [claim(2, 20, Need(60, 3)), claim(2, 21, Need(60, 3)), claim(3, 30, Need(10, 9))]
    taken = count_taken(claims, 1, Need(50, 5))
    assert taken.own == ((10, Need(90, 2)), (11, Need(5, 0)))
    assert taken.others == Need(50 + 10, 5 + 5)
    assert taken.total == Need(155, 12)
    assert taken.told().split(", ") == [
        "90 B and 2 inodes by your process 10", "5 B and 0 inodes by your process 11",
        "60 B and 10 inodes by other users",
    ]  # fmt: skip


def test_what_counts_of_one_user_is_half_of_a_disk_or_what_the_site_says() -> None:
    disk = Need(1000, 100)
    assert most_of_one(NodeSettings(), disk) == Need(500, 50)
    assert most_of_one(NodeSettings(reserved_share=0.25), disk) == Need(250, 25)
    assert most_of_one(NodeSettings(reserved_bytes=7), disk) == Need(7, 50)


def test_what_has_arrived_is_no_longer_ahead() -> None:
    moves = Counts(objects=10, bytes=10_000)
    ahead = Ahead(wanted=Need(10_000 + 4_000 - 3_000, 12), moves=moves, unfinished_bytes=3_000)
    assert ahead.left(Counts(), 3_000) == ahead.wanted
    assert ahead.left(Counts(), 5_000) == Need(9_000, 12)
    assert ahead.left(Counts(objects=5, bytes=5_000), 3_000) == Need(4_000, 6)
    assert ahead.left(Counts(), 0) == Need(14_000, 12), "what was removed is needed again"
    assert ahead.left(moves, 0) == Need(0, 0)
    assert Ahead(wanted=NOTHING, moves=Counts()).left(Counts(), 0) == NOTHING


def test_second_one_has_what_the_first_leaves(node: Node, fd: int) -> None:
    first, second = (Reservation(node, fd, where="/disk") for _ in range(2))
    first.take(Need(600, 10))
    with pytest.raises(NoSpaceError) as caught:
        second.take(Need(500, 10))
    assert str(caught.value).startswith(
        "/disk: 500 bytes are needed, 1000 are free and 600 of them are reserved (500 B, 1000 B, 600 B): "
        f"600 B and 10 inodes by your process {os.getpid()}"
    )
    with pytest.raises(NoSpaceError, match="91 inodes are needed, 100 are free and 10 of them are reserved"):
        second.take(Need(1, 91))
    second.take(Need(400, 90))
    first.lower(Need(300, 0))
    second.take(Need(700, 100))
    first.close()
    second.take(Need(1000, 100))
    second.close()
    assert node.board is not None
    assert os.listdir(node.board.path) == []


def test_cap_of_the_site_holds_for_all_of_ones_own(node: Node, fd: int) -> None:
    node.settings = NodeSettings(file="/site.toml", reserved_share=0.5)
    first, second = (Reservation(node, fd, where="/disk") for _ in range(2))
    first.take(Need(300, 1))
    with pytest.raises(NoSpaceError, match="one user may have reserved 500 B and 50 inodes there") as caught:
        second.take(Need(201, 1))
    assert "reserved_per_user of /site.toml" in caught.value.hint
    second.take(Need(200, 1))


def test_part_of_what_is_reserved_is_handed_on_without_a_gap(node: Node, fd: int) -> None:
    whole, part, other = (Reservation(node, fd, where="/disk") for _ in range(3))
    whole.take(Need(900, 10))
    part.take(Need(600, 5), within=whole)
    assert (whole.amount, part.amount) == (Need(300, 5), Need(600, 5))
    with pytest.raises(NoSpaceError):
        other.take(Need(101, 1))
    part.take(Need(500, 5), within=whole)
    with pytest.raises(NoSpaceError):
        Reservation(node, fd, where="/disk").take(Need(801, 1), within=whole)


def test_of_many_who_ask_at_once_exactly_as_many_as_fit_get_it(node: Node, fd: int) -> None:
    assert node.board is not None
    start, got, refused = threading.Barrier(8), [], []

    def ask() -> None:
        mine = Reservation(Node(NodeSettings(), Board(node.board.path if node.board else "")), fd, where="/disk")
        start.wait()
        try:
            mine.take(Need(300, 1))
            got.append(mine)
        except NoSpaceError:
            refused.append(mine)

    for _ in range(5):
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (3, 5)
        for one in got:
            one.close()
        got.clear()
        refused.clear()
    assert os.listdir(node.board.path) == []


def test_who_never_decides_has_what_it_asks_for_in_the_end(
    node: Node, fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reservations, "_DECIDE_WITHIN_S", 0.05)
    assert node.board is not None
    device = device_of(fd)
    for since_ns in (0, 1 << 61):
        name = node.board.new_name()
        node.board.post(name, Claimed(device=device, bytes=600, inodes=1, since_ns=since_ns))
        with pytest.raises(NoSpaceError, match="600 of them are reserved"):
            Reservation(node, fd, where="/disk").take(Need(500, 1))
        Reservation(node, fd, where="/disk").take(Need(400, 1))
        for left in os.listdir(node.board.path):
            node.board.withdraw(left)


def test_board_that_cannot_be_written_refuses_nobody(node: Node, fd: int) -> None:
    assert node.board is not None
    os.rmdir(node.board.path)
    mine = Reservation(node, fd, where="/disk")
    assert "nothing can be reserved: No such file or directory" in mine.take(Need(1, 1))
    mine.close()


def test_without_a_board_everybody_is_alone(fd: int) -> None:
    mine = Reservation(Node(NodeSettings(), None), fd, where="/disk")
    assert mine.take(Need(5000, 1)) == ""
    mine.lower(NOTHING)
    mine.close()


def test_file_system_is_called_as_in_the_table_of_mounts(tmp_path: Path) -> None:
    for path in (str(tmp_path), "/dev/shm", "/proc"):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        row = mount_of_path(os.path.realpath(path), read_mountinfo())
        assert row is not None
        assert device_of(fd) == row.device
        os.close(fd)


def test_killed_reserver_has_nothing_at_once(node: Node, fd: int, tmp_path: Path) -> None:
    assert node.board is not None
    program = (
        "import os, sys, signal\n"
        "from stager.host.board import Board, Claimed\n"
        "board = Board(sys.argv[1])\n"
        "board.post(board.new_name(), Claimed(device=sys.argv[2], bytes=600, inodes=1, since_ns=1, decided=True))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, node.board.path, device_of(fd)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        mine = Reservation(node, fd, where="/disk")
        with pytest.raises(NoSpaceError, match=f"by your process {process.pid}"):
            mine.take(Need(500, 1))
        process.kill()
    mine.take(Need(1000, 1))
    mine.close()
    assert os.listdir(node.board.path) == []


def test_place_has_less_room_by_what_is_reserved_there(node: Node, fd: int) -> None:
    Reservation(node, fd, where="/disk").take(Need(600, 10))
    here = Root(
        path="/disk", origin="found", device_class=DeviceClass.SSD, told="", device=device_of(fd), total_bytes=1000,
        free_bytes=900, total_inodes=100, free_inodes=90,
    )  # fmt: skip
    other, uncounted = replace(here, device="9:9"), replace(here, total_inodes=None, free_inodes=None)
    less = replace(here, free_bytes=300, free_inodes=80, reserved_bytes=600)
    assert less_reserved([here, other], node) == (less, other)
    assert less_reserved([uncounted], node)[0].free_inodes is None
    assert less_reserved([here], Node(NodeSettings(), None)) == (here,)
    with pytest.raises(NoRoomError, match=r"has 300 B and 80 inodes \(600 B more are reserved by stagers\)"):
        choose([less], [Wanted(name="a/b", bytes=400, files=1)], Rules(floor_share=0.0))
