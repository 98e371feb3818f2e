"""A staged job for a container runtime: mounts, environment, working directory, image and command of it, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stager.errors import UsageError
from stager.stages.emit_bwrap import bwrap_of
from stager.stages.emit_docker import docker_of
from stager.stages.emit_k8s import k8s_of
from stager.stages.emit_launch import ImageConfig, Launch
from stager.stages.emit_oci import oci_of

__all__ = ["FORMATS", "emit"]

FORMATS: Final = ("oci", "docker", "k8s", "bwrap")


def emit(form: str, launch: Launch, environ: Mapping[str, str], image: ImageConfig | None = None) -> str:
    """``form``, one of `FORMATS`, of the job. ``environ``: asked for the names of credentials, never for a value.

    ``image``: what the job's image says of its command, for the forms that no runtime with images reads.
    Raises `UsageError`: what this form needs is not there, or what it cannot hold is.
    """
    exports = [mount.source for mount in launch.mounts if mount.kind == "nfs"]
    if exports and form in ("oci", "bwrap"):
        raise UsageError(f"{form} mounts no NFS", where=exports[0], hint="mount it on the node, and say bind:/WHERE")
    if form == "oci":
        return oci_of(launch, environ, image)
    if form == "bwrap":
        return bwrap_of(launch, environ, image)
    if image is not None:
        raise UsageError(f"is of no use to {form}, which has the image", where="--image-config", hint="leave it out")
    return docker_of(launch, environ) if form == "docker" else k8s_of(launch, environ)
