"""The helpers that touch one local file: publish, stat_below, copy_file, digests."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import xxhash

from stager import _native

BLOCK = _native.BLOCK_BYTES


class Place(NamedTuple):
    path: Path
    root_fd: int
    tmp_fd: int


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    root, tmp = tmp_path / "root", tmp_path / "tmp"
    root.mkdir()
    tmp.mkdir()
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (root, tmp)]
    yield Place(tmp_path, *fds)
    for fd in fds:
        os.close(fd)


def reference(data: bytes) -> bytes:
    blocks = [xxhash.xxh3_128_digest(data[i : i + BLOCK]) for i in range(0, max(len(data), 1), BLOCK)]
    return blocks[0] if len(blocks) == 1 else xxhash.xxh3_128_digest(b"".join(blocks))


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
def test_digests_agree_with_the_reference(place: Place, size: int) -> None:
    data = os.urandom(size)
    (place.path / "f").write_bytes(data)
    with (place.path / "f").open("rb") as file:
        assert _native.digest_fd(file.fileno()) == (size, reference(data))
    assert _native.digest_bytes(data) == reference(data)
    found = _native.copy_file(os.open(place.path, os.O_PATH), b"f", place.tmp_fd, place.root_fd, b"d/g", 0o640)
    copy = place.path / "root" / "d" / "g"
    seen = copy.stat()
    assert found == (size, reference(data), seen.st_mtime_ns, seen.st_ctime_ns)
    assert copy.read_bytes() == data
    assert seen.st_mode & 0o7777 == 0o640
    assert os.listdir(place.tmp_fd) == []


def test_no_blocks_have_no_digest() -> None:
    for blocks in (b"", b"x" * 15):
        with pytest.raises(ValueError, match="16 bytes"):
            _native.combine_blocks(blocks)


def test_published_file_is_under_its_name_with_the_times_given(place: Place) -> None:
    (place.path / "tmp" / "t").write_text("abc")
    mtime_ns, ctime_ns = _native.publish(place.tmp_fd, b"t", place.root_fd, b"a/b/c")
    seen = (place.path / "root/a/b/c").stat()
    assert (mtime_ns, ctime_ns) == (seen.st_mtime_ns, seen.st_ctime_ns)
    assert _native.stat_below(place.root_fd, b"a/b/c") == (seen.st_mode, 3, mtime_ns, ctime_ns)
    assert os.listdir(place.tmp_fd) == []


def test_links_are_seen_and_not_followed(place: Place) -> None:
    root = place.path / "root"
    (root / "link").symlink_to(place.path)
    (place.path / "tmp" / "t").write_text("abc")
    assert _native.stat_below(place.root_fd, b"link")[0] == (root / "link").lstat().st_mode
    with pytest.raises(OSError, match="symbolic links") as caught:
        _native.stat_below(place.root_fd, b"link/tmp")
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="symbolic links"):
        _native.publish(place.tmp_fd, b"t", place.root_fd, b"link/t2")
    with pytest.raises(FileNotFoundError):
        _native.stat_below(place.root_fd, b"none")
    with pytest.raises(OSError, match="Invalid"):
        _native.stat_below(place.root_fd, b"../tmp")


def test_only_a_regular_file_reached_without_links_is_copied(place: Place) -> None:
    source_fd = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY)
    os.mkfifo(place.path / "fifo")
    (place.path / "file").write_text("x")
    (place.path / "link").symlink_to("file")
    for source, error in ((b"fifo", errno.EINVAL), (b"link", errno.ELOOP), (b"root", errno.EINVAL)):
        with pytest.raises(OSError, match=os.strerror(error)) as caught:
            _native.copy_file(source_fd, source, place.tmp_fd, place.root_fd, b"g", 0o644)
        assert caught.value.errno == error
    assert os.listdir(place.root_fd) == os.listdir(place.tmp_fd) == []
    os.close(source_fd)


def test_table_gives_back_what_was_put_in() -> None:
    table = _native.KeyTable()
    assert table.append(b"k\xff", 5, b"e", 7, 0o755) == 0
    assert table.append(b"", 0, b"") == 1
    assert list(table.rows()) == [(b"k\xff", 5, b"e", 7, 0o755), (b"", 0, b"", 0, 0)]
    assert (len(table), table.total_bytes) == (2, 5)
    assert (table.key(0), table.size(0), table.identity(0), table.mtime_ns(0), table.mode(0)) == (
        b"k\xff",
        5,
        b"e",
        7,
        0o755,
    )
    for row in (-1, 2):
        with pytest.raises(IndexError):
            table.key(row)
    for key, size in ((b"x" * 65_536, 1), (b"x", -1)):
        with pytest.raises(ValueError, match="65,535"):
            table.append(key, size, b"")
