"""The storages below /mnt, on nodes that share a file server: who finds what there, and who does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.job_driver import Outcome
from integration.other_user import python_for, readable_copy

pytestmark = pytest.mark.root

ALICE, BOB = 47021, 47022
_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from stager.host import scratch, site
site.SITE_FILE, scratch.DEFAULT_TOP = sys.argv.pop(1), sys.argv.pop(1)
from stager.cli import main
sys.exit(main())
"""
SITE = """
[cloud]
bucket = "acme"
region = "eu-west-1"
org_id = "org_1"
cloud_id = "cld_1"
[view.public]
site = "{0}/sites"
[view.binds]
"lab/efs" = "{0}/efs"
"lab/closed" = "{0}/closed"
"""
EVERYTHING = """
version = 1
[job]
name = "everything"
[code]
source = "{0}/code"
[[dataset]]
name = "alice/copied"
source = "file://{0}/copied"
[[dataset]]
name = "lab/bound"
source = "bind:{0}/bound"
[[public]]
name = "p"
source = "{0}/public"
[[resource]]
source = "file://{0}/resource"
"""
PATHS = {
    "/data/alice/copied": "copied", "/data/lab/bound": "bound", "/public/p": "public", "/code": "code",
    "/task": "resource", "/public/site": "sites", "/data/lab/efs": "efs",
}  # fmt: skip
WRITABLE = [
    "/data/alice/copied", "/data/lab/bound", "/code", "/logs", "/task", "/task_tmp", "/task_ramfs",
    *(f"/mnt/{name}_storage" for name in ("local", "cluster", "user", "shared")),
]  # fmt: skip
VARIABLES = {
    "TASK_PATH": "/task", "TMP_PATH": "/task_tmp", "TMP_RAMFS_PATH": "/task_ramfs", "CLUSTERONE_CLOUD": "1",
    "CLUSTERONE_JOB_ID": "11", "STAGER_JOB_ID": "11", "STAGER_JOB_NAME": "everything", "PWD": "/task",
    "ANYSCALE_CLOUD_STORAGE_BUCKET": "acme", "ANYSCALE_CLOUD_STORAGE_BUCKET_REGION": "eu-west-1",
    "ANYSCALE_ARTIFACT_STORAGE": "s3://acme/org_1/cld_1/artifact_storage/",
}  # fmt: skip
UNTIL = "until test -e {}; do sleep 0.01; done"


