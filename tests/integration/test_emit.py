"""`stager plan --emit`: a staged job in real runc and real bwrap, for the real docker client, by Kubernetes' schema."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from integration.job_driver import Node
from servers.docker_socket import docker_socket
from stager.cli.group import run
from stager.stages.emit_words import label_of

CANARY = "untouched\n"
SECRET = "CANARY-secret-key-0815"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "CANARY-id", "AWS_SECRET_ACCESS_KEY": SECRET}
HOSTILE = "we'ird, \"$x\" `y` $(z) \\ $$ : #\u202e\x1b"
LIVE = "li've, \"$x\" `y` :#"
CHECK = """
import clusterone, errno, json, os, sys
def write(path):
    try:
        open(path, "w").write("job")
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
print(json.dumps({
    "argv": sys.argv[1:], "cwd": os.getcwd(), "environment": dict(os.environ), "uid": os.getuid(),
    "data": open("/data/lab/words/a.txt").read(),
    "writes": {path: write(path) for path in (
        "/data/lab/words/a.txt", "/data/lab/live/new", "/logs/log", "/public/set/a.txt", "/public/set/sub/b.txt",
    )},
}))
"""
WRITES = {
    "/data/lab/words/a.txt": "done", "/data/lab/live/new": "done", "/logs/log": "done",
    "/public/set/a.txt": "EROFS", "/public/set/sub/b.txt": "EROFS",
}  # fmt: skip


class Staged:
    """A job of all kinds of mount, staged; what is public has a file system mounted below it."""

    def __init__(self, root: Path) -> None:
        self.node = Node(root)
        self.live, self.public = root / LIVE, root / "public"
        for directory in (root / "words", self.live, self.public / "sub", root / "code"):
            directory.mkdir(parents=True)
        (root / "words/a.txt").write_text(CANARY)
        (self.public / "a.txt").write_text(CANARY)
        (root / "code/check.py").write_text(CHECK)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", self.public / "sub"], check=True)
        (self.public / "sub/b.txt").write_text(CANARY)
        (root / "JOB.toml").write_text(
            "version = 1\n[job]\nname = 'job'\nimage = 'registry.example:5000/lab/train:1.2'\n"
            "clusterone_shim = true\npass_credentials = true\ntime_limit = '2h'\ngrace = '1m'\n"
            f"command = ['/code/check.py', {json.dumps(HOSTILE)}]\n"
            f"environment = {{ HOSTILE = {json.dumps(HOSTILE)} }}\n"
            f"[code]\nsource = '{root}/code'\n[[dataset]]\nname = 'lab/words'\nsource = 'file://{root}/words'\n"
            f"[[dataset]]\nname = 'lab/live'\nsource = {json.dumps(f'bind:{self.live}')}\n"
            f"[[public]]\nname = 'set'\nsource = '{self.public}'\n[logs]\npersist = '{root}/kept'\n"
        )
        done = self.node.stager("stage", "JOB.toml", "--job-id", "job-1", **CREDENTIALS)
        assert done.code == 0, done.err

    def emit(self, form: str, *options: str) -> str:
        done = self.node.stager("plan", "--emit", form, "job-1", *options, **CREDENTIALS)
        assert done.code == 0, done.err
        assert "CANARY" not in done.out + done.err
        return done.out

    def put_back(self) -> None:
        (self.node.tree("job-1") / "data/lab/words/a.txt").write_text(CANARY)
        (self.live / "new").unlink()

    def judge(self, told: dict[str, Any]) -> None:
        assert told["writes"] == WRITES
        assert (told["argv"], told["cwd"], told["uid"]) == ([HOSTILE], "/code", os.getuid())
        assert told["environment"]["HOSTILE"] == HOSTILE
        assert told["environment"]["STAGER_JOB_ID"] == "job-1"
        assert told["data"] == CANARY
        assert (self.live / "new").read_text() == "job"
        assert (self.node.tree("job-1") / "logs/log").read_text() == "job"
        assert (self.public / "a.txt").read_text() == (self.public / "sub/b.txt").read_text() == CANARY
        self.put_back()


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    if os.geteuid() != 0:
        pytest.skip("mounting what lies below a public directory takes root")
    root = tmp_path_factory.mktemp("emit")
    try:
        yield Staged(root)
    finally:
        subprocess.run(["umount", "--lazy", root / "public/sub"], check=False)


@pytest.fixture
def image_config(tmp_path: Path) -> str:
    """What an image says whose entrypoint is Python and whose command is another than the job's."""
    config = {"Entrypoint": ["/usr/bin/python3"], "Cmd": ["nothing.py"], "Env": ["IMAGE=own"]}
    (tmp_path / "image.json").write_text(json.dumps({"architecture": "amd64", "config": config}))
    return str(tmp_path / "image.json")


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    """An OCI bundle with a throw-away root: this node's own under a writable layer."""
    layer = tmp_path / "layer"
    for directory in (layer, tmp_path / "rootfs"):
        directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", layer], check=True)
    (layer / "upper").mkdir()
    (layer / "work").mkdir()
    options = f"lowerdir=/,upperdir={layer}/upper,workdir={layer}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, tmp_path / "rootfs"], check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path / "rootfs", layer], check=True)


