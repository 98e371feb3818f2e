"""A file that became a directory at the source, or a directory that became a file: what makes room, what never does."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from integration.sync_driver import KilledError, Outcome, SyncHere, run_killed_at, tree
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.rclone_s3 import RcloneS3
from stager.stages import delete_room

BEFORE = {"a": b"file a", "d/x": b"x", "d/e/y": b"y", "top/b": b"file b", "same": b"same"}
AFTER = {"a/1": b"one", "a/2/3": b"three", "d": b"file d", "top/b/c": b"file c", "same": b"same", "new": b"new"}
GONE = {"a", "d/x", "d/e/y", "top/b"}


def fill(root: Path, files: dict[str, bytes]) -> None:
    """Make a directory hold these files and nothing else."""
    shutil.rmtree(root, ignore_errors=True)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


@pytest.fixture
def proxy(rclone: RcloneS3) -> Iterator[FaultProxy]:
    with fault_proxy(rclone.address) as running:
        yield running


@pytest.fixture
def bucket(rclone: RcloneS3, bucket_name: Callable[[], str]) -> Path:
    """Of rclone's, which is a directory."""
    name = bucket_name()
    rclone.make_bucket(name)
    return rclone.directory / name


@pytest.fixture
def synced(rclone: RcloneS3, bucket: Path, proxy: FaultProxy, tmp_path: Path) -> SyncHere:
    environment = {**rclone.environment(), "AWS_ENDPOINT_URL": proxy.url}
    sync = SyncHere(f"s3://{bucket.name}", tmp_path / "dst", environment)
    fill(bucket, BEFORE)
    assert sync.run().code == 0
    fill(bucket, AFTER)
    return sync


@pytest.fixture
def local(tmp_path: Path) -> SyncHere:
    sync = SyncHere(f"file://{tmp_path}/src", tmp_path / "dst", {})
    fill(tmp_path / "src", BEFORE)
    assert sync.run().code == 0
    fill(tmp_path / "src", AFTER)
    return sync


def problems(done: Outcome) -> dict[str, str]:
    """Path to why it is in the way, as the error says before anything has moved."""
    assert done.code == 2, done
    error = done.event("error")
    assert error["class"] == "BadKeysError"
    assert error["what"] == f"{len(error['problems'])} names are taken in the destination"
    return dict(problem.split(": ", 1) for problem in error["problems"])


def test_what_an_earlier_sync_brought_makes_room_and_is_told(synced: SyncHere) -> None:
    (synced.destination / "top").chmod(0o750)
    planned = synced.run("--delete", "--dry-run", "-v")
    named = {line.split()[1]: line.split()[0] for line in planned.out.splitlines()[:-1]}
    assert named == dict.fromkeys(GONE, "delete") | dict.fromkeys(AFTER.keys() - {"same"}, "fetch")
    assert tree(synced.destination) == BEFORE
    done = synced.run("--delete", "--json")
    assert done.code == 0, done
    assert {event["path"] for event in done.events if event["event"] == "file"} == GONE
    counts = {"objects": 4, "bytes": sum(len(BEFORE[path]) for path in GONE)}
    assert done.event("planned")["delete"] == counts
    assert done.event("finished")["receipt"]["deleted"] == counts
    assert done.event("finished")["receipt"]["moved"]["objects"] == len(AFTER) - 1
    assert tree(synced.destination) == AFTER
    assert (synced.destination / "top").stat().st_mode & 0o777 == 0o750, "it was never away"
    assert sorted(os.listdir(synced.destination / ".stager")) == ["lock", "manifest.jsonl", "receipt.json"]
    assert "fetched 0 objects" in synced.run("--delete").out


def test_and_back_again(synced: SyncHere, bucket: Path) -> None:
    assert synced.run("--delete").code == 0
    fill(bucket, BEFORE)
    assert synced.run("--delete").code == 0
    assert tree(synced.destination) == BEFORE
    assert not (synced.destination / "a").is_dir()


def test_without_delete_all_that_is_in_the_way_is_named_and_nothing_moves(local: SyncHere) -> None:
    (local.destination / "a").write_bytes(b"mine")
    failed = local.run("--json")
    assert problems(failed) == {
        "a": "a file stands where a directory must go (changed here since a sync put it there)",
        "d": "a directory stands where a file must go (an earlier sync put it there)",
        "top/b": "a file stands where a directory must go (an earlier sync put it there)",
    }
    assert "--delete removes what an earlier sync put there" in failed.event("error")["hint"]
    assert tree(local.destination) == BEFORE | {"a": b"mine"}
    assert (local.destination / ".stager/receipt.json").exists()


