"""A job from its file to its end, by the commands a user has."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.job_driver import PROGRAM, Node
from integration.other_user import python_for, readable_copy
from servers.git_http import GitHttp
from servers.moto_s3 import MotoS3
from servers.repositories import commit_files, git, make_repository


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    (path / "sub").mkdir(parents=True)
    (path / "a").write_bytes(b"alpha")
    (path / "sub" / "b").write_bytes(b"beta")
    return path


def fingerprint(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(root)): (path.stat().st_mode, path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_every_kind_of_source_is_at_its_place(
    node: Node, source: Path, moto: MotoS3, bucket_name: Callable[[], str], git_server: GitHttp, tmp_path: Path
) -> None:
    bucket = bucket_name()
    moto.make_bucket(bucket)
    moto.fill(bucket, {"mnist/train/x": b"s3 data", "mnist2/y": b"neighbour"})
    commit = make_repository(git_server.root / "words", {"w": b"git data"})
    make_repository(tmp_path / "code", {"train.py": b"print('trained')\n"})
    (tmp_path / "bound").mkdir()
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "p").write_bytes(b"public data")
    node.environment = moto.environment()
    job = node.write_job(
        f"""command = ["sh", "-c", '''
set -e
pwd
cat /data/vision/mnist/train/x; echo
cat /data/speech/words/w; echo
cat /data/me/local/sub/b; echo
cat /public/p/p; echo
cat /code/train.py
echo bound > /data/lab/scans/new
! touch /public/p/new
mkdir /logs/run; echo log > /logs/run/out; touch /logs/empty
env | grep -c ^AWS_ || true
echo $STAGER_JOB_ID $STAGER_JOB_NAME $CLUSTERONE_CLOUD $CLUSTERONE_JOB_ID
ls /data/vision
''']
[code]
source = "git+file://{tmp_path}/code"
[[dataset]]
name = "vision/mnist"
source = "s3://{bucket}/mnist/"
[[dataset]]
name = "speech/words"
source = "git+{git_server.url("words")}"
ref = "main"
[[dataset]]
name = "me/local"
source = "file://{source}"
[[dataset]]
name = "lab/scans"
source = "bind:{tmp_path}/bound"
[[public]]
name = "p"
source = "{tmp_path}/public"
[logs]
persist = "{tmp_path}/logs"
"""
    )
    done = node.stager("run", "--job-id", "7", job)
    assert done.code == 0, done.err
    assert done.out.splitlines() == [
        "/code", "s3 data", "git data", "beta", "public data", "print('trained')", "0", "7 job 1 7", "mnist",
    ]  # fmt: skip
    assert (tmp_path / "bound" / "new").read_bytes() == b"bound\n"
    assert not (tmp_path / "public" / "new").exists()
    kept = tmp_path / "logs" / "7" / "0"
    assert (kept / "run" / "out").read_bytes() == b"log\n" and (kept / "empty").read_bytes() == b""
    assert node.state("7") == "removed" and not node.tree("7").exists()
    receipt = node.receipt("7")
    by_name = {dataset["name"]: dataset for dataset in receipt["datasets"]}
    assert by_name["speech/words"]["pinned"]["commit"] == commit
    assert by_name["vision/mnist"]["total"] == {"objects": 1, "bytes": 7}
    assert by_name["me/local"]["grades"] == {"B": 2}
    assert {name: dataset["how"] for name, dataset in by_name.items()} == {
        "code": "copy", "vision/mnist": "copy", "speech/words": "copy", "me/local": "copy",
        "lab/scans": "bind", "p": "public",
    }  # fmt: skip
    assert receipt["exit"]["status"] == 0
    assert moto.identity.secret_key not in json.dumps(receipt)


def test_four_directories_are_there_in_an_empty_job(node: Node) -> None:
    done = node.stager("run", "--", "sh", "-c", "ls -d /data /public /code /logs; pwd; touch /code/x")
    assert (done.code, done.out) == (0, "/code\n/data\n/logs\n/public\n/task\n")


def test_q13_q14_command_is_split_into_words_and_starts_in_task_path_without_a_shell(node: Node) -> None:
    look = 'import os, sys; print(os.getcwd() == os.path.realpath(os.environ["TASK_PATH"]), sys.argv[1:])'
    line = f"""python3 -c '{look}' $INSTANCE_ID * ; a|b > x `id` 'c  d' "e 'f'" && ~"""
    done = node.stager("run", node.write_job(f"command = {json.dumps(line)}\n"))
    heard = ["$INSTANCE_ID", "*", ";", "a|b", ">", "x", "`id`", "c  d", "e 'f'", "&&", "~"]
    assert done.out == f"True {heard}\n", done.err
    done = node.stager("run", "--", "printf", "%s\n", "$HOME", "*", ";", "--", "a b")
    assert done.out.splitlines() == ["$HOME", "*", ";", "--", "a b"]


def test_q13_q15_shell_that_is_asked_for_expands_and_starts_in_task_path(node: Node) -> None:
    line = r"""sh -c "echo $INSTANCE_ID 'a  $x' \"c  d\"; pwd -P; echo r > result" """
    done = node.stager("run", "--keep", "--job-id", "7", node.write_job(f"command = {json.dumps(line)}\n"))
    assert done.out == "0 a  $x c  d\n/task\n", done.err
    assert (node.tree("7") / "task" / "result").read_text() == "r\n"


def test_c10_c11_changes_to_copied_data_never_reach_the_source_and_go_with_the_job(
    node: Node, source: Path, tmp_path: Path
) -> None:
    make_repository(tmp_path / "repo", {"g": b"git"})
    before = fingerprint(source), fingerprint(tmp_path / "repo")
    each = "echo new > $f; echo more >> $f; chmod 0 $f; mv $f $f.n; ln $f.n $f.m"
    change = f"cat g/g x/a x/sub/b; ls x; for f in $(find . -type f); do {each}; done; rm -r x/sub"
    data = ["--data", f"me/x=file://{source}", "--data", f"me/g=git+file://{tmp_path}/repo"]
    for job in ("one", "next"):  # the next one finds what the first found, also out of a warm cache
        done = node.stager("run", "--job-id", job, *data, "--", "sh", "-c", f"set -e; cd /data/me; {change}")
        assert done.code == 0, done.err
        assert done.out == "gitalphabetaa\nsub\n"
        assert not node.tree(job).exists()
    assert (fingerprint(source), fingerprint(tmp_path / "repo")) == before


def test_c7_git_dataset_is_the_commit_of_the_start_of_its_job_unless_pinned(node: Node, tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    first = make_repository(repo, {"v": b"1"})
    data = f"a/b=git+file://{repo}"
    watch = "echo up; read go < /logs/go; cat /data/a/b/v; echo x > /data/a/b/v"
    with node.start("run", "--job-id", "7", "--data", data, "--", "sh", "-c", f"mkfifo /logs/go; {watch}") as running:
        wait_for(running, "up")
        commit_files(repo, {"v": b"2"}, "second")
        (node.tree("7") / "logs" / "go").write_text("go\n")
        assert running.communicate(timeout=60)[0] == "1" and running.returncode == 0
    for ref, content in (("main", "2"), (first, "1")):
        done = node.stager("run", "--data", f"{data}@{ref}", "--", "cat", "/data/a/b/v")
        assert done.out == content
    bad = node.stager("run", "--data", f"{data}@{first[::-1]}", "--", "echo", "ran")
    assert (bad.code, bad.out) == (125, "") and "a/b: " in bad.err
    assert git(repo, "status", "--porcelain") == ""


@pytest.mark.parametrize("status", [0, 1, 42, 125, 255])
def test_status_of_the_command_is_passed_on(node: Node, status: int) -> None:
    done = node.stager("run", "--status-file", "status", "--", "sh", "-c", f"exit {status}")
    assert done.code == status
    told = json.loads((node.root / "status").read_text())
    assert (told["exit_code"], told["command"]) == (status, {"status": status, "signal": None})


def test_command_killed_by_a_signal_is_128_and_its_number(node: Node) -> None:
    assert node.stager("run", "--", "sh", "-c", "kill -9 $$").code == 137


def test_command_not_found_is_127_and_not_executable_126(node: Node, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    missing = node.stager("run", "--job-id", "1", "--status-file", "status", "--", "no-such-program")
    assert missing.code == 127
    assert json.loads((tmp_path / "status").read_text())["error"]["class"] == "CommandError"
    assert node.stager("run", "--", str(tmp_path / "data")).code == 126
    (tmp_path / "code" / "bin").mkdir(parents=True)
    (tmp_path / "code" / "bin" / "train").touch()
    job = node.write_job(f'command = ["bin/train"]\nworkdir = "/task"\n[code]\nsource = "{tmp_path}/code"\n')
    hinted = node.stager("run", job)
    assert hinted.code == 127 and "there is one in /code: write /code/bin/train" in hinted.err
    assert node.state("1") == "removed"


FAILURES = [
    ("usage", ["--data", "x", "--", "true"], 125, 2),
    ("no command", [], 125, 2),
    ("no such file", ["JOB.none"], 125, 2),
    ("missing source", ["--data", "a/b=file:///no/such/directory", "--", "true"], 125, 3),
    ("missing repository", ["--data", "a/b=git+file:///no/such/repository", "--", "true"], 125, 3),
    ("missing bind", ["--data", "a/b=bind:/no/such/directory", "--", "true"], 125, 3),
    ("missing public", ["--public", "p=/no/such/directory", "--", "true"], 125, 3),
    ("dead server", ["--data", "a/b=git+ssh://localhost:1/r", "--", "true"], 75, 7),
]


@pytest.mark.parametrize(("argv", "code", "kind"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_own_failure_is_125_or_75_with_its_class_in_the_status_file(
    node: Node, argv: list[str], code: int, kind: int
) -> None:
    done = node.stager("run", "--status-file", "status", *argv)
    assert done.code == code, done.err
    assert json.loads((node.root / "status").read_text())["error"]["exit_code"] == kind
    assert "Traceback" not in done.err and done.err.startswith("stager: ")


def test_unknown_option_of_run_is_125(node: Node) -> None:
    done = node.stager("run", "--dta", "x", "--", "true")
    assert done.code == 125 and "--data" in done.err


def test_name_beside_a_job_file_is_refused(node: Node) -> None:
    done = node.stager("run", "--name", "x", node.write_job('command = ["true"]\n'))
    assert done.code == 125 and "--name" in done.err and "leave one of them out" in done.err


def test_help_of_run_shows_where_the_command_stands(node: Node) -> None:
    assert "stager run [OPTIONS] [JOB.toml|ID] [-- CMD ...]" in node.stager("run", "--help").out


def test_failed_dataset_means_no_command_and_nothing_ready(node: Node, source: Path, tmp_path: Path) -> None:
    argv = ["--job-id", "7", "--data", f"a/good=file://{source}", "--data", "a/bad=git+file:///none"]
    done = node.stager("run", *argv, "--", "touch", str(tmp_path / "ran"))
    assert done.code == 125
    assert "a/bad: " in done.err
    assert not (tmp_path / "ran").exists()
    assert node.state("7") == "failed"
    assert not node.tree("7").exists()
    assert not (node.scratch / "jobs" / "7" / "receipt.json").exists()
    assert node.stager("stage", *argv).code == 3
    assert node.stager("stage", *argv[:4]).code == 0
    assert node.state("7") == "ready"


def test_bad_names_stop_the_job_with_every_one_listed(node: Node, source: Path) -> None:
    (source / ".stager").mkdir()
    (source / ".stager" / "x").touch()
    done = node.stager("stage", "--data", f"a/b=file://{source}")
    assert done.code == 2 and ".stager/x" in done.err


def test_credentials_are_passed_only_when_the_job_file_says_so(node: Node) -> None:
    show = 'command = ["sh", "-c", "echo ${AWS_SECRET_ACCESS_KEY-none} ${COLOR-none}"]\n'
    job = node.write_job(show + "environment = { COLOR = 'blue' }\n")
    assert node.stager("run", job, AWS_SECRET_ACCESS_KEY="hunter2").out == "none blue\n"
    job = node.write_job(show + "pass_credentials = true\n")
    assert node.stager("run", job, AWS_SECRET_ACCESS_KEY="hunter2").out == "hunter2 none\n"


def test_stage_then_teardown(node: Node, source: Path) -> None:
    done = node.stager("stage", "--json", "--name", "x", "--job-id", "7", "--data", f"a/b=file://{source}")
    told = done.event("staged")
    tree = Path(told["tree"])
    assert {path.name for path in tree.iterdir()} == {"data", "code", "logs", "task", "tmp", "local"}
    assert fingerprint(tree / "data" / "a" / "b") == fingerprint(source)
    assert stat.S_IMODE(tree.parent.stat().st_mode) == 0o700
    assert told["receipt"] == node.receipt("7")
    assert node.state("7") == "ready"
    assert node.stager("stage", "--name", "x", "--job-id", "7").code == 2
    assert node.stager("collect", "7").code == 2
    assert node.stager("teardown", "7").code == 0
    assert not tree.exists()
    again = node.stager("teardown", "7")
    assert again.code == 0 and "was removed before" in again.out
    assert fingerprint(source) != {}
    assert node.stager("teardown", "8").code == 3


def test_stage_of_nothing_is_refused(node: Node) -> None:
    done = node.stager("stage")
    assert (done.code, "name a job file" in done.err, done.out) == (2, True, "")


def test_logs_kept_nowhere_else_keep_the_tree(node: Node) -> None:
    done = node.stager("run", "--job-id", "7", "--", "sh", "-c", "echo x > /logs/o; exit 3")
    assert done.code == 3
    assert str(node.tree("7")) in done.err
    assert (node.tree("7") / "logs" / "o").read_bytes() == b"x\n"
    assert node.state("7") == "ended"
    refused = node.stager("teardown", "7")
    assert refused.code == 2 and "--discard-uncollected" in refused.err
    assert node.stager("teardown", "7", "--discard-uncollected").code == 0
    assert not node.tree("7").exists()


def test_logs_that_cannot_be_kept_are_an_error_and_stay(node: Node, tmp_path: Path) -> None:
    block = f"touch /logs/o; mv {tmp_path}/kept {tmp_path}/moved; touch {tmp_path}/kept"
    job = node.write_job(f'command = ["sh", "-c", "{block}"]\n[logs]\npersist = "{tmp_path}/kept"\n')
    done = node.stager("run", "--job-id", "7", job)
    assert done.code == 125
    assert (node.tree("7") / "logs" / "o").exists()
    (tmp_path / "kept").unlink()
    assert node.stager("collect", "7").code == 0
    assert (tmp_path / "kept" / "7" / "0" / "o").exists()
    assert node.stager("collect", "7").code == 0
    assert node.stager("teardown", "7").code == 0


def test_place_for_logs_that_cannot_be_had_stops_the_job_before_it_runs(node: Node, tmp_path: Path) -> None:
    (tmp_path / "full" / "7" / "0").mkdir(parents=True)
    (tmp_path / "full" / "7" / "0" / "thesis").touch()
    job = node.write_job(f'command = ["touch", "{tmp_path}/ran"]\n[logs]\npersist = "{tmp_path}/full"\n')
    done = node.stager("run", "--job-id", "7", job)
    assert done.code == 125 and "not this job's" in done.err
    assert not (tmp_path / "ran").exists()


def test_id_comes_from_the_scheduler(node: Node) -> None:
    assert node.stager("run", "--keep", "--", "sh", "-c", "echo $STAGER_JOB_ID", SLURM_JOB_ID="4711").out == "4711\n"
    assert node.tree("4711").exists()


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_goes_to_the_command_and_logs_are_kept(
    node: Node, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    job = node.write_job(
        f'command = ["sh", "-c", "echo x > /logs/o; echo up; exec sleep 600"]\n[logs]\npersist = "{tmp_path}/kept"\n'
    )
    with node.start("run", "--job-id", "7", job) as process:
        wait_for(process, "up")
        running = node.stager("teardown", "7")
        assert running.code != 0 and "at work" in running.err
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code
    assert (tmp_path / "kept" / "7" / "0" / "o").read_bytes() == b"x\n"
    assert node.state("7") == "removed"


def test_after_sigkill_the_tree_is_named_and_can_be_collected(node: Node, tmp_path: Path) -> None:
    job = node.write_job(
        f'command = ["sh", "-c", "echo x > /logs/o; echo up; exec sleep 600"]\n[logs]\npersist = "{tmp_path}/kept"\n'
    )
    with node.start("run", "--job-id", "7", job) as process:
        wait_for(process, "up")
        process.kill()
        process.wait()
    assert node.state("7") == "crashed"
    assert node.stager("teardown", "7").code == 2
    named = node.ask("gc", "--dry-run").out
    assert "keeps the tree of job 7 (crashed since" in named and "its logs are kept nowhere else" in named
    assert node.stager("collect", "7").code == 0
    assert (tmp_path / "kept" / "7" / "0" / "o").read_bytes() == b"x\n"
    assert node.stager("teardown", "7").code == 0
    assert node.state("7") == "removed"


def test_job_cannot_reach_scratch(node: Node, source: Path) -> None:
    look = f"ls -A {node.scratch}; touch {node.scratch}/x"
    done = node.stager("run", "--data", f"a/b=file://{source}", "--", "sh", "-c", look)
    assert done.out == "" and done.code != 0
    assert sorted(os.listdir(node.scratch)) == ["jobs", "storage", "trash"]


def test_interrupted_staging_leaves_nothing_ready_and_starts_again_clean(
    node: Node, source: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "up")
    config = tmp_path / "gitconfig"
    config.write_text(f'[core]\n sshCommand = "echo > {tmp_path}/up; sleep 600; false"\n')
    argv = ["--name", "x", "--job-id", "7", "--data", "a/b=git+ssh://localhost/r"]
    with node.start("stage", *argv, GIT_CONFIG_GLOBAL=str(config)) as process:
        (tmp_path / "up").read_bytes()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 143
    assert node.state("7") in ("failed", "crashed")
    assert node.stager("stage", "--name", "x", "--job-id", "7", "--data", f"a/b=file://{source}").code == 0


def test_doctor_finds_this_node_ready(node: Node) -> None:
    done = node.stager("doctor", AWS_SECRET_ACCESS_KEY="hunter2", AWS_ACCESS_KEY_ID="id-hunter")
    assert done.code == 0, done.out
    assert "AWS_ACCESS_KEY_ID" in done.out and "hunter" not in done.out
    assert str(node.scratch) in done.out
    assert node.stager("doctor", "--json").event("verdict")["ready"] is True


@pytest.mark.root
def test_ordinary_user_runs_a_job() -> None:
    """As a user without privilege, by a user namespace: the same view, the same exit status."""
    user = 4711
    base = Path(tempfile.mkdtemp(prefix="stager-user-"))
    try:
        base.chmod(0o1777)
        library = readable_copy(base / "library")
        python = python_for(user, library)
        for name in ("public", "source"):
            (base / name).mkdir()
            (base / name / "f").write_bytes(name.encode())
        program = f"import sys; sys.path.insert(0, {str(library)!r}); {PROGRAM}"
        argv = ["run", "--scratch", str(base / "scratch"), "--data", f"me/x=file://{base}/source"]
        argv += ["--public", f"p={base}/public", "--data", f"me/b=bind:{base}"]
        look = "id -u; cat /data/me/x/f /public/p/f; echo; echo x > /data/me/x/f; echo x > /data/me/b/new"
        done = subprocess.run(
            [python, "-I", "-c", program, *argv, "--", "sh", "-c", f"{look}; touch /public/p/n || exit 5"],
            user=user, group=user, extra_groups=[], cwd="/", env={"PATH": os.environ["PATH"], "HOME": str(base)},
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (5, "4711\nsourcepublic\n"), done.stderr
        assert (base / "source" / "f").read_bytes() == b"source"
        assert (base / "new").stat().st_uid == user
        assert os.listdir(base / "public") == ["f"]
    finally:
        shutil.rmtree(base)


def test_end_of_a_job_names_what_goes_with_its_copies(node: Node, source: Path) -> None:
    change = "cd /data/me/x; echo mine > mine; echo more >> a; mkdir -p deep/er; chmod 0 deep"
    done = node.stager("run", "--data", f"me/x=file://{source}", "--", "sh", "-c", change)
    assert done.code == 0, done.err
    (told,) = [line for line in done.err.splitlines() if "discarded with the job" in line]
    assert "2 files" in told and "in /data/me/x: " in told
    assert {"mine", "a"} == set(told.rpartition(": ")[2].split(", "))


def test_end_of_a_job_that_only_read_says_nothing_of_discarding(node: Node, source: Path) -> None:
    done = node.stager("run", "--data", f"me/x=file://{source}", "--", "sh", "-c", "cat $(find /data -type f)")
    assert done.code == 0, done.err
    assert "discarded" not in done.err


def test_teardown_names_what_goes_too(node: Node, source: Path) -> None:
    run = ("run", "--keep", "--job-id", "8", "--data", f"me/x=file://{source}", "--", "sh", "-c")
    assert node.stager(*run, "echo x > /data/me/x/new\ttab; touch /code/f").code == 0
    gone = node.stager("teardown", "8")
    assert gone.code == 0
    assert "written or changed in /data/me/x: new" in gone.err
    assert "written or changed in /code: f" in gone.err


def test_stage_prints_the_path_of_the_tree_alone(node: Node, source: Path) -> None:
    done = node.stager("stage", "--job-id", "9", "--data", f"me/x=file://{source}")
    assert (done.code, done.out) == (0, f"{node.tree('9')}\n")
    assert "job 9 is ready" in done.err


def test_logs_option_keeps_the_logs_of_a_job_without_a_file(node: Node, tmp_path: Path) -> None:
    done = node.stager("run", "--logs", "kept", "--job-id", "5", "--", "sh", "-c", "echo out > /logs/x")
    assert done.code == 0, done.err
    assert (tmp_path / "kept" / "5" / "0" / "x").read_bytes() == b"out\n"
    assert node.state("5") == "removed"


def test_collect_of_a_job_that_names_no_place_fails_and_says_what_to_do(node: Node) -> None:
    assert node.stager("run", "--job-id", "6", "--", "sh", "-c", "echo out > /logs/x").code == 0
    refused = node.stager("collect", "6")
    assert refused.code == 2
    assert "teardown --discard-uncollected 6" in refused.err and "--logs DIR" in refused.err
    assert node.stager("teardown", "--discard-uncollected", "6").code == 0
    assert not node.tree("6").exists()


def test_job_whose_staging_failed_can_be_torn_down(node: Node) -> None:
    assert node.stager("run", "--job-id", "4", "--data", "a/b=git+file:///nonexistent", "--", "true").code == 125
    assert node.stager("teardown", "4").code == 0
    assert node.state("4") == "removed"
