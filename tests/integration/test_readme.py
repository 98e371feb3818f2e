"""What README.md shows is taken from it and tried."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import kubernetes_validate
import yaml

from integration.job_driver import PROGRAM, Node
from servers.repositories import make_repository
from servers.seaweedfs import ARNS, SeaweedFS

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


SITED = """
import sys
import stager.host.site
stager.host.site.SITE_FILE = sys.argv.pop(1)
from stager.cli import main
sys.exit(main())
"""
ROUND_TRIP = """
import json, os, sys, urllib.parse
import botocore.config, botocore.exceptions, botocore.session
place = urllib.parse.urlsplit(os.environ["ANYSCALE_ARTIFACT_STORAGE"])
assert place.netloc == os.environ["ANYSCALE_CLOUD_STORAGE_BUCKET"]
config = botocore.config.Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
client = botocore.session.get_session().create_client("s3", config=config)
own, rest = place.path[1:], sys.argv[1]

def status(call, key, **more):
    name = {"Prefix": key} if call == "list_objects_v2" else {"Key": key}
    try:
        return getattr(client, call)(Bucket=place.netloc, **name, **more)["ResponseMetadata"]["HTTPStatusCode"]
    except botocore.exceptions.ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]

print(json.dumps([
    [status("put_object", own + "a", Body=b"1"), status("get_object", own + "a"), status("list_objects_v2", own),
     status("delete_object", own + "a")],
    [status("put_object", rest, Body=b"1"), status("get_object", rest), status("delete_object", rest),
     status("list_objects_v2", "")],
]))
"""


def test_a12_a14_bucket_policy_gives_a_cloud_its_part_and_nobody_else(weed: SeaweedFS, tmp_path: Path) -> None:
    """Enforced by a server that enforces them; the principal alone is another."""
    (policy,) = blocks("json", with_text='"Statement"')
    (site,) = [block for block in blocks("toml") if block.startswith("[cloud]")]
    (tmp_path / "site.toml").write_text(site)
    (bucket,) = re.findall(r'bucket = "(.*)"', site)
    weed.make_bucket(bucket)
    weed.fill(bucket, {"org_7abc/cld_x1y2/system/log": b"the platform's"})
    client = weed.client()
    client.put_bucket_policy(
        Bucket=bucket, Policy=policy.replace("arn:aws:iam::123456789012:role/cld_x1y2", ARNS[0])
    )
    node = Node(tmp_path)
    job = node.write_job(
        f"pass_credentials = true\ncommand = [{sys.executable!r}, '-c', '''{ROUND_TRIP}''', "
        "'org_7abc/cld_x1y2/system/log']"
    )

    environment = {**os.environ, "STAGER_SCRATCH": str(node.scratch), **weed.environment(weed.others[2])}
    done = subprocess.run(
        [sys.executable, "-c", SITED, str(tmp_path / "site.toml"), "run", job], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[200, 200, 200, 204], [403, 403, 403, 403]]
    other = {
        **os.environ, **weed.environment(weed.others[3]), "ANYSCALE_CLOUD_STORAGE_BUCKET": bucket,
        "ANYSCALE_ARTIFACT_STORAGE": f"s3://{bucket}/org_7abc/cld_x1y2/artifact_storage/",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP, "org_7abc/cld_x1y2/system/log"], env=other, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [[403, 403, 403, 403], [403, 403, 403, 403]]
    listed = client.list_objects_v2(Bucket=bucket)
    assert [entry["Key"] for entry in listed["Contents"]] == ["org_7abc/cld_x1y2/system/log"]
    client.close()


class Pages:
    """The files that a page of README.md shows, with the sources and places of this machine for those of the example;
    and its command lines.
    """

    def __init__(self, root: Path, heading: str, places: Mapping[str, str]) -> None:
        page = README[README.index(f"### {heading}\n") :]
        self.text = page[: page.index("\n### ", 1) if "\n### " in page[1:] else len(page)].split("\n## ")[0]
        self.root = root / "here"
        self.root.mkdir()
        self.node = Node(root, {"PATH": f"{root}/bin:{os.environ['PATH']}"})
        (root / "bin").mkdir()
        (root / "bin/python").symlink_to(sys.executable)
        (root / "bin/stager").write_text(f"#!{sys.executable}\n{PROGRAM}\n")
        (root / "bin/stager").chmod(0o755)
        for name, block in self.files():
            for there, here in places.items():
                block = block.replace(there, here)
            (self.root / name).write_text(block)

    def files(self) -> Iterator[tuple[str, str]]:
        for block in re.findall(r"^```\w+\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE):
            if (name := re.match(r"# (\w+\.\w+)\n", block)) is not None:
                yield name[1], block

    def lines(self) -> list[str]:
        """Of its ``sh`` blocks, without their comments."""
        found = re.findall(r"^```sh\n(.*?)^```$", self.text, re.DOTALL | re.MULTILINE)
        return [line.partition(" #")[0].strip() for block in found for line in block.splitlines()]

    def run(self, line: str, **environment: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.root, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, **self.node.environment, "STAGER_SCRATCH": str(self.node.scratch), **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


def test_clusterone_page_runs(tmp_path: Path) -> None:
    places = {
        "git+https://git.example/": f"git+file://{tmp_path}/git/", "/mnt/efs/scans": f"{tmp_path}/scans",
        "/srv/public/imagenet": f"{tmp_path}/imagenet", "/srv/logs": f"{tmp_path}/kept",
    }  # fmt: skip
    page = Pages(tmp_path, "Your Clusterone job here", places)
    for name in ("scans", "imagenet", "git/vision"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "imagenet/one.jpg").write_text("image")
    make_repository(tmp_path / "git/vision/mnist", {"train/1.png": b"1", "train/2.png": b"2"})
    make_repository(tmp_path / "git/vision/mnist-train", {"train.py": (tmp_path / "here/train.py").read_bytes()})
    (line,) = page.lines()
    page.run(f"{line} --job-id 4711")
    assert (tmp_path / "kept/4711/0/images.txt").read_text() == "2 images 1 public\n"


def test_qarnot_page_runs(weed: SeaweedFS, tmp_path: Path) -> None:
    page = Pages(tmp_path, "Your Qarnot task here", {})
    weed.make_bucket("inputs")
    weed.make_bucket("results")
    weed.fill("inputs", {"common/input.txt": b"common CASE\n", "common/big": b"0", "case-7/input.txt": b"case CASE\n"})
    (line,) = page.lines()
    page.run(f"{line} --job-id 4711", **weed.environment())
    client = weed.client()
    listed = client.list_objects_v2(Bucket="results", Prefix="case-7/")["Contents"]
    (key,) = [entry["Key"] for entry in listed if "/.stager" not in entry["Key"]]
    assert key.endswith("/out-15.txt")
    assert client.get_object(Bucket="results", Key=key)["Body"].read() == b"case 15\n"
    client.close()


def test_anyscale_page_runs(tmp_path: Path) -> None:
    page = Pages(tmp_path, "Your Anyscale job here", {})
    first, second = page.lines()
    assert page.run(first) == "epoch 0\n"
    assert page.run(second) == "epoch 1\n"
