"""Which of several processes a launcher says this one is, from its variables alone.

Slurm's ``srun``: SLURM_LOCALID, SLURM_NODEID, SLURM_STEP_ID, SLURM_STEP_TASKS_PER_NODE (srun(1), "OUTPUT ENVIRONMENT
VARIABLES"); a batch script, which is one process, has no step. Open MPI: OMPI_COMM_WORLD_LOCAL_RANK and _LOCAL_SIZE
(mpirun(1)). MPICH and Intel MPI: MPI_LOCALRANKID and MPI_LOCALNRANKS (hydra). The inner launcher counts: mpirun in a
job of Slurm has Slurm's variables as well. Variables that are not what they should be count as not there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

__all__ = ["Launch", "launch_of"]

_MOST: Final = 1 << 16
_TASKS: Final = re.compile(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?")
_MPI: Final[tuple[tuple[str, str, tuple[str, ...]], ...]] = (
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid")),
    ("MPI_LOCALRANKID", "MPI_LOCALNRANKS", ()),
)


class Launch(Struct, frozen=True, kw_only=True):
    """This is process ``rank`` of ``ranks`` on this node, from 0; ``token`` is the same for all, and for no other
    launch as far as the launcher says.
    """

    token: str
    rank: int
    ranks: int


def launch_of(environ: Mapping[str, str]) -> Launch | None:
    """The launch that this process is one of several of; None: it is alone on this node."""
    launch = _mpi(environ) or _slurm(environ)
    return launch if launch is not None and 0 <= launch.rank < launch.ranks and launch.ranks > 1 else None


def _mpi(environ: Mapping[str, str]) -> Launch | None:
    for rank_name, ranks_name, tokens in _MPI:
        rank, ranks = _number(environ.get(rank_name)), _number(environ.get(ranks_name))
        if rank is not None and ranks is not None:
            token = next((environ[name] for name in tokens if environ.get(name)), "")
            return Launch(token=f"mpi {token[:200]}", rank=rank, ranks=ranks)
    return None


def _slurm(environ: Mapping[str, str]) -> Launch | None:
    rank, node = _number(environ.get("SLURM_LOCALID")), _number(environ.get("SLURM_NODEID"))
    if rank is None or node is None or not environ.get("SLURM_STEP_ID"):
        return None
    counts = [count for text in environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(",") for count in _counts(text)]
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    token = ".".join(environ.get(name, "0")[:20] for name in names)
    return Launch(token=f"slurm {token}", rank=rank, ranks=counts[node]) if node < len(counts) else None


def _counts(text: str) -> list[int]:
    """``8(x2)``: two nodes of eight tasks each."""
    found = _TASKS.fullmatch(text)
    return [int(found[1])] * min(int(found[2] or 1), _MOST) if found else []


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 6 else None
