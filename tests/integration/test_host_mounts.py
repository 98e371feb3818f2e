"""`stager mount` and `stager umount`: a job's paths in the node's own namespace, and what survives what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.own_root import USER, OwnRoot, Told, own_root

pytestmark = pytest.mark.root

DRIVER = Path(__file__).with_name("host_mount_driver.py")
SCRATCH = ("--scratch", "/mnt/scratch")
JOB = """version = 1
[job]
name = "job"
clusterone_shim = true
[[dataset]]
name = "alice/words"
source = "file:///mnt/words"
[[dataset]]
name = "alice/fixed"
source = "file:///mnt/words"
access = "read-only"
"""
LIVE = """
[[dataset]]
name = "lab/live"
source = "bind:/mnt/live"
[[public]]
name = "imagenet"
source = "/mnt/imagenet"
"""


@pytest.fixture(scope="module")
def node() -> Iterator[OwnRoot]:
    with own_root() as root:
        root.sh(
            "mkdir -p /mnt/words /mnt/live /mnt/imagenet/sub /mnt/source /mnt/users; chmod 1777 /mnt/users;"
            "mkdir -m 0700 /mnt/scratch; echo one > /mnt/words/one; mount -t tmpfs below /mnt/imagenet/sub;"
            'printf "%s" "$1" > /mnt/mine.toml; printf "%s" "$2" > /mnt/live.toml', JOB, JOB + LIVE,
        )  # fmt: skip
        yield root


def stage(node: OwnRoot, job: str, *, mount: bool = True) -> None:
    assert node.stager("stage", "/mnt/live.toml", "--job-id", job, *SCRATCH, "--no-cache").code == 0
    if mount:
        assert node.stager("mount", job, *SCRATCH) == Told(0, f"job {job}: mounted\n")


def test_mounts_of_a_job_are_made_at_its_paths_and_removed_without_a_trace(node: OwnRoot) -> None:
    before = node.mounted(), node.sh("ls / /mnt")
    stage(node, "1")
    assert node.stager("mount", "1", *SCRATCH) == Told(0, "job 1: was mounted before\n")
    node.sh(
        "test $(cat /data/alice/words/one) = one; echo x > /logs/l; echo x > /code/c; "
        "echo mine > /data/alice/words/new;"
        "echo x > /data/lab/live/theirs; test -e /mnt/live/theirs; test ! -e /mnt/words/new"
    )
    locked = ["/data/alice/fixed", "/public/imagenet", "/public/imagenet/sub", "/public", "/data", "/data/alice"]
    refused = node.run("touch", *[f"{path}/x" for path in locked], check=False).stderr
    assert refused.count("Read-only file system") == len(locked)
    assert "running" in node.stager("ls", *SCRATCH).text
    for command in ("collect", "teardown"):
        code, text = node.stager(command, "1", *SCRATCH)
        assert code == 2 and "stager umount 1" in text
    assert node.stager("umount", "1", *SCRATCH) == Told(0, "job 1: unmounted\n")
    assert node.stager("umount", "1", *SCRATCH) == Told(0, "job 1: nothing is mounted\n")
    assert (node.mounted(), node.sh("ls / /mnt")) == before
    assert "ended" in node.stager("ls", *SCRATCH).text
    assert node.sh("cat /mnt/scratch/jobs/1/tree/data/alice/words/new") == "mine\n"


def test_one_job_at_a_time_has_the_paths_and_nothing_of_the_node_is_covered(node: OwnRoot) -> None:
    stage(node, "21", mount=False)
    stage(node, "22", mount=False)
    node.sh("mkdir -p /code /logs/old; mount -t tmpfs admin /code")
    code, text = node.stager("mount", "21", *SCRATCH)
    assert code == 6 and "/code: something is mounted there" in text and "/logs: is not empty" in text
    node.sh("umount /code; rmdir /logs/old")  # empty directories are mount points: used, and kept
    launch = json.loads(node.sh("cat /mnt/scratch/jobs/21/launch.json"))
    sources = {mount["target"]: mount["source"] for mount in launch["mounts"]}
    node.sh(f"mkdir /mnt/user_storage; mount --bind {sources['/mnt/user_storage']} /mnt/user_storage")  # is there
    assert node.stager("mount", "21", *SCRATCH).code == 0
    assert node.mounted().count("/mnt/user_storage") == 1
    code, text = node.stager("mount", "22", *SCRATCH)
    assert code == 7 and "only one job at a time" in text and "job 21" in text
    assert node.stager("umount", "21", *SCRATCH).code == 0
    assert node.sh("ls -d /code /logs; rmdir /code /logs").split() == ["/code", "/logs"]
    node.sh("umount /mnt/user_storage; rmdir /mnt/user_storage")


def test_mounts_of_the_administrator_on_and_in_ours_survive_and_are_named(node: OwnRoot) -> None:
    before = node.mounted(), node.sh("ls /")
    stage(node, "3")
    node.sh(
        "mount -t tmpfs top /code; mkdir /logs/in; mount -t tmpfs inner /logs/in; mount -t tmpfs over /data;"
        "mkdir /mnt/beside; mount -t tmpfs beside /mnt/beside; touch /code/a /logs/in/a /data/a /mnt/beside/a"
    )
    code, text = node.stager("umount", "3", *SCRATCH)
    assert code == 6
    for what in ("/code: tmpfs from top", "/logs/in: tmpfs from inner", "/data: tmpfs from over"):
        assert what in text
    assert "beside" not in text and "/public" not in node.mounted()  # what could go has gone
    node.sh("ls /code/a /logs/in/a /data/a /mnt/beside/a; umount /code /logs/in /data")
    assert node.stager("umount", "3", *SCRATCH).code == 0
    node.sh("ls /mnt/beside/a; umount /mnt/beside; rmdir /mnt/beside")
    assert (node.mounted(), node.sh("ls /")) == before


def test_what_the_job_holds_or_renames_keeps_no_mount(node: OwnRoot) -> None:
    """A process in it, and a source that bears another name by now: the mount goes all the same."""
    before = node.mounted()
    stage(node, "4")
    node.sh("cd /mnt/scratch/jobs/4/tree; mv logs moved; cd /logs; exec sleep 60 > /dev/null 2>&1 & echo $! > /mnt/pid")
    try:
        assert node.stager("umount", "4", *SCRATCH).code == 0
        assert node.mounted() == before
    finally:
        node.sh("kill $(cat /mnt/pid)")


def test_mounts_of_another_boot_or_namespace_are_told_from_ours(node: OwnRoot) -> None:
    before = node.mounted()
    stage(node, "5")
    mounted = node.mounted()
    program = "import sys; from stager.cli import main; sys.exit(main())"
    other = ["unshare", "-m", "env", f"PYTHONPATH={node.library}", node.python, "-c", program, "umount", "5", *SCRATCH]
    done = node.run(*other, check=False)
    assert done.returncode == 6 and "another mount namespace" in done.stderr and "nsenter" in done.stderr
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    node.sh(f"cp /run/stager/mounts /mnt/kept; sed -i s/{boot}/before/ /run/stager/mounts")
    assert node.stager("umount", "5", *SCRATCH).code == 0
    assert node.mounted() == mounted  # by the numbers of another boot nothing is unmounted
    node.sh("cp /mnt/kept /run/stager/mounts")
    assert node.stager("umount", "5", *SCRATCH).code == 0
    assert node.mounted() == before


def test_killed_at_any_step_the_next_one_leaves_no_trace(node: OwnRoot, soak: int) -> None:
    driver = [node.python, str(DRIVER), "/run/crash", "/mnt/imagenet", str(min(soak, 3))]
    found = json.loads(node.run("env", f"PYTHONPATH={node.library}", *driver).stdout)
    assert found["faults"] == []
    assert found["steps"]["make"] > 40 and found["steps"]["remove"] > 10


def test_a_users_job_is_mounted_for_that_user_alone(node: OwnRoot) -> None:
    scratch = ("--scratch", "/mnt/users")
    assert node.stager("stage", "/mnt/mine.toml", "--job-id", "6", *scratch, user=USER).code == 0
    code, text = node.stager("mount", "6", *scratch, user=USER)
    assert code == 6 and "only root can mount" in text
    assert node.stager("mount", "6", *scratch).code == 3  # root has no such job
    assert node.stager("mount", "6", *scratch, "--user", "nobody") == Told(0, "job 6: mounted\n")
    node.run(
        "sh", "-ec", "test $(cat /data/alice/words/one) = one; echo mine > /data/alice/words/two;"
        "df -T /task_ramfs | grep tmpfs; ls /stager_modules/clusterone.py;"
        "touch /task/a /task_tmp/a /task_ramfs/a /mnt/local_storage/a /mnt/user_storage/a",
        user=USER,
    )  # fmt: skip
    private = ["/data", "/public", "/code", "/logs", "/task", "/task_tmp", "/task_ramfs", "/mnt/local_storage"]
    refused = node.run("ls", *private, user=12345, check=False).stderr
    assert refused.count("Permission denied") == len(private)
    assert node.stager("umount", "6", *scratch) == Told(0, "job 6: unmounted\n")  # the journal knows whose it is
    assert "ended" in node.stager("ls", *scratch, user=USER).text

    assert node.stager("stage", "/mnt/live.toml", "--job-id", "7", *scratch, user=USER).code == 0
    code, text = node.stager("mount", "7", *scratch, "--user", "nobody")
    assert code == 3 and "/mnt/live" in text and "[principals] allowed_binds" in text
    assert "/data" not in node.mounted()
