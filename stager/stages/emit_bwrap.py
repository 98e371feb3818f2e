"""A staged job as a command of bubblewrap: bwrap(1), version 0.8 or later.

The root is an allow-list, as in a container: programs and settings of this node, read-only; a clean environment.
Credentials go through a pipe (``--args``), for every user of the node can read the arguments of a process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from stager.stages.emit_launch import ImageConfig, Launch, LaunchMount, argv_of, credential_names, environment_of
from stager.stages.emit_text import command_line, quoted

__all__ = ["bwrap_of"]

_SYSTEM: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "opt")
_ARGS_FD: Final = 9


def bwrap_of(launch: Launch, environ: Mapping[str, str], image: ImageConfig | None) -> str:
    """``bwrap ...`` for bash. Raises `UsageError`: no command. Looks at the entries of ``/``."""
    argv = argv_of(launch, image)
    parts = [
        ["bwrap", "--unshare-user-try", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"],
        ["--tmpfs", "/"],
        *(_system(name) for name in _SYSTEM if os.path.lexists(f"/{name}")),
        ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/dev/shm", "--tmpfs", "/tmp"],  # noqa: S108 (in the sandbox)
        *(_mount(mount) for mount in launch.mounts),
        ["--remount-ro", "/"],
        ["--clearenv"],
        *(["--setenv", name, value] for name, value in environment_of(launch, image).items()),
        ["--chdir", launch.workdir],
    ]
    lines = [[quoted(word) for word in part] for part in parts]
    secrets = credential_names(launch, environ)
    if secrets:
        words = " ".join(f'${{{name}+--setenv {name} "${name}"}}' for name in secrets)
        lines.append(["--args", str(_ARGS_FD), f"{_ARGS_FD}< <(printf '%s\\0' {words})"])
    lines.append(["--", *map(quoted, argv)])
    return command_line(lines)


def _system(name: str) -> list[str]:
    path = f"/{name}"
    return ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind", path, path]


def _mount(mount: LaunchMount) -> list[str]:
    if mount.kind == "memory":
        return ["--perms", "0700", "--size", str(mount.size_bytes), "--tmpfs", mount.target]
    return ["--ro-bind" if mount.read_only else "--bind", mount.source, mount.target]
