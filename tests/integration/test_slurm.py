"""Jobs of a real Slurm: staged by its prolog, or by their own batch script."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.own_root import USER, OwnRoot, own_root
from integration.sync_driver import wait_until
from servers.slurm import NODE, Slurm, slurm

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("slurm")]

JOB = """version = 1
[job]
name = "job"
[[dataset]]
name = "lab/words"
source = "file:///mnt/words"
[logs]
persist = "/mnt/kept"
"""
PROGRAM = "import sys; from stager.cli import main; sys.exit(main())"
README = Path(__file__).parents[2] / "README.md"
WRONG = JOB.replace("file:///mnt/words", "file:///mnt/wrods").replace("persist", "presist")
REQUEUED = """
echo ${SLURM_RESTART_COUNT:-0} > $STAGER_TREE/logs/attempt
[ "$SLURM_RESTART_COUNT" ] || { scontrol requeue $SLURM_JOB_ID; sleep 60; }
"""


@dataclass
class Cluster:
    """``submit`` is a user's."""

    node: OwnRoot
    slurm: Slurm
    requeued: str = ""
    """A job that requeues itself: Slurm starts it again seconds later."""

    def submit(self, script: str, *options: str, job: str | None = "job.toml") -> str:
        comment = [f"--comment=weekly stager={job}"] if job else []
        return self.slurm.submit(script, "--output=%j.out", *comment, *options, user=USER, cwd="/mnt/work")

    def output(self, number: str) -> str:
        return self.node.sh(f"cat /mnt/work/{number}.out")

    def kept(self, number: str) -> dict[str, str]:
        """Logs of a job, by their path below where they are kept."""
        found = self.node.sh("cd /mnt/kept/$1; find . -type f ! -name '.stager-*' -printf '%P '", number).split()
        return {path: self.node.sh(f"cat /mnt/kept/{number}/{path}") for path in found}

    def traces(self, *numbers: str) -> str:
        """What jobs that have ended could leave on the node."""
        paths = ["/data", "/code", "/logs", "/run/stager/mounts"]
        for number in numbers:
            paths += [f"/run/stager/slurm/{number}", f"/mnt/scratch/*/jobs/{number}/tree"]
        return self.node.sh(f"ls -d {' '.join(paths)} 2> /dev/null ||:")

    def until(self, path: str) -> None:
        """Wait for a file."""
        self.node.sh('until [ -e "$1" ]; do sleep 0.05; done', path)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with own_root() as node:
        home = node.library.with_name("slurm")
        home.mkdir(mode=0o755)
        stager, scratch = home / "stager", "--scratch /mnt/scratch"
        scripts = {
            "stager": f'PYTHONPATH={node.library} exec {node.python} -c "$PROGRAM" "$@"',
            "Prolog": f'[ "$SLURM_JOB_PARTITION" = whole ] || o=--no-mount\nexec {stager} slurm prolog $o {scratch}',
            "TaskProlog": f"exec {stager} slurm task-prolog",
            "Epilog": f"exec {stager} slurm epilog {scratch}",
        }
        for name, line in scripts.items():
            (home / name).write_text(f"#!/bin/sh\nPROGRAM={PROGRAM!r}\n{line}\n")
            (home / name).chmod(0o755)
        node.sh(
            "mkdir /mnt/words; echo one > /mnt/words/one; mkdir -m 1777 /mnt/work /mnt/kept /mnt/scratch; cd /mnt/work;"
            'printf "%s" "$1" > job.toml; printf "%s" "$2" > wrong.toml; ln -s "$3" .',
            JOB, WRONG, str(stager),
        )  # fmt: skip
        conf = {name: home / name for name in ("Prolog", "TaskProlog", "Epilog")}
        with slurm(home, node.enter, conf) as running:
            cluster = Cluster(node, running)
            cluster.requeued = cluster.submit(REQUEUED)
            yield cluster


