"""The names of the variables that stager sets, and of those that it takes away, each written once."""

from __future__ import annotations

from typing import Final

__all__ = ["CREDENTIALS", "DISTRIBUTED", "OWN_NAMES", "OWN_PREFIXES", "is_own"]

OWN_PREFIXES: Final = ("STAGER_", "CLUSTERONE_")

DISTRIBUTED: Final = ("PS_HOSTS", "WORKER_HOSTS", "MASTER_HOSTS", "JOB_NAME", "TASK_INDEX", "IS_MASTER")
"""Of distributed jobs only: in any other job they are not there, also when they stand around it."""

OWN_NAMES: Final = ("TASK_PATH", "TMP_PATH", "TMP_RAMFS_PATH", "INSTANCE_ID", "INSTANCE_COUNT", *DISTRIBUTED)
"""No job file may set these."""

CREDENTIALS: Final = ("AWS_",)
"""What begins so is the user's way to S3: the job has it only when the job file says so."""


def is_own(name: str) -> bool:
    """Whether stager alone says what it is."""
    return name in OWN_NAMES or name.startswith(OWN_PREFIXES)
