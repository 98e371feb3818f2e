"""Where a job's tree goes: by settings, class, room and wishes, on real disks; and that it is found again there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.job_driver import PROGRAM
from integration.node_of_disks import MIB, Disks, node_of_disks, some_id
from servers.memory_group import NoMemoryGroupError, memory_group
from servers.repositories import make_repository

pytestmark = pytest.mark.root

@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    with node_of_disks(tmp_path) as disks:
        yield disks


def test_job_goes_to_the_fastest_disk_with_room_and_is_found_there_again(disks: Disks) -> None:
    job = some_id()
    staged = disks.stager("stage", "--job-id", job, "--data", f"a/x={disks.source(4)}")
    assert staged.code == 0, staged.err
    assert f"data goes to {disks.fast} (nvme): the best class with room (nvme)" in staged.err
    tree = staged.out.strip()
    assert tree == str(disks.fast / "jobs" / job / "tree")
    placed = disks.receipt(tree)["placement"]
    assert (placed["class"], placed["file_system"]) == ("nvme", "ext4")
    assert [job, "ready"] in [line.split()[:2] for line in disks.stager("ls").out.splitlines()]
    assert disks.stager("teardown", job).code == 0
    assert not Path(tree).exists()


def test_jobs_are_spread_over_equal_disks_by_their_room(disks: Disks) -> None:
    disks.settings("", roots=f'"{disks.fast}", "{disks.large}"')
    trees = [
        disks.stager("stage", "--job-id", some_id(), "--data", f"a/x={disks.source(mib)}").out for mib in (40, 8, 8)
    ]
    assert [tree.startswith(str(disks.large)) for tree in trees] == [True, False, True]


def test_job_that_does_not_fit_the_fast_disk_goes_to_the_next_and_says_so(disks: Disks) -> None:
    staged = disks.stager("stage", "--job-id", some_id(), "--json", "--data", f"a/x={disks.source(26)}")
    assert staged.code == 0, staged.out
    placed = staged.event("placed")
    assert (placed["scratch"], placed["class"]) == (str(disks.large), "virtual")
    assert f"{disks.fast} (nvme) needs 26.0 MiB and 1 inode, has" in placed["why"]


def test_job_that_fits_nowhere_is_refused_with_every_place_and_nothing_is_made(disks: Disks) -> None:
    staged = disks.stager("stage", "--job-id", some_id(), "--data", f"a/x={disks.source(70)}")
    assert staged.code == 5
    for place in (disks.fast, disks.large):
        assert f"{place}: needs 70.0 MiB and 1 inode, has" in staged.err
    assert f"{disks.ram}: is ram: only where there is no disk" in staged.err
    assert not any((place / "jobs").exists() for place in (disks.fast, disks.large, disks.ram))


def test_floor_keeps_a_disk_from_being_filled(disks: Disks) -> None:
    disks.settings('floor = "20M"', roots=f'"{disks.fast}"')
    refused = disks.stager("stage", "--job-id", some_id(), "--data", f"a/x={disks.source(4)}")
    assert (refused.code, "above the floor" in refused.err) == (5, True)


def test_dataset_that_asks_for_memory_gets_it_and_its_command_finds_it_there(disks: Disks) -> None:
    done = disks.stager("run", disks.job("ram", 4), "--job-id", some_id(), "--", "stat", "-f", "-c", "%T", "/data/a/x")
    assert (done.code, done.out) == (0, "tmpfs\n"), done.err
    assert 'asked for by place = "ram"' in done.err


def test_memory_is_refused_beyond_half_of_what_the_memory_limit_leaves(disks: Disks) -> None:
    asked = ["stage", disks.job("ram", 26), "--job-id", some_id()]
    environment = {**os.environ, "STAGER_SCRATCH": "", "XDG_CONFIG_HOME": str(disks.top / "config")}
    with ExitStack() as stack:
        try:
            group = stack.enter_context(memory_group(64 * MIB))
        except NoMemoryGroupError as error:
            pytest.skip(f"no memory group: {error}")
        argv = group.inside([sys.executable, "-c", PROGRAM, *asked])
        done = subprocess.run(argv, env=environment, cwd=disks.top, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert f"{disks.ram}: needs 26.0 MiB and 1 inode, has " in done.stderr
    assert "within the memory limit" in done.stderr
    assert disks.stager(*asked).code == 0


def test_place_that_is_found_and_not_named_is_entered_by_a_directory_of_our_own(disks: Disks) -> None:
    """Its owner has other things there, perhaps called jobs."""
    (disks.top / "config/stager/stager.toml").write_text("")
    job = some_id()
    staged = disks.stager("stage", disks.job("ram", 1), "--job-id", job, "--json")
    assert staged.code == 0, staged.out
    placed = staged.event("placed")
    scratch = Path(placed["scratch"])
    try:
        assert (placed["class"], scratch.name) == ("ram", f"stager-{os.geteuid()}")
        assert (scratch / "jobs" / job / "tree/data/a/x/f").stat().st_size == MIB
        assert disks.stager("teardown", job).code == 0
    finally:
        shutil.rmtree(scratch / "jobs" / job)


def test_place_that_cannot_be_had_is_refused_whether_it_is_full_or_not_there(disks: Disks) -> None:
    full = disks.stager("stage", disks.job("nvme", 30), "--job-id", some_id())
    assert (full.code, f"{disks.large}: is virtual, not nvme" in full.err) == (5, True)
    there_is_none = disks.stager("stage", disks.job("nvme", 1), "--job-id", some_id(), "--scratch", str(disks.large))
    assert (there_is_none.code, f"{disks.large}: is virtual, not nvme" in there_is_none.err) == (6, True)
    elsewhere = disks.stager("run", disks.job(f"{disks.fast}/own", 1), "--job-id", some_id(), "--", "true")
    assert (elsewhere.code, f"data goes to {disks.fast}/own" in elsewhere.err) == (0, True)


def test_job_that_is_there_already_stays_where_it_lies(disks: Disks, tmp_path: Path) -> None:
    job = some_id()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / ".stager").touch()
    failed = disks.stager(
        "stage", "--job-id", job, "--data", f"a/x={disks.source(1)}", "--scratch", str(disks.large),
        "--data", f"a/y=file://{tmp_path}/bad",
    )  # fmt: skip
    assert failed.code == 2, failed.err
    again = disks.stager("stage", "--job-id", job, "--data", f"a/x={disks.source(1)}")
    assert again.out.strip() == str(disks.large / "jobs" / job / "tree"), again.err
    assert not (disks.fast / "jobs").exists()


def test_what_is_kept_for_other_jobs_is_told_wherever_it_lies(disks: Disks) -> None:
    make_repository(disks.top / "words", {"a": b"a\n"})
    source = f"git+file://{disks.top}/words/.git@main"
    ran = disks.stager("run", "--job-id", some_id(), "--data", f"a/x={source}", "--", "cat", "/data/a/x/a")
    assert (ran.code, ran.out) == (0, "a\n"), ran.err
    assert (disks.fast / "cache").is_dir()
    (kept,) = [line for line in disks.stager("cache", "ls").out.splitlines() if source in line]
    assert disks.stager("cache", "rm", kept.split()[0]).code == 0
    assert source not in disks.stager("cache", "ls").out


def test_plan_says_where_all_would_go_and_makes_nothing(disks: Disks) -> None:
    planned = disks.stager("plan", disks.job("any", 4))
    assert planned.code == 0, planned.err
    assert f"would go to {disks.fast} (nvme, " in planned.out
    assert "4.0 MiB, 1 inode; the best class with room (nvme)" in planned.out
    full = disks.stager("plan", disks.job("nvme", 30))
    assert (full.code, "would fetch 1 object, 30.0 MiB" in full.out) == (5, True)
    assert os.listdir(disks.fast) == ["lost+found"]
    of_one = disks.stager("plan", "--scratch", str(disks.fast), disks.source(1), str(disks.top / "dst"))
    assert (of_one.code, "--scratch: is for a job file" in of_one.err) == (2, True)
