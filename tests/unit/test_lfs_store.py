"""The node's store of LFS objects: what it gives is what was asked for, or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.errors import HostError
from stager.host import lfs_store
from stager.host.lfs_store import LfsStore, is_worth_a_copy

CONTENT = os.urandom(100_000)
OID = hashlib.sha256(CONTENT).hexdigest()


class Destination:
    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "tmp").mkdir(parents=True)
        self.root_fd = os.open(root, os.O_RDONLY)
        self.tmp_fd = os.open(root / "tmp", os.O_RDONLY)

    def take(self, store: LfsStore, key: bytes, size: int = len(CONTENT)) -> object:
        return store.take(OID, size, self.tmp_fd, self.root_fd, key, 0o644)


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[Destination]:
    made = Destination(tmp_path / "dst")
    (made.root / "source").write_bytes(CONTENT)
    yield made
    os.close(made.root_fd)
    os.close(made.tmp_fd)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LfsStore]:
    with LfsStore(str(tmp_path)) as made:
        yield made


def stored(tmp_path: Path) -> Path:
    return tmp_path / "lfs" / OID[:2] / OID


def test_kept_object_is_taken_as_a_file_of_its_own(tmp_path: Path, destination: Destination, store: LfsStore) -> None:
    assert destination.take(store, b"a/b") is None
    store.keep(OID, destination.root_fd, b"source")
    assert store.has(OID)
    assert destination.take(store, b"a/b") is not None
    there, kept = destination.root / "a/b", stored(tmp_path)
    assert there.read_bytes() == CONTENT
    assert there.stat().st_nlink == kept.stat().st_nlink == 1
    assert there.stat().st_mode & 0o777 == 0o644
    assert kept.stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "lfs").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["content", "size", "link", "directory"])
def test_damaged_object_is_not_given_and_goes(
    tmp_path: Path, destination: Destination, store: LfsStore, damage: str
) -> None:
    store.keep(OID, destination.root_fd, b"source")
    kept = stored(tmp_path)
    kept.unlink()
    match damage:
        case "content":
            kept.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
        case "size":
            kept.write_bytes(CONTENT[:-1])
        case "link":
            kept.symlink_to(destination.root / "source")
        case _:
            kept.mkdir()
    assert destination.take(store, b"out") is None
    assert not (destination.root / "out").exists()
    assert os.listdir(destination.tmp_fd) == []
    if damage != "directory":
        assert not kept.is_symlink()
        assert not kept.exists()


def test_other_bytes_than_the_objects_are_not_kept(destination: Destination, store: LfsStore) -> None:
    store.keep("0" * 64, destination.root_fd, b"source")
    assert not store.has("0" * 64)


def test_failure_of_the_destination_is_raised_and_costs_no_object(destination: Destination, store: LfsStore) -> None:
    store.keep(OID, destination.root_fd, b"source")
    with pytest.raises(OSError, match=os.strerror(errno.ENOTDIR)):
        destination.take(store, b"source/below-a-file")
    assert store.has(OID)


def test_what_was_used_longest_ago_goes_first(
    tmp_path: Path, destination: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    oids = []
    with LfsStore(str(tmp_path)) as store:
        for number in range(3):
            content = bytes([number]) * 100_000
            (destination.root / "source").write_bytes(content)
            oids.append(hashlib.sha256(content).hexdigest())
            store.keep(oids[-1], destination.root_fd, b"source")
        for number, oid in enumerate(oids):
            os.utime(tmp_path / "lfs" / oid[:2] / oid, (1000 + number, 1000 + number))
        assert store.take(oids[0], 100_000, destination.tmp_fd, destination.root_fd, b"used", 0o644)
        disk = os.statvfs(tmp_path)
        monkeypatch.setattr(lfs_store, "_SHARE", 250_000 / (disk.f_bavail * disk.f_frsize))
    with LfsStore(str(tmp_path)) as store:
        assert [store.has(oid) for oid in oids] == [True, False, True]


def test_directory_that_others_may_use_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "lfs").mkdir()
    (tmp_path / "lfs").chmod(0o755)
    with pytest.raises(HostError):
        LfsStore(str(tmp_path))


def test_copy_is_worth_it_only_where_the_network_was_slow() -> None:
    assert not is_worth_a_copy(2_000, 1_800_000_000, 1.5)
    assert not is_worth_a_copy(9_000, 180_000_000, 1.2)
    assert is_worth_a_copy(2_000, 1_800_000_000, 18.0)
    assert is_worth_a_copy(1, 1000, 0.1)