def test_what_a_user_put_or_changed_there_is_never_removed(local: SyncHere) -> None:
    (local.destination / "a").unlink()
    (local.destination / "a").symlink_to("/etc/hostname")
    (local.destination / "d/mine").write_bytes(b"mine")
    (local.destination / "d/e/y").write_bytes(b"Y")
    (local.destination / "d/empty").mkdir()
    os.utime(local.destination / "top/b", ns=(1, 1))
    before = tree(local.destination)
    assert problems(local.run("--delete", "--json")) == {
        "a": "a symlink, which is not followed, stands where a directory must go "
             "(changed here since a sync put it there)",
        "d": "a directory stands where a file must go (no sync put it there: d/empty, d/mine; "
             "changed here since a sync put it there: d/e/y)",
        "top/b": "a file stands where a directory must go (changed here since a sync put it there)",
    }  # fmt: skip
    assert tree(local.destination) == before
    (local.destination / "d/empty").rmdir()
    assert local.run("--delete=all").code == 0
    assert tree(local.destination) == AFTER
    assert Path("/etc/hostname").exists()


def test_directory_that_was_there_before_does_not_become_a_file(tmp_path: Path) -> None:
    sync = SyncHere(f"file://{tmp_path}/src", tmp_path / "dst", {})
    fill(tmp_path / "src", BEFORE)
    (sync.destination / "d/e").mkdir(parents=True)
    assert sync.run().code == 0
    fill(tmp_path / "src", AFTER)
    for option in ("--delete", "--delete=all"):
        (why,) = problems(sync.run(option, "--json")).values()
        assert why == "a directory stands where a file must go (no sync put it there: d, d/e)"
    shutil.rmtree(sync.destination / "d")
    assert sync.run("--delete").code == 0
    fill(tmp_path / "src", BEFORE)
    assert sync.run("--delete").code == 0
    fill(tmp_path / "src", AFTER)
    assert sync.run("--delete").code == 0, "the directory that is there now is ours"
    assert tree(sync.destination) == AFTER


def test_what_the_filter_protects_is_in_the_way(local: SyncHere) -> None:
    (why,) = problems(local.run("--delete", "--max-size", "5B", "--exclude", "/top/", "--json")).values()
    assert why == "a file stands where a directory must go (left out by the filter, or a name that the source has too)"
    assert tree(local.destination) == BEFORE
    assert local.run("--delete", "--exclude", "/a", "--exclude", "d", "--exclude", "/top/").code == 0
    assert tree(local.destination) == BEFORE | {"new": b"new"}


def test_more_than_may_go_is_refused_with_what_makes_room_counted(local: SyncHere) -> None:
    refused = local.run("--delete", "--max-delete", "3")
    assert (refused.code, "4 of 5 files would be deleted" in refused.err) == (2, True)
    assert tree(local.destination) == BEFORE
    assert local.run("--delete", "--max-delete", "4").code == 0


def test_links_make_room_as_files_do(tmp_path: Path) -> None:
    source, sync = tmp_path / "src", SyncHere(f"file://{tmp_path}/src", tmp_path / "dst", {})
    fill(source, {"real/x": b"x"})
    (source / "link").symlink_to("real")
    (source / "holder").mkdir()
    (source / "holder/link").symlink_to("../real")
    assert sync.run().code == 0
    fill(source, {"real/x": b"x", "link/x": b"another x", "holder": b"file"})
    assert sync.run("--delete").code == 0
    assert tree(sync.destination) == tree(source)
    assert (sync.destination / "real/x").read_bytes() == b"x"
    assert not (sync.destination / "link").is_symlink()


def test_nothing_makes_room_while_something_else_could_not_be_fetched(synced: SyncHere, proxy: FaultProxy) -> None:
    proxy.add(Fault(path="/new", reset_at=0, times=100))
    assert synced.run("--delete", "--retries", "2").code == 7
    assert tree(synced.destination) == BEFORE
    proxy.clear()
    assert synced.run("--delete").code == 0
    assert tree(synced.destination) == AFTER


