"""The native CRCs against awscrt's, and zlib's where it has one."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import pytest
from awscrt import checksums

from stager import _native

ORACLES: dict[str, tuple[Callable[..., int], Callable[..., int]]] = {
    "crc32": (checksums.crc32, checksums.combine_crc32),
    "crc32c": (checksums.crc32c, checksums.combine_crc32c),
    "crc64nvme": (checksums.crc64nvme, checksums.combine_crc64nvme),
}
LONGEST = 2**63 - 1
LENGTHS = (0, 1, 7, 63, 64, 65, 255, 256, 257, 1023, 4096, 16 << 10, 300_001)


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(max(LENGTHS) + 64)


@pytest.mark.parametrize("kind", ORACLES)
@pytest.mark.parametrize("length", LENGTHS)
def test_crc_of_any_length_and_start_equals_awscrt(content: bytes, kind: str, length: int) -> None:
    compute, _ = ORACLES[kind]
    for start in (0, 1, 8, 63):
        data = content[start : start + length]
        assert _native.crc_update(kind, 0, data) == compute(data)
        assert _native.crc_update(kind, compute(content[:start]), data) == compute(content[: start + length])


@pytest.mark.parametrize("length", LENGTHS)
def test_crc32_equals_zlib(content: bytes, length: int) -> None:
    assert _native.crc_update("crc32", 0, content[:length]) == zlib.crc32(content[:length])


@pytest.mark.parametrize("kind", ORACLES)
def test_combined_values_equal_awscrt(kind: str) -> None:
    _, combine = ORACLES[kind]
    draw = random.Random(2)
    bits = 64 if kind == "crc64nvme" else 32
    for length in (0, 1, 2, 8 << 20, 5 << 40, LONGEST - 1, LONGEST, *(draw.randrange(LONGEST) for _ in range(50))):
        a, b = draw.getrandbits(bits), draw.getrandbits(bits) if length else 0
        assert _native.crc_combine(kind, a, b, length) == combine(a, b, length)


@pytest.mark.parametrize("kind", ORACLES)
def test_parts_combined_in_order_equal_the_whole(content: bytes, kind: str) -> None:
    compute, _ = ORACLES[kind]
    combined = 0
    for at in range(0, len(content), 70_001):
        part = content[at : at + 70_001]
        combined = _native.crc_combine(kind, combined, _native.crc_update(kind, 0, part), len(part))
    assert combined == compute(content)


def test_what_is_no_crc_is_refused() -> None:
    with pytest.raises(ValueError, match="md5"):
        _native.crc_update("md5", 0, b"")
    with pytest.raises(OverflowError):
        _native.crc_update("crc32", 1 << 32, b"")
    with pytest.raises(OverflowError):
        _native.crc_combine("crc32c", 0, 1 << 32, 1)
    with pytest.raises(ValueError, match="negative"):
        _native.crc_combine("crc64nvme", 0, 0, -1)
