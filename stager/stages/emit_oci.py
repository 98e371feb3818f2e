"""A staged job as the ``config.json`` of an OCI bundle: OCI Runtime Specification 1.0.2, for runc and crun.

``ro`` alone leaves what is mounted below writable; ``rro`` is recursive, and unknown options are ignored without a
word: so both are there, in lower case. The bundle's ``rootfs`` is the caller's: the runtime makes mount points in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stager.stages.emit_launch import ImageConfig, Launch, LaunchMount, argv_of, credential_names, environment_of
from stager.stages.emit_text import json_of
from stager.stages.emit_words import capabilities_of

__all__ = ["SECRETS", "oci_of"]

SECRETS: Final = "stager.credentials"
"""The annotation with the names of what whoever starts the container is to add: the format has no references."""

_PROC: Final = {"destination": "/proc", "type": "proc", "source": "proc"}
_DEV: Final[tuple[dict[str, Any], ...]] = (
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
     "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",  # noqa: S108 (in the container)
     "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
)  # fmt: skip
_TMP: Final = {
    "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",  # noqa: S108 (in the container)
    "options": ["nosuid", "nodev", "mode=1777"],
}  # fmt: skip
_MASKED: Final = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                  "/proc/sched_debug", "/proc/scsi", "/sys/firmware")  # fmt: skip
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def oci_of(launch: Launch, environ: Mapping[str, str], image: ImageConfig | None) -> str:
    """The whole ``config.json``. An ordinary user's has a user namespace, in which the user is called root: runc takes
    no other. What the command writes belongs to the user.

    Raises `UsageError`: no command, or a name that JSON cannot hold.
    """
    is_root = launch.uid == 0
    kept = [f"CAP_{name}" for name in capabilities_of(launch)]
    annotations = {"stager.job": launch.job}
    if names := credential_names(launch, environ):
        annotations[SECRETS] = ",".join(names)
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},  # outside of a user namespace root is root
            "args": list(argv_of(launch, image)),
            "env": [f"{name}={value}" for name, value in environment_of(launch, image).items()],
            "cwd": launch.workdir,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), kept),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": launch.node,
        "mounts": [_PROC, *_DEV, _sys(is_root=is_root), _TMP, *map(_mount, launch.mounts)],
        "annotations": annotations,
        "linux": {
            **({} if is_root else _mapped(launch)),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", *(() if is_root else ("user",)))],
            "maskedPaths": list(_MASKED),
            "readonlyPaths": list(_READ_ONLY),
        },
    }
    return json_of(config, where=f"job {launch.job}")


def _mapped(launch: Launch) -> dict[str, Any]:
    return {
        "uidMappings": [{"containerID": 0, "hostID": launch.uid, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": launch.gid, "size": 1}],
    }


def _sys(*, is_root: bool) -> dict[str, Any]:
    """Without a network namespace of its own an ordinary user cannot mount one, and gets the node's."""
    options = ["nosuid", "noexec", "nodev", "ro"]
    if is_root:
        return {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": options}
    return {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", *options, "rro"]}


def _mount(mount: LaunchMount) -> dict[str, Any]:
    if mount.kind == "memory":
        inodes = [f"nr_inodes={mount.inodes}"] if mount.inodes else []
        options = ["nosuid", "nodev", "mode=0700", *inodes]
        return {"destination": mount.target, "type": "tmpfs", "source": "tmpfs",
                "options": [*options, f"size={mount.size_bytes}"]}  # fmt: skip
    access = ["ro", "rro"] if mount.read_only else ["rw"]
    options = ["rbind", *access, "nosuid", "nodev", "rslave" if mount.live else "rprivate"]
    return {"destination": mount.target, "type": "bind", "source": mount.source, "options": options}
