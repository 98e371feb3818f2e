"""A command starts when everything that is copied for it is there, and not at all when something is not."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

from integration.job_driver import Node
from servers.rclone_s3 import RcloneS3, rclone_s3
from servers.strict_s3 import StrictS3

_MANY = 1100  # more than a page of a listing


def test_c8_c9_command_starts_when_every_object_is_there_and_its_time_begins_then(
    tmp_path: Path, strict: StrictS3
) -> None:
    strict.buckets["b"] = {f"d/{number:04}": b"%d" % number for number in range(_MANY)}
    asked, go = threading.Event(), threading.Event()

    def hold(method: str, target: str) -> None:
        if method == "GET" and target.endswith(f"/{_MANY - 1:04}"):
            asked.set()
            go.wait(60)

    strict.on_request = hold
    node = Node(tmp_path, strict.environment())
    try:
        show = "find /data/a/d -type f | wc -l; cat $(find /data/a/d -type f) | wc -c"
        with node.start("run", "--job-id", "7", "--data", "a/d=s3://b/d/", "--", "sh", "-c", show) as running:
            assert asked.wait(60)
            waiting = node.ask("status", "--json", "7").event("job")
            assert (waiting["state"], "running" in waiting["times"]) == ("staging", False)
            go.set()
            out, err = running.communicate(timeout=60)
        assert running.returncode == 0, err
        total = sum(len(content) for content in strict.buckets["b"].values())
        assert out.split() == [str(_MANY), str(total)]
    finally:
        go.set()
    receipt = node.receipt("7")
    times = {state: datetime.fromisoformat(time) for state, time in receipt["times"].items()}
    started = datetime.fromisoformat(receipt["exit"]["started"])
    assert times["staging"] < times["ready"] <= times["running"] <= started
    assert receipt["datasets"][0]["grades"] == {"A": _MANY}


def test_c8_server_that_is_killed_in_the_middle_fails_the_job_which_never_runs(tmp_path: Path) -> None:
    with rclone_s3() as server:
        server.make_bucket("b")
        server.fill("b", {f"{number:03}": b"x" * 100 for number in range(300)})
        node = Node(tmp_path, server.environment())
        fragile = ["--retries", "2", "--stall-timeout", "5", "--max-requests-per-second", "100"]
        data = ["--data", "a/d=s3://b/", "--no-cache"]
        with node.start("run", "--job-id", "7", *fragile, *data, "--", "echo", "ran") as running:
            wait_for_files(node.tree("7") / "data" / "a" / "d")
            kill(server)
            out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (75, ""), err
    assert node.state("7") == "failed"
    assert not (node.tree("7") / "data").exists()


def wait_for_files(directory: Path) -> None:
    until = threading.Event()
    while not any(directory.glob("[0-9]*")):
        until.wait(0.02)


def kill(server: RcloneS3) -> None:
    server.process.kill()
