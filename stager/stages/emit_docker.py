"""A staged job as a command of docker: docker-run(1). Recursive read-only binds need Docker 25."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from stager.host.nfs import split_export
from stager.stages.emit_launch import Launch, LaunchMount, credential_names
from stager.stages.emit_text import command_line, quoted
from stager.stages.emit_words import capabilities_of, container_name, image_of

__all__ = ["docker_of"]


def docker_of(launch: Launch, environ: Mapping[str, str]) -> str:
    """``docker run ...`` for bash. A credential is passed by its name, from the environment of docker itself.

    Raises `UsageError`: the job names no image.
    """
    entrypoint = launch.entrypoint
    parts = [
        ["docker", "run", "--rm", "--name", container_name(launch)],
        ["--user", f"{launch.uid}:{launch.gid}"],
        ["--security-opt", "no-new-privileges", "--cap-drop", "ALL"],
        *(["--cap-add", name] for name in capabilities_of(launch)),
        *(["--mount", _mount(mount)] for mount in launch.mounts if mount.kind != "memory"),
        *(["--tmpfs", _memory(mount, launch.uid)] for mount in launch.mounts if mount.kind == "memory"),
        *(["--env", f"{name}={value}"] for name, value in launch.environment.items()),
        *(["--env", name] for name in credential_names(launch, environ)),
        ["--workdir", launch.workdir],
        ["--entrypoint", entrypoint[0]] if entrypoint else [],
        [image_of(launch)],
        [*entrypoint[1:], *launch.command],
    ]
    return command_line([[quoted(word) for word in part] for part in parts])


def _mount(mount: LaunchMount) -> str:
    """The fields of ``--mount`` are one record of CSV (RFC 4180)."""
    if mount.kind == "nfs":
        host, path = split_export(mount.source)
        fields = ["type=volume", f"target={mount.target}", "volume-driver=local", "volume-opt=type=nfs4",
                  f"volume-opt=device=:{path}", f"volume-opt=o=addr={host},vers=4.2,rw"]  # fmt: skip
    else:
        fields = ["type=bind", f"source={mount.source}", f"target={mount.target}"]
    if mount.read_only:
        fields += ["readonly", "bind-recursive=readonly", "bind-propagation=rprivate"]
    elif mount.live:
        fields.append("bind-propagation=rslave")
    record = io.StringIO()
    csv.writer(record, lineterminator="").writerow(fields)
    return record.getvalue()


def _memory(mount: LaunchMount, uid: int) -> str:
    inodes = f",nr_inodes={mount.inodes}" if mount.inodes else ""
    return f"{mount.target}:rw,nosuid,nodev,mode=0700,uid={uid},size={mount.size_bytes}{inodes}"
