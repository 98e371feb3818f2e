"""Small decisions of the pipeline."""

from __future__ import annotations

import pytest

from stager.config import Remote
from stager.errors import UsageError
from stager.pipeline import open_source, travels_in_the_open
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
