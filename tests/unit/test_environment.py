"""What a job's command finds in its environment, made without running one."""

from __future__ import annotations

from collections.abc import Mapping

from stager.model import JobSpec
from stager.scheduler import JobIdentity, scheduler_facts
from stager.stages.environment import job_environment


def environment(spec: JobSpec, environ: Mapping[str, str], workdir: str = "/code") -> dict[str, str]:
    return job_environment(spec, JobIdentity(id="7"), scheduler_facts(environ), environ, workdir=workdir)


def test_environment_is_the_users_without_credentials_and_with_ours() -> None:
    given = {
        "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r", "STAGER_SCRATCH": "/s",
        "CLUSTERONE_CLOUD": "0", "PWD": "/old", "OLDPWD": "/older",
    }  # fmt: skip
    spec = JobSpec(name="train", environment={"HOME": "/other", "A": "b"})
    assert environment(spec, given) == {
        "HOME": "/other", "A": "b", "PWD": "/code", "STAGER_JOB_ID": "7", "STAGER_JOB_NAME": "train",
        "CLUSTERONE_CLOUD": "1", "CLUSTERONE_JOB_ID": "7",
    }  # fmt: skip


def test_credentials_are_passed_when_asked_for() -> None:
    spec = JobSpec(name="j", pass_credentials=True)
    assert environment(spec, {"AWS_SECRET_ACCESS_KEY": "s"})["AWS_SECRET_ACCESS_KEY"] == "s"


def test_variables_of_distributed_jobs_are_not_set() -> None:
    found = environment(JobSpec(name="j"), {})
    assert not {"PS_HOSTS", "WORKER_HOSTS", "JOB_NAME", "TASK_INDEX", "IS_MASTER"} & set(found)