class Clouds:
    """Two clouds of one file server; each node has a scratch of its own, and is in one of them."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.library = readable_copy(base / "library")
        self.python = python_for(ALICE, self.library)
        for kind in ("cluster", "users", "shared"):
            for cloud in ("one", "two"):
                self.open_to_all(base / "nfs" / kind / cloud)
        for cloud in ("one", "two"):
            places = f'cluster = "{base}/nfs/cluster"\nuser = "{base}/nfs/users"\nshared = "{base}/nfs/shared"\n'
            (base / f"{cloud}.toml").write_text(f'[storage]\n{places}cloud = "{cloud}"\n{SITE.format(base)}')
        (base / "none.toml").touch()
        self.furnish("sites")
        self.furnish("efs").chmod(0o777)
        self.furnish("closed").chmod(0o700)

    def open_to_all(self, path: Path) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o1777)
        return path

    def start(
        self, user: int, script: str, *options: str, node: str = "a", cloud: str = "one"
    ) -> subprocess.Popen[str]:
        scratch = self.open_to_all(self.base / "nodes" / node)
        site = str(self.base / f"{cloud}.toml")
        return subprocess.Popen(
            [self.python, "-I", "-c", _PROGRAM, str(self.library), site, str(scratch),
             "run", *options, "--", "sh", "-c", script],
            user=user, group=user, extra_groups=[], cwd="/",
            env={"PATH": os.environ["PATH"], "STAGER_SCRATCH": str(scratch), "HOME": "/nonexistent"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def furnish(self, name: str) -> Path:
        (self.base / name).mkdir()
        (self.base / name / "what").write_text(f"{name}\n")
        return self.base / name

    def write_job(self) -> str:
        """One of every kind of source, each with its own name in it."""
        for name in ("code", "copied", "public", "resource"):
            self.furnish(name)
        self.furnish("bound").chmod(0o777)
        (self.base / "job.toml").write_text(EVERYTHING.format(self.base))
        return str(self.base / "job.toml")

    def run(self, user: int, script: str, *options: str, node: str = "a", cloud: str = "one") -> Outcome:
        return end(self.start(user, script, *options, node=node, cloud=cloud))

    def storage_of(self, user: int, job: str, *, node: str = "a") -> dict[str, Any]:
        receipt = self.base / "nodes" / node / f"stager-{user}" / "jobs" / job / "receipt.json"
        found: dict[str, Any] = json.loads(receipt.read_text())["storage"]
        return found


def end(process: subprocess.Popen[str]) -> Outcome:
    with process:
        out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out, err)


@pytest.fixture(scope="module")
def clouds() -> Iterator[Clouds]:
    base = Path(tempfile.mkdtemp(prefix="stager-clouds-"))
    try:
        base.chmod(0o755)
        yield Clouds(base)
    finally:
        shutil.rmtree(base)


def test_x1_a11_c12_c13_every_path_and_variable_is_there_at_once_and_none_hides_another(clouds: Clouds) -> None:
    show = [f"cat {path}/what" for path in PATHS]
    mark = [f"test ! -e {path}/mark && echo {path} > {path}/mark" for path in WRITABLE]
    read = [f"cat {path}/mark" for path in WRITABLE]
    rest = [f'printf "%s\\n" "${name}"' for name in VARIABLES] + ["pwd -P", "ls -d /mnt/*", "ls /data/lab"]
    script = ["set -e", *show, *mark, *read, *rest, "! touch /public/p/x /public/site/x"]
    done = clouds.run(ALICE, "\n".join(script), "--job-id", "11", clouds.write_job())
    assert done.code == 0, done.err
    mnt = sorted({f"/mnt/{name}" for name in os.listdir("/mnt")} | set(WRITABLE[-4:]))
    assert done.out.splitlines() == [*PATHS.values(), *WRITABLE, *VARIABLES.values(), "/task", *mnt, "bound", "efs"]
    assert (clouds.base / "bound" / "mark").exists() and not (clouds.base / "copied" / "mark").exists()


def test_a1_a4_a5_a6_a8_nodes_of_a_job_share_its_cluster_storage_and_no_other_job_does(clouds: Clouds) -> None:
    cluster = "/mnt/cluster_storage"
    worker = f"""
