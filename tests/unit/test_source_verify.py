"""The digest of a file whose parts come in any order, and where stored parts end."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager._native import Frontier, crc_update
from stager.sources.s3_announced import all_ends
from stager.sources.verify import NOTHING, Announced, Verifier, is_available

CONTENT = bytes(range(251)) * 20_000
SIZE = len(CONTENT)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    os.truncate(descriptor, SIZE)
    yield descriptor
    os.close(descriptor)


def announced(kind: str, content: bytes = CONTENT) -> Announced:
    if kind == "crc64nvme":
        return Announced(kind=kind, value=crc_update(kind, 0, content).to_bytes(8, "big"))
    return Announced(kind=kind, value=hashlib.new(kind, content).digest())


async def receive(verifier: Verifier, fd: int, order: list[int], cuts: list[int]) -> None:
    """Write the parts between the cuts in this order, each told as soon as it is there."""
    for number in order:
        start, end = cuts[number], cuts[number + 1]
        os.pwrite(fd, CONTENT[start:end], start)
        verifier.part_done(start, end - start, crc_update("crc64nvme", 0, CONTENT[start:end]) if verifier.crc else 0)
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["crc64nvme", "md5", "sha1", "sha256"])
def test_parts_in_any_order_have_the_digest_of_the_whole(fd: int, kind: str, seed: int) -> None:
    chance = random.Random(seed)

    async def run() -> None:
        for _ in range(5):
            cuts = [0, *sorted(chance.sample(range(1, SIZE), 9)), SIZE]
            order = chance.sample(range(10), 10)
            async with Verifier(announced(kind), size=SIZE, fd=fd) as verifier:
                await receive(verifier, fd, order, cuts)
                assert await verifier.difference() == ""
                assert verifier.read_back_bytes == (0 if kind == "crc64nvme" else SIZE)
            async with Verifier(announced(kind, CONTENT[:-1]), size=SIZE, fd=fd) as verifier:
                await receive(verifier, fd, order, cuts)
                assert "was announced" in await verifier.difference()

    asyncio.run(run())


def test_digest_is_not_told_before_all_parts_are_there_and_nothing_runs_on_afterwards(fd: int) -> None:
    async def run() -> None:
        async with Verifier(announced("sha256"), size=SIZE, fd=fd) as verifier:
            verifier.part_done(0, 1000)
            verifier.part_done(2000, SIZE - 2000)
            with pytest.raises(ValueError, match="not all parts"):
                await verifier.difference()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())


def test_file_that_is_cut_meanwhile_is_an_error(fd: int) -> None:
    async def run() -> None:
        async with Verifier(announced("md5"), size=SIZE, fd=fd) as verifier:
            os.truncate(fd, 1000)
            verifier.part_done(0, SIZE)
            with pytest.raises(OSError, match="No data"):
                await verifier.difference()

    asyncio.run(run())


def test_nothing_announced_differs_from_nothing(fd: int) -> None:
    async def run() -> None:
        async with Verifier(NOTHING, size=SIZE, fd=fd) as verifier:
            verifier.part_done(0, SIZE)
            assert await verifier.difference() == ""

    asyncio.run(run())
    assert is_available(NOTHING)
    assert is_available(announced("md5"))


def test_ends_of_parts_are_believed_when_they_make_up_the_object() -> None:
    assert all_ends([(0, 5, 3), (5, 5, 3), (10, 1, 3)], 11) == (5, 10, 11)
    assert all_ends([(-1, 5, 2), (-1, 6, 2)], 11) == (5, 11)
    for lie in [
        [(0, 5, 2), (5, 5, 2)],  # not all of it
        [(0, 5, 2), (5, 7, 2)],
        [(0, 5, 2), (6, 6, 2)],  # a gap
        [(0, 5, 3), (5, 6, 3)],  # another number of parts
        [(0, 11, 2), (11, 0, 2)],
        [(0, 12, 2), (12, -1, 2)],
        [(-1, -1, -1), (5, 6, 2)],
    ]:
        assert all_ends(lie, 11) == ()


def test_frontier_refuses_what_cannot_be(fd: int) -> None:
    for kind, ends in itertools.product(["", "md4", "CRC32"], [(), (1,)]):
        with pytest.raises(ValueError, match="not a kind"):
            Frontier(kind, ends)
    with pytest.raises(ValueError, match="do not ascend"):
        Frontier("md5", (5, 5))
    frontier = Frontier("md5", (5, 9))
    with pytest.raises(ValueError, match="behind the last part"):
        frontier.advance(fd, 10)
    frontier.advance(fd, 8)
    with pytest.raises(ValueError, match="not at its end"):
        frontier.finish()
