"""The same job id again, as Slurm's requeue gives it; and where a job's logs may not go."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from integration.job_driver import Node
from servers.repositories import make_repository


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def write_logging_job(node: Node, command: str = "echo $N > /logs/o") -> str:
    return node.write_job(f'command = ["sh", "-c", "{command}"]\n[logs]\npersist = "{node.root}/kept"\n')


def kept(node: Node) -> dict[str, str]:
    return {str(path.relative_to(node.root / "kept")): path.read_text() for path in (node.root / "kept").rglob("o")}


def test_requeued_job_runs_again_and_keeps_the_logs_of_each_run(node: Node) -> None:
    job = write_logging_job(node)
    for count in ("", "1", "2"):
        done = node.stager("run", job, SLURM_JOB_ID="4711", SLURM_RESTART_COUNT=count, N=count or "0")
        assert done.code == 0, done.err
    assert kept(node) == {"4711/0/o": "0\n", "4711/0.restart-1/o": "1\n", "4711/0.restart-2/o": "2\n"}


def test_same_id_without_a_scheduler_takes_the_next_place(node: Node) -> None:
    job = write_logging_job(node)
    for number in ("0", "1"):
        assert node.stager("run", "--keep", "--job-id", "7", job, N=number).code == 0
    other = Node(node.root, {"STAGER_SCRATCH": str(node.root / "other")})
    done = other.stager("run", "--job-id", "7", job, N="2")
    assert done.code == 0, done.err
    assert kept(node) == {"7/0/o": "0\n", "7/0.restart-1/o": "1\n", "7/0.restart-2/o": "2\n"}


def test_requeue_after_a_crash_keeps_the_logs_of_the_crashed_run_first(node: Node) -> None:
    job = write_logging_job(node, "echo $N > /logs/o; echo up; [ $N = 1 ] || exec sleep 600")
    with node.start("run", "--job-id", "7", job, N="0") as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.kill()
    done = node.stager("run", "--job-id", "7", job, N="1")
    assert done.code == 0, done.err
    assert kept(node) == {"7/0/o": "0\n", "7/0.restart-1/o": "1\n"}


def test_logs_kept_nowhere_else_are_not_replaced_by_the_next_job(node: Node) -> None:
    for command in ("echo first > /logs/o", "true"):
        done = node.stager("run", "--job-id", "7", "--", "sh", "-c", command)
    assert done.code == 125 and "job 7 exists (ended)" in done.err
    assert (node.tree("7") / "logs" / "o").read_text() == "first\n"


def test_failed_staging_leaves_no_place_for_logs_and_takes_the_same_one_again(node: Node) -> None:
    job = write_logging_job(node)
    assert node.stager("run", "--job-id", "7", "--data", "a/b=file:///no/such", job).code == 125
    assert not (node.root / "kept" / "7" / "0").exists()
    assert node.stager("run", "--job-id", "7", job, N="0").code == 0
    assert kept(node) == {"7/0/o": "0\n"}


def test_job_without_logs_leaves_no_empty_place(node: Node) -> None:
    assert node.stager("run", "--job-id", "7", write_logging_job(node, "true")).code == 0
    assert not (node.root / "kept" / "7" / "0").exists()


@pytest.mark.parametrize("below", ["jobs/{job.id}/tree/logs/kept", "jobs/7/tree/logs", "kept"])
@pytest.mark.parametrize("through", ["scratch", "link"])
def test_place_for_logs_inside_scratch_is_refused_before_anything_runs(node: Node, below: str, through: str) -> None:
    node.scratch.mkdir(mode=0o700)
    (node.root / "link").symlink_to("scratch")
    place = node.root / through / below
    job = node.write_job(f'command = ["touch", "{node.root}/ran"]\n[logs]\npersist = "{place}"\n')
    done = node.stager("run", "--job-id", "7", job)
    assert done.code == 125 and "stager's own directories" in done.err
    assert not (node.root / "ran").exists()
    assert os.listdir(node.scratch) == []


def test_source_that_goes_while_data_is_staged_gives_the_job_up_and_frees_its_id(node: Node, tmp_path: Path) -> None:
    for name in ("public", "source"):
        (tmp_path / name).mkdir()
    serve = f"[ ! -e {tmp_path}/public ] || mv {tmp_path}/public {tmp_path}/gone\nexec git-upload-pack {tmp_path}/repo"
    (tmp_path / "serve").write_text(f"#!/bin/sh\n{serve}\n")
    (tmp_path / "serve").chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\n sshCommand = {tmp_path}/serve\n")
    make_repository(tmp_path / "repo", {"f": b"x"})
    argv = ["--job-id", "7", "--public", f"p={tmp_path}/public"]
    data = ["--data", "a/b=git+ssh://localhost/r"]
    done = node.stager("run", *argv, *data, "--", "true", GIT_CONFIG_GLOBAL=str(config))
    assert done.code == 125 and "no such directory" in done.err, done.err
    assert node.state("7") == "failed"
    assert not node.tree("7").exists()
    (tmp_path / "gone").rename(tmp_path / "public")
    assert node.stager("run", *argv, "--", "true").code == 0


def test_job_reaches_no_other_scratch_of_its_user(node: Node, tmp_path: Path) -> None:
    elsewhere = {"STAGER_SCRATCH": str(tmp_path / "elsewhere")}
    (tmp_path / "data").mkdir()
    data = f"o/n=file://{tmp_path}/data"
    told = node.stager("stage", "--json", "--job-id", "v", "--data", data, **elsewhere).event("staged")
    look = f"ls -A {tmp_path}/elsewhere/jobs; echo x > {told['tree']}/logs/x; ls -A /var/tmp/stager-$(id -u)"
    done = node.stager("run", "--", "sh", "-c", look)
    assert done.out == ""
    assert os.listdir(Path(told["tree"]) / "logs") == []
    assert json.loads((Path(told["tree"]).parent / "job.json").read_text())["state"] == "ready"