def test_job_finds_its_data_at_its_paths_and_leaves_its_logs_and_nothing_else(cluster: Cluster) -> None:
    script = (
        "cat /data/lab/words/one; echo mine >> /data/lab/words/one; echo $STAGER_JOB_ID $CLUSTERONE_CLOUD;"
        "srun -n2 sh -c 'echo $CLUSTERONE_JOB_ID $JOB_NAME $TASK_INDEX $IS_MASTER $WORKER_HOSTS"
        " > /logs/rank-$TASK_INDEX'"
    )
    number = cluster.submit(script, "--partition=whole")
    (job,) = cluster.slurm.wait(number)
    assert (job.state, cluster.output(number)) == ("COMPLETED", f"one\n{number} 1\n"), cluster.slurm.log()
    workers = f"{NODE}:2222,{NODE}:2223"
    assert cluster.kept(number) == {
        "0/rank-0": f"{number} worker 0 True {workers}\n", "0/rank-1": f"{number} worker 1 False {workers}\n"
    }  # fmt: skip
    assert cluster.node.sh("cat /mnt/words/one") == "one\n"
    assert cluster.traces(number) == ""
    assert cluster.slurm.node_state().endswith(" none")  # nothing has drained it


def test_a_users_mistake_fails_the_job_with_its_line_and_the_others_go_on(cluster: Cluster) -> None:
    """Four at once: two tasks of an array, each with a tree of its own, and two whose job files are wrong."""
    show = "cat $STAGER_TREE/data/lab/words/one; echo $STAGER_JOB_ID; echo $INSTANCE_ID/$INSTANCE_COUNT"
    array = cluster.submit(show, "--array=1,4")
    wrong, missing = cluster.submit("true", job="wrong.toml"), cluster.submit("true", job="none.toml")
    jobs = cluster.slurm.wait(wrong, missing)
    assert [(job.state, job.exit_code) for job in jobs] == [("FAILED", "1:0")] * 2
    assert "stager: /mnt/work/wrong.toml: " in cluster.output(wrong) and "presist" in cluster.output(wrong)
    assert "stager: /mnt/work/none.toml: " in cluster.output(missing)
    numbers = cluster.slurm.numbers_of(array, 2)
    assert {job.state for job in cluster.slurm.wait(*numbers)} == {"COMPLETED"}
    told = [cluster.output(number).splitlines() for number in numbers]
    assert [lines[:2] for lines in told] == [["one", number] for number in numbers]
    assert {lines[2] for lines in told} == {"1/2", "4/2"}
    assert cluster.traces(*numbers, wrong, missing) == ""
    assert cluster.slurm.node_state().endswith(" none")  # nothing has drained it


def test_node_whose_paths_cannot_be_cleared_is_drained_and_says_why(cluster: Cluster) -> None:
    number = cluster.submit("touch /logs/begun; until [ -e /mnt/work/go ]; do sleep 0.05; done", "--partition=whole")
    cluster.until("/logs/begun")
    cluster.node.sh("mount -t tmpfs administrator /code; touch /mnt/work/go")
    assert "Epilog error" in cluster.slurm.wait_for_node("drained")
    assert "/code: tmpfs from administrator" in cluster.slurm.log()
    cluster.node.sh("umount /code")
    of_the_job = ["env", f"SLURM_JOB_ID={number}", f"SLURM_JOB_UID={USER}"]
    cluster.node.run(*of_the_job, str(cluster.slurm.home / "Epilog"))
    assert cluster.kept(number).keys() == {"0/begun"} and cluster.traces(number) == ""
    cluster.slurm.resume()


