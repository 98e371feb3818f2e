"""The shares of a node's limits: how they are computed, and that the engine is held to them as others come and go."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from stager import sharing
from stager.config import Limits
from stager.host.board import Board, Taking
from stager.host.node import Node
from stager.host.node_settings import NodeSettings
from stager.sharing import Rates, Sharing, level_of, share_of
from stager.transfer import Transfer

INF = math.inf
MIB = 1 << 20


@pytest.mark.parametrize(
    ("demands", "level"),
    [
        ([INF], 90.0),
        ([INF, INF, INF], 30.0),
        ([10, INF, INF], 40.0),
        ([10, 30, INF], 50.0),
        ([10, 30, 50], INF),
        ([10, 30, 51], 50.0),
        ([], INF),
    ],
)
def test_what_one_does_not_want_is_the_others(demands: Sequence[float], level: float) -> None:
    assert level_of(90.0, demands) == level


@pytest.mark.parametrize(
    ("demands", "uid", "mine", "share"),
    [
        ({1: [INF]}, 1, INF, 120.0),
        ({1: [INF], 2: [INF]}, 1, INF, 60.0),
        ({1: [INF] * 3, 2: [INF]}, 1, INF, 20.0),  # a user's stagers share one user's share
        ({1: [INF] * 100, 2: [INF]}, 2, INF, 60.0),
        ({1: [10, INF], 2: [INF]}, 1, INF, 50.0),
        ({1: [10, INF], 2: [INF]}, 1, 10, 10.0),
        ({1: [10, 20], 2: [INF]}, 2, INF, 90.0),
        ({1: [10, 20], 2: [INF]}, 1, 20, 20.0),
    ],
)
def test_users_have_equal_shares_and_so_have_the_stagers_of_one(
    demands: Mapping[int, Sequence[float]], uid: int, mine: float, share: float
) -> None:
    assert share_of(120.0, demands, uid, mine) == share


@pytest.mark.parametrize("users", [1, 2, 7])
def test_all_shares_together_are_the_limit(users: int) -> None:
    demands = {uid: [INF if number % 3 else 5.0 * number + 1 for number in range(uid + 2)] for uid in range(users)}
    assert math.isclose(sum(share_of(300.0, demands, uid, mine) for uid in demands for mine in demands[uid]), 300.0)


def node_with(board: Board, **settings: float) -> Node:
    return Node(NodeSettings(directory=board.path, **settings), board)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  (the files of others)
            await asyncio.sleep(0.005)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(sharing, "_EVERY_S", 0.01)
    return Board(str(tmp_path))


def test_share_shrinks_and_grows_as_others_come_and_go(board: Board) -> None:
    async def main() -> list[Rates]:
        told: list[Rates] = []
        first = Sharing(node_with(board, max_bandwidth=900, max_requests_per_second=30.0), Limits(), told.append)
        own = Limits(max_bandwidth=100)
        second = Sharing(node_with(board, max_bandwidth=900, max_requests_per_second=30.0), own, lambda _: None)
        async with first.running():
            assert told == [Rates(bytes=900, requests=30.0)]
            async with second.running():
                await until(lambda: len(told) == 2)
            await until(lambda: len(told) == 3)  # though nobody closed it
        await until(lambda: not board.look())
        await first.close()
        await second.close()
        return told

    assert asyncio.run(main()) == [
        Rates(bytes=900, requests=30.0), Rates(bytes=800, requests=15.0), Rates(bytes=900, requests=30.0)
    ]  # fmt: skip


def test_share_is_said_on_the_board_and_one_that_is_silent_has_none(board: Board) -> None:
    name = board.new_name()

    async def main() -> None:
        told: list[Rates] = []
        board.post(name, Taking())
        one = Sharing(node_with(board, max_bandwidth=900), Limits(max_requests_per_second=5.0), told.append)
        async with one.running():
            said = [record.says for record in board.look() if record.name != name]
            assert said == [Taking(bytes=450, requests=5.0, most_requests=5.0)]
            await until(lambda: told == [Rates(bytes=450, requests=5.0)])
            sharing_silence(0.0)
            await until(lambda: told[1:] == [Rates(bytes=900, requests=5.0)])
        await one.close()
        assert [record.name for record in board.look()] == [name]

    with pytest.MonkeyPatch.context() as patch:

        def sharing_silence(seconds: float) -> None:
            patch.setattr(sharing, "_SILENT_AFTER_S", seconds)

        asyncio.run(main())


def test_engine_is_held_to_the_share(board: Board) -> None:
    """What the native limiter does with it, tests/c/test_engine.c shows."""

    async def main() -> None:
        other = Sharing(node_with(board, max_bandwidth=8 * MIB), Limits(), lambda _: None)
        async with Transfer(node=node_with(board, max_bandwidth=8 * MIB, max_requests_per_second=50.5)) as transfer:
            assert transfer.engine.stats()["bytes_per_second"] == 0
            async with transfer.shared.running():
                assert transfer.stats()["bytes_per_second"] == 8 * MIB
                assert transfer.stats()["requests_per_1000_s"] == 50_500
                async with other.running():
                    await until(lambda: transfer.stats()["bytes_per_second"] == 4 * MIB)
        await other.close()

    asyncio.run(main())


def test_engine_that_starts_later_starts_with_the_share(board: Board) -> None:
    async def main() -> None:
        limits = Limits(max_bandwidth=MIB)
        for most, share in ((limits, MIB), (Limits(), 8 * MIB)):
            node = node_with(Board(board.path), max_bandwidth=8 * MIB)
            async with Transfer(node=node, limits=most) as transfer, transfer.shared.running():
                assert transfer.engine.stats()["bytes_per_second"] == share

    asyncio.run(main())


def test_without_limits_nothing_is_said(board: Board) -> None:
    async def main() -> None:
        async with Transfer(node=node_with(board)) as transfer, transfer.shared.running():
            assert board.look() == []

    asyncio.run(main())


def test_library_honours_the_site_as_the_command_line_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site.toml").write_text("[node]\ntrees_per_user = 3\n")
    monkeypatch.setattr("stager.host.site.SITE_FILE", str(tmp_path / "site.toml"))
    monkeypatch.setattr("stager.host.site._OWNER", os.getuid())

    async def main() -> None:
        async with Transfer() as transfer:
            assert (await transfer.shared.node()).settings.trees_per_user == 3
            assert await transfer.shared.node() is await transfer.shared.node()

    asyncio.run(main())
