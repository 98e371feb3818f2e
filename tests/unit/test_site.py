"""The site's maxima: read only from what root alone can have written, and never half."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.config import SiteLimits
from stager.errors import HostError
from stager.host.node_settings import NodeSettings
from stager.host.principal_settings import PrincipalSettings
from stager.host.site import SITE_FILE, site_limits, site_node, site_principals

OWN = os.getuid()


def write(path: Path, text: str | bytes, mode: int = 0o644) -> str:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return str(path)


def test_file_is_where_only_root_can_put_it() -> None:
    assert SITE_FILE == "/etc/stager/site.toml"


def test_no_file_is_no_limit(tmp_path: Path) -> None:
    assert site_limits(str(tmp_path / "site.toml"), owner=OWN) == SiteLimits()
    assert site_limits(str(tmp_path / "none" / "site.toml"), owner=OWN) == SiteLimits()


def test_limits_are_read(tmp_path: Path) -> None:
    text = '[limits]\nmax_connections = 64\nmax_bandwidth = "500M"\nmax_requests_per_second = 2000\nmemory = "256M"\n'
    assert site_limits(write(tmp_path / "site.toml", text), owner=OWN) == SiteLimits(
        max_connections=64, max_bandwidth=500 << 20, max_requests_per_second=2000.0, memory_bytes=256 << 20
    )
    assert site_limits(write(tmp_path / "site.toml", ""), owner=OWN) == SiteLimits()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\nconnections = 4\n", r"limits\.connections: no such key; known are max_connections"),
        ("[limit]\nmax_connections = 4\n", r"limit: no such key"),
        ("limits = 4\n", r"limits: is a table"),
        ("[limits]\nmax_connections = 0\n", r"limits\.max_connections: a whole number from 1"),
        ("[limits]\nmax_connections = true\n", r"limits\.max_connections"),
        ("[limits]\nmax_connections = 1.5\n", r"limits\.max_connections"),
        ('[limits]\nmax_bandwidth = "500"\n', r"limits\.max_bandwidth: '500' has no unit"),
        ('[limits]\nmax_bandwidth = "1B"\n', r"limits\.max_bandwidth: at least 1K"),
        ('[limits]\nmemory = "64K"\n', r"limits\.memory: at least 1M"),
        ("[limits]\nmemory = []\n", r"limits\.memory"),
        ("[limits]\nmax_bandwidth = 99999999999999999999\n", r"limits\.max_bandwidth: at most 1048576T"),
        ("[limits]\nmax_requests_per_second = nan\n", r"limits\.max_requests_per_second"),
        ("[limits\n", "not TOML"),
        (b"\xff", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
        ("#" * 70_000, "over 64 KiB"),
    ],
)
def test_what_is_not_understood_is_an_error_that_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "site.toml", text)
    with pytest.raises(HostError, match=said) as caught:
        site_limits(path, owner=OWN)
    assert caught.value.exit_code == 6
    assert path in str(caught.value)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(HostError, match="others than root may write"):
        site_limits(write(tmp_path / "site.toml", "", mode), owner=OWN)


def test_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=f"belongs to user {OWN}, not to root"):
        site_limits(write(tmp_path / "site.toml", ""), owner=OWN + 1)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(HostError, match="not a regular file"):
            site_limits(str(path), owner=OWN)


def test_symlink_loop_is_an_error_and_not_no_limit(tmp_path: Path) -> None:
    (tmp_path / "site.toml").symlink_to("site.toml")
    with pytest.raises(HostError, match="cannot read the site's configuration"):
        site_limits(str(tmp_path / "site.toml"), owner=OWN)


def test_what_all_stagers_of_the_node_share_is_read(tmp_path: Path) -> None:
    text = (
        '[node]\ndirectory = "/run/stager/"\nmax_bandwidth = "2G"\nmax_requests_per_second = 10000\n'
        'reserved_per_user = "12.5%"\ntrees_per_user = 20\njobs_per_node = 1\n[limits]\nmax_connections = 4\n'
    )
    path = write(tmp_path / "site.toml", text)
    found = site_node(path, owner=OWN)
    assert found == NodeSettings(
        file=path, directory="/run/stager", max_bandwidth=2 << 30, max_requests_per_second=10000.0,
        reserved_share=0.125, trees_per_user=20, jobs_per_node=1,
    )  # fmt: skip
    assert found.told() == {
        "max_bandwidth": "2G", "max_requests_per_second": "10000", "reserved_per_user": "12.5%", "trees_per_user": "20",
        "jobs_per_node": "1",
    }  # fmt: skip
    assert site_limits(path, owner=OWN).max_connections == 4
    write(tmp_path / "site.toml", '[node]\nreserved_per_user = "2T"\n')
    assert site_node(path, owner=OWN) == NodeSettings(file=path, reserved_bytes=2 << 40)
    assert site_node(str(tmp_path / "none"), owner=OWN) == NodeSettings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("node = 4\n", r"node: is a table"),
        ("[node]\ntrees = 4\n", r"node\.trees: no such key; known are directory, max_bandwidth"),
        ('[node]\ndirectory = "run"\n', r"node\.directory: an absolute path"),
        ('[node]\ndirectory = "/run/../tmp"\n', r"node\.directory: an absolute path"),
        ('[node]\nmax_bandwidth = "1G"\n', r"node\.directory: is needed for limits that all stagers of the node share"),
        ('[node]\nreserved_per_user = "101%"\n', r"node\.reserved_per_user: .* or a share like"),
        ("[node]\ntrees_per_user = 0\n", r"node\.trees_per_user: a whole number from 1"),
    ],
)
def test_what_is_not_understood_of_the_node_is_an_error_too(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(HostError, match=said):
        site_node(write(tmp_path / "site.toml", text), owner=OWN)


def test_nothing_is_allowed_to_principals_but_what_stands_there(tmp_path: Path) -> None:
    path = write(tmp_path / "site.toml", '[principals]\nallowed_binds = ["/mnt/efs", "/nfs"]\n')
    assert site_principals(str(tmp_path / "none"), owner=OWN) == PrincipalSettings()
    assert site_principals(path, owner=OWN) == PrincipalSettings(file=path, allowed_binds=("/mnt/efs", "/nfs"))


PATHS = ('"/m"', '["m"]', '["/"]', '["//"]', '["/m/"]', '["/m/../etc"]', '["//m"]', "[1]", '[""]')


@pytest.mark.parametrize("said", PATHS)
@pytest.mark.parametrize("key", ["allowed_binds", "allowed_public"])
def test_paths_that_could_mean_another_place_are_refused(tmp_path: Path, key: str, said: str) -> None:
    with pytest.raises(HostError, match=f"principals.{key}: a list of absolute paths"):
        site_principals(write(tmp_path / "site.toml", f"[principals]\n{key} = {said}\n"), owner=OWN)
