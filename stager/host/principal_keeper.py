"""The keeper of a view that root's stager starts for a user: `stager.host.keeper` with that user's rights."""

from __future__ import annotations

import json
import os
import sys
from typing import Final, TypedDict

from stager.host import keeper
from stager.host.rights import JoinRequest, PrincipalRights

__all__ = ["Terms", "main"]

_ARGUMENTS: Final = 3  # behind what `stager.host.launch` says


class Terms(TypedDict):
    """What root says, and no user can; ``namespace``: the number of a descriptor."""

    uid: int
    gid: int
    groups: list[int]
    binds: list[str]
    public: list[str]
    shared: list[str]
    namespace: int | None
    joined: JoinRequest | None


def main() -> None:
    """Entry point: ``argv`` ends with the `Terms` as JSON and the descriptors of `stager.host.keeper.serve`."""
    terms: Terms = json.loads(sys.argv[_ARGUMENTS])
    descriptors = [int(number) for number in sys.argv[_ARGUMENTS + 1 :]]
    for descriptor in _given(terms):
        os.set_inheritable(descriptor, False)
    allowed = {"bind": terms["binds"], "public": terms["public"], "storage": terms["shared"]}
    rights = PrincipalRights(
        terms["uid"], terms["gid"], terms["groups"], allowed, terms["namespace"], terms["joined"]
    )
    keeper.serve(descriptors, rights)


def _given(terms: Terms) -> list[int]:
    joined = terms["joined"]
    also = [] if joined is None else [*joined["namespaces"].values(), joined["job"], joined["keeper"]]
    return [descriptor for descriptor in (terms["namespace"], *also) if descriptor is not None]