def test_batch_script_stages_and_runs_without_a_prolog(cluster: Cluster) -> None:
    script = (
        "export STAGER_SCRATCH=/mnt/scratch;"
        "tree=$(srun --ntasks-per-node=1 ./stager stage -q job.toml --job-id mine); cat $tree/data/lab/words/one;"
        "./stager teardown -q mine"
    )
    eight = cluster.submit(
        "export STAGER_SCRATCH=/mnt/scratch;"
        "srun --ntasks-per-node=8 ./stager run -q job.toml -- "
        "sh -c 'touch /logs/rank-$SLURM_PROCID /logs/$(readlink /proc/self/ns/mnt | tr -dc 0-9)'",
        "--ntasks-per-node=8", job=None,
    )  # fmt: skip
    number = cluster.submit(script, job=None)
    (job,) = cluster.slurm.wait(number)
    assert (job.state, cluster.output(number)) == ("COMPLETED", "one\n")
    (job,) = cluster.slurm.wait(eight)
    assert job.state == "COMPLETED", cluster.output(eight)
    assert len(cluster.kept(eight)) == 8 + 1  # eight tasks in one view
    assert cluster.traces("mine", number, eight) == ""


def test_logs_of_a_job_that_is_requeued_or_cancelled_are_kept(cluster: Cluster) -> None:
    cancelled = cluster.submit("echo begun > /logs/log; sleep 60", "--partition=whole")
    cluster.until("/logs/log")
    cluster.slurm.run("scancel", cancelled)
    (job,) = cluster.slurm.wait(cancelled)
    assert (job.state, cluster.kept(cancelled)) == ("CANCELLED", {"0/log": "begun\n"})
    cluster.slurm.wait_for(cluster.requeued, lambda job: job.state == "COMPLETED")
    both = {"0/attempt": "0\n", "0.restart-1/attempt": "1\n"}
    wait_until(lambda: cluster.kept(cluster.requeued) == both)  # its epilog
    assert cluster.traces(cancelled, cluster.requeued) == ""


def test_page_of_the_readme_runs(cluster: Cluster) -> None:
    """A batch script that starts stager in each task, and one whose job the prolog has staged."""
    page = README.read_text().partition("### Slurm\n")[2].partition("\n### ")[0]
    found = re.findall(r"^```(?:toml|sh)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    job, alone, staged = (block.replace("s3://datasets/", "file:///mnt/").replace("/srv/logs", "/mnt/kept")
                          for block in found)  # fmt: skip
    cluster.node.sh("mkdir /mnt/page; cp /mnt/words/one /mnt/words/all")
    for name, text in (("words.toml", job), ("alone.sh", alone), ("staged.sh", staged)):
        cluster.node.sh('printf "%s" "$2" > /mnt/page/$1', name, text)
    environment = (f"PATH=/mnt/work:{os.environ['PATH']}", "STAGER_SCRATCH=/mnt/scratch")

    def submit(script: str, *more: str) -> str:
        return cluster.slurm.run(
            "env", *environment, "sbatch", "--parsable", "--output=/mnt/work/%j.out", *more, script,
            user=USER, cwd="/mnt/page",
        ).strip()  # fmt: skip

    numbers = [submit("alone.sh"), submit("staged.sh", "--partition=whole")]
    jobs = cluster.slurm.wait(*numbers)
    assert [job.state for job in jobs] == ["COMPLETED"] * 2, [cluster.output(number) for number in numbers]
    assert cluster.kept(numbers[0]) == {"0/task-0": "1\n", "0/task-1": "1\n"}
    assert cluster.kept(numbers[1]) == {"0/lines": "1\n"}


def test_logs_of_a_job_that_meets_its_time_limit_are_kept(cluster: Cluster, soak: int) -> None:
    """Slurm's limits are minutes, and it looks at them twice in one."""
    if soak == 1:
        pytest.skip("takes two minutes: --soak")
    number = cluster.submit("echo begun > /logs/log; sleep 600", "--partition=whole", "--time=1")
    (job,) = cluster.slurm.wait(number)
    assert (job.state, cluster.kept(number)) == ("TIMEOUT", {"0/log": "begun\n"})
    assert cluster.traces(number) == ""
