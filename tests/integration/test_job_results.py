"""What a job finds in TASK_PATH, and what comes back of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from integration.job_driver import Node
from servers.s3 import S3Server


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
    done = node.stager("run", "--job-id", "7", node.write_job('command = ["true"]\n' + resources(one, two)))
    assert done.code == 125
    assert "a: is a file in one and a directory in another" in done.err
    assert "c: is a file in one and a directory in another" in done.err
    assert "d: " not in done.err
    assert not os.path.exists(node.scratch / "jobs" / "7" / "tree")
