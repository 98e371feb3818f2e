"""The values a job is made of, without running one."""

from __future__ import annotations

import pytest

from stager.jobs import job_environment, workdir_of
from stager.model import CodeSpec, JobSpec, SourceRef

CODE = CodeSpec(source=SourceRef(scheme="file", location="/src"))


@pytest.mark.parametrize(
    ("spec", "workdir"),
    [
        (JobSpec(name="j"), "/logs"),
        (JobSpec(name="j", code=CODE), "/code"),
        (JobSpec(name="j", code=CODE, workdir="/data/a/b"), "/data/a/b"),
    ],
)
def test_workdir_is_the_asked_for_else_code_else_logs(spec: JobSpec, workdir: str) -> None:
    assert workdir_of(spec) == workdir


def test_environment_is_the_users_without_credentials_and_with_ours() -> None:
    given = {
        "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r", "STAGER_SCRATCH": "/s",
        "CLUSTERONE_CLOUD": "0", "PWD": "/old", "OLDPWD": "/older",
    }  # fmt: skip
    spec = JobSpec(name="train", environment={"HOME": "/other", "A": "b"})
    assert job_environment(spec, "7", given, "/code") == {
        "HOME": "/other", "A": "b", "PWD": "/code", "STAGER_JOB_ID": "7", "STAGER_JOB_NAME": "train",
        "CLUSTERONE_CLOUD": "1", "CLUSTERONE_JOB_ID": "7",
    }  # fmt: skip


def test_credentials_are_passed_when_asked_for() -> None:
    spec = JobSpec(name="j", pass_credentials=True)
    assert job_environment(spec, "7", {"AWS_SECRET_ACCESS_KEY": "s"}, "/")["AWS_SECRET_ACCESS_KEY"] == "s"


def test_variables_of_distributed_jobs_are_not_set() -> None:
    found = job_environment(JobSpec(name="j"), "7", {}, "/")
    assert not {"PS_HOSTS", "WORKER_HOSTS", "JOB_NAME", "TASK_INDEX", "IS_MASTER"} & set(found)
