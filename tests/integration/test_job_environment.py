"""What a job's command finds around itself, by the commands a user has: variables, files of them, names of datasets."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.job_driver import PROGRAM, Node
from integration.other_user import python_for, readable_copy

SCRIPT = """
import json, sys
from clusterone import get_data_path, get_logs_path
print(json.dumps([get_data_path("alice/mnist", "~/sets", "mnist", "/train"), get_logs_path("logs")]))
"""

POD = r"""
import os, signal, socket, time
signal.alarm(50)  # when another one does not come up
hosts = {role: [one for one in os.environ[f"{role.upper()}_HOSTS"].split(",") if one] for role in ("ps", "worker")}
own = hosts[os.environ["JOB_NAME"]][int(os.environ["TASK_INDEX"])]
listener = socket.create_server((own.split(":")[0], int(own.split(":")[1])))
for address in hosts["ps"] + hosts["worker"]:
    if address != own:
        while True:
            try:
                socket.create_connection(address.split(":"), 1).close()
                break
            except OSError:
                time.sleep(0.02)
for _ in range(len(hosts["ps"] + hosts["worker"]) - 1):
    listener.accept()
print(own, os.environ["IS_MASTER"], os.environ["CLUSTERONE_JOB_ID"], hosts)
"""


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def free_addresses(count: int) -> list[str]:
    with ExitStack() as opened:
        listeners = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{listener.getsockname()[1]}" for listener in listeners]


def test_c3_c4_c5_c16_c26_q4_q5_job_has_its_variables_and_its_datasets_and_no_others(
    node: Node, tmp_path: Path
) -> None:
    for owner in ("alice", "bob", "carol"):
        (tmp_path / owner).mkdir()
        (tmp_path / owner / "f").write_text(owner)
    job = node.write_job(
        f"""command = ["sh", "-c", "cat /data/*/mnist/f; find /data -mindepth 2 -maxdepth 2 >&2; env -0"]
