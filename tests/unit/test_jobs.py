"""The values a job is made of, without running one."""

from __future__ import annotations

import pytest

from stager.job.view import workdir_of
from stager.model import CodeSpec, JobSpec, SourceRef

CODE = CodeSpec(source=SourceRef(scheme="file", location="/src"))


@pytest.mark.parametrize(
    ("spec", "workdir"),
    [
        (JobSpec(name="j"), "/task"),
        (JobSpec(name="j", code=CODE), "/code"),
        (JobSpec(name="j", code=CODE, workdir="/data/a/b"), "/data/a/b"),
    ],
)
def test_workdir_is_the_asked_for_else_code_else_task_path(spec: JobSpec, workdir: str) -> None:
    assert workdir_of(spec) == workdir
