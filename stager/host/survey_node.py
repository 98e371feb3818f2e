"""What the stagers of this node share now: limits, who moves data, and what is reserved."""

from __future__ import annotations

from contextlib import closing

from stager.amounts import about_bytes
from stager.host.board import Claimed, Record, Taking
from stager.host.findings import Finding
from stager.host.node import open_node

__all__ = ["shared"]

_ALONE = "stagers can plan into the same free bytes, and share no limit"


def shared() -> Finding:
    """Blocks. Raises `HostError`: the site's configuration, or its directory, cannot be believed."""
    with closing(open_node()) as node:
        details = {"limits": node.settings.told()}
        if node.board is None:
            return Finding(what="shared", found="stagers do not see one another", state="lacking", cost=_ALONE,
                           details=details)  # fmt: skip
        try:
            records, path = node.board.look(), node.board.path
        except OSError as error:
            return Finding(what="shared", found=f"{node.board.path}: {error.strerror}", state="lacking", cost=_ALONE,
                           details=details)  # fmt: skip
    moving = _of(records, Taking)
    planned = [record.says for record in records if isinstance(record.says, Claimed)]
    reserved = sum(claim.bytes for claim in planned)
    limits = ", ".join(f"{name} {value}" for name, value in details["limits"].items()) or "no limits"
    text = f"{limits}; seen in {path}: {len(moving)} of {len({record.who.uid for record in moving})} users share them"
    if not node.settings.is_limited:
        text = f"{limits}; stagers see one another in {path}"
    return Finding(
        what="shared", found=f"{text}; {about_bytes(reserved)} reserved for {len(planned)}",
        details={**details, "directory": path, "moving": len(moving), "reserved_bytes": reserved},
    )  # fmt: skip


def _of(records: list[Record], kind: type[Claimed | Taking]) -> list[Record]:
    return [record for record in records if isinstance(record.says, kind)]
