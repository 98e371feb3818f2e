"""What README.md shows is taken from it and tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import yaml

README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language: str, *, with_text: str = "") -> Iterator[str]:
    """The fenced blocks of README.md in a language that hold ``with_text``, in order."""
    for found in re.finditer(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE):
        if with_text in found[1]:
            yield found[1]


def test_kubernetes_manifests_hold_by_the_schema() -> None:
    manifests = [yaml.safe_load(block) for block in blocks("yaml")]
    for manifest in manifests:
        kubernetes_validate.validate(manifest, "1.31", strict=True)
    (pod,) = [manifest["spec"]["template"]["spec"] for manifest in manifests if manifest["kind"] == "Job"]
    (staging,) = pod["initContainers"]
    volumes = {mount["mountPath"] for mount in staging["volumeMounts"]}
    layout = dict(pair.split("=") for pair in staging["command"][3].split(","))
    assert set(layout.values()) < volumes
    assert not {"hostPath", "privileged"} & set(re.findall(r"\w+", str(pod)))
