"""The places for data as site and user say them, and a dataset's wish in a job file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.errors import HostError, SpecError
from stager.host.placement_settings import RootSetting, chosen_placement, user_file, user_placement
from stager.host.site import site_limits, site_placement
from stager.model import JobSpec
from stager.placement import DeviceClass, Rules
from stager.stages.spec import parse_spec

OWN = os.getuid()


def user(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / ".config/stager/stager.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return {"HOME": str(tmp_path)}


def site(tmp_path: Path, text: str) -> str:
    (tmp_path / "site.toml").write_text(text)
    return str(tmp_path / "site.toml")


def test_site_says_roots_floor_and_class_beside_its_limits(tmp_path: Path) -> None:
    path = site(
        tmp_path,
        '[limits]\nmax_connections = 4\n[placement]\nfloor = "5%"\n'
        'roots = ["/a/", { path = "/b", class = "nvme" }, "//c"]\n',
    )
    found = site_placement(path, owner=OWN)
    nvme = RootSetting(path="/b", device_class=DeviceClass.NVME)
    assert found.roots == (RootSetting(path="/a"), nvme, RootSetting(path="/c"))
    assert (found.floor_share, found.floor_bytes, found.discover) == (0.05, None, None)
    assert site_limits(path, owner=OWN).max_connections == 4


def test_users_roots_replace_the_sites_and_the_larger_floor_counts(tmp_path: Path) -> None:
    lower = user_placement(user(tmp_path, '[placement]\nroots = ["/mine"]\nfloor = "1%"\n'))
    text = '[placement]\nroots = [{ path = "/mine", class = "ssd" }, "/b"]\nfloor = "5%"\n'
    both = chosen_placement(site_placement(site(tmp_path, text), owner=OWN), lower)
    assert both.roots == (RootSetting(path="/mine"),)
    assert both.classes == {"/mine": DeviceClass.SSD}
    assert both.rules == Rules(floor_bytes=0, floor_share=0.05)
    assert both.discover is False
    assert both.roots_from.endswith("/.config/stager/stager.toml")
    more = user_placement(user(tmp_path, '[placement]\nfloor = "20G"\ndiscover = true\n'))
    both = chosen_placement(site_placement(site(tmp_path, text), owner=OWN), more)
    assert both.rules == Rules(floor_bytes=20 << 30, floor_share=0.05)
    assert (both.discover, len(both.roots)) == (True, 2)


def test_without_files_the_node_is_searched(tmp_path: Path) -> None:
    none = user_placement({"HOME": str(tmp_path)})
    chosen = chosen_placement(none, user_placement({}))
    assert (chosen.discover, chosen.roots, chosen.rules) == (True, (), Rules())


def test_users_file_is_where_the_desktop_has_such_files() -> None:
    assert user_file({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == "/x/stager/stager.toml"
    assert user_file({"HOME": "/h", "XDG_CONFIG_HOME": "relative"}) == "/h/.config/stager/stager.toml"
    assert user_file({}) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\nmax_connections = 4\n", r"limits: no such key; known are \[placement\], \[cache\]"),
        ("placement = 4\n", r"placement: is a table"),
        ("[placement]\nroot = 4\n", r"placement\.root: no such key; known are roots, discover, floor"),
        ('[placement]\nroots = "/a"\n', r"placement\.roots: a list"),
        ('[placement]\nroots = ["a"]\n', r"placement\.roots\[1\]\.path: an absolute path, not 'a'"),
        ('[placement]\nroots = ["/a/../b"]\n', r"placement\.roots\[1\]\.path"),
        ('[placement]\nroots = ["/a", "/a/"]\n', r"placement\.roots\[2\]: '/a' is there twice"),
        ('[placement]\nroots = [{ path = "/a", class = "fast" }]\n', r"class: one of instance-nvme, nvme"),
        ('[placement]\nroots = [{ path = "/a", class = ["nvme"] }]\n', r"class: one of"),
        ('[placement]\nroots = [{ path = "/a", kind = "nvme" }]\n', r"roots\[1\]\.kind: no such key"),
        ('[placement]\nfloor = "20"\n', r"placement\.floor: '20' has no unit"),
        ('[placement]\nfloor = "100%"\n', r"placement\.floor"),
        ("[placement]\nfloor = true\n", r"placement\.floor"),
        ('[placement]\ndiscover = "yes"\n', r"placement\.discover: true or false"),
    ],
)
def test_what_is_not_understood_is_an_error_that_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(HostError, match=said) as caught:
        user_placement(user(tmp_path, text))
    assert str(tmp_path) in str(caught.value)


def test_users_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    environ = user(tmp_path, "")
    (tmp_path / ".config/stager/stager.toml").chmod(0o666)
    with pytest.raises(HostError, match="others than you may write your configuration"):
        user_placement(environ)


def job(place: str, source: str = "s3://b/p/") -> JobSpec:
    text = f'version = 1\n[job]\nname = "j"\n[[dataset]]\nname = "a/b"\nsource = "{source}"\n{place}\n'
    return parse_spec(text.encode(), where="JOB.toml", base="/base")


@pytest.mark.parametrize("place", ["any", "nvme", "ram", "/scratch/fast"])
def test_dataset_says_where_it_wants_to_lie(place: str) -> None:
    assert job(f'place = "{place}"').datasets[0].place == place
    assert job("").datasets[0].place == "any"


@pytest.mark.parametrize("place", ["fast", "a/b", "", "/a/../b", "NVMe"])
def test_place_that_is_none_is_a_mistake_with_its_line(place: str) -> None:
    with pytest.raises(SpecError) as caught:
        job(f'place = "{place}"')
    (problem,) = caught.value.problems
    assert problem.startswith("dataset[1].place (line 7): ")
    assert problem.endswith('is none of "any", "nvme", "ram", and no absolute path')


@pytest.mark.parametrize("place", ["nvme", "/a"])
def test_what_is_mounted_has_no_place(place: str) -> None:
    with pytest.raises(SpecError, match="is for what is copied"):
        job(f'place = "{place}"', source="bind:/mnt/efs")
