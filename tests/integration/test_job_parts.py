"""Datasets of one job on several disks: found, shown, verified and removed as if they lay in one tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.node_of_disks import MIB, Disks, node_of_disks, some_id
from integration.real_disks import mount
from servers.repositories import make_repository

pytestmark = pytest.mark.root


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    with node_of_disks(tmp_path) as disks:
        yield disks


def two(disks: Disks, first: str, second: str) -> str:
    """A job file of two datasets, 4 and 2 MiB, that ask for these places."""
    return disks.node.write_job(
        f'[[dataset]]\nname = "a/x"\nsource = "{disks.source(4)}"\nplace = "{first}"\n'
        f'[[dataset]]\nname = "a/y"\nsource = "{disks.source(2)}"\nplace = "{second}"\n'
    )


def parts(disks: Disks) -> list[Path]:
    own = f"stager-{os.geteuid()}"  # in a directory that others may write to as well
    tops = (disks.fast, disks.large, disks.ram / own)
    return [part for top in tops for part in top.glob("parts/*")]


def test_each_dataset_lies_where_it_wants_to_and_the_command_sees_one_tree(disks: Disks) -> None:
    job = some_id()
    script = "stat -f -c %T /data/a/x /data/a/y && echo more >> /data/a/y/f && ls /data/a && rm -r /data/a/y/f"
    ran = disks.stager("run", two(disks, "nvme", "ram"), "--job-id", job, "--", "sh", "-c", script)
    assert (ran.code, ran.out) == (0, "ext2/ext3\ntmpfs\nx\ny\n"), ran.err
    assert f'a/y goes to {disks.ram}/stager-{os.geteuid()} (ram): asked for by place = "ram"' in ran.err
    assert not parts(disks) and not (disks.fast / "jobs" / job / "tree").exists()


def test_staged_tree_shows_what_lies_apart_by_a_link_and_is_verified_and_removed_with_it(disks: Disks) -> None:
    job = some_id()
    staged = disks.stager("stage", two(disks, "nvme", "ram"), "--job-id", job)
    assert staged.code == 0, staged.err
    tree = Path(staged.out.strip())
    (part,) = parts(disks)
    assert (tree / "data/a/y").readlink() == part / "tree/data/a/y"
    places = {data["name"]: data["placement"] for data in disks.datasets(str(tree))}
    assert places == {"a/x": str(tree / "data/a/x"), "a/y": str(part / "tree/data/a/y")}
    for where, files in ((tree, 2), (tree / "data/a/y", 1), (part / "tree", 1)):
        verified = disks.stager("verify", "--json", str(where))
        assert verified.code == 0, verified.err
        assert verified.out.count('"verified"') == files
    (part / "tree/data/a/y/f").write_bytes(b"changed")
    assert disks.stager("verify", str(tree)).code == 4
    gone = disks.stager("teardown", job)
    assert (gone.code, "/data/a/y: f" in gone.err) == (0, True), gone.err
    assert not parts(disks) and not tree.exists()


def test_job_that_is_started_again_leaves_no_part_behind(disks: Disks) -> None:
    job = some_id()
    jobfile = two(disks, "nvme", "ram")
    failed = disks.stager("stage", jobfile, "--job-id", job, "--data", "a/z=file:///no")
    assert failed.code == 3 and not parts(disks)
    assert disks.stager("stage", jobfile, "--job-id", job).code == 0
    (first,) = parts(disks)
    assert disks.stager("teardown", job).code == 0
    assert disks.stager("stage", jobfile, "--job-id", job).code == 0
    (second,) = parts(disks)
    assert first != second
    assert disks.stager("teardown", job).code == 0


def test_equal_disks_share_the_datasets_of_a_command_and_keep_those_of_a_tree_together(disks: Disks) -> None:
    disks.settings("", roots=", ".join(f'{{ path = "{top}", class = "nvme" }}' for top in (disks.fast, disks.large)))
    jobfile = two(disks, "any", "any")
    planned = disks.stager("plan", jobfile)
    assert f"a/x would go to {disks.large} (nvme" in planned.out and f"a/y would go to {disks.large}" in planned.out
    with (disks.large / "others").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 36 * MIB)
    ran = disks.stager("run", jobfile, "--job-id", some_id(), "--", "stat", "-c", "%d", "/data/a/x", "/data/a/y")
    assert (ran.code, len(set(ran.out.split()))) == (0, 2), ran.err
    staged = disks.stager("stage", jobfile, "--job-id", some_id())
    assert (staged.code, parts(disks)) == (0, []), staged.err


def test_each_disk_keeps_what_lies_on_it_and_logs_are_collected(disks: Disks) -> None:
    make_repository(disks.top / "words", {"a": b"a\n"})
    make_repository(disks.top / "books", {"b": b"b\n"})
    logs = disks.top / "logs"
    jobfile = disks.node.write_job(
        f'[[dataset]]\nname = "a/x"\nsource = "git+file://{disks.top}/words/.git@main"\nplace = "nvme"\n'
        f'[[dataset]]\nname = "a/y"\nsource = "git+file://{disks.top}/books/.git@main"\nplace = "{disks.large}/own"\n'
        f'[logs]\npersist = "{logs}"\n'
    )
    script = "cat /data/a/x/a /data/a/y/b; echo more >> /data/a/y/b; cp /data/a/y/b /logs/told"
    for job in (some_id(), some_id()):
        ran = disks.stager("run", jobfile, "--job-id", job, "--", "sh", "-c", script)
        assert (ran.code, ran.out) == (0, "a\nb\n"), ran.err
        assert (logs / job / "0/told").read_bytes() == b"b\nmore\n"
        data = {one["name"]: one["cache"]["how"] for one in disks.datasets(str(disks.fast / "jobs" / job / "tree"))}
        assert data == {"a/x": "overlay", "a/y": "overlay"}
    for top in (disks.fast, disks.large / f"own/stager-{os.geteuid()}"):
        assert len(list(top.glob("cache/*/*/about.json"))) == 1
    assert not list(disks.large.glob("**/parts/*"))


def test_part_on_which_something_is_mounted_is_not_removed(disks: Disks) -> None:
    job = some_id()
    assert disks.stager("stage", two(disks, "nvme", "ram"), "--job-id", job).code == 0
    (part,) = parts(disks)
    with mount(part / "tree/data/a/y/m", "tmpfs", "tmpfs", "size=1m"):
        refused = disks.stager("teardown", job)
        assert (refused.code, "1 file systems are mounted below it" in refused.err) == (6, True), refused.err
        assert (part / "tree/data/a/y/f").exists()
    assert disks.stager("teardown", job).code == 0
    assert not parts(disks)


def test_what_lies_in_the_place_of_a_part_is_not_touched(disks: Disks) -> None:
    job = some_id()
    assert disks.stager("stage", two(disks, "nvme", "ram"), "--job-id", job).code == 0
    (part,) = parts(disks)
    away = disks.top / "away"
    subprocess.run(["mv", str(part), str(away)], check=True)
    part.symlink_to(away)
    refused = disks.stager("teardown", job)
    assert (refused.code, "is a symlink, not a part of a job" in refused.err) == (6, True), refused.err
    part.unlink()
    part.mkdir(mode=0o700)
    (part / "mine").write_bytes(b"")
    refused = disks.stager("teardown", job)
    assert (refused.code, "is no part of a job; nothing was removed" in refused.err) == (6, True), refused.err
    (part / "mine").unlink()
    assert disks.stager("teardown", job).code == 0
    assert (away / "tree/data/a/y/f").exists() and not part.exists()


def test_part_of_a_job_whose_directory_was_removed_goes_with_the_next_one_there(disks: Disks) -> None:
    job, jobfile = some_id(), two(disks, "nvme", "ram")
    assert disks.stager("stage", jobfile, "--job-id", job).code == 0
    (lost,) = parts(disks)
    subprocess.run(["rm", "-r", str(disks.fast / "jobs" / job)], check=True)
    assert disks.stager("run", jobfile, "--job-id", some_id(), "--", "true").code == 0
    assert not lost.exists()


def test_part_that_went_with_the_memory_it_lay_in_is_no_hindrance(disks: Disks) -> None:
    job = some_id()
    assert disks.stager("stage", two(disks, "nvme", "ram"), "--job-id", job).code == 0
    (part,) = parts(disks)
    subprocess.run(["rm", "-r", str(part)], check=True)
    gone = disks.stager("teardown", job)
    assert gone.code == 0, gone.err
    assert not (disks.fast / "jobs" / job / "tree").exists()


KILLED = """
import os, signal, sys
from stager.cli import main
left = int(sys.argv.pop(1))
def hook(event, args):
    global left
    if event in ("os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
sys.exit(main())
"""


@pytest.mark.parametrize("step", range(2, 24, 6))
def test_killed_at_any_step_of_making_parts_the_next_start_and_teardown_leave_nothing(disks: Disks, step: int) -> None:
    """Killed right before the change of a directory that it is the turn of."""
    job, jobfile = some_id(), two(disks, "nvme", "ram")
    environment = {**os.environ, "STAGER_SCRATCH": "", "XDG_CONFIG_HOME": str(disks.top / "config")}
    argv = [sys.executable, "-c", KILLED, str(step), "stage", jobfile, "--job-id", job]
    killed = subprocess.run(argv, env=environment, cwd=disks.top, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert disks.stager("stage", jobfile, "--job-id", job).code == 0
    assert len(parts(disks)) == 1
    assert disks.stager("teardown", job).code == 0
    assert not parts(disks)
