"""Small decisions of the pipeline."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stager.config import Remote
from stager.errors import UsageError
from stager.opening import open_source, travels_in_the_open
from stager.pipeline import SyncOptions, sync
from stager.transfer import Transfer
from stager.urls import parse_source


@pytest.mark.parametrize(
    ("endpoint", "open_"),
    [
        ("http://s3.example:9000", True), ("http://10.0.0.1", True), ("http://[fe80::1]:80", True),
        ("https://s3.example", False), ("http://127.0.0.1:9000", False), ("http://[::1]:9", False),
        ("http://localhost:1", False), ("", False),
    ],
)  # fmt: skip
def test_plain_http_is_warned_about_unless_it_stays_on_this_host(endpoint: str, open_: bool) -> None:
    assert travels_in_the_open(endpoint) is open_


def test_source_that_is_mounted_is_not_copied() -> None:
    with pytest.raises(UsageError, match="not copied"):
        open_source(parse_source("bind:/mnt/x"), remote=Remote(), transfer=Transfer())


@pytest.mark.parametrize("state", ["source", "source/made/here", "link/state"])
def test_state_inside_a_directory_that_is_copied_is_refused_and_not_made(tmp_path: Path, state: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "link").symlink_to("source")
    source = parse_source(f"file://{tmp_path}/source")

    async def run(state_dir: str) -> None:
        async with Transfer() as transfer:
            await sync(source, str(tmp_path / "dst"), transfer=transfer, options=SyncOptions(state_dir=state_dir))

    with pytest.raises(UsageError, match="the state directory lies in the source"):
        asyncio.run(run(str(tmp_path / state)))
    assert list((tmp_path / "source").iterdir()) == []
    asyncio.run(run(str(tmp_path / "beside")))
