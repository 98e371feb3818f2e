"""What a job of profile ``strict`` gets of the environment around it: these names, and no other.

Its language, time zone and terminal, and what the scheduler or a launcher says of the job; no path of the node's, no
proxy, no agent, no token. What else it needs the job file says in ``[job] environment``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stager.variables import CREDENTIALS
from stager.view_paths import TMP

__all__ = ["clean_environ"]

_NAMES: Final = frozenset(
    {"LANG", "LANGUAGE", "TZ", "TERM", "COLORTERM", "USER", "LOGNAME", "OMP_NUM_THREADS"}
    | {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"}
    | {"GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK"}
    | {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK"}
    | {"JOB_COMPLETION_INDEX", "POD_UID", "POD_NAME", "POD_NAMESPACE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"}
)
_PREFIXES: Final = ("LC_", "SLURM_", "PMI_", "PMIX_", "OMPI_")
_SECRETS: Final = ("SLURM_JWT",)
_FIXED: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": TMP,
    "SHELL": "/bin/sh",
}


def clean_environ(environ: Mapping[str, str], *, credentials: bool) -> dict[str, str]:
    """``credentials``: those for S3 too, as the job file asks. HOME is the job's own directory for temporary files."""
    prefixes = (*_PREFIXES, *CREDENTIALS) if credentials else _PREFIXES
    kept = {name: value for name, value in environ.items() if name in _NAMES or name.startswith(prefixes)}
    return {name: value for name, value in kept.items() if not name.startswith(_SECRETS)} | _FIXED
