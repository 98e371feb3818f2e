"""The mount abilities of this node as findings: what a missing one costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stager.host.findings import Finding

__all__ = ["abilities"]

_COSTS: Final[Mapping[str, tuple[bool, str]]] = {
    "user namespace": (True, "no job can be run in a view: stage works, run and exec do not"),
    "mount namespace": (True, "no job can be run in a view: stage works, run and exec do not"),
    "tmpfs": (True, "no view can be built"),
    "bind": (True, "no view can be built"),
    "read-only bind": (True, "public data cannot be protected: no view can be built (Linux 5.12 has it)"),
    "overlay": (False, "jobs copy what the node's cache has, where files cannot share blocks"),
    "fuse": (False, "nothing of stager's own: jobs cannot mount FUSE file systems"),
}
"""Whether jobs cannot do without, and what it costs."""


def abilities(tried: Mapping[str, str]) -> list[Finding]:
    """One for all that works, and one for each that does not; ``tried`` as `stager.host.survey_mounts` tells it."""
    works = [name for name, why in tried.items() if not why]
    found = [Finding(what="mounts", found=", ".join(works) or "none", details={"works": works})]
    for name, why in tried.items():
        if why:
            needed, cost = _COSTS.get(name, (False, ""))
            state = "problem" if needed else "lacking"
            found.append(Finding(what=name, found=why, state=state, cost=cost))  # type: ignore[arg-type]
    return found
