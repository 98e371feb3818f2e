"""Root's stager on behalf of a user: it has the user's rights and nothing of root's."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
from collections.abc import Iterator

import pytest

from integration.slurm_step import step
from integration.sync_driver import wait_until
from integration.two_users import ALICE, BOB, LAB, SECRET_OF_ROOT, TwoUsers, two_users

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def node() -> Iterator[TwoUsers]:
    if os.geteuid() != 0:
        pytest.skip("root has to act for somebody")
    with two_users() as here:
        here.write(here.fs / "of-the-lab", "readable by group", mode=f"0640 {here.fs}/of-the-lab; chgrp {LAB}")
        here.write(here.fs / "of-root", SECRET_OF_ROOT, mode="0600")
        yield here


@pytest.fixture(autouse=True)
def no_scratch_of_root(monkeypatch: pytest.MonkeyPatch, node: TwoUsers) -> None:
    """The users' scratch is theirs, below /var/tmp of the node; what an earlier test left is not in the way."""
    monkeypatch.delenv("STAGER_SCRATCH")
    node.site('[placement]\nroots = ["/var/tmp"]\nfloor = "1M"\n')


WITH_KEY = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.syscall(250, 1, None)  # keyctl: a session keyring of its own, with a key of root's
assert libc.syscall(248, b"user", b"ticket", b"secret", 6, -3) > 0
os.execvp(sys.argv[1], sys.argv[1:])
"""

SHOW = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
found = libc.syscall(250, 10, -3, b"user", b"ticket", 0)  # keyctl: search the session keyring
key = "found" if found > 0 else errno.errorcode[ctypes.get_errno()]
status = dict(line.rstrip().split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
fds = [n for n in os.listdir("/proc/self/fd") if int(n) > 2]
umask = os.umask(0)
def reads(path):
    try:
        return open(path).read()
    except OSError as error:
        return type(error).__name__
for path in ("/task", "/task_tmp", "/task_ramfs", "/mnt/local_storage", "/logs"):
    os.mkdir(f"{path}/made")
print(json.dumps({
    "ids": [os.getresuid(), os.getresgid(), sorted(os.getgroups())], "env": dict(os.environ), "umask": umask,
    "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"], "nice": os.nice(0), "oom": reads("/proc/self/oom_score_adj").strip(),
    "key": key, "descriptors": len(fds) - 1, "lab": reads(sys.argv[1]), "root": reads(sys.argv[2]),
    "home": sorted(os.listdir(os.environ["HOME"])),
}))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="asks for kernel keys by number")
def test_command_of_a_user_has_the_users_rights_and_nothing_of_roots(node: TwoUsers) -> None:
    node.write(node.home(ALICE) / "kept", "mine", ALICE, "0600")
    node.write(node.fs / "show.py", SHOW)
    shown = [node.python, "-I", f"{node.fs}/show.py", f"{node.fs}/of-the-lab", f"{node.fs}/of-root"]
    leaking = 'exec 9< "$0"; umask 0; echo -900 > /proc/self/oom_score_adj; exec nice -n -7 "$@"'
    root = [node.python, "-c", WITH_KEY, "setpriv", "--groups=6,7", "sh", "-c", leaking, f"{node.fs}/of-root"]
    done = node.stager("--as-user", "alice", "run", "--logs", f"{node.home(ALICE)}/logs", "--job-id", "j", "--",
                       *shown, through=root, SLURM_JOB_ID="17", HTTPS_PROXY="http://root:word@proxy:1")  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["ids"] == [[ALICE.uid] * 3, [ALICE.uid] * 3, [ALICE.uid, LAB]]
    assert set(told["capabilities"]) == {"0" * 16}
    assert (told["no_new_privs"], told["nice"], told["oom"], told["umask"]) == ("1", 0, "0", 0o022)
    assert (told["descriptors"], told["key"]) == (0, "ENOKEY")
    assert (told["lab"], told["root"], told["home"]) == ("readable by group", "PermissionError", ["kept", "logs"])
    assert SECRET_OF_ROOT not in done.out + done.err
    environment = told["env"]
    assert (environment["HOME"], environment["USER"]) == (str(node.home(ALICE)), "alice")
    assert not {"TOKEN", "HTTPS_PROXY", "AWS_SECRET_ACCESS_KEY"} & environment.keys()
    assert environment["SLURM_JOB_ID"] == "17"
    assert node.root("find", str(node.home(ALICE)), "!", "-user", "alice") == ""


def test_a9_a10_storages_of_a_user_are_the_users_and_what_the_site_shows_needs_no_leave(node: TwoUsers) -> None:
    nfs = node.fs / "nfs"
    make = f"mkdir -p {nfs}; cd {nfs}; mkdir c u s p; chmod 1777 c u s; echo p > p/p"
    node.root("sh", "-ec", make)
    node.site(f'[placement]\nroots = ["/var/tmp"]\nfloor = "1M"\n[storage]\ncluster = "{nfs}/c"\nuser = "{nfs}/u"\n'
              f'shared = "{nfs}/s"\n[view.public]\np = "{nfs}/p"\n')  # fmt: skip
    script = "cat /public/p/p; for kind in cluster user shared; do echo x > /mnt/${kind}_storage/alice; done"
    done = node.stager("--as-user", "alice", "run", "--job-id", "s", "--", "sh", "-ec", script)
    assert (done.code, done.out) == (0, "p\n"), done.err
    shown = node.root("sh", "-c", f"cd {nfs}; stat -c '%U %a %n' u/* s/* c/* c/*/data/*")
    assert shown.splitlines() == [
        f"alice 700 u/{ALICE.uid}", "alice 644 s/alice", f"alice 700 c/{ALICE.uid}-s",
        f"alice 644 c/{ALICE.uid}-s/data/alice",
    ]  # fmt: skip
    node.root("chown", "-h", "bob", f"{nfs}/u/{ALICE.uid}")
    refused = node.stager("--as-user", "alice", "run", "--", "true")
    assert (refused.code, f"belongs to another user (uid {BOB.uid})" in refused.err) == (125, True), refused.err


def test_only_root_acts_for_others_and_only_for_a_user_there_is(node: TwoUsers) -> None:
    program = f"{node.python} -I -c '{node.program}'"
    assert "only root acts for another user" in node.as_user(ALICE, f"{program} --as-user bob ls; echo $?")
    assert node.as_user(ALICE, f"{program} run --as-user=bob -- true 2>&1; echo $?").endswith("125\n")
    for argv, code, told in (
        (("--as-user", "nobody-here", "ls"), 2, "there is no user 'nobody-here'"),
        (("ls", "--as-user"), 2, "needs one user"),
        (("--as-user", "root", "ls"), 2, "the user is root itself"),
        (("--as-user", "slurm", "ls"), 2, "SLURM_JOB_UID is no number"),
        (("run", "--as-user", "99999999999", "--", "true"), 125, "there is no user"),
    ):
        done = node.stager(*argv)
        assert (done.code, told in done.err) == (code, True), done
    asked = node.stager("run", "--as-user", "slurm", "--", "id", "-un", SLURM_JOB_UID=str(BOB.uid))
    assert (asked.code, asked.out) == (0, "bob\n")
    after = node.for_alice("run", "--", "echo", "--as-user", "bob")
    assert after.out == "--as-user bob\n"


def test_job_file_of_another_user_is_read_with_the_principals_rights(node: TwoUsers) -> None:
    job = '\nversion = 1\n[job]\nname = "j"\ncommand = ["id", "-un"]\n'
    for name, mode in (("open", "0644"), ("closed", "0600")):
        node.write(node.fs / name, job, BOB, mode)
    assert "the job file belongs to user" in node.stager("run", f"{node.fs}/open").err
    assert node.for_alice("run", f"{node.fs}/open").out == "alice\n"
    refused = node.for_alice("run", f"{node.fs}/closed")
    assert (refused.code, "is not readable" in refused.err) == (125, True), refused
    assert node.stager("--as-user", "alice", "ls", cwd=str(node.home(BOB))).code == 6


def test_binds_and_public_data_of_a_user_need_the_sites_word(node: TwoUsers) -> None:
    node.root("sh", "-ec", f"cd {node.fs}; mkdir -p efs/scans srv/set moved; echo x > efs/scans/x; echo p > srv/set/p;"
              f"chown -R alice: efs srv; ln -s {node.fs}/efs/scans {node.fs}/srv/scans")  # fmt: skip
    asked = ["--data", f"lab/scans=bind:{node.fs}/efs/scans", "--public", f"set={node.fs}/srv/set"]
    command = ["--", "sh", "-c", "echo more > /data/lab/scans/more; cat /public/set/p; echo > /public/set/new"]
    refused = node.for_alice("run", *asked, *command)
    assert refused.code == 125
    assert f"{node.fs}/efs/scans: this site lets root mount no bind mounts of it for users" in refused.err
    assert f"{node.fs}/srv/set: this site lets root mount no public data of it for users" in refused.err
    half = f'[principals]\nallowed_binds = ["{node.fs}/srv"]\nallowed_public = ["{node.fs}/srv"]\n'
    node.site(half)
    linked = node.for_alice("run", "--data", f"lab/scans=bind:{node.fs}/srv/scans", "--", "true")
    assert (linked.code, f"{node.fs}/efs/scans" in linked.err) == (125, True)
    node.site(half.replace(f'binds = ["{node.fs}/srv"', f'binds = ["{node.fs}/efs", "{node.fs}/not-mounted"'))
    done = node.for_alice("run", *asked, *command)
    assert done.out == "p\n", done.err
    assert "Read-only file system" in done.err
    assert node.root("cat", f"{node.fs}/efs/scans/more") == "more\n"
    node.root("chown", "bob:", "/etc/stager/site.toml")
    assert node.for_alice("run", *asked, *command).code == 125
    node.root("chown", "root:", "/etc/stager/site.toml")


WITHOUT_NAMESPACES = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
made, mapped = os.pipe(), os.pipe()
child = os.fork()
if child:
    os.read(made[0], 1)
    for name in ("uid_map", "gid_map"):
        open(f"/proc/{child}/{name}", "w").write("0 0 4294967295")
    os.write(mapped[1], b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert libc.unshare(0x10000000) == 0  # CLONE_NEWUSER: the limit is one of this namespace alone
os.write(made[1], b"x")
os.read(mapped[0], 1)
open("/proc/sys/user/max_user_namespaces", "w").write("0")
door = os.fork()
if door == 0:
    os.setresgid(*[int(sys.argv[1])] * 3)
    os.setresuid(*[int(sys.argv[1])] * 3)
    os.execv("/bin/sleep", ["sleep", "600"])
os.environ["SLURM_DOOR"] = str(door)
stager = os.fork()
if stager == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
code = os.waitstatus_to_exitcode(os.waitpid(stager, 0)[1])
os.kill(door, 9)
sys.exit(code)
"""


