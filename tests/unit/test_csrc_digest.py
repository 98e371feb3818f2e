"""The native block digests against python-xxhash, built block by block."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import xxhash

from stager import _native

BLOCK = _native.BLOCK_BYTES
EDGES = (0, 1, 240, 241, 256 << 10, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 12345)


def block_digests(data: bytes) -> list[bytes]:
    pieces = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)] or [b""]
    return [xxhash.xxh3_128_digest(piece) for piece in pieces]


def tree_digest(data: bytes) -> bytes:
    blocks = block_digests(data)
    return blocks[0] if len(blocks) == 1 else xxhash.xxh3_128_digest(b"".join(blocks))


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(max(EDGES))


@pytest.mark.parametrize("size", EDGES)
def test_digest_of_bytes_equals_the_reference(content: bytes, size: int) -> None:
    assert _native.digest_bytes(content[:size]) == tree_digest(content[:size])


@pytest.mark.parametrize("size", EDGES)
def test_digest_of_a_file_equals_the_reference(content: bytes, size: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    with path.open("rb") as file:
        file.seek(size // 2)
        assert _native.digest_fd(file.fileno()) == (size, tree_digest(content[:size]))
        assert file.tell() == size // 2


def test_sparse_file_has_the_digest_of_its_zeros(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 2 * BLOCK + 1)
    with path.open("rb") as file:
        assert _native.digest_fd(file.fileno()) == (2 * BLOCK + 1, tree_digest(bytes(2 * BLOCK + 1)))


@pytest.mark.parametrize("size", EDGES)
def test_combined_blocks_equal_the_digest_of_the_whole(content: bytes, size: int) -> None:
    blocks = b"".join(block_digests(content[:size]))
    assert _native.combine_blocks(blocks) == tree_digest(content[:size])


def test_no_blocks_to_combine_is_an_error() -> None:
    with pytest.raises(ValueError):
        _native.combine_blocks(b"")


def test_descriptor_that_cannot_be_read_is_an_os_error() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="seek"):
            _native.digest_fd(reading)
    finally:
        os.close(reading)
        os.close(writing)
