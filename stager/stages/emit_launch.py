"""What a container runtime has to know of a staged job, kept beside its record; `stager.stages.emit` writes it out.

Of a secret its name is kept and nothing else.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from stager.errors import HostError, UsageError
from stager.model import JobSpec, Mount, RamDisk
from stager.time_limits import TimeLimit
from stager.view_paths import TMP_RAMFS

__all__ = [
    "CREDENTIALS",
    "LAUNCH",
    "ImageConfig",
    "Launch",
    "LaunchMount",
    "argv_of",
    "credential_names",
    "environment_of",
    "launch_of",
    "read_image_config",
    "read_launch",
]

LAUNCH: Final = "launch.json"
"""Beside the job's record."""

CREDENTIALS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""What a job has that says ``pass_credentials = true``, when the environment at hand names no other."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LaunchMount(msgspec.Struct, frozen=True, kw_only=True):
    """One mount. ``bind``: ``source`` of this node, read-only with all below it or not; ``nfs``: an export, HOST:/PATH;
    ``memory``: a tmpfs of at most ``size_bytes`` and ``inodes``.
    """

    kind: Literal["bind", "nfs", "memory"]
    target: str
    source: str = ""
    read_only: bool = False
    live: bool = False  # what is mounted below it later is to be seen too
    size_bytes: int = 0
    inodes: int = 0


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """``entrypoint`` and ``command`` as in an image: the argument vector is one after the other. Ids are those of the
    user whose job it is.
    """

    job: str
    name: str
    node: str
    uid: int
    gid: int
    image: str | None
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    workdir: str
    environment: dict[str, str]
    pass_credentials: bool
    mounts: tuple[LaunchMount, ...]
    limit: TimeLimit = TimeLimit()
    schema: int = 1


class ImageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What an image says of its command: OCI Image Format Specification, "Image Configuration", ``config``."""

    Entrypoint: tuple[str, ...] | None = None
    Cmd: tuple[str, ...] | None = None
    Env: tuple[str, ...] | None = None


def launch_of(
    spec: JobSpec, job_id: str, mounts: Sequence[Mount], *, disk: RamDisk, workdir: str,
    environment: Mapping[str, str],
) -> Launch:  # fmt: skip
    """``mounts``: as checked, of a tree that is used without a view; ``disk``: what is at TMP_RAMFS_PATH;
    ``environment``: what stager sets for the job.
    """
    return Launch(
        job=job_id, name=spec.name, node=socket.gethostname(), uid=os.geteuid(), gid=os.getegid(),
        image=spec.container.image, entrypoint=spec.container.entrypoint, command=spec.command, workdir=workdir,
        environment=dict(environment), limit=spec.limit, pass_credentials=spec.pass_credentials,
        mounts=(
            LaunchMount(kind="memory", target=TMP_RAMFS, size_bytes=disk.size_bytes, inodes=disk.inodes),
            *map(_launch_mount, mounts),
        ),
    )  # fmt: skip


def _launch_mount(mount: Mount) -> LaunchMount:
    return LaunchMount(
        kind="nfs" if mount.kind == "nfs" else "bind", source=mount.source, target=mount.target,
        read_only=mount.read_only or mount.kind == "public", live=mount.kind == "bind",
    )  # fmt: skip


def read_launch(found: Mapping[str, Any], *, where: str) -> Launch:
    """What `launch_of` made, read again. `UsageError`: there is none. `HostError`: it is damaged."""
    if not found:
        raise UsageError("is not staged for a container", where=where, hint="`stager stage JOB.toml` does that")
    try:
        return msgspec.convert(found, Launch)
    except msgspec.ValidationError as error:
        raise HostError(f"is damaged: {error}", where=f"{where}/{LAUNCH}") from error


def read_image_config(data: bytes, *, where: str) -> ImageConfig:
    """An image's configuration, as `skopeo inspect --config` and `docker image inspect` print it. `UsageError`."""
    try:
        found = msgspec.json.decode(data)
        if isinstance(found, list) and found:
            found = found[0]
        inner = found.get("config", found.get("Config")) if isinstance(found, dict) else None
        return msgspec.convert(inner, ImageConfig)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        hint = "save what `skopeo inspect --config docker://IMAGE` or `docker image inspect IMAGE` prints"
        raise UsageError(f"is no configuration of an image: {error}", where=where, hint=hint) from error


def argv_of(launch: Launch, image: ImageConfig | None) -> tuple[str, ...]:
    """The argument vector where no runtime looks into the image: as `docker run` puts it together.

    A command replaces the image's, an entrypoint the image's and its command with it. `UsageError`: there is neither.
    """
    inside = image or ImageConfig()
    entrypoint = launch.entrypoint or inside.Entrypoint or ()
    command = launch.command or (() if launch.entrypoint else inside.Cmd or ())
    if not (entrypoint or command):
        raise UsageError(
            "no command", where=f"job {launch.job}", hint="name one in [job], or say --image-config for the image's own"
        )
    return (*entrypoint, *command)


def environment_of(launch: Launch, image: ImageConfig | None) -> dict[str, str]:
    """The environment likewise: the image's, and the job's on top of it."""
    pairs = (entry.partition("=") for entry in (image.Env if image else None) or ())
    return {"PATH": _PATH, **{name: value for name, _, value in pairs}, **launch.environment}


def credential_names(launch: Launch, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that the job gets from whoever starts it: by name alone, their values are never read."""
    if not launch.pass_credentials:
        return ()
    names = sorted(name for name in environ if name.startswith("AWS_") and name not in launch.environment)
    return tuple(names) if any(name in names for name in CREDENTIALS[:2]) else (*CREDENTIALS, *names)