def test_job_is_confined_where_not_even_root_may_make_user_namespaces(node: TwoUsers) -> None:
    look = """
    unshare -U true; for what in root cwd; do ls /proc/$SLURM_DOOR/$what/; done; cat /proc/$SLURM_DOOR/environ
    grep -E 'CapPrm|CapBnd|NoNewPrivs' /proc/self/status; find /var/tmp/stager-$(id -u) -mindepth 1
    mkdir /task/a /task/b; echo x > /task/a/x; mv /task/a/x /task/b/ || exit 5
    setsid sleep 611 & exit 4
    """
    through = [node.python, "-c", WITHOUT_NAMESPACES, str(ALICE.uid)]
    done = node.stager("--as-user", "alice", "run", "--", "sh", "-c", look, through=through)
    assert done.code == 4, done.err
    refused = [line for line in done.err.splitlines() if "/proc/" in line]
    assert len(refused) == 3
    assert all("Permission denied" in line for line in refused), refused
    assert "unshare failed: No space left on device" in done.err
    assert [line.split()[1] for line in done.out.splitlines()] == ["0" * 16, "0" * 16, "1"]
    assert not any("sleep\0611" in command_of(pid) for pid in processes())


@pytest.mark.parametrize("killed", ["broker", "stager", "nobody"])
def test_no_process_of_the_job_outlives_what_started_it(node: TwoUsers, killed: str) -> None:
    marker = f"{600 + len(killed)}.{os.getpid()}"
    script = f"trap 'exit 3' TERM; (setsid sleep {marker} &) ; sleep {marker} & echo ready; wait"
    with node.start("--as-user", "alice", "run", "--", "sh", "-c", script) as root:
        assert root.stdout is not None
        assert root.stdout.readline() == "ready\n"
        broker = root.pid
        (child,) = [pid for pid in children_of(broker) if uid_of(pid) == ALICE.uid]
        if killed == "nobody":
            os.kill(broker, signal.SIGTERM)
        else:
            os.kill(broker if killed == "broker" else child, signal.SIGKILL)
        root.communicate(timeout=60)
    assert root.returncode == {"broker": -signal.SIGKILL, "stager": 128 + signal.SIGKILL, "nobody": 3}[killed]
    wait_until(lambda: not any(marker in command_of(pid) for pid in processes()))