echo mine > /mnt/local_storage/worker
echo from worker > {cluster}/new && sync {cluster}/new && mv {cluster}/new {cluster}/worker
{UNTIL.format(f"{cluster}/head")}; cat {cluster}/head; ls /mnt/local_storage
"""
    head = f"""
{UNTIL.format(f"{cluster}/worker")}; cat {cluster}/worker
test ! -e /mnt/local_storage/worker && echo head > /mnt/local_storage/head
sh -c 'cat /mnt/local_storage/head'
echo from head > {cluster}/new && mv {cluster}/new {cluster}/head
"""
    nodes = [clouds.start(ALICE, script, "--job-id", "7", node=node) for script, node in ((head, "a"), (worker, "b"))]
    ended = [end(node) for node in nodes]
    assert [(one.code, one.out) for one in ended] == [(0, "from worker\nhead\n"), (0, "from head\nworker\n")], ended
    look = f"ls {cluster} /mnt/local_storage; touch {cluster}/other; ls -A {clouds.base}/nfs/cluster/one"
    again = clouds.run(ALICE, look, "--job-id", "7")
    assert again.out.split() == [f"{cluster}:", "head", "worker", "/mnt/local_storage:"], again.err
    other = clouds.run(ALICE, look, "--job-id", "8")
    assert other.out.split() == [f"{cluster}:", "/mnt/local_storage:"], other.err
    kept = clouds.base / "nfs" / "cluster" / "one"
    assert {f"{ALICE}-7", f"{ALICE}-8"} <= set(os.listdir(kept))
    assert os.listdir(kept / f"{ALICE}-7" / "used-by") == []


def test_a9_a10_a19_user_storage_is_one_users_and_shared_storage_everybodys(clouds: Clouds) -> None:
    users = clouds.base / "nfs" / "users" / "one"
    save = "umask 0; cd /mnt; mkdir shared_storage/run; echo 1 > user_storage/step; echo 1 > shared_storage/run/step"
    assert clouds.run(ALICE, f"{save}; chmod 777 /mnt/user_storage").code == 0
    step = "n=$(($(cat $d/step) + 1)); echo $n > $d/step; cat $d/step"
    resumed = clouds.run(ALICE, f"for d in /mnt/user_storage /mnt/shared_storage/run; do {step}; done", node="b")
    assert resumed.out == "2\n2\n", resumed.err
    tricks = [
        f"{users}/{ALICE}/step", f"/mnt/user_storage/../{ALICE}/step", "/mnt/user_storage/../../user_storage/step",
        "/mnt/shared_storage/way", "/mnt/user_storage/way/step", f"/proc/1/root{users}/{ALICE}/step",
    ]  # fmt: skip
    links = f"ln -s {users}/{ALICE}/step /mnt/shared_storage/way; ln -s {users}/{ALICE} /mnt/user_storage/way"
    attack = f"{links}; d=/mnt/shared_storage/run; {step}; for f in {' '.join(tricks)}; do cat $f && echo FOUND; done"
    met = clouds.run(BOB, f"{attack}; ls {users}/{ALICE}; id -u; ls /mnt/user_storage")
    assert met.out.split() == ["3", str(BOB), "way"], met
    assert (users / str(ALICE)).stat().st_mode & 0o777 == 0o700
    assert (users / str(ALICE) / "step").read_text() == "2\n"
    elsewhere = clouds.run(ALICE, f"ls -A /mnt/user_storage /mnt/shared_storage {clouds.base}/nfs/*/one", cloud="two")
    empty = ["/mnt/shared_storage:", "/mnt/user_storage:", f"{clouds.base}/nfs/shared/one:"]
    assert elsewhere.out.split() == empty, elsewhere.err


def test_a9_place_that_another_user_has_taken_is_refused(clouds: Clouds) -> None:
    for place, victim in ((clouds.base / "nfs" / "users" / "two", BOB), (clouds.base / "nfs" / "users" / "one", 47023)):
        name = place / str(victim)
        name.symlink_to("/tmp") if victim == BOB else name.mkdir()
        os.chown(name, ALICE, ALICE, follow_symlinks=False)
    (clouds.base / "nfs" / "shared" / "two").chmod(0o700)
    alone = clouds.run(ALICE, "echo x > /mnt/shared_storage/mine", "--job-id", "12", cloud="two")
    assert "you may not enter" in clouds.storage_of(ALICE, "12")["/mnt/shared_storage"]["told"], alone.err
    assert os.listdir(clouds.base / "nfs" / "shared" / "two") == []
    taken = clouds.run(47023, "true")
    assert (taken.code, f"belongs to another user (uid {ALICE})" in taken.err) == (125, True), taken.err
    led = clouds.run(BOB, "true", cloud="two")
    assert (led.code, "a symlink or a file stands in its place" in led.err) == (125, True), led.err


def test_a2_a3_local_storage_lies_with_the_job_and_the_job_is_told_of_the_root_disk(clouds: Clouds) -> None:
    memory = Path(tempfile.mkdtemp(prefix="stager-nvme-", dir="/dev/shm"))
    try:
        clouds.open_to_all(memory)
        show = "stat -c %d /mnt/local_storage; touch /mnt/local_storage/x"
        fast = clouds.run(ALICE, show, "--scratch", str(memory), "--job-id", "nvme")
        assert int(fast.out) == memory.stat().st_dev, fast.err
        assert "root disk" not in fast.err
    finally:
        shutil.rmtree(memory)
    slow = clouds.run(ALICE, show, "--job-id", "root", cloud="none")
    assert int(slow.out) == clouds.base.stat().st_dev, slow.err
    told = clouds.storage_of(ALICE, "root")
    assert all(one["fallback"] for one in told.values()) and "on this node alone" in told["/mnt/user_storage"]["told"]
    if os.stat("/").st_dev == clouds.base.stat().st_dev:
        assert "/mnt/local_storage is on the root disk" in slow.err
