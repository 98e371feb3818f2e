"""A job that is created now and started later: what it was created with is what it sees."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.job_driver import Node
from servers.moto_s3 import MotoS3
from servers.repositories import commit_files, make_repository


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def state_of(node: Node, job_id: str) -> str:
    return str(json.loads((node.scratch / "jobs" / job_id / "job.json").read_text())["state"])


def test_c19_code_is_what_it_was_when_the_job_was_created(
    node: Node, tmp_path: Path, moto: MotoS3, bucket_name: Callable[[], str]
) -> None:
    bucket = bucket_name()
    moto.make_bucket(bucket)
    moto.fill(bucket, {"d/then": b"then\n"})
    node.environment = moto.environment()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "train").write_text("as created\n")
    first = make_repository(tmp_path / "words", {"w": b"first\n"})
    job = node.write_job(
        f"""command = ["sh", "-c", "cat /code/train /data/a/words/w; ls /data/a/d; echo more >> /code/train; > /code/x"]
[code]
source = "project"
[[dataset]]
name = "a/words"
source = "git+file://{tmp_path}/words"
ref = "main"
[[dataset]]
name = "a/d"
source = "s3://{bucket}/d/"
"""
    )
    created = node.stager("create", job)
    assert created.code == 0, created.err
    (job_id,) = created.out.splitlines()
    assert state_of(node, job_id) == "created" and not node.tree(job_id).exists()
    (tmp_path / "project" / "train").write_text("edited since\n")
    commit_files(tmp_path / "words", {"w": b"second\n"}, "second")
    moto.fill(bucket, {"d/since": b"since\n"})
    (tmp_path / job).unlink()
    other = Node(tmp_path, {**node.environment, "STAGER_SCRATCH": str(tmp_path / "other")})
    for where, started in ((other, str(node.scratch / "jobs" / job_id)), (node, job_id)):  # also on another node
        done = where.stager("run", started)
        assert done.code == 0, done.err
        assert done.out.splitlines() == ["as created", "first", "then"]
    assert state_of(node, job_id) == "removed"
    assert sorted(os.listdir(tmp_path / "project")) == ["train"]
    assert (tmp_path / "project" / "train").read_text() == "edited since\n"
    pinned = {data["name"]: data["pinned"] for data in node.receipt(job_id)["datasets"]}
    assert pinned["a/words"]["commit"] == first
    # Another like it has the settings, and the code and the data of its own day.
    like = node.stager("create", "--from", job_id, "--job-id", "like")
    assert (like.code, like.out) == (0, "like\n"), like.err
    moto.fill(bucket, {"d/then": b"replaced\n"})
    done = node.stager("run", "like")
    assert done.code == 125 and "d/then" in done.err and "not what was listed" in done.err
    late = node.stager("run", "--name", "other", "like")
    assert late.code == 125 and "--name: job like was created without it" in late.err
    shutil.rmtree(node.scratch / "jobs" / "like" / "created")
    done = node.stager("run", "like")
    assert done.code == 125 and "has been removed; `stager create --from like`" in done.err


def test_creation_that_fails_says_why_and_leaves_no_job(node: Node, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    gone = node.stager("create", "--code", "code", "--data", f"a/b=file://{tmp_path}/none")
    assert gone.code == 3 and "a/b: file://" in gone.err and "no such directory" in gone.err
    assert os.listdir(node.scratch / "jobs") == []
    unknown = node.stager("create", "--from", "nobody")
    assert unknown.code == 3 and "no job nobody on this node" in unknown.err
    node.stager("stage", "--job-id", "7", "--code", "code")
    settings = node.scratch / "jobs" / "7" / "settings.json"
    wrong = node.stager("create", "--cod", "code", "--", "true")
    assert wrong.code == 2 and "No such option '--cod'" in wrong.err and "'--code'" in wrong.err
    assert settings.stat().st_mode & 0o777 == 0o600
    spec = json.loads(settings.read_text())
    settings.write_text(json.dumps({**spec, "spec": {"name": 7}}))
    damaged = node.stager("create", "--from", "7")
    assert damaged.code == 6 and "settings are damaged: Expected `str`, got `int` - at `$.spec.name`" in damaged.err
    taken = node.stager("create", "--job-id", "7", "--code", "code")
    assert taken.code == 2 and "job 7 exists (ready)" in taken.err
