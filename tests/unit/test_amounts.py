from __future__ import annotations

import pytest

from stager.amounts import parse_bytes, show_bytes


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0), ("0B", 0), ("17B", 17), ("1K", 1024), ("500k", 512_000), ("64M", 64 << 20), ("64MiB", 64 << 20),
        ("64MB", 64 << 20), ("1.5G", 3 << 29), ("2T", 2 << 40),
    ],
)  # fmt: skip
def test_amounts_are_powers_of_two(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", "M", "-1M", "1.5B", "1e3M", "64 M", "64X", "64Mbit", "64M/s", "1_0M", "\N{ARABIC-INDIC DIGIT THREE}M", "1M\n"],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_bytes(text)


def test_amount_beyond_every_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="'1048577T' is more than can be had: at most 1048576T"):
        parse_bytes("1048577T")


def test_number_without_a_unit_is_refused_because_tools_differ() -> None:
    with pytest.raises(ValueError, match="write 500K, 500M or 500G"):
        parse_bytes("500")


@pytest.mark.parametrize("amount", [0, 1, 1023, 1024, 1536, 5 << 20, (5 << 20) + 1, 3 << 30, 1 << 40, 1 << 50])
def test_amounts_are_shown_so_that_they_read_back(amount: int) -> None:
    assert parse_bytes(show_bytes(amount)) == amount
