"""Where a job script finds its data and puts its logs: `stager.shim.clusterone`, which has the rules, by our name."""

from __future__ import annotations

from stager.shim.clusterone import get_data_path, get_logs_path

__all__ = ["get_data_path", "get_logs_path"]
