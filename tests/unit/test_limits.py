"""What a command may take: options, the site's maxima, and what this node has."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from stager.cli import main
from stager.cli.limits import chosen_limits, limit_options, show_limits
from stager.config import Limits, SiteLimits
from stager.errors import HostError, UsageError
from stager.host import site

MIB = 1 << 20


@pytest.fixture
def site_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stands for root's file; the test's own user stands for root."""
    path = tmp_path / "site.toml"
    monkeypatch.setattr(site, "SITE_FILE", str(path))
    monkeypatch.setattr(site, "_OWNER", os.getuid())
    yield path


def chosen(*argv: str) -> Limits:
    """The limits that a command would have with these options."""
    found: list[Limits] = []

    @limit_options
    def run(**options: Any) -> None:
        found.append(chosen_limits(options))
        assert options == {}

    click.command()(run).main(list(argv), standalone_mode=False)
    return found[0]


def test_without_options_the_usual_limits_hold(site_file: Path) -> None:
    assert chosen() == Limits()


def test_options_are_taken_as_they_are(site_file: Path) -> None:
    limits = chosen(
        "--max-connections=3", "--max-bandwidth=1.5M", "--max-requests-per-second=2.5", "--memory=32M"
    )  # fmt: skip
    assert limits == Limits(
        max_connections=3, max_bandwidth=3 * MIB // 2, max_requests_per_second=2.5, memory_bytes=32 * MIB
    )
    assert chosen("--connections=3").max_connections == 3


def test_little_memory_is_cut_into_smaller_buffers(site_file: Path) -> None:
    limits = chosen("--memory=1M")
    assert (limits.memory_bytes, limits.buffer_bytes) == (MIB, 64 << 10)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--memory=1023K", "1023K is too little: the least that works is 1M"),
        ("--memory=64", "no unit"),
        ("--max-bandwidth=fast", "not an amount"),
        ("--max-bandwidth=1B", "the least that works is 1K"),
        ("--max-connections=0", "not in the range"),
        ("--max-bandwidth=0", "0 is too little"),
        ("--max-bandwidth=9999999T", "more than can be had"),
        ("--max-requests-per-second=0", "not in the range"),
        ("--max-requests-per-second=nan", "nan is no number"),
    ],
)
def test_amount_that_is_none_or_too_little_is_refused(site_file: Path, option: str, said: str) -> None:
    with pytest.raises(click.BadParameter, match=said):
        chosen(option)


def test_memory_that_the_node_does_not_have_is_refused(site_file: Path) -> None:
    with pytest.raises(UsageError, match="more memory than this node has left"):
        chosen("--memory=1000T")


@pytest.mark.parametrize(("files", "usual", "most"), [(256, 64, 128), (1024, 256, 512)])
def test_connections_fit_the_files_that_may_be_open(site_file: Path, files: int, usual: int, most: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, before[1]))
    try:
        assert chosen().max_connections == usual
        assert chosen(f"--max-connections={most}").max_connections == most
        with pytest.raises(UsageError, match=f"ask for at most {most}, or raise the limit with ulimit -n"):
            chosen(f"--max-connections={most + 1}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_fewer_files_than_work_are_refused(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (63, 63))  # the servers of this process's tests have as many
    with pytest.raises(HostError, match="may open 63 files, and 64 are the least that works; raise the limit"):
        chosen()


def test_site_bounds_what_was_not_asked_for(site_file: Path) -> None:
    site_file.write_text('[limits]\nmax_connections = 5\nmax_bandwidth = "1M"\nmemory = "8M"\n')
    assert chosen() == Limits(
        max_connections=5, max_bandwidth=MIB, memory_bytes=8 * MIB, buffer_bytes=64 << 10
    )


def test_user_can_ask_for_less_than_the_site_allows_and_never_for_more(site_file: Path) -> None:
    site_file.write_text(
        '[limits]\nmax_connections = 5\nmax_bandwidth = "1M"\nmax_requests_per_second = 10\nmemory = "8M"\n'
    )
    less = chosen("--max-connections=4", "--max-bandwidth=900K", "--max-requests-per-second=9", "--memory=4M")
    assert (less.max_connections, less.max_bandwidth) == (4, 900 << 10)
    assert (less.max_requests_per_second, less.memory_bytes) == (9.0, 4 * MIB)
    for option in ("--max-connections=6", "--max-bandwidth=2M", "--max-requests-per-second=11", "--memory=9M"):
        with pytest.raises(UsageError, match="is more than this site allows") as caught:
            chosen(option)
        assert caught.value.exit_code == 2
        assert str(site_file) in str(caught.value)


def test_command_ends_when_the_sites_file_cannot_be_believed(
    site_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site_file.write_text("[limits]\nmax_speed = 4\n")
    assert main(["sync", f"file://{tmp_path}", str(tmp_path / "dst")]) == 6
    said = capsys.readouterr().err
    assert "limits.max_speed" in said
    assert str(site_file) in said


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300"])
def test_stall_timeout_that_is_no_time_is_refused(
    seconds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sync", f"file://{tmp_path}", str(tmp_path / "dst"), "--stall-timeout", seconds]) == 2
    assert "--stall-timeout" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sync", "stage", "run"])
def test_every_command_that_moves_data_has_the_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    for option in ("--max-connections", "--max-bandwidth RATE", "--max-requests-per-second N", "--memory SIZE"):
        assert option in said


def test_limits_of_the_site_are_shown() -> None:
    assert show_limits(SiteLimits()) == "none"
    shown = show_limits(SiteLimits(max_connections=4, max_bandwidth=3 * MIB, max_requests_per_second=0.5))
    assert shown == "--max-connections 4, --max-bandwidth 3M, --max-requests-per-second 0.5"