def test_view_that_root_made_for_a_user_is_joined_through_root_by_that_user_alone(node: TwoUsers) -> None:
    script = "echo private > /tmp/stager-joined.$$; echo $$ > /logs/pid; echo ready; read line; echo ended"
    where = f"{node.home(ALICE)}/joined"
    with node.start("--as-user", "alice", "run", "--job-id", "joined", "--logs", where, "--", "sh", "-c", script,
                    stdin=subprocess.PIPE) as root:  # fmt: skip
        assert root.stdout is not None
        assert root.stdin is not None
        assert root.stdout.readline() == "ready\n"
        shown = """
        id -u; cat /logs/pid; grep CapPrm /proc/self/status; echo $STAGER_JOB_ID
        kill -STOP $PPID || kill -KILL $PPID || ls /proc/$PPID/root || echo keeper is closed
        find /var/tmp/stager-$(id -u) -mindepth 1
        for n in 3 4 5 6 7 8 9 10 11 12; do readlink /proc/$$/fd/$n; done; true
        """
        look = ["exec", "joined", "--", "sh", "-c", shown]
        done = node.for_alice(*look)
        assert done.code == 0, done.err
        uid, _, capabilities, job, keeper = done.out.splitlines()
        assert (int(uid), capabilities.split()[1], job) == (ALICE.uid, "0" * 16, "joined")
        assert keeper == "keeper is closed"
        program = f"{node.python} -I -c '{node.program}'"
        assert "only whoever started the job can join it" in node.as_user(ALICE, f"{program} exec joined -- true")
        assert node.stager("--as-user", "bob", *look).code == 125
        root.communicate("\n", timeout=60)
    assert root.returncode == 0
    assert node.root("sh", "-c", "ls -A /run/stager-keepers") == ""


def processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children_of(parent: int) -> list[int]:
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        return list(map(int, file.read().split()))


def uid_of(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Uid:"))


def command_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def test_ranks_of_a_users_launch_share_a_strict_view(node: TwoUsers) -> None:
    look = "readlink /proc/self/ns/mnt /proc/self/ns/pid; touch /etc/x || id -u; grep CapPrm /proc/self/status"
    argv = ["--as-user", "alice", "run", "--view", "strict", "--", "sh", "-c", f"{look}; exit $SLURM_LOCALID"]
    started = [node.start(*argv, **step(rank, 2)) for rank in range(2)]
    told = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 1], told
    assert told[0][0] == told[1][0]
    assert told[0][0].split()[-3:] == [str(ALICE.uid), "CapPrm:", "0" * 16]
