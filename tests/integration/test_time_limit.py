"""A command whose time is over: told to end, then ended; its logs are kept and the node is clean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from integration.job_driver import Node
from integration.slurm_step import step
from stager.errors import SpecError
from stager.stages.spec import parse_spec
from stager.time_limits import TimeLimit

STUBBORN = """
trap 'echo told >> /logs/all' TERM
(trap 'echo child >> /logs/all' TERM; echo up > /logs/up; while :; do sleep 0.05; done) &
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize("view", ["host", "none"])
def test_c20_command_at_its_time_limit_is_told_then_killed_and_its_logs_are_kept(tmp_path: Path, view: str) -> None:
    node = Node(tmp_path)
    job = node.write_job(f'time_limit = "1m"\ngrace = "1s"\n[logs]\npersist = "{tmp_path}/kept"\n')
    script = STUBBORN.replace("/logs", "/logs" if view == "host" else '"$STAGER_TREE"/logs')
    argv = ["run", "--view", view, "--time-limit", "1s", "--job-id", "7", "--status-file", "status"]
    done = node.stager(*argv, job, "--", "sh", "-c", script)
    assert done.code == 124 and "time limit of 1 s" in done.err
    kept = tmp_path / "kept" / "7" / "0"
    assert sorted((kept / "all").read_text().split()) == ["child", "told"]
    assert node.receipt("7")["exit"]["reason"] == "time limit"
    assert node.receipt("7")["exit"]["signal"] == 9
    assert json.loads((tmp_path / "status").read_text())["command"]["reason"] == "time limit"
    assert node.state("7") == "removed"


def test_time_limit_ends_every_rank_with_124(tmp_path: Path) -> None:
    node = Node(tmp_path)
    argv = ["run", "--time-limit", "1s", "--", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]
    started = [node.start(*argv, **step(rank, 2)) for rank in range(2)]
    told = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [124, 124], told


def parsed(job: str) -> TimeLimit:
    return parse_spec(f'version = 1\n[job]\nname = "x"\n{job}\n'.encode(), where="JOB.toml", base="/").limit


def test_duration_is_read_with_its_units() -> None:
    assert parsed("") == TimeLimit(seconds=None, grace_s=30)
    assert parsed('time_limit = "1d2h3m4s"\ngrace = "0s"') == TimeLimit(seconds=93784, grace_s=0)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ('time_limit = "2"', "no duration"),
        ('time_limit = ""', "no duration"),
        ('time_limit = "1m1h"', "no duration"),
        ('time_limit = "-1s"', "no duration"),
        ('time_limit = "0s"', "is nothing"),
        ('time_limit = "99999d"', "ten years"),
        ('grace = "5s"', "there is none"),
        ("time_limit = 5", "job.time_limit"),
    ],
)
def test_limit_that_makes_no_sense_is_refused(job: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        parsed(job)
