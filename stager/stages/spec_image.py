"""``image`` and ``entrypoint`` of ``[job]``: what a container runtime starts; see `stager.stages.emit`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Final

from stager.model import ContainerSpec
from stager.stages.spec_schema import Problems, shown

__all__ = ["container_of"]

# Distribution Specification, "Pulling manifests", and reference.ReferenceRegexp of distribution/reference.
_REFERENCE: Final = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,128})?"
)
_LONGEST: Final = 512


def container_of(image: str | None, entrypoint: Sequence[str] | str, problems: Problems) -> ContainerSpec:
    """Both, checked; an entrypoint given as a string is split into words, as the command is."""
    if image is not None and not (len(image) <= _LONGEST and _REFERENCE.fullmatch(image)):
        problems.add("job.image", f"{shown(image)} is no image; write [REGISTRY/]REPO[:TAG][@DIGEST]")
    try:
        words = tuple(shlex.split(entrypoint) if isinstance(entrypoint, str) else entrypoint)
    except ValueError as error:
        problems.add("job.entrypoint", f"cannot be split into words: {str(error).lower()}")
        return ContainerSpec()
    if entrypoint and not (words and words[0]):
        problems.add("job.entrypoint", "names no program")
    if any("\0" in word for word in words):
        problems.add("job.entrypoint", "holds a NUL")
    return ContainerSpec(image=image, entrypoint=words)
