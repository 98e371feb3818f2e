"""Where things are in a job's view: the same in every job, whatever the node has.

Clusterone's are /data, /public, /code and /logs; Anyscale's the four below /mnt. Qarnot names its directories by
variables alone (TASK_PATH, TMP_PATH, TMP_RAMFS_PATH), so their paths are our choice: top-level names that no host has.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CLUSTER_STORAGE",
    "CODE",
    "DATA",
    "LOCAL_STORAGE",
    "LOGS",
    "MODULES",
    "PUBLIC",
    "SHARED_STORAGE",
    "STORAGES",
    "TASK",
    "TMP",
    "TMP_RAMFS",
    "USER_STORAGE",
]

DATA: Final = "/data"
PUBLIC: Final = "/public"
CODE: Final = "/code"
LOGS: Final = "/logs"
TASK: Final = "/task"
"""TASK_PATH: the job's resources, and its results."""
TMP: Final = "/task_tmp"
"""TMP_PATH: on the disk, empty at first, gone at the end."""
TMP_RAMFS: Final = "/task_ramfs"
"""TMP_RAMFS_PATH: the same in memory."""
MODULES: Final = "/stager_modules"
"""Python modules that the job file asks for; not there otherwise."""
LOCAL_STORAGE: Final = "/mnt/local_storage"
CLUSTER_STORAGE: Final = "/mnt/cluster_storage"
USER_STORAGE: Final = "/mnt/user_storage"
SHARED_STORAGE: Final = "/mnt/shared_storage"
STORAGES: Final = (LOCAL_STORAGE, CLUSTER_STORAGE, USER_STORAGE, SHARED_STORAGE)
