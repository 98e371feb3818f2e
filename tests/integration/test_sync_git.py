"""stager sync from a git server: what a second run asks of it, and what puts a damaged copy right."""

from __future__ import annotations

import json
import os
import select
from pathlib import Path

import pytest

from integration.sync_driver import Sync, tree
from servers.git_http import GitHttp
from servers.repositories import commit_files, make_repository

FILES = {"readme": b"read me\n", "data/a.txt": b"a\n", "data/deep/b.txt": b"b\n"}


@pytest.fixture
def sync(git_server: GitHttp, tmp_path: Path) -> Sync:
    make_repository(git_server.root / "words", FILES)
    return Sync(f"git+{git_server.url('words')}/.git", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})


def packs_asked(server: GitHttp) -> int:
    """Requests of the protocol's fetch; listing the refs is a request of the same kind, but of another command."""
    return sum(command == "POST" for command, _ in server.requests)


def commit_in_receipt(sync: Sync) -> str:
    found = json.loads((sync.destination / ".stager" / "receipt.json").read_bytes())["pinned"]["commit"]
    assert isinstance(found, str)
    return found


def test_second_run_of_the_same_commit_fetches_no_pack(sync: Sync, git_server: GitHttp) -> None:
    assert sync.run().code == 0
    whole = packs_asked(git_server)
    again = sync.run()
    assert (again.code, again.err) == (0, "")
    assert "fetched 0 objects" in again.out
    assert packs_asked(git_server) - whole < whole
    assert tree(sync.destination) == FILES


def test_destination_is_meant_from_where_the_command_is_given(
    sync: Sync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sync.destination = Path("dst")
    done = sync.run()
    assert done.code == 0, done.err
    assert tree(tmp_path / "dst") == FILES


def test_second_run_of_a_full_commit_id_asks_the_server_nothing(sync: Sync, git_server: GitHttp) -> None:
    assert sync.run().code == 0
    commit = commit_in_receipt(sync)
    assert sync.run("--ref", commit).code == 0
    asked = len(git_server.requests)
    assert sync.run("--ref", commit).code == 0
    assert len(git_server.requests) == asked


def test_damaged_file_of_the_same_commit_is_put_right(sync: Sync) -> None:
    assert sync.run().code == 0
    (sync.destination / "data/a.txt").write_bytes(b"damaged")
    (sync.destination / "readme").unlink()
    mended = sync.run()
    assert "fetched 2 objects" in mended.out
    assert tree(sync.destination) == FILES


def test_new_commit_moves_only_what_it_changed(sync: Sync, git_server: GitHttp) -> None:
    assert sync.run().code == 0
    commit = commit_files(git_server.root / "words", {"data/a.txt": b"another\n"}, "second")
    newer = sync.run()
    assert "fetched 1 object" in newer.out
    assert commit_in_receipt(sync) == commit
    assert tree(sync.destination) == {**FILES, "data/a.txt": b"another\n"}


def test_other_subdirectory_of_the_same_commit_is_another_tree(sync: Sync) -> None:
    assert sync.run().code == 0
    assert sync.run(source=f"{sync.source}#subdir=data").code == 0
    assert (sync.destination / "a.txt").read_bytes() == b"a\n"
    assert (sync.destination / "deep/b.txt").read_bytes() == b"b\n"


def test_modes_and_links_of_an_earlier_run_are_known_again(sync: Sync, git_server: GitHttp) -> None:
    work = git_server.root / "words"
    (work / "tool").write_text("#!/bin/sh\n")
    (work / "tool").chmod(0o755)
    (work / "link").symlink_to("data/a.txt")
    commit_files(work, {}, "second")
    assert sync.run().code == 0
    assert "fetched 0 objects" in sync.run().out
    (sync.destination / "tool").unlink()
    (sync.destination / "link").unlink()
    assert "fetched 2 objects" in sync.run().out
    assert (sync.destination / "tool").stat().st_mode & 0o111
    assert (sync.destination / "link").readlink() == Path("data/a.txt")

def test_repository_is_on_the_destinations_disk_and_gone_at_the_end(sync: Sync) -> None:
    done = sync.run(environment={"STAGER_SCRATCH": "/proc/no/such/directory"})
    assert done.code == 0, done.err
    assert not [name for name in os.listdir(sync.destination / ".stager") if name.startswith("git-")]


def test_git_and_its_helpers_end_with_a_stager_that_is_killed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "up")
    config = tmp_path / "gitconfig"
    config.write_text(f'[core]\n sshCommand = "echo $$ > {tmp_path}/up; sleep 600; false"\n')
    sync = Sync("git+ssh://localhost/r", tmp_path / "dst", {"GIT_CONFIG_GLOBAL": str(config)})
    with sync.start() as process:
        helper = os.pidfd_open(int((tmp_path / "up").read_text()))
        process.kill()
        select.select([helper], [], [])
    os.close(helper)


@pytest.mark.parametrize("url", ["s3://bucket/x", "https://host/x", "git+ssh://host/x"])
def test_url_as_destination_is_refused(sync: Sync, url: str) -> None:
    refused = Sync(sync.source, url, sync.environment).run()  # type: ignore[arg-type]
    assert refused.code == 2
    assert "directory of this node" in refused.err
