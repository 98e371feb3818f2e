"""What job scripts import: the same file finds its data in a job and at home."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

from stager import get_data_path, get_logs_path
from stager.shim import DIRECTORY


@pytest.mark.parametrize("value", ["1", "true", "True", "yes", "any"])
def test_c15_c18_in_a_job_paths_are_those_of_the_view(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CLUSTERONE_CLOUD", value)
    assert get_data_path("alice/mnist", "~/d", "repo", "train/x.gz") == "/data/alice/mnist/train/x.gz"
    assert get_data_path("alice/mnist", "~/d", "repo", "/train") == "/data/alice/mnist/train"
    assert get_data_path("alice/mnist", "~/d", "repo", "") == "/data/alice/mnist/"
    assert get_logs_path("logs") == "/logs/"


@pytest.mark.parametrize("value", [None, "", "0", "false", "False", "no", "off", " "])
def test_c15_c18_elsewhere_paths_are_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None) -> None:
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
def test_c17_names_that_lead_outside_are_refused(
    monkeypatch: pytest.MonkeyPatch, cloud: str, name: str, path: str
) -> None:
    monkeypatch.setenv("CLUSTERONE_CLOUD", cloud)
    with pytest.raises(ValueError, match="must"):
        get_data_path(name, "/srv", "repo", path)


def test_c17_local_repo_that_leads_outside_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLUSTERONE_CLOUD", raising=False)
    for repo in ("../x", "/etc"):
        with pytest.raises(ValueError, match="local_repo"):
            get_data_path("a/b", "/srv", repo, "x")


def test_c16_a_directory_called_data_is_no_sign_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root directory, where this may be run, has one then."""
    monkeypatch.delenv("CLUSTERONE_CLOUD", raising=False)
    monkeypatch.setattr(os.path, "isdir", lambda _: True)
    monkeypatch.setattr(os.path, "exists", lambda _: True)
    assert get_data_path("a/b", "/srv", "repo", "x") == "/srv/repo/x"


def test_module_for_scripts_needs_nothing_and_is_read_by_old_pythons() -> None:
    text = (Path(DIRECTORY) / "clusterone.py").read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert imported == ["os"] and not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))
    newer = {"removeprefix", "removesuffix", "fspath"}
    assert not newer & {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert get_data_path.__module__ == "stager.shim.clusterone" and "clusterone" not in sys.modules
