"""Unfinished large files: what is recorded counts once it has been read again; whatever else stands there does not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xxhash

from servers.s3 import object_bytes
from stager._native import BLOCK_BYTES, crc_update, digest_bytes, read_back
from stager.errors import HostError
from stager.host.partial import Block, Partial, Partials, partial_bytes, remove_partials
from stager.host.threads import go_on

SIZE = 2 * BLOCK_BYTES + 1000
CONTENT = object_bytes(SIZE, seed=1)
LAST = SIZE - 2 * BLOCK_BYTES


@pytest.fixture
def state(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def block(number: int) -> bytes:
    return CONTENT[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]


def opened(partials: Partials, key: bytes, size: int, identity: bytes) -> Partial:
    partial = partials.of(key, size, identity)
    partial.open()
    return partial


def fill(partial: Partial, *numbers: int) -> None:
    for number in numbers:
        os.pwrite(partial.fd, block(number), number * BLOCK_BYTES)
        partial.note(number, digest_bytes(block(number)))
    partial.append(partial.take_notes())


def leave(state: int, *numbers: int, key: bytes = b"k", identity: bytes = b"etag") -> str:
    """What a killed run with these blocks leaves; its name."""
    with Partials(state, "source") as partials:
        partial = opened(partials, key, SIZE, identity)
        fill(partial, *numbers)
        partial.close()
        return partials.name_of(key, SIZE, identity)


def recalled(state: int, kind: str | None = None, key: bytes = b"k", identity: bytes = b"etag") -> list[Block]:
    with Partials(state, "source") as partials:
        partial = opened(partials, key, SIZE, identity)
        try:
            return partial.recall(go_on, kind)
        finally:
            partial.close()


@pytest.mark.parametrize("kind", [None, "crc32", "crc32c", "crc64nvme"])
def test_blocks_that_a_run_left_are_there_with_their_digest_and_crc(state: int, kind: str | None) -> None:
    leave(state, 2, 0)
    assert recalled(state, kind) == [
        Block(n, xxhash.xxh3_128_digest(block(n)), crc_update(kind, 0, block(n)) if kind else 0) for n in (0, 2)
    ]


def test_nothing_is_left_where_nothing_arrived(state: int, tmp_path: Path) -> None:
    leave(state)
    assert os.listdir(tmp_path) == []


def test_another_version_key_or_source_finds_nothing(state: int) -> None:
    leave(state, 0, 1)
    assert recalled(state, identity=b"other") == recalled(state, key=b"other") == []
    assert len(recalled(state)) == 2


def test_content_that_is_pinned_to_its_version_too_is_continued(state: int) -> None:
    leave(state, 0, 1)
    assert len(recalled(state, identity=b"etag\0version")) == 2
    assert recalled(state, identity=b"\0version") == recalled(state, identity=b"\0etag2") == []


def test_only_what_can_be_continued_is_kept(state: int, tmp_path: Path) -> None:
    names = [leave(state, 0, key=key) for key in (b"a", b"b")]
    with Partials(state, "source") as partials:
        partials.keep_only({names[1]})
    assert sorted(os.listdir(tmp_path / "partial")) == [names[1], f"{names[1]}.blocks"]
    assert partial_bytes(state) >= BLOCK_BYTES
    remove_partials(state)
    remove_partials(state)
    assert partial_bytes(state) == 0
    assert os.listdir(tmp_path) == []


def test_finished_file_is_published_and_leaves_nothing(state: int, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    root = os.open(tmp_path / "root", os.O_RDONLY | os.O_DIRECTORY)
    leave(state, 0)
    with Partials(state, "source") as partials:
        partial = opened(partials, b"k", SIZE, b"etag")
        fill(partial, 1, 2)
        partial.publish(root, b"d/k")
        partial.close()
    os.close(root)
    assert (tmp_path / "root" / "d" / "k").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["root"]


def test_block_that_was_fetched_again_counts_as_it_is_now(state: int) -> None:
    leave(state, 0, 1)
    with Partials(state, "source") as partials:
        partial = opened(partials, b"k", SIZE, b"etag")
        os.pwrite(partial.fd, b"other", 0)
        partial.note(0, digest_bytes(b"other" + block(0)[5:]))
        partial.append(partial.take_notes())
        partial.close()
    assert [one.number for one in recalled(state)] == [0, 1]


def test_forgotten_blocks_are_not_continued(state: int) -> None:
    with Partials(state, "source") as partials:
        partial = opened(partials, b"k", SIZE, b"etag")
        fill(partial, 0, 1)
        partial.forget()
        fill(partial, 2)
        partial.close()
    assert [one.number for one in recalled(state)] == [2]


def _changed(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


HEAD, RECORD = 24, 32


def flipped(at: int) -> Callable[[bytearray], None]:
    def flip(data: bytearray) -> None:
        data[at] ^= 1

    return flip


@pytest.mark.parametrize(
    ("change", "left"),
    [
        pytest.param(lambda data: data.pop(), [0], id="torn"),
        pytest.param(lambda data: data.extend(b"x" * 5), [0, 1], id="a tail"),
        pytest.param(lambda data: data.extend(bytes(3 * RECORD)), [0, 1], id="zeros behind"),
        pytest.param(flipped(HEAD + 9), [], id="a number"),
        pytest.param(flipped(HEAD + RECORD + 20), [0], id="a digest"),
        pytest.param(flipped(0), [], id="the magic"),
        pytest.param(flipped(10), [], id="the object"),
        pytest.param(lambda data: data.clear(), [], id="empty"),
    ],
)
def test_damaged_record_ends_what_is_believed(
    state: int, tmp_path: Path, change: Callable[[bytearray], None], left: list[int]
) -> None:
    name = leave(state, 0, 1)
    _changed(tmp_path / "partial" / f"{name}.blocks", change)
    assert [one.number for one in recalled(state)] == left


def test_record_of_another_object_is_not_believed(state: int, tmp_path: Path) -> None:
    mine, other = leave(state, 0), leave(state, 0, 1, 2, key=b"other")
    records = (tmp_path / "partial" / f"{other}.blocks").read_bytes()[HEAD:]
    path = tmp_path / "partial" / f"{mine}.blocks"
    path.write_bytes(path.read_bytes()[:HEAD] + records)
    assert recalled(state) == []


def test_record_that_lies_about_the_file_is_found_out(state: int, tmp_path: Path) -> None:
    name = leave(state, 0, 1, 2)
    _changed(tmp_path / "partial" / name, flipped(BLOCK_BYTES + 7))
    assert [one.number for one in recalled(state)] == [0, 2]


def _shorter(path: Path) -> None:
    os.truncate(path, SIZE - 1)


def _linked(path: Path) -> None:
    os.link(path, path.parent.parent / "elsewhere")


def _symlink(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to("../elsewhere")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [_shorter, _linked, _symlink, _fifo])
def test_file_that_is_not_ours_alone_is_not_written_to(
    state: int, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    name = leave(state, 0, 1)
    change(tmp_path / "partial" / name)
    with Partials(state, "source") as partials:
        partial = opened(partials, b"k", SIZE, b"etag")
        assert partial.recorded == frozenset()
        fill(partial, 2)
        partial.close()
    if (tmp_path / "elsewhere").exists():
        assert (tmp_path / "elsewhere").read_bytes() == block(0) + block(1) + bytes(LAST)


def test_directory_of_another_kind_is_refused(state: int, tmp_path: Path) -> None:
    (tmp_path / "partial").symlink_to(tmp_path)
    with pytest.raises(OSError) as raised:
        Partials(state, "source")
    assert raised.value.errno in (errno.ENOTDIR, errno.ELOOP)
    with pytest.raises(HostError):
        partial_bytes(state)


def test_read_back_of_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "f", "w+b") as file:
        file.write(b"12345")
        file.flush()
        assert read_back(file.fileno(), 1, 3, "crc32") == (digest_bytes(b"234"), crc_update("crc32", 0, b"234"))
        assert read_back(file.fileno(), 5, 0, None) == (digest_bytes(b""), 0)
        with pytest.raises(OSError, match="No data available"):
            read_back(file.fileno(), 3, 3, None)
        for offset, length, kind in ((-1, 1, None), (0, -1, None), (0, BLOCK_BYTES + 1, None), (0, 1, "md5")):
            with pytest.raises(ValueError):
                read_back(file.fileno(), offset, length, kind)