def test_what_changes_before_it_would_go_stays_and_ends_the_run(synced: SyncHere, proxy: FaultProxy) -> None:
    proxy.add(Fault(path="/new", stall_at=1))
    process = synced.start("--delete")
    proxy.wait_stalled()
    (synced.destination / "d/x").write_bytes(b"my own work")
    proxy.release()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert err.splitlines()[1:] == ["  d/x: changed while this ran"]
    assert tree(synced.destination) == BEFORE | {"d/x": b"my own work", "new": b"new"}
    (synced.destination / "d/x").unlink()
    assert synced.run("--delete").code == 0
    assert tree(synced.destination) == AFTER


@pytest.mark.parametrize("path", ["/a/1", "/d", "/top/b/c"])
def test_killed_while_the_successor_comes_the_next_run_completes(
    synced: SyncHere, proxy: FaultProxy, path: str
) -> None:
    """Whatever has come of it is not there: neither the old name nor a part of the new."""
    proxy.add(Fault(path=path, stall_at=1))
    process = synced.start("--delete")
    proxy.wait_stalled()
    assert tree(synced.destination).items() <= {**AFTER, **BEFORE}.items()
    assert synced.stop(process, signal.SIGKILL).code == -signal.SIGKILL
    proxy.release()
    assert not (synced.destination / ".stager/receipt.json").exists()
    assert tree(synced.destination).items() <= AFTER.items()
    done = synced.run()
    assert (done.code, done.err) == (0, "")
    assert tree(synced.destination) == AFTER
    assert synced.run("--delete").code == 0
    assert sorted(os.listdir(synced.destination / ".stager")) == ["lock", "manifest.jsonl", "receipt.json"]


def test_killed_at_any_change_of_a_name_the_next_run_finishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point, reached = 0, True
    while reached:
        home = tmp_path / str(point)
        home.mkdir()
        sync = SyncHere(f"file://{home}/src", home / "dst", {})
        fill(home / "src", BEFORE)
        assert sync.run().code == 0
        fill(home / "src", AFTER)
        reached = run_killed_at(sync, monkeypatch, point, "--delete")
        assert tree(sync.destination).items() <= {**BEFORE, **AFTER}.items()
        done = sync.run("--delete")
        assert (done.code, done.err) == (0, "")
        assert tree(sync.destination) == AFTER
        assert sorted(os.listdir(sync.destination / ".stager")) == ["lock", "manifest.jsonl", "receipt.json"]
        point += 1
    assert point > 10


def test_directory_that_lost_its_files_to_a_killed_run_still_makes_room(
    local: SyncHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, suppress(KilledError):
        patch.setattr(delete_room.Tree, "remove_directory", lambda *_: (_ for _ in ()).throw(KilledError))
        local.run("--delete")
    assert (local.destination / "d/e").is_dir()
    assert not list((local.destination / "d/e").iterdir())
    assert "d: a directory stands where a file must go (an earlier sync put it there)" in local.run().err
    assert local.run("--delete").code == 0
    assert tree(local.destination) == AFTER


INSIDE = """
set -e
mkdir "$1/d/mounted"
mount -t tmpfs none "$1/d/mounted"
echo precious > "$1/d/mounted/f"
"$2" -c "import sys; from stager.cli import main; sys.exit(main())" sync "$3" "$1" "$4" >&2 || echo "status $?"
cat "$1/d/mounted/f" "$1/d/x"
"""


@pytest.mark.parametrize("option", ["--delete", "--delete=all"])
def test_directory_with_a_mount_in_it_stays(local: SyncHere, option: str) -> None:
    where = [str(local.destination), sys.executable, local.source, option]
    done = subprocess.run(["unshare", "-rm", "sh", "-c", INSIDE, "sh", *where], capture_output=True, check=False)
    if done.returncode and b"unshare" in done.stderr:
        pytest.skip("this kernel lets this user make no mount namespace")
    assert (done.returncode, done.stdout) == (0, b"status 2\nprecious\nx"), done.stderr
    assert b"something is mounted there" in done.stderr


def test_prefix_with_and_without_its_slash_is_one_source(rclone: RcloneS3, bucket: Path, tmp_path: Path) -> None:
    fill(bucket, {"set/a": b"one", "set/b/c": b"two"})
    sync = SyncHere(f"s3://{bucket.name}/set", tmp_path / "dst", rclone.environment())
    assert sync.run().code == 0
    for source in (f"{sync.source}/", sync.source):
        again = sync.run("--json", source=source)
        assert (again.code, again.event("finished")["receipt"]["moved"]["objects"]) == (0, 0), again
    (sync.destination / "a").write_bytes(b"other")
    assert sync.command("verify", "--repair", str(sync.destination)).code == 0
    assert (sync.destination / "a").read_bytes() == b"one"
