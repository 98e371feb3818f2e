"""The end of a job when signals come, and when nobody reads what stager says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from integration.job_driver import PROGRAM, Node
from integration.sync_driver import wait_until


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def write_job_with_a_large_log(node: Node) -> tuple[str, Path]:
    job = node.write_job(
        'command = ["sh", "-c", "echo x > /logs/a; head -c 1G /dev/zero > /logs/b"]\n'
        f'[logs]\npersist = "{node.root}/kept"\n'
    )
    return job, node.root / "kept" / "7" / "0"


def is_copying(kept: Path) -> bool:
    return any(re.fullmatch(r"\.stager-[0-9a-f]{16}", path.name) for path in kept.glob("*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_logs_are_kept_stops_cleanly_and_collect_goes_on(node: Node, number: signal.Signals) -> None:
    job, kept = write_job_with_a_large_log(node)
    with node.start("run", "--job-id", "7", "--status-file", "status", job) as process:
        wait_until(lambda: is_copying(kept))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "stager collect 7" in err
    told = json.loads((node.root / "status").read_text())
    assert (told["exit_code"], told["command"]["status"]) == (128 + number, 0)
    assert not is_copying(kept)
    with node.start("collect", "7") as process:
        wait_until(lambda: is_copying(kept))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "run the same command again" in err
    assert not is_copying(kept)
    os.truncate(node.tree("7") / "logs" / "b", 5)
    assert node.stager("collect", "7").code == 0
    assert (kept / "a").read_text() == "x\n" and (kept / "b").stat().st_size == 5


def test_what_a_killed_stager_was_copying_is_swept(node: Node) -> None:
    job, kept = write_job_with_a_large_log(node)
    with node.start("run", "--job-id", "7", job) as process:
        wait_until(lambda: is_copying(kept))
        process.kill()
        process.wait()
    assert is_copying(kept)
    os.truncate(node.tree("7") / "logs" / "b", 5)
    assert node.stager("collect", "7").code == 0
    assert not is_copying(kept)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_job_runs_without_standard_streams(node: Node, closed: str) -> None:
    argv = [sys.executable, "-c", PROGRAM, "run", "--job-id", "7", "--status-file", str(node.root / "status")]
    argv += ["--", "sh", "-c", f"cat; echo out; touch {node.root}/ran"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *argv], env={**os.environ, "STAGER_SCRATCH": str(node.scratch)},
        capture_output=True, stdin=subprocess.DEVNULL, cwd=node.root, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("" if "1>" in closed else "out\n")
    assert (node.root / "ran").exists()
    assert node.state("7") == "removed"


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("full", [False, True])
def test_nobody_who_reads_is_no_failure(node: Node, options: list[str], full: bool) -> None:
    job = node.write_job(f'command = ["touch", "/logs/a"]\n[logs]\npersist = "{node.root}/kept"\n')
    reader, writer = os.pipe()
    os.close(reader)
    if full:
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", "--job-id", "7", *options, job], cwd=node.root,
        env={**os.environ, "STAGER_SCRATCH": str(node.scratch)}, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 0
    assert (node.root / "kept" / "7" / "0" / "a").exists()
    assert node.state("7") == "removed"


def test_no_escape_sequence_reaches_the_terminal(node: Node) -> None:
    scratch = str(node.root / "s\x1b]0;pwned\x07\x9b31m\u202e")
    done = node.stager("run", "--scratch", scratch, "--", "touch", "/logs/a")
    assert done.code == 0 and "kept nowhere else" in done.err
    assert not set("\x1b\x07\x9b\u202e") & set(done.err)
    job = node.write_job('command = ["true"]\n[logs]\npersist = "/tmp/kept\\u001b]0;pwned\\u0007"\n')
    done = node.stager("run", job)
    assert done.code == 125 and "is not a directory" in done.err
    assert "\x1b" not in done.err
