"""What `stager stage` and `stager run` are asked of the data that their command line names: files, grades, listings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.sync_driver import Outcome, SyncHere, tree
from servers.moto_s3 import MotoS3
from servers.repositories import commit_files, make_repository
from servers.strict_s3 import StrictS3

FILES = {"train/a.gz": b"a" * 10, "train/b.gz": b"b" * 2000, "train/notes": b"n", "test/a.gz": b"t", "bad.gz": b"x"}
BUCKET = "bucket"


class Stage:
    """`stager stage` in a directory of its own."""

    def __init__(self, tmp_path: Path, environment: dict[str, str]) -> None:
        self.root = tmp_path
        self._jobs = 0
        self._here = SyncHere("", tmp_path, {**environment, "STAGER_SCRATCH": str(tmp_path / "scratch")})

    def __call__(self, *argv: str) -> Outcome:
        """A new job each time."""
        self._jobs += 1
        return self._here.command("stage", "--job-id", f"j{self._jobs}", *argv, "--json")

    def tree(self, name: str) -> dict[str, bytes]:
        """A dataset of the last one."""
        return tree(self.root / f"scratch/jobs/j{self._jobs}/tree/data" / name)

    def found(self, name: str) -> set[str]:
        return set(self.tree(name))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    for path, content in FILES.items():
        (tmp_path / "src" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / path).write_bytes(content)
    return Stage(tmp_path, {})


def problems(outcome: Outcome) -> str:
    assert outcome.code == 2, outcome
    return "\n".join(outcome.event("error")["problems"])


def test_filter_of_the_command_line_is_for_every_data_before_or_behind_them(stage: Stage) -> None:
    data = [f"--data=o/{name}=file://{stage.root}/src" for name in ("one", "two")]
    chosen = ["--include", "*.gz", "--exclude=bad*", "--include", "notes", "--max-size", "1K"]
    for argv in ([*data, *chosen], [*chosen, *data], [*chosen[:2], *data, *chosen[2:]]):
        done = stage(*argv)
        assert done.code == 0, done
        assert stage.found("o/one") == stage.found("o/two") == {"train/a.gz", "train/notes", "test/a.gz"}
    (staged,) = [event for event in done.events if event["event"] == "staged"]
    told = [dataset["filter"] for dataset in staged["receipt"]["datasets"]]
    patterns = [{"include": "*.gz"}, {"exclude": "bad*"}, {"include": "notes"}]
    assert told == [{"patterns": patterns, "max_bytes": 1024}] * 2


def test_order_of_patterns_and_a_list_of_files_count_as_in_a_sync(stage: Stage) -> None:
    (stage.root / "list").write_bytes(b"train/a.gz\0./bad.gz\0")
    source = f"--data=o/d=file://{stage.root}/src"
    assert stage(source, "--files-from", str(stage.root / "list"), "-0", "--exclude", "bad*").code == 0
    assert stage.found("o/d") == {"train/a.gz"}
    assert stage(source, "--exclude", "train/", "--include", "a.gz").code == 0
    assert stage.found("o/d") == {"train/a.gz", "test/a.gz", "bad.gz"}


def test_options_are_for_the_data_of_the_command_line_and_leave_the_job_file_alone(stage: Stage) -> None:
    job = stage.root / "job.toml"
    job.write_text(
        f'version = 1\n[job]\nname = "j"\n[[dataset]]\nname = "o/file"\nsource = "file://{stage.root}/src"\n'
        'include = ["bad.gz"]\n'
    )
    assert stage(str(job), f"--data=o/line=file://{stage.root}/src", "--include", "train/").code == 0
    assert stage.found("o/file") == {"bad.gz"}
    assert stage.found("o/line") == {"train/a.gz", "train/b.gz", "train/notes"}


def test_option_between_two_data_or_without_one_is_refused_with_all_other_mistakes(stage: Stage) -> None:
    one, two = (f"--data=o/{name}=file://{stage.root}/src" for name in ("one", "two"))
    told = problems(stage(one, "--include", "x", "--require-integrity=B", two, "--exclude", "a//b", "--public", "=x"))
    assert "--include: is for every --data, and stands between two" in told
    assert "--require-integrity: is for every --data, and stands between two" in told
    assert "--exclude: the pattern 'a//b' has an empty segment" in told
    assert "--exclude: is" not in told
    assert "--public" in told
    told = problems(stage("--newer=7d", "--integrity", "standard", "--on-archived", "fail"))
    assert [line.partition(":")[0] for line in told.splitlines()] == ["--newer", "--integrity", "--on-archived"]
    assert told.count("is for --data, and there is none") == 3
    assert not (stage.root / "scratch").exists()


def test_what_a_source_cannot_give_is_refused_by_its_name(stage: Stage) -> None:
    git, bind = "--data=o/git=git+https://h/r", f"--data=o/bind=bind:{stage.root}"
    told = problems(stage(git, bind, "--newer=7d", "--require-integrity=A"))
    assert "--newer for o/git: a git source has no times" in told
    assert "--data o/bind: include, exclude and their kind are for sources that are copied" in told
    assert "--require-integrity for o/bind: is for what is copied" in told
    assert "--frozen for o/bind: names the file" in problems(stage(bind, "--frozen", "x"))
    assert "--frozen: is the listing of one source, and there are 2" in problems(stage(git, bind, "--frozen", "x"))


def test_required_grade_and_archived_objects_of_the_command_line_count(strict: StrictS3, tmp_path: Path) -> None:
    stage = Stage(tmp_path, strict.environment())
    strict.buckets[BUCKET] = {"plain": b"x", "kms": b"y", "cold": b"z"}
    strict.encryption, strict.storage_classes = {"kms": "aws:kms"}, {"cold": "GLACIER"}
    data = f"--data=o/d=s3://{BUCKET}"
    assert stage(data).code == 3
    assert stage(data, "--on-archived=skip").code == 0
    assert stage.found("o/d") == {"plain", "kms"}
    low = stage(data, "--on-archived=skip", "--require-integrity=A")
    assert (low.code, low.event("error")["class"]) == (4, "GradeError")
    assert stage(data, "--on-archived=skip", "--require-integrity=A", "--exclude=kms").code == 0
    light = stage(data, "--integrity=light", "--include=plain")
    (receipt,) = [event["receipt"] for event in light.events if event["event"] == "finished"]
    assert receipt["grades"] == {"B": 1}


def test_frozen_listing_is_copied_as_it_says(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {})
    repository = tmp_path / "repository"
    make_repository(repository, {"data": b"v1"})
    data = f"--data=o/d=git+file://{repository}/.git"
    assert stage(data, "--save-listing", str(tmp_path / "lists")).code == 0
    commit_files(repository, {"data": b"v2", "more": b""}, "second")
    assert stage(data, "--frozen", str(tmp_path / "lists/data/o/d.jsonl")).code == 0
    assert stage.tree("o/d") == {"data": b"v1"}


def test_run_takes_the_same_options_and_fails_as_itself(
    moto: MotoS3, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    bucket = bucket_name()
    moto.make_bucket(bucket)
    moto.fill(bucket, FILES)
    here = SyncHere("", tmp_path, {**moto.environment(), "STAGER_SCRATCH": str(tmp_path / "scratch")})
    argv = ["run", f"--data=o/d=s3://{bucket}", "--exclude", "*", "--include", "*.gz", "--keep", "--logs"]
    script = "cd /data/o/d && find . -type f > /logs/found"
    done = here.command(*argv, str(tmp_path / "logs"), "--job-id", "r", "--", "sh", "-c", script, "--include", "x")
    assert done.code == 0, done
    (found,) = (tmp_path / "logs").rglob("found")
    assert set(found.read_text().split()) == {f"./{path}" for path in FILES if path.endswith(".gz")}
    refused = here.command("run", "--include", "x", "--status-file", str(tmp_path / "status"), "--", "true")
    assert (refused.code, json.loads((tmp_path / "status").read_text())["error"]["exit_code"]) == (125, 2)
    assert "is for --data, and there is none" in refused.err
    assert os.path.exists(tmp_path / "scratch/jobs/r")
