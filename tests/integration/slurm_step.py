"""The variables of a task that `srun` starts."""

from __future__ import annotations

__all__ = ["step"]


def step(rank: int, ranks: int) -> dict[str, str]:
    """Of local rank ``rank`` of ``ranks`` on the second node of three."""
    return {
        "SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0", "SLURM_NODEID": "1", "SLURM_LOCALID": str(rank),
        "SLURM_STEP_TASKS_PER_NODE": f"5,{ranks}(x2)",
    }  # fmt: skip
