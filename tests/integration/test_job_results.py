"""What a job finds in TASK_PATH, and what comes back of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from integration.job_driver import Node
from integration.sync_driver import wait_until
from servers.s3 import S3Server
from servers.strict_s3 import Reply, StrictS3


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def write_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def resources(*sources: Path | str) -> str:
    return "".join(f'[[resource]]\nsource = "{source if "://" in str(source) else f"file://{source}"}"\n'
                   for source in sources)  # fmt: skip


def test_q6_resources_are_a_union_in_which_the_last_one_wins(node: Node, weed: S3Server) -> None:
    one = write_files(node.root / "one", {"same": "one", "sub/deep/a": "a", "sub/same": "one"})
    two = write_files(node.root / "two", {"same": "two!", "sub/b": "b", "sub/same": "two", "other/c": "c"})
    weed.make_bucket("inputs-q6")
    weed.fill("inputs-q6", {"case/same": b"three", "case/sub/deep/d": b"d", "other": b"not asked for"})
    show = 'command = ["sh", "-c", "cd /task && find . -type f | sort | xargs tail -n +1 -v"]\n'

    def shown(*sources: Path | str) -> tuple[dict[str, str], str]:
        job = node.write_job(show + resources(*sources))
        done = node.stager("run", "--job-id", "7", job, **weed.environment())
        assert done.code == 0, done.err
        pieces = done.out.split("==> ./")[1:]
        return {piece.partition(" <==\n")[0]: piece.partition(" <==\n")[2].strip() for piece in pieces}, done.err

    files, _ = shown(one, two, "s3://inputs-q6/case/")
    assert files == {
        "same": "three", "sub/deep/a": "a", "sub/same": "two", "sub/b": "b", "other/c": "c", "sub/deep/d": "d"
    }  # fmt: skip
    assert (one / "same").read_text() == "one"
    swapped, _ = shown("s3://inputs-q6/case/", two, one)
    assert swapped == {**files, "same": "one", "sub/same": "one"}
    told = node.receipt("7")
    assert [source["name"] for source in told["resources"]] == ["resource[1]", "resource[2]", "resource[3]"]
    assert told["datasets"] == []


def test_q6_a_file_where_another_resource_has_a_directory_is_told_before_anything_is_moved(node: Node) -> None:
    one = write_files(node.root / "one", {"a/b": "x", "c": "c", "d": "1"})
    two = write_files(node.root / "two", {"a": "file", "c/d": "x", "d": "2"})
    job = node.write_job('command = ["true"]\n' + resources(one, two))
    planned = node.stager("plan", job)
    assert planned.code == 2 and "c: is a file in one and a directory in another" in planned.err
    done = node.stager("run", "--job-id", "7", job)
    assert done.code == 125
    assert "a: is a file in one and a directory in another" in done.err
    assert "c: is a file in one and a directory in another" in done.err
    assert "d: " not in done.err
    assert not os.path.exists(node.scratch / "jobs" / "7" / "tree")


def kept_files(root: Path) -> dict[str, str]:
    paths = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".stager-"))
    return {str(path.relative_to(root)): path.read_text() for path in paths}


HOSTILE = """
import os, socket
os.mkfifo("pipe"); os.symlink("/etc/shadow", "steal"); os.symlink("sub", "here")
socket.socket(socket.AF_UNIX).bind("sock")
os.makedirs("sub/deep"); open("sub/new.h5", "w").write("new"); open("sub/deep/tmp.h5", "w").write("tmp")
open("a.txt", "w").write("not asked for")
open("changed.h5", "a").write("+"); os.utime("touched.h5", ns=(1, os.stat("touched.h5").st_mtime_ns))
os.unlink("gone.h5"); os.chmod("mode.h5", 0o755); open("ckpt-9.h5", "w").write("9")
same = os.stat("quiet.h5").st_mtime_ns
open("quiet.h5", "r+").write("other"); os.utime("quiet.h5", ns=(same, same))
"""


@pytest.mark.parametrize(("code", "signal"), [(1, "raise SystemExit(1)"), (137, "os.kill(os.getpid(), 9)")])
def test_q7_c20_what_is_written_or_changed_in_task_path_comes_back_however_the_job_ends(
    node: Node, code: int, signal: str
) -> None:
    names = ("changed.h5", "touched.h5", "gone.h5", "mode.h5", "quiet.h5", "unchanged.h5", "sub/input.h5")
    inputs = write_files(node.root / "inputs", dict.fromkeys(names, "input"))
    (node.root / "job.py").write_text(HOSTILE + "open('/logs/x', 'w').write('log')\n" + signal)
    job = node.write_job(
        f'command = ["python3", "{node.root}/job.py"]\nworkdir = "/task"\n{resources(inputs)}'
        f'[logs]\npersist = "{node.root}/logs"\n[results]\npersist = "{node.root}/results"\n'
        'include = ["*.h5"]\nexclude = ["tmp.h5"]\nblacklist = "ckpt-[0-9]"\n'
    )
    done = node.stager("run", "--job-id", "7", job)
    assert done.code == code, done.err
    results = node.root / "results" / "7" / "0"
    assert kept_files(results) == {
        "sub/new.h5": "new", "changed.h5": "input+", "touched.h5": "input", "mode.h5": "input", "quiet.h5": "other"
    }  # fmt: skip
    assert kept_files(node.root / "logs" / "7" / "0") == {"x": "log"}
    receipt = json.loads((results / ".stager-receipt.json").read_text())
    assert (receipt["state"], receipt["exit_code"], receipt["total"]["objects"]) == ("done", code, 5)
    assert {text.split(":")[0] for text in receipt["left_out"]} == {"pipe", "sock"}
    inputs_told = {"changed": 4, "removed": 1}
    assert {name: receipt["inputs"][name] for name in inputs_told} == inputs_told
    assert node.receipt("7")["results"]["inputs"]["first"] == receipt["inputs"]["first"]
    assert "no rule of [results] wants" in done.err
    assert node.state("7") == "removed"


def test_q8_results_are_not_seen_before_the_end_and_a_store_that_breaks_is_no_success(
    node: Node, strict: StrictS3
) -> None:
    strict.buckets["results"] = {}
    job = node.write_job(
        'command = ["sh", "-c", "echo one > /task/a; touch /logs/ready; while ! test -e /logs/go; do sleep 0.05; done"]'
        '\n[logs]\npersist = "s3://results/logs/{job.id}"\nremote = "lab"\n[results]\npersist = "s3://results/out/"\n'
        f'[s3.lab]\nendpoint_url = "{strict.endpoint_url}"\nregion = "{strict.region}"\n'
    )
    with node.start("run", "--job-id", "7", job, **strict.environment()) as process:
        wait_until(lambda: (node.tree("7") / "logs" / "ready").exists())
        assert set(strict.buckets["results"]) == {"out/.stager/7/0/job", "logs/.stager/7/job"}
        done = node.stager("collect", "--snapshot", "7", **strict.environment())
        assert done.code == 0, done.err
        assert strict.buckets["results"]["out/7/0.snapshot-1/a"] == b"one\n"
        assert "out/.stager/7/0.snapshot-1/receipt.json" in strict.buckets["results"]
        assert not any(key.startswith("out/7/0/") for key in strict.buckets["results"])
        strict.reply(Reply(path="/results/out/7/0/a", method="PUT", times=9, status=403, code="AccessDenied"))
        (node.tree("7") / "logs" / "go").touch()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, "AccessDenied" in err) == (125, True), err
    assert node.state("7") == "ended"
    assert strict.buckets["results"]["logs/7/ready"] == b""
    assert "out/.stager/7/0/receipt.json" not in strict.buckets["results"]
    refused = node.stager("teardown", "7")
    assert refused.code != 0 and "kept nowhere else" in refused.err
    strict.forget_replies()
    strict.tokens = {"fresh"}
    done = node.stager("collect", "7", **strict.environment("fresh"))
    assert done.code == 0, done.err
    assert strict.buckets["results"]["out/7/0/a"] == b"one\n"
    assert node.stager("teardown", "7").code == 0
    done = node.stager("logs", "7", **strict.environment("fresh"))
    assert (done.code, "ready" in done.out) == (0, True), done.err


def test_c20_logs_are_drained_while_the_job_runs_and_collected_after_stager_was_killed(node: Node) -> None:
    job = node.write_job(
        'command = ["sh", "-c", "echo 1 > /logs/a; echo r > /task/r; sleep 600"]\n'
        f'[logs]\npersist = "{node.root}/logs"\ndrain = "0.1s"\n[results]\npersist = "{node.root}/results"\n'
        'snapshot = "0.3s"\n'
    )
    kept, results = node.root / "logs" / "7" / "0", node.root / "results" / "7"
    with node.start("run", "--job-id", "7", job) as process:
        wait_until(lambda: (kept / "a").exists() and (kept / "a").read_text() == "1\n")
        assert not (kept / ".stager-receipt.json").exists()
        wait_until(lambda: any(
            kept_files(one.parent) == {"r": "r\n"} for one in results.glob("0.snapshot-*/.stager-receipt.json")
        ))  # fmt: skip
        assert not (results / "0" / "r").exists()
        with open(node.tree("7") / "logs" / "a", "a") as file:
            file.write("2\n")
        process.kill()
        process.wait()
    wait_until(lambda: node.stager("collect", "7").code == 0)
    assert (kept / "a").read_text() == "1\n2\n"
    assert (kept / ".stager-receipt.json").exists()
    assert (results / "0" / "r").read_text() == "r\n"
    assert node.state("7") == "persisted"


def test_check_tells_of_places_that_nothing_could_be_brought_to(node: Node, strict: StrictS3) -> None:
    strict.buckets["results"] = {}
    job = node.write_job(
        f'command = ["true"]\n[logs]\npersist = "{node.root}/JOB.toml/x"\n[results]\npersist = "s3://results/out/"\n'
    )
    done = node.stager("check", job, **strict.environment())
    assert done.code != 0 and "Not a directory" in done.err + done.out
    assert "would go to s3://results/out/JOB/0" in done.out
    assert strict.buckets["results"] == {}
    done = node.stager("check", job, **{**strict.environment(), "AWS_ACCESS_KEY_ID": "nobody"})
    assert "InvalidAccessKeyId" in done.err + done.out


def test_c20_under_a_sigterm_what_there_is_no_time_for_stays_in_the_tree_and_is_listed(node: Node) -> None:
    job = node.write_job(
        'command = ["sh", "-c", "trap \'echo end > /logs/a; exit 3\' TERM; touch /logs/a; while :; do sleep 0.1; done"]'
        f'\n[logs]\npersist = "{node.root}/logs"\n'
    )
    kept = node.root / "logs" / "7" / "0"
    with node.start("run", "--job-id", "7", "--keep-within", "0", job) as process:
        wait_until(lambda: (node.tree("7") / "logs" / "a").exists())
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3 and "missing from the logs: a: there was no time left" in err
    assert "not all logs are kept; the tree stays" in err
    assert json.loads((kept / ".stager-receipt.json").read_text())["missing"] == ["a: there was no time left"]
    assert node.state("7") == "ended" and kept_files(kept) == {}
    assert node.stager("collect", "7").code == 0
    assert kept_files(kept) == {"a": "end\n"} and node.state("7") == "persisted"
