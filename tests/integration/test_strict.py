"""The profile ``strict``: a job has a system, processes and an environment of its own, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.job_driver import Node
from integration.user_node import USER, user_node

pytestmark = pytest.mark.root

PLACES = "/ /etc /usr /usr/lib /dev /proc /run /tmp /var /var/tmp /dev/shm /home /mnt /public /data /sys /opt"
"""Where a job tries to leave something; what is not there in the view fails, and that is as good."""

OWN = "/logs /code /task /task_tmp /task_ramfs /mnt/local_storage"
ENVIRONMENT = {
    "PATH", "HOME", "SHELL", "LANG", "PWD", "SLURM_JOB_ID", "TASK_PATH", "TMP_PATH", "TMP_RAMFS_PATH", "INSTANCE_ID",
    "INSTANCE_COUNT", "CLUSTERONE_CLOUD", "CLUSTERONE_JOB_ID", "STAGER_JOB_ID", "STAGER_JOB_NAME", "STAGER_ATTEMPT",
    "STAGER_NODE_RANK", "STAGER_NODE_COUNT",
}  # fmt: skip
AROUND = {
    "LANG": "C.UTF-8", "SLURM_JOB_ID": "7", "SLURM_JWT": "secret", "HTTP_PROXY": "http://user:secret@proxy",
    "SSH_AUTH_SOCK": "/tmp/agent", "WANDB_API_KEY": "secret", "AWS_SECRET_ACCESS_KEY": "secret",
    "LD_LIBRARY_PATH": "/x", "BASH_ENV": "/x", "XDG_RUNTIME_DIR": "/run/user/0",
}  # fmt: skip

DOORS = (
    "readlink /proc/1/root", "cat /proc/1/environ", "nsenter -t 1 -m true", "umount /etc", "umount /",
    "unshare -Um umount /etc", "unshare -Um mount -o remount,bind,rw /etc", "unshare -Um umount /proc",
    "mknod /tmp/disk b 254 0", "cat /dev/vda", "touch /dev/null/x", "tee /proc/sys/kernel/core_pattern < /etc/hostname",
    "tee /proc/sysrq-trigger < /dev/null", "ls /sys/kernel", "ls /var/lib", "ls /home",
)  # fmt: skip


@pytest.fixture(params=["root", "user"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    if request.param == "root":
        yield Node(tmp_path)
        return
    with user_node() as node:
        yield node


def test_c1_two_jobs_at_once_see_nothing_of_each_other(node: Node) -> None:
    left = "touch /tmp/a /logs/a /dev/shm/a /task/a; ipcmk -Q >&2; sleep 600 & echo up; wait"
    with node.start("run", "--view", "strict", "--job-id", "A", "--", "sh", "-c", left) as first:
        try:
            assert first.stdout is not None and first.stdout.readline() == "up\n"
            look = "ls /tmp /logs /dev/shm /task; ipcs -q | grep -c ^0x; ls -d /proc/[0-9]* | wc -l; kill -KILL 1"
            second = node.stager("run", "--view", "strict", "--job-id", "B", "--", "sh", "-c", f"{look}; exit 3")
            assert second.code == 3, second.err
            names, count = second.out.split()[:-1], int(second.out.split()[-1])
            assert names == ["/dev/shm:", "/logs:", "/task:", "/tmp:", "0"]
            assert count <= 4  # the keeper, the shell, ls and wc
            inside = node.stager("exec", "A", "--", "sh", "-c", look)
            assert inside.out.split()[:-1] == ["/dev/shm:", "a", "/logs:", "a", "/task:", "a", "/tmp:", "a", "1"]
            assert int(inside.out.split()[-1]) > count
            assert node.stager("exec", "A", "--", "sh", "-c", f"{' || '.join(DOORS)} || exit 7").code == 7
        finally:
            first.kill()
        assert first.stdout.read() == ""  # the daemon has ended with its stager


def test_q1_q3_strict_job_finds_a_clean_node_and_leaves_one(tmp_path: Path) -> None:
    leave = f"""
    for place in {PLACES} {OWN}; do mkdir $place/left-behind; done 2>/dev/null
    ipcmk -M 4096 -p 0666 > /dev/null
    (trap '' TERM HUP; exec sleep 600) &
    ls -d {" ".join(f"{place}/left-behind" for place in OWN.split())} /tmp/left-behind && ! touch /public/p/new
    """
    find = f"find {PLACES} {OWN} -maxdepth 1 -name left-behind 2>&-; ipcs -m | grep -c ^0x; ls -d /proc/[0-9]* | wc -l"
    with user_node() as one:
        (one.root / "public").mkdir()
        (one.root / "public").chmod(0o777)
        argv = ["run", "--view", "strict", "--public", f"p={one.root}/public", "--logs", f"{one.root}/kept"]
        done = one.stager(*argv, "--job-id", "7", "--", "sh", "-c", leave)
        assert done.code == 0, done
        assert str(USER) not in subprocess.check_output(["ipcs", "-m"], text=True)
        places = [place for place in PLACES.split() if os.path.isdir(place)]
        assert len(places) > 10
        assert [place for place in places if "left-behind" in os.listdir(place)] == []
        kept = [path.name for path in one.scratch.rglob("*") if path.name == "left-behind"]
        assert kept == [] and os.path.isdir(one.root / "kept" / "7" / "0" / "left-behind")
        assert os.listdir(one.root / "public") == []
        for second in (Node(tmp_path), one):
            done = second.stager("run", "--view", "strict", "--job-id", "8", "--", "sh", "-c", find)
            assert done.code == 0, done.err
            *found, segments, processes = done.out.split()
            assert (found, segments) == ([], "0")
            assert int(processes) <= 4
    done = Node(tmp_path).stager("run", "--view", "strict", "--job-id", "9", "--", "env", "-0", **AROUND)
    environment = dict(line.split("=", 1) for line in done.out.rstrip("\0").split("\0"))
    assert environment.keys() - ENVIRONMENT == {"TERM"} & os.environ.keys()
    assert ENVIRONMENT - environment.keys() == set()
    assert "secret" not in done.out and environment["HOME"] == "/task_tmp"


def test_strict_view_has_what_programs_expect() -> None:
    job = """command = ["sh", "-c", '''
set -e
echo data > /dev/null; head -c 8 /dev/urandom | wc -c; script -qc tty /dev/null | tr -d "\\\\r"
cat /etc/hostname > /tmp/copy; test -e /proc/self/exe; echo $COLOR
''']
environment = { COLOR = "blue" }
time_limit = "1m"
[view]
profile = "strict"
"""
    with user_node() as node:
        done = node.stager("run", node.write_job(job))
        assert "the strict profile holds in the view" in node.stager("stage", node.write_job(job)).err
    assert (done.code, done.out.split()) == (0, ["8", "/dev/pts/0", "blue"]), done.err