def test_q16_oci_bundle_runs_in_runc_and_public_data_is_read_only_with_all_below_it(
    staged: Staged, bundle: Path, image_config: str
) -> None:
    config = staged.emit("oci", "--image-config", image_config)
    (bundle / "config.json").write_text(config)
    done = subprocess.run(
        ["runc", "--root", str(bundle / "state"), "run", "--bundle", str(bundle), f"emit-{os.getpid()}"],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    staged.judge(told)
    assert told["environment"]["IMAGE"] == "own"
    public = next(mount for mount in json.loads(config)["mounts"] if mount["destination"] == "/public/set")
    assert {"ro", "rro"} <= set(public["options"])
    assert json.loads(config)["annotations"]["stager.credentials"].split(",") == sorted(
        {*CREDENTIALS, "AWS_EC2_METADATA_DISABLED"}
    )


def test_bwrap_line_runs_in_bwrap_and_takes_credentials_from_the_caller(staged: Staged, image_config: str) -> None:
    line = staged.emit("bwrap", "--image-config", image_config)
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "FOREIGN": "1", **CREDENTIALS},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    staged.judge(told)
    assert told["environment"]["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert "FOREIGN" not in told["environment"]


def test_q16_docker_client_understands_the_line_and_command_replaces_the_images(
    staged: Staged, tmp_path: Path
) -> None:
    with docker_socket(tmp_path / "docker.sock") as asked:
        done = subprocess.run(
            ["bash", "-c", staged.emit("docker")], capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_HOST": f"unix://{tmp_path}/docker.sock",
                 **CREDENTIALS},
        )  # fmt: skip
    assert "noted" in done.stderr, done.stderr
    (request,) = asked
    assert (request["Image"], request["Entrypoint"]) == ("registry.example:5000/lab/train:1.2", None)
    assert request["Cmd"] == ["/code/check.py", HOSTILE]
    assert (request["WorkingDir"], request["User"]) == ("/code", f"{os.getuid()}:{os.getgid()}")
    assert {f"HOSTILE={HOSTILE}", f"AWS_SECRET_ACCESS_KEY={SECRET}", "STAGER_JOB_ID=job-1"} <= set(request["Env"])
    mounts = {mount["Target"]: mount for mount in request["HostConfig"]["Mounts"]}
    assert mounts["/data/lab/live"]["Source"] == str(staged.live)
    assert mounts["/public/set"]["ReadOnly"] is True
    assert mounts["/public/set"]["BindOptions"]["ReadOnlyForceRecursive"] is True
    assert "ReadOnly" not in mounts["/data/lab/words"]


def test_k8s_manifest_holds_by_the_schema_with_secrets_by_reference(staged: Staged) -> None:
    manifest = yaml.safe_load(staged.emit("k8s"))
    kubernetes_validate.validate(manifest, "1.31", strict=True)
    pod = manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (pod["activeDeadlineSeconds"], pod["terminationGracePeriodSeconds"]) == (7200, 60)
    assert container["args"] == ["/code/check.py", HOSTILE.replace("$", "$$")]
    variables = {one["name"]: one for one in container["env"]}
    assert variables["HOSTILE"]["value"] == HOSTILE.replace("$", "$$")
    assert variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "job-credentials"
    places = {mount["mountPath"]: (mount, volume) for mount, volume in zip(
        container["volumeMounts"], pod["volumes"], strict=True)}  # fmt: skip
    assert places["/public/set"][0]["recursiveReadOnly"] == "Enabled"
    assert places["/data/lab/live"][1]["hostPath"] == {"path": str(staged.live), "type": "Directory"}


def test_what_a_container_leaves_is_kept_once_it_is_said_to_have_ended(
    staged: Staged, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last of those that use the job."""
    (staged.node.tree("job-1") / "logs/log").write_text("container's")
    monkeypatch.setenv("STAGER_SCRATCH", str(staged.node.scratch))
    assert run(["collect", "job-1"]) == 2
    assert "say --ended" in "".join(capsys.readouterr())
    assert run(["collect", "--ended", "job-1"]) == 0
    assert (staged.node.root / "kept/job-1/0/log").read_text() == "container's"
    assert run(["teardown", "-q", "job-1"]) == 0
    assert not staged.node.tree("job-1").exists()


def test_q16_entrypoint_goes_before_the_command_and_what_is_wrong_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Node(tmp_path)
    job = node.write_job("entrypoint = 'echo Hello'\ncommand = 'World'\n")
    ran = node.stager("run", job, "--keep", "--job-id", "job-2")
    assert (ran.code, ran.out) == (0, "Hello World\n"), ran.err
    monkeypatch.setenv("STAGER_SCRATCH", str(node.scratch))
    monkeypatch.chdir(tmp_path)

    def emitted(*options: str) -> tuple[int, str]:
        return run(["plan", "--emit", *options]), "".join(capsys.readouterr())

    assert json.loads(emitted("oci", "job-2")[1])["process"]["args"] == ["echo", "Hello", "World"]
    for options, message in (
        (("docker", "job-2"), "names no image"),
        (("k8s", job), "of a staged job, by its id"),
        (("bwrap", "job-3"), "no job job-3"),
        (("podman", "job-2"), "is not one of"),
    ):
        code, text = emitted(*options)
        assert code in (2, 3) and message in text
    bad = node.write_job("image = '--privileged'\nentrypoint = \"'\"\n")
    assert run(["stage", bad]) == 2
    text = "".join(capsys.readouterr())
    assert "is no image" in text and "cannot be split" in text


def test_names_that_kubernetes_does_not_take_stay_apart() -> None:
    names = ["stager-4711", "stager-Job.7", "stager-job-7", f"stager-{'x' * 100}-1", f"stager-{'x' * 100}-2"]
    labels = [label_of(name) for name in names]
    assert labels[0] == "stager-4711" and len(set(labels)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label) for label in labels)
