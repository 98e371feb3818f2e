"""A staged job as a Kubernetes Job (batch/v1) on the node where its data lies.

Recursive read-only mounts need Kubernetes 1.31 (1.30 with the feature gate). ``command`` is an image's entrypoint,
``args`` its command.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stager.host.nfs import split_export
from stager.stages.emit_launch import Launch, LaunchMount, credential_names
from stager.stages.emit_text import yaml_of
from stager.stages.emit_words import capabilities_of, image_of, label_of

__all__ = ["k8s_of"]


def k8s_of(launch: Launch, environ: Mapping[str, str]) -> str:
    """The manifest, in YAML. A credential is a reference to a key, of the variable's name, in the secret
    ``NAME-credentials``. Raises `UsageError`: no image, or a name that YAML cannot hold.
    """
    kept = list(capabilities_of(launch))
    secret = label_of(f"{launch.name}-credentials")
    names = credential_names(launch, environ)
    container: dict[str, Any] = {
        "name": "job",
        "image": image_of(launch),
        **({"command": [_literal(word) for word in launch.entrypoint]} if launch.entrypoint else {}),
        **({"args": [_literal(word) for word in launch.command]} if launch.command else {}),
        "workingDir": launch.workdir,
        "env": [
            *({"name": name, "value": _literal(value)} for name, value in launch.environment.items()),
            *({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name, "optional": True}}}
              for name in names),
        ],
        "volumeMounts": [_volume_mount(number, mount) for number, mount in enumerate(launch.mounts)],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], **({"add": kept} if kept else {})},
        },
    }  # fmt: skip
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": label_of(f"stager-{launch.job}"), "annotations": {"stager/job": launch.job}},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": {
                    **({"activeDeadlineSeconds": launch.limit.seconds} if launch.limit.seconds is not None else {}),
                    "terminationGracePeriodSeconds": launch.limit.grace_s,
                    "restartPolicy": "Never",
                    "nodeSelector": {"kubernetes.io/hostname": launch.node},
                    "securityContext": {"runAsUser": launch.uid, "runAsGroup": launch.gid},
                    "containers": [container],
                    "volumes": [_volume(number, mount) for number, mount in enumerate(launch.mounts)],
                },
            },
        },
    }
    return yaml_of(manifest, where=f"job {launch.job}")


def _literal(text: str) -> str:
    """Kubernetes puts variables into arguments and values, ``$(NAME)``; two ``$`` are one."""
    return text.replace("$", "$$")


def _volume_mount(number: int, mount: LaunchMount) -> dict[str, Any]:
    found: dict[str, Any] = {"name": f"volume-{number}", "mountPath": mount.target}
    if mount.read_only:
        return {**found, "readOnly": True, "recursiveReadOnly": "Enabled"}
    return {**found, "mountPropagation": "HostToContainer"} if mount.live else found


def _volume(number: int, mount: LaunchMount) -> dict[str, Any]:
    if mount.kind == "memory":
        memory = {"medium": "Memory", "sizeLimit": str(mount.size_bytes)}
        return {"name": f"volume-{number}", "emptyDir": memory}
    if mount.kind == "nfs":
        host, path = split_export(mount.source)
        return {"name": f"volume-{number}", "nfs": {"server": host, "path": path}}
    return {"name": f"volume-{number}", "hostPath": {"path": mount.source, "type": "Directory"}}
