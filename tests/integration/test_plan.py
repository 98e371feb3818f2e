"""``stager plan``: what would be fetched, and that nothing is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.sync_driver import SyncHere
from servers.git_http import GitHttp
from servers.repositories import commit_files, make_repository


@pytest.fixture
def sync(git_server: GitHttp, tmp_path: Path) -> SyncHere:
    make_repository(git_server.root / "words", {"a": b"a\n", "data/b": b"bb\n"})
    return SyncHere(f"git+{git_server.url('words')}/.git@main", tmp_path / "dst", {})


def test_branch_is_told_with_the_commit_it_is_at_and_nothing_is_made(sync: SyncHere, git_server: GitHttp) -> None:
    commit = commit_files(git_server.root / "words", {"a": b"other\n"}, "second")
    told = sync.command("plan", sync.source, str(sync.destination))
    assert (told.code, told.err) == (0, "")
    assert f"would fetch 2 objects, 9 B; 0 unchanged; at commit {commit} (refs/heads/main)" in told.out
    assert not sync.destination.exists()


def test_plan_names_the_files_of_a_new_commit_only(sync: SyncHere, git_server: GitHttp) -> None:
    assert sync.run().code == 0
    commit = commit_files(git_server.root / "words", {"a": b"other\n"}, "second")
    told = sync.command("plan", "--json", sync.source, str(sync.destination))
    assert [event["path"] for event in told.events if event["event"] == "file"] == ["a"]
    finished = told.event("finished")
    assert finished["dry_run"] is True
    assert finished["receipt"]["pinned"]["commit"] == commit
    assert finished["receipt"]["moved"] == {"objects": 1, "bytes": 6}
    assert (sync.destination / "a").read_bytes() == b"a\n"


def test_job_file_is_planned_dataset_by_dataset_and_no_job_is_made(sync: SyncHere, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_bytes(b"pass\n")
    job = tmp_path / "job.toml"
    job.write_text(
        f'version = 1\n[job]\nname = "j"\n[code]\nsource = "file://{tmp_path}/code"\n'
        f'[[dataset]]\nname = "a/words"\nsource = "{sync.source}"\n'
    )
    told = sync.command("plan", "--json", str(job), environment={"STAGER_SCRATCH": str(tmp_path)})
    assert told.code == 0, told.err
    finished = {event["receipt"]["destination"]: event["receipt"] for event in told.events
                if event["event"] == "finished"}  # fmt: skip
    assert finished["/data/a/words"]["moved"] == {"objects": 2, "bytes": 5}
    assert finished["/code"]["moved"] == {"objects": 1, "bytes": 5}
    assert not (tmp_path / "jobs").exists()


def test_what_a_job_file_says_is_refused_beside_one(sync: SyncHere, tmp_path: Path) -> None:
    refused = sync.command("plan", "--ref", "main", str(tmp_path / "job.toml"))
    assert (refused.code, "--ref" in refused.err) == (2, True)
    alone = sync.command("plan", sync.source)
    assert (alone.code, "SRC DST" in alone.err) == (2, True)
