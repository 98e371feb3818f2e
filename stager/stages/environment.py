"""The environment of a job's command: a pure function of the job file, the job's identity and what stands around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stager.model import JobSpec
from stager.scheduler import JobIdentity, SchedulerFacts

__all__ = ["job_environment"]

_CREDENTIALS: Final = ("AWS_",)
_OWN: Final = ("STAGER_", "CLUSTERONE_")


def job_environment(
    spec: JobSpec, identity: JobIdentity, facts: SchedulerFacts, environ: Mapping[str, str], *, workdir: str
) -> dict[str, str]:
    """The user's environment without S3 credentials (unless the job file asks for them), and what stager sets.

    ``workdir``: where the command starts. What is set here cannot be overridden by ``environ`` nor by the job file.
    """
    dropped = _OWN if spec.pass_credentials else _OWN + _CREDENTIALS
    kept = {name: value for name, value in environ.items() if not name.startswith(dropped) and name != "OLDPWD"}
    return {
        **kept,
        **spec.environment,
        "PWD": workdir,
        "STAGER_JOB_ID": identity.id,
        "STAGER_JOB_NAME": spec.name,
        "CLUSTERONE_CLOUD": "1",
        "CLUSTERONE_JOB_ID": identity.id,
    }
