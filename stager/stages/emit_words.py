"""Names that container runtimes take: of images, containers and Kubernetes objects."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from stager.errors import UsageError
from stager.stages.emit_launch import Launch

__all__ = ["capabilities_of", "container_name", "image_of", "label_of"]

_KEPT_BY_ROOT: Final = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "NET_BIND_SERVICE")
"""Of what runtimes give by default, what a job of root keeps in a view too (`stager.host.capabilities`). The rest of
that would be the node's own here, where there is no user namespace.
"""

_LABEL_MAX: Final = 63  # RFC 1123, as Kubernetes' names of objects
_DIGEST: Final = 8  # characters


def image_of(launch: Launch) -> str:
    """The job's image. `UsageError`: it names none."""
    if launch.image is None:
        raise UsageError("names no image", where=f"job {launch.job}", hint='write image = "REPO:TAG" in [job], stage')
    return launch.image


def capabilities_of(launch: Launch) -> tuple[str, ...]:
    """What the command keeps of root's powers; an ordinary user's keeps nothing."""
    return _KEPT_BY_ROOT if launch.uid == 0 else ()


def container_name(launch: Launch) -> str:
    """A job's id is a container's name too: [a-zA-Z0-9][a-zA-Z0-9_.-]+ is what docker takes."""
    return f"stager-{launch.job}"


def label_of(text: str) -> str:
    """``text`` as the name of a Kubernetes object: lower case letters, digits and '-', at most 63.

    What cannot be told from another text by that has a digest of its own at the end.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "job"
    if plain == text and len(plain) <= _LABEL_MAX:
        return plain
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    return f"{plain[: _LABEL_MAX - _DIGEST - 1].strip('-')}-{digest}"
