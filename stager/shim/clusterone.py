"""Where a script finds its data and puts its logs, in a job and at home alike.

Imports nothing but the standard library's `os`, not stager either, and is understood by Python 3.6 and later: it is put
on the PYTHONPATH of jobs under the name that scripts written for Clusterone import, whatever Python they bring.

Differences from the Clusterone functions of the same names, on purpose: "0", "false", "no" and "off" are not "in the
cloud"; ``~`` is expanded locally; a name that is absolute or holds ``..`` is refused.
"""

import os

__all__ = ["get_data_path", "get_logs_path"]

_NO = frozenset({"", "0", "false", "no", "off"})


def get_data_path(dataset_name: str, local_root: str, local_repo: str, path: str) -> str:
    """The path of ``path`` in a dataset.

    In a job (``CLUSTERONE_CLOUD`` is set): ``/data/<dataset_name>/<path>``, where ``dataset_name`` is the one string
    "owner/dataset". Elsewhere: ``<local_root>/<local_repo>/<path>``, made absolute. One leading ``/`` of ``path`` is
    dropped. ValueError: a ``dataset_name`` that is not "owner/dataset"; a ``local_repo`` or ``path`` that leads
    outside.
    """
    inside = _inside("path", path[path.startswith("/") :])
    owner, _, name = dataset_name.partition("/")
    if not owner or not name or "/" in name or owner.startswith(".") or name.startswith("."):
        raise ValueError(f"dataset_name must be 'owner/dataset', not {dataset_name!r}")
    if _in_job():
        return os.path.join("/data", _inside("dataset_name", dataset_name), inside)
    repo = _inside("local_repo", local_repo)
    return os.path.join(os.path.abspath(os.path.expanduser(local_root)), repo, inside)


def get_logs_path(root: str) -> str:
    """Where logs go: ``/logs/`` in a job, else ``root`` made absolute."""
    return "/logs/" if _in_job() else os.path.abspath(os.path.expanduser(root))


def _in_job() -> bool:
    return os.environ.get("CLUSTERONE_CLOUD", "").strip().lower() not in _NO


def _inside(what: str, path: str) -> str:
    if path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(f"{what} must stay below its directory, not {path!r}")
    return path
