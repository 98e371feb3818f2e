"""What job scripts import: the same file finds its data in a job and at home."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager import get_data_path, get_logs_path


@pytest.mark.parametrize("value", ["1", "true", "True", "yes", "any"])
def test_in_a_job_paths_are_those_of_the_view(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CLUSTERONE_CLOUD", value)
    assert get_data_path("alice/mnist", "~/d", "repo", "train/x.gz") == "/data/alice/mnist/train/x.gz"
    assert get_data_path("alice/mnist", "~/d", "repo", "/train") == "/data/alice/mnist/train"
    assert get_data_path("alice/mnist", "~/d", "repo", "") == "/data/alice/mnist/"
    assert get_logs_path("logs") == "/logs/"


@pytest.mark.parametrize("value", [None, "", "0", "false", "False", "no", "off", " "])
def test_elsewhere_paths_are_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("CLUSTERONE_CLOUD", raising=False)
    else:
        monkeypatch.setenv("CLUSTERONE_CLOUD", value)
    monkeypatch.chdir(tmp_path)
    assert get_data_path("alice/mnist", "data", "repo", "x") == f"{tmp_path}/data/repo/x"
    assert get_data_path("alice/mnist", "/srv", "repo", "/x") == "/srv/repo/x"
    assert get_logs_path("logs") == f"{tmp_path}/logs"
    home = os.path.expanduser("~")
    assert get_data_path("alice/mnist", "~/d", "repo", "x") == f"{home}/d/repo/x"
    assert get_logs_path("~/l") == f"{home}/l"


@pytest.mark.parametrize("cloud", ["", "1"])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("alice/mnist", "../x"),
        ("alice/mnist", "a/../../x"),
        ("alice/mnist", "//etc"),
        ("alice/mnist", "a\0b"),
        ("/etc/x", "x"),
        ("../x", "x"),
        ("alice/..", "x"),
        ("alice", "x"),
        ("a/b/c", "x"),
        ("", "x"),
    ],
)
def test_names_that_lead_outside_are_refused(
    monkeypatch: pytest.MonkeyPatch, cloud: str, name: str, path: str
) -> None:
    monkeypatch.setenv("CLUSTERONE_CLOUD", cloud)
    with pytest.raises(ValueError, match="must"):
        get_data_path(name, "/srv", "repo", path)


def test_local_repo_that_leads_outside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLUSTERONE_CLOUD", raising=False)
    for repo in ("../x", "/etc"):
        with pytest.raises(ValueError, match="local_repo"):
            get_data_path("a/b", "/srv", repo, "x")
