"""Jobs of a real Slurm: staged by its prolog, or by their own batch script."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.own_root import USER, OwnRoot, own_root
from servers.slurm import Slurm, slurm

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
WRONG = JOB.replace("file:///mnt/words", "file:///mnt/wrods").replace("persist", "presist")


@dataclass
class Cluster:
    """``submit`` is a user's."""

    node: OwnRoot
    slurm: Slurm

    def submit(self, script: str, *options: str, job: str | None = "job.toml") -> str:
        comment = [f"--comment=weekly stager={job}"] if job else []
        return self.slurm.submit(script, "--output=%j.out", *comment, *options, user=USER, cwd="/mnt/work")

    def output(self, number: str) -> str:
        return self.node.sh(f"cat /mnt/work/{number}.out")

    def kept(self, number: str) -> dict[str, str]:
        """Logs of a job, by their path below where they are kept."""
        found = self.node.sh('cd "/mnt/kept/$1"; find . -type f -printf "%P "', number).split()
        return {path: self.node.sh(f"cat /mnt/kept/{number}/{path}") for path in found}

    def trace(self) -> tuple[list[str], str]:
        """What jobs could leave: mounts, mount points, told files, trees."""
        return self.node.mounted(), self.node.sh("ls / /run/stager /run/stager/slurm; ls -d /mnt/scratch/*/jobs/*/tree ||:")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_root() as node:
        home = Path(os.path.dirname(node.library), "slurm")
        home.mkdir(mode=0o755)
        stager = home / "stager"
        program = "import sys; from stager.cli import main; sys.exit(main())"
        stager.write_text(f"#!/bin/sh\nPYTHONPATH={node.library} exec {node.python} -c '{program}' \"$@\"\n")
        scratch = "--scratch /mnt/scratch"
        scripts = {
            "Prolog": f'[ "$SLURM_JOB_PARTITION" = whole ] || shared=--no-mount\n{stager} slurm prolog $shared {scratch}',
            "TaskProlog": f"{stager} slurm task-prolog",
            "Epilog": f"{stager} slurm epilog {scratch}",
        }
        for name, line in scripts.items():
            (home / name).write_text(f"#!/bin/sh\n{line}\n")
        for path in (stager, *(home / name for name in scripts)):
            path.chmod(0o755)
        node.sh(
            "mkdir /mnt/words; echo one > /mnt/words/one; mkdir -m 1777 /mnt/work /mnt/kept /mnt/scratch;"
            f'printf "%s" "$1" > /mnt/work/job.toml; printf "%s" "$2" > /mnt/work/wrong.toml; ln -s {stager} /mnt/work/stager',
            JOB, WRONG,
        )  # fmt: skip
        with slurm(home, node.enter, {name: home / name for name in scripts}) as running:
            yield Cluster(node, running)


def test_job_finds_its_data_at_its_paths_and_leaves_its_logs_and_nothing_else(cluster: Cluster) -> None:
    script = (
        "cat /data/lab/words/one; echo mine >> /data/lab/words/one; echo $STAGER_JOB_ID $CLUSTERONE_CLOUD;"
        "srun -n2 sh -c 'echo $STAGER_JOB_ID > /logs/rank-$SLURM_PROCID'"
    )
    number = cluster.submit(script, "--partition=whole")
    (job,) = cluster.slurm.wait(number)
    assert (job.state, cluster.output(number)) == ("COMPLETED", f"one\n{number} 1\n"), cluster.slurm.log()
    assert cluster.kept(number) == {"0/rank-0": f"{number}\n", "0/rank-1": f"{number}\n"}
    assert cluster.node.sh("cat /mnt/words/one") == "one\n"
    assert "/data" not in cluster.node.mounted()
    assert "tree" not in cluster.trace()[1]
    assert cluster.slurm.node_state() == "idle none"
