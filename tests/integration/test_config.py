"""``stager config``: every setting, its value, and who said it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from integration.sync_driver import Outcome, SyncHere


@pytest.fixture
def sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SyncHere:
    """With files of site and user, in places of the test's own."""
    site, user = tmp_path / "site.toml", tmp_path / "config/stager/stager.toml"
    user.parent.mkdir(parents=True)
    site.write_text(
        '[limits]\nmax_connections = 7\nmax_bandwidth = "80M"\n'
        '[placement]\nroots = ["/a", { path = "/b", class = "nvme" }]\nfloor = "20G"\n'
        '[storage]\nuser = "/nfs/users"\ncloud = "lab"\n'
        '[node]\ntrees_per_user = 9\nreserved_per_user = "2T"\n'
    )
    user.write_text('[placement]\ndiscover = true\nfloor = "5%"\n')
    monkeypatch.setattr("stager.host.site.SITE_FILE", str(site))
    monkeypatch.setattr("stager.host.site._OWNER", os.getuid())
    return SyncHere("", tmp_path, {"XDG_CONFIG_HOME": str(tmp_path / "config"), "STAGER_SCRATCH": ""})


def said(done: Outcome) -> dict[str, tuple[Any, str]]:
    assert done.code == 0, done.err
    return {event["name"]: (event["value"], event["source"]) for event in done.events}


def test_each_setting_has_its_value_and_the_file_that_says_it(sync: SyncHere, tmp_path: Path) -> None:
    found = said(sync.command("config", "--json"))
    site, user = f"{tmp_path}/site.toml", f"{tmp_path}/config/stager/stager.toml"
    assert found["placement.roots"] == ([{"path": "/a", "class": None}, {"path": "/b", "class": "nvme"}], site)
    assert found["placement.discover"] == (True, user)
    assert found["placement.floor"] == ({"bytes": 20 << 30, "share": 0.05}, f"{site} and {user}")
    assert found["limits.max_connections"] == (7, site)
    assert found["limits.max_bandwidth"] == (80 << 20, site)
    assert found["limits.memory"] == (64 << 20, "default")
    assert found["scratch"] == (None, "default")
    assert found["node.trees_per_user"] == (9, site)
    assert found["node.reserved_per_user"] == ({"bytes": 2 << 40, "share": None}, site)
    assert (found["storage.user"], found["storage.shared"]) == (("/nfs/users/lab", site), (None, "default"))
    assert found["node.max_bandwidth"] == found["node.directory"] == (None, "default")


def test_environment_and_command_line_stand_above_files(sync: SyncHere) -> None:
    environment = {"STAGER_SCRATCH": "/env", "AWS_PROFILE": "lab", "HTTPS_PROXY": "http://user:hunter2@proxy:3128"}
    done = sync.command("config", "--json", "--max-connections", "3", environment=environment)
    found = said(done)
    assert found["scratch"] == ("/env", "STAGER_SCRATCH")
    assert found["limits.max_connections"] == (3, "--max-connections")
    assert found["s3.profile"] == ("lab", "AWS_PROFILE")
    assert found["proxy.https"] == ("http://proxy:3128", "HTTPS_PROXY")
    assert "hunter2" not in done.out + done.err
    assert said(sync.command("config", "--json", "--scratch", "/o", environment=environment))["scratch"] == (
        "/o", "--scratch",
    )  # fmt: skip


def test_page_for_people_has_a_line_for_each(sync: SyncHere, tmp_path: Path) -> None:
    text = sync.command("config").out
    assert f"placement.roots                 /a, /b (nvme)  [{tmp_path}/site.toml]\n" in text
    assert f"placement.floor                 20G, or more: 5%  [{tmp_path}/site.toml and " in text


def test_option_that_the_site_does_not_allow_is_refused(sync: SyncHere) -> None:
    assert sync.command("config", "--max-connections", "8").code == 2
