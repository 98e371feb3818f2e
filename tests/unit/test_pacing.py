"""The control law against models of servers, in virtual time; and that it is carried out on a loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from stager.pacing import START_CONNECTIONS, Pacer
from stager.steering import Steering
from unit.pacing_server import MIB, Model, Second

SMALL = 16 << 10
SEEDS = range(1, 4)


def succeeded(seconds: Sequence[Second]) -> float:
    return sum(second.succeeded for second in seconds) / len(seconds)


def refused_share(seconds: Sequence[Second]) -> float:
    refused = sum(second.refused for second in seconds)
    return refused / (refused + sum(second.succeeded for second in seconds))


def received(seconds: Sequence[Second]) -> float:
    return sum(second.received for second in seconds) / len(seconds)


def connections(seconds: Sequence[Second]) -> list[int]:
    return [number for second in seconds for number in second.connections]


@pytest.mark.parametrize("seed", SEEDS)
def test_small_objects_reach_the_request_limit_within_ten_seconds_and_are_hardly_refused_after(seed: int) -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=SMALL, limit=5500, seed=seed)
    history = server.run(pacer, 30)
    assert succeeded(history[9:10]) >= 0.85 * 5500
    assert succeeded(history[10:]) >= 0.85 * 5500
    assert refused_share(history[10:]) < 0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_limit_that_is_halved_and_doubled_again_is_found_within_ten_seconds_each_time(seed: int) -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=SMALL, limit=5500, seed=seed)
    server.run(pacer, 15)
    for limit in (2750, 5500):
        server.limit = limit
        history = server.run(pacer, 25)
        assert succeeded(history[9:10]) >= 0.85 * limit
        assert succeeded(history[10:]) >= 0.85 * limit
        assert refused_share(history[10:]) < 0.01


@pytest.mark.parametrize("line", [0.3e9, 1.25e9, 3e9, 5e9])
def test_large_objects_reach_the_line(line: float) -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=16 * MIB, line_bytes=line)
    history = server.run(pacer, 40)
    assert received(history[5:]) >= 0.9 * line


def test_connections_that_do_not_help_are_given_back() -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=16 * MIB, line_bytes=3e9)
    server.run(pacer, 10)
    server.line_bytes = 0.5e9
    history = server.run(pacer, 240)
    assert received(history[10:]) >= 0.9 * 0.5e9
    assert max(connections(history[200:])) <= 32


def test_more_than_needed_would_lower_goodput_and_are_not_used() -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=16 * MIB, line_bytes=2e9, costs_from=32)
    history = server.run(pacer, 60)
    assert received(history[10:]) >= 0.9 * 2e9
    assert sorted(connections(history[10:]))[len(history) * 10] <= 48


def test_line_that_grows_is_used() -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=16 * MIB, line_bytes=0.5e9)
    server.run(pacer, 30)
    server.line_bytes = 4e9
    history = server.run(pacer, 60)
    assert received(history[45:]) >= 0.9 * 4e9


def test_server_that_takes_only_so_many_at_once_is_not_overrun() -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=SMALL, most_at_once=40, tail=0)
    history = server.run(pacer, 30)
    assert refused_share(history[10:]) < 0.03
    assert succeeded(history[10:]) >= 0.65 * 40 / 0.0225  # of its capacity, as what is refused takes part of it too


def test_slow_server_with_a_small_limit_is_found() -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=SMALL, limit=20, limit_burst_s=0.5, first_byte_s=0.3)
    history = server.run(pacer, 60)
    assert succeeded(history[10:]) >= 0.75 * 20
    assert refused_share(history[10:]) < 0.1


def test_outage_is_waited_for_and_left_behind() -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=SMALL, limit=5500)
    server.run(pacer, 10)
    server.limit, server.limit_burst_s = 0.5, 0.0
    outage = server.run(pacer, 10)
    assert sum(second.refused for second in outage[3:]) < 100
    server.limit, server.limit_burst_s = 5500, 0.05
    history = server.run(pacer, 35)
    assert succeeded(history[30:]) >= 0.85 * 5500


@pytest.mark.parametrize("most", [1, 3, 7, 20])
def test_maximum_is_never_passed_and_always_some_are_allowed(most: int) -> None:
    pacer, server = Pacer(most=most), Model(object_bytes=SMALL, limit=300)
    history = server.run(pacer, 30)
    assert 1 <= min(connections(history)) <= max(connections(history)) <= most


def test_nothing_is_learnt_while_there_is_too_little_to_do() -> None:
    pacer, server = Pacer(most=256), Model(object_bytes=SMALL)
    history = server.run(pacer, 60, demand=4)
    assert set(connections(history)) == {START_CONNECTIONS}


@dataclass
class FakeEndpoint:
    """Has sent and received as much as the test says, and knows what it was told."""

    counters: dict[str, int] = field(default_factory=lambda: {"sent": 0, "received": 0, "open": 0, "busy": 0})
    told: list[tuple[int, float]] = field(default_factory=list)
    told_again: asyncio.Event = field(default_factory=asyncio.Event)

    def pace(self, *, connections: int, requests_per_second: float) -> None:
        if self.told:
            self.told_again.set()
        self.told.append((connections, requests_per_second))

    def used(self) -> dict[str, int]:
        return dict(self.counters)


def test_endpoint_is_told_what_follows_from_what_was_measured() -> None:
    endpoint = FakeEndpoint()

    async def main() -> None:
        steering = Steering(endpoint, most=100)
        with steering.running(), steering.running():
            endpoint.counters |= {"sent": 60, "busy": 16}
            steering.succeeded(30)
            steering.refused()
            await endpoint.told_again.wait()
        assert steering._timer is None

    asyncio.run(main())
    assert endpoint.told[0] == (START_CONNECTIONS, 0.0)
    assert endpoint.told[1][0] == START_CONNECTIONS
    assert endpoint.told[1][1] > 0
