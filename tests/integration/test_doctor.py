"""``stager doctor``: the order of places, what is measured, what blocks namespaces, what old jobs left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import xxhash

from integration.job_driver import PROGRAM as STAGER
from integration.job_driver import Node
from integration.other_user import python_for, readable_copy
from integration.real_disks import disk, mount

pytestmark = pytest.mark.root

MIB = 1 << 20
PROGRAM = "import json, sys; from stager.host.survey_mounts import try_mounts; json.dump(try_mounts(), sys.stdout)"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Its settings name a plain disk, one said to be NVMe, a tmpfs and a directory of another user."""
    with ExitStack() as stack:
        for name in ("plain", "fast"):
            stack.enter_context(disk(tmp_path / name, "ext4", size=48 * MIB))
        stack.enter_context(mount(tmp_path / "ram", "tmpfs", "tmpfs", "size=8m"))
        (tmp_path / "fast/foreign").mkdir(mode=0o777)
        (tmp_path / "fast/foreign").chmod(0o777)
        settings = tmp_path / "config/stager/stager.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text(
            f'[placement]\nroots = ["{tmp_path}/plain", "{tmp_path}/ram", "{tmp_path}/fast/foreign/x",'
            f' {{ path = "{tmp_path}/fast", class = "nvme" }}]\n'
        )
        yield Node(tmp_path, {"STAGER_SCRATCH": "", "XDG_CONFIG_HOME": str(tmp_path / "config")})


def doctor(node: Node, *options: str) -> tuple[int, list[dict[str, Any]]]:
    done = node.stager("doctor", "--json", *options)
    return done.code, [json.loads(line) for line in done.out.splitlines()]


def test_places_come_in_order_with_class_room_and_reasons(node: Node) -> None:
    code, events = doctor(node)
    assert code == 0, events
    places = [event for event in events if event["event"] == "place"]
    assert [(Path(place["path"]).name, place["rank"], place["device_class"]) for place in places] == [
        ("fast", 1, "nvme"), ("plain", 2, "virtual"), ("ram", None, "ram"), ("x", None, "virtual"),
    ]  # fmt: skip
    assert places[2]["why_not"] == 'only for who asks: place = "ram"'
    assert "can be written by others" in places[3]["why_not"]
    (scratch,) = [event for event in events if event.get("what") == "scratch"]
    assert scratch["found"].startswith(f"{node.root}/fast (ext4, ")
    text = node.stager("doctor").out
    assert f"1. {node.root}/fast: nvme, by configuration; found was virtual" in text
    assert text.endswith("ready\n")


def test_measured_rates_are_kept_with_their_date_and_told_the_next_time(node: Node) -> None:
    code, events = doctor(node, "--measure")
    assert code == 0, events
    _, events = doctor(node)
    places = {Path(event["path"]).name: event for event in events if event["event"] == "place"}
    for name in ("fast", "plain"):
        assert places[name]["measured"]["bytes_per_s"] > 1 << 20
        assert places[name]["measured"]["time"].startswith("20")
        assert round(places[name]["rate"]) == places[name]["measured"]["bytes_per_s"]
    assert places["ram"]["measured"] is None


def test_node_without_user_namespaces_names_the_setting_that_forbids_them() -> None:
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'  # for what is below this namespace alone
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", forbid, "sh", sys.executable, "-c", PROGRAM],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    tried = json.loads(done.stdout)
    assert "set /proc/sys/user/max_user_namespaces to at least 1000" in tried["user namespace"]


def test_ability_that_is_there_is_told_by_nothing_and_no_mount_is_left() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    tried = json.loads(done.stdout)
    assert {name for name, why in tried.items() if not why} >= {"mount namespace", "tmpfs", "bind", "read-only bind"}
    assert [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " /tmp " in line] == [
        line for line in before.splitlines() if " /tmp " in line
    ]


def test_job_whose_logs_are_kept_nowhere_is_named_with_what_to_do(node: Node, tmp_path: Path) -> None:
    scratch = str(tmp_path / "own")
    ran = node.stager("run", "--scratch", scratch, "--job-id", "left", "--", "sh", "-c", "echo x > /logs/x")
    assert ran.code == 0, ran.err
    told = node.stager("doctor", "--scratch", scratch).out
    assert f"job left (ended): its logs are kept nowhere else: copy {scratch}/jobs/left/tree/logs" in told


def test_ordinary_user_is_told_what_that_user_can_have() -> None:
    user = 4711
    base = Path(tempfile.mkdtemp(prefix="stager-user-"))
    try:
        base.chmod(0o755)
        library = readable_copy(base / "library")
        shutil.copytree(Path(xxhash.__file__).parent, library / "xxhash")
        python = python_for(user, library)
        (base / "closed").mkdir(mode=0o755)
        (base / "open").mkdir()
        (base / "open").chmod(0o1777)
        settings = base / "config/stager/stager.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text(f'[placement]\nroots = ["{base}/closed", "{base}/open"]\n')
        program = f"import sys; sys.path.insert(0, {str(library)!r}); {STAGER}"
        done = subprocess.run(
            [python, "-I", "-c", program, "doctor", "--json"], user=user, group=user, extra_groups=[], cwd="/",
            env={"PATH": os.environ["PATH"], "HOME": str(base), "XDG_CONFIG_HOME": str(base / "config")},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        why_not = {Path(event["path"]).name: event["why_not"] for event in events if event["event"] == "place"}
        assert why_not == {"open": "", "closed": "you cannot write there"}
        assert (base / "open" / f"stager-{user}").stat().st_uid == user
    finally:
        shutil.rmtree(base)


def test_settings_that_are_wrong_are_a_problem_and_not_ready(node: Node) -> None:
    (node.root / "config/stager/stager.toml").write_text("[placement]\nfloor = 3.5\n")
    code, events = doctor(node)
    assert code == 6
    assert events[-1]["ready"] is False
    assert any(event.get("state") == "problem" and "placement.floor" in event["found"] for event in events)