instances = "1-6,15,20,25-30"
environment = {{ HOSTILE = "it's \\n $HOME" }}
[[dataset]]
name = "alice/mnist"
source = "file://{tmp_path}/alice"
[[dataset]]
name = "bob/mnist"
source = "file://{tmp_path}/bob"
"""
    )
    array = {"SLURM_JOB_ID": "102", "SLURM_ARRAY_JOB_ID": "100", "SLURM_ARRAY_TASK_ID": "20"}
    done = node.stager("run", "--keep", job, **array, JOB_NAME="ci", WORKER_HOSTS="x:1", SLURM_RESTART_COUNT="2")
    assert done.code == 0, done.err
    assert {"/data/alice/mnist", "/data/bob/mnist"} <= set(done.err.splitlines())
    assert sum(line.startswith("/data/") for line in done.err.splitlines()) == 2
    text = done.out.removeprefix("alicebob")
    assert text != done.out
    found = dict(line.split("=", 1) for line in text.split("\0")[:-1])
    own = {name: value for name, value in found.items() if os.environ.get(name) != value}
    assert {name for name in own if not name.startswith(("SLURM_", "PWD", "OLDPWD", "SHLVL", "_"))} == {
        "CLUSTERONE_CLOUD", "CLUSTERONE_JOB_ID", "HOSTILE", "INSTANCE_ID", "INSTANCE_COUNT", "STAGER_ATTEMPT",
        "STAGER_JOB_ID", "STAGER_JOB_NAME", "STAGER_NODE_COUNT", "STAGER_NODE_RANK", "TASK_PATH", "TMP_PATH",
        "TMP_RAMFS_PATH",
    }  # fmt: skip
    assert (own["STAGER_JOB_ID"], own["CLUSTERONE_JOB_ID"], own["STAGER_ATTEMPT"]) == ("100_20", "100_20", "2")
    assert (own["INSTANCE_ID"], own["INSTANCE_COUNT"], own["HOSTILE"]) == ("20", "14", "it's \n $HOME")
    files = {name: node.scratch / "jobs" / "100_20" / name for name in ("job.env", "job.docker.env")}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    shell = subprocess.run(["/bin/sh", "-c", '. "$1"; printf %s "$INSTANCE_ID$HOSTILE"', "sh", files["job.env"]],
                           env={}, capture_output=True, text=True)  # fmt: skip
    assert shell.stdout == "20it's \n $HOME"
    docker = files["job.docker.env"].read_text().splitlines()
    assert "INSTANCE_ID=20" in docker and any(line.startswith("# HOSTILE is left out") for line in docker)
    assert not any("SLURM_" in path.read_text() for path in files.values())
    assert node.stager("teardown", "100_20", "--discard-uncollected").code == 0
    assert not any(path.exists() for path in files.values())


def test_q4_q5_without_an_array_every_instance_is_run_one_after_another(node: Node, tmp_path: Path) -> None:
    show = "echo $INSTANCE_ID $INSTANCE_COUNT $STAGER_JOB_ID; exit $((INSTANCE_ID % 4))"
    argv = ("--instances", "1-2,8", "--job-id", "7", "--status-file", f"{tmp_path}/status")
    done = node.stager("run", *argv, "--", "sh", "-c", show)
    assert (done.code, done.out) == (1, "1 3 7_1\n2 3 7_2\n8 3 7_8\n"), done.err
    told = json.loads((tmp_path / "status").read_text())
    assert (told["job"], told["exit_code"], told["command"]["status"]) == ("7_1", 1, 1)


def test_c23_c24_c25_every_task_binds_its_own_address_and_reaches_the_others(tmp_path: Path) -> None:
    first, second, third = free_addresses(3)
    tables = f'[distributed]\nworker_hosts = ["{first}", "{second}"]\nps_hosts = ["{third}"]\n'
    (tmp_path / "pod.py").write_text(POD)
    nodes = []
    for rank in "012":
        (tmp_path / rank).mkdir()
        task = {"SLURM_JOB_ID": "77", "SLURM_PROCID": rank, "SLURM_STEP_NUM_TASKS": "3"}
        nodes.append(Node(tmp_path / rank, task))
    started = [one.start("run", one.write_job(tables), "--", sys.executable, f"{tmp_path}/pod.py") for one in nodes]
    ended = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    hosts = {"ps": [third], "worker": [first, second]}
    assert [out for out, _ in ended] == [
        f"{first} True 77 {hosts}\n", f"{second} False 77 {hosts}\n", f"{third} False 77 {hosts}\n",
    ]  # fmt: skip


def test_c15_c18_script_for_clusterone_runs_in_a_job_and_at_home(node: Node, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text(SCRIPT)
    done = node.stager("run", "--clusterone", "--code", str(code), "--", "python3", "train.py", PYTHONPATH="/u")
    assert json.loads(done.out) == ["/data/alice/mnist/train", "/logs/"], done.err
    shim = Path(__file__).parents[2] / "stager" / "shim"
    home = subprocess.run(
        ["python3", "train.py"], cwd=code, env={**os.environ, "PYTHONPATH": str(shim), "HOME": "/h"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(home.stdout) == ["/h/sets/mnist/train", f"{code}/logs"]


def test_c3_c4_unknown_dataset_makes_no_job(node: Node, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    mine = f"file://{tmp_path}/mine"
    unknown = ("--data", f"me/a=file://{tmp_path}/mien")
    wrong = ("--data", f"../x={mine}", "--data", "me/mine", "--data", f"me/.x={mine}", "--data", f"a/b/c={mine}")
    for argv, said in (
        (unknown, [f"me/a: {tmp_path}/mien: no such directory"]),
        (wrong, ["'../x' is not OWNER/NAME", "is not NAME=SOURCE", "'me/.x' is", "'a/b/c' is"]),
    ):
        done = node.stager("run", "--job-id", "2", *argv, "--", "touch", str(tmp_path / "ran"))
        assert done.code == 125 and all(text in done.err for text in said), done.err
    assert not (node.scratch / "jobs" / "2").exists() and not (tmp_path / "ran").exists()


@pytest.mark.root
def test_c6_dataset_of_another_user_is_had_while_it_is_shared() -> None:
    alice, bob = 4711, 4712
    base = Path(tempfile.mkdtemp(prefix="stager-share-"))
    try:
        base.chmod(0o1777)
        library = readable_copy(base / "library")
        python = python_for(bob, library)
        program = f"import sys; sys.path.insert(0, {str(library)!r}); {PROGRAM}"
        shared = base / "d"
        shared.mkdir(mode=0o700)
        (shared / "f").write_text("alice's")
        os.chown(shared, alice, alice)
        argv = ["run", "--scratch", str(base / "scratch"), "--data", f"alice/d=file://{shared}"]

        def run() -> tuple[int, str, str]:
            done = subprocess.run(
                [python, "-I", "-c", program, *argv, "--", "sh", "-c", "cat /data/alice/d/f; ls /data"],
                user=bob, group=bob, extra_groups=[], cwd="/", env={"PATH": os.environ["PATH"], "HOME": str(base)},
                capture_output=True, text=True,
            )  # fmt: skip
            return done.returncode, done.stdout, done.stderr

        refused = run()
        assert refused[:2] == (125, "") and "alice/d" in refused[2] and "ask its owner" in refused[2]
        shared.chmod(0o755)
        assert run()[:2] == (0, "alice'salice\n")
        shared.chmod(0o700)
        assert run()[:2] == (125, "")
    finally:
        shutil.rmtree(base)
