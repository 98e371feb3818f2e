"""--delete: what goes, what stays whatever is asked for, what is refused before anything is moved."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.sync_driver import Outcome, SyncHere, run_killed_at, tree, wait_until
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.git_http import GitHttp
from servers.rclone_s3 import RcloneS3
from servers.repositories import commit_files, make_repository
from stager.host.removal import Tree
from stager.sources import s3_list, s3_list_parallel

FILES = {f"d{n % 3}/f{n}": b"content %d" % n for n in range(30)} | {"top": b"top", "only/one": b"1"}


class Bucket:
    """A bucket of rclone's, which is a directory."""

    def __init__(self, server: RcloneS3, name: str) -> None:
        self.server, self.name = server, name
        server.make_bucket(name)

    def put(self, files: dict[str, bytes]) -> None:
        self.server.fill(self.name, files)

    def drop(self, *paths: str) -> None:
        for path in paths:
            (self.server.directory / self.name / path).unlink()


@pytest.fixture
def bucket(rclone: RcloneS3, bucket_name: Callable[[], str]) -> Bucket:
    made = Bucket(rclone, bucket_name())
    made.put(FILES)
    return made


@pytest.fixture
def proxy(rclone: RcloneS3) -> Iterator[FaultProxy]:
    with fault_proxy(rclone.address) as running:
        yield running


@pytest.fixture
def sync(rclone: RcloneS3, bucket: Bucket, proxy: FaultProxy, tmp_path: Path) -> SyncHere:
    environment = {**rclone.environment(), "AWS_ENDPOINT_URL": proxy.url}
    return SyncHere(f"s3://{bucket.name}", tmp_path / "dst", environment)


@pytest.fixture
def synced(sync: SyncHere) -> SyncHere:
    assert sync.run().code == 0
    return sync


def without(*paths: str) -> dict[str, bytes]:
    return {path: content for path, content in FILES.items() if path not in paths}


def receipt(sync: SyncHere) -> dict[str, Any]:
    found = json.loads((sync.destination / ".stager/receipt.json").read_bytes())
    assert isinstance(found, dict)
    return found


def refused(done: Outcome, why: str) -> None:
    assert done.code == 2, done
    assert why in done.err
    assert len(done.err.splitlines()) == 1


def test_what_the_source_lost_goes_with_its_directory_and_nothing_else(synced: SyncHere, bucket: Bucket) -> None:
    (synced.destination / "foreign/empty").mkdir(parents=True)
    (synced.destination / "d0/mine").write_bytes(b"foreign")
    bucket.drop("d0/f0", "only/one", "top")
    bucket.put({"new": b"new"})
    done = synced.run("--delete", "--json")
    assert done.code == 0
    named = {event["path"] for event in done.events if event["event"] == "file"}
    assert named == {"d0/f0", "only/one", "top"}
    assert done.event("planned")["delete"] == {"objects": 3, "bytes": 3 + 1 + len(FILES["d0/f0"])}
    assert receipt(synced)["deleted"] == done.event("planned")["delete"]
    assert tree(synced.destination) == {**without("d0/f0", "only/one", "top"), "d0/mine": b"foreign", "new": b"new"}
    assert not (synced.destination / "only").exists()
    assert (synced.destination / "foreign/empty").is_dir()
    assert not (synced.destination / ".stager/former.jsonl").exists()
    assert "deleted" not in synced.run("--delete").out


def test_what_went_missing_without_delete_is_remembered_until_it_is_asked_for(synced: SyncHere, bucket: Bucket) -> None:
    bucket.drop("d0/f0")
    assert synced.run().code == 0
    bucket.drop("d0/f3")
    assert synced.run().code == 0
    assert tree(synced.destination) == FILES
    assert "deleted 2 files" in synced.run("--delete").out
    assert tree(synced.destination) == without("d0/f0", "d0/f3")


def test_directory_that_was_there_before_stays_when_it_is_emptied(sync: SyncHere, bucket: Bucket) -> None:
    (sync.destination / "only").mkdir(parents=True)
    (sync.destination / "mine").write_bytes(b"foreign")
    assert sync.run().code == 0
    (sync.destination / "late").mkdir()
    bucket.put({"late/a": b"a", "later/b": b"b"})
    assert sync.run().code == 0
    bucket.drop("only/one", "late/a", "later/b", *(path for path in FILES if path.startswith("d1/")))
    assert sync.run("--delete", "--max-delete", "100%").code == 0
    assert sorted(os.listdir(sync.destination)) == [".stager", "d0", "d2", "late", "mine", "only", "top"]


def test_what_was_changed_here_stays_and_is_told(synced: SyncHere, bucket: Bucket) -> None:
    (synced.destination / "d0/f0").write_bytes(b"my own work")
    (synced.destination / "d0/f3").chmod(0o600)
    (synced.destination / "d0/f6").unlink()
    (synced.destination / "d0/f6").symlink_to("/etc/hostname")
    os.utime(synced.destination / "d0/f9", ns=(1, 1))
    bucket.drop("d0/f0", "d0/f3", "d0/f6", "d0/f9")
    for _ in range(2):
        done = synced.run("--delete")
        assert done.code == 0
        assert "stays, for it was changed here: d0/f0, d0/f6, d0/f9 (--delete=all removes it)" in done.err
    assert not (synced.destination / "d0/f3").exists()
    assert (synced.destination / "d0/f0").read_bytes() == b"my own work"
    assert (synced.destination / "d0/f6").is_symlink()


def test_file_that_may_not_be_read_any_more_stays_and_stops_nothing(
    synced: SyncHere, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the refusal is played."""
    (synced.destination / "d0/f0").chmod(0)
    bucket.drop("d0/f0", "d0/f3")

    def refuse(_: Tree, path: bytes) -> int:
        raise PermissionError(errno.EACCES, "refused", path)

    monkeypatch.setattr(Tree, "open", refuse)
    done = synced.run("--delete")
    assert done.code == 0, done.err
    assert "stays, for it was changed here: d0/f0" in done.err
    assert not (synced.destination / "d0/f3").exists()


def test_what_changes_while_the_source_is_copied_stays(synced: SyncHere, bucket: Bucket, proxy: FaultProxy) -> None:
    bucket.drop("d0/f0", "d0/f3")
    bucket.put({"slow": b"slow" * 100})
    proxy.add(Fault(path="/slow", stall_at=100))
    process = synced.start("--delete")
    proxy.wait_stalled()
    (synced.destination / "d0/f0").write_bytes(b"my own work")
    proxy.release()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "stays, for it changed while this ran: d0/f0" in err
    assert "deleted 1 file," in out
    assert (synced.destination / "d0/f0").read_bytes() == b"my own work"
    assert not (synced.destination / "d0/f3").exists()


def test_nothing_goes_while_something_could_not_be_fetched(synced: SyncHere, bucket: Bucket, proxy: FaultProxy) -> None:
    bucket.drop("top")
    bucket.put({"new": b"new"})
    proxy.add(Fault(path="/new", reset_at=0, times=100))
    assert synced.run("--delete", "--retries", "2").code == 7
    assert (synced.destination / "top").exists()
    proxy.clear()
    assert synced.run("--delete").code == 0
    assert tree(synced.destination) == {**without("top"), "new": b"new"}


def test_what_a_killed_first_run_brought_is_known(
    sync: SyncHere, bucket: Bucket, proxy: FaultProxy, rclone: RcloneS3
) -> None:
    proxy.add(Fault(path="/d2/f29", stall_at=1))
    process = sync.start()
    proxy.wait_stalled()
    journal = sync.destination / ".stager/journal"
    wait_until(lambda: journal.exists() and b"only/one" in journal.read_bytes())
    assert sync.stop(process, signal.SIGKILL).code == -signal.SIGKILL
    proxy.release()
    (sync.destination / "mine").write_bytes(b"foreign")
    bucket.drop("only/one")
    assert sync.run("--delete").code == 0
    assert tree(sync.destination) == {**without("only/one"), "mine": b"foreign"}
    assert not (sync.destination / "only").exists()


def test_files_of_another_source_are_an_earlier_syncs_too(
    synced: SyncHere, rclone: RcloneS3, bucket_name: Callable[[], str]
) -> None:
    other = Bucket(rclone, bucket_name())
    other.put({"top": b"another", "b": b"b"})
    assert synced.run(source=f"s3://{other.name}").code == 0
    assert tree(synced.destination) == {**FILES, "top": b"another", "b": b"b"}
    (synced.destination / "d0/f0").write_bytes(b"my own work")
    assert synced.run("--delete", "--max-delete", "100%", source=f"s3://{other.name}").code == 0
    assert tree(synced.destination) == {"top": b"another", "b": b"b", "d0/f0": b"my own work"}


def test_all_takes_what_no_sync_brought_but_follows_no_link_and_leaves_other_trees(
    synced: SyncHere, bucket: Bucket, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_bytes(b"precious")
    for path in ("mine", "d0/mine", "new/deep/mine", "nested/.stager/lock", "nested/data", "sub/.stager"):
        (synced.destination / path).parent.mkdir(parents=True, exist_ok=True)
        (synced.destination / path).write_bytes(b"foreign")
    (synced.destination / "link").symlink_to(tmp_path / "outside")
    (synced.destination / "empty").mkdir()
    (synced.destination / "d1/f1").write_bytes(b"changed here")
    bucket.drop("only/one", "d1/f1")
    planned = synced.run("--delete=all", "--dry-run", "-v")
    gone = ["d0/mine", "d1/f1", "link", "mine", "new/deep/mine", "only/one"]
    assert [line.split()[1] for line in planned.out.splitlines() if line.startswith("delete ")] == gone
    done = synced.run("--delete=all")
    assert (done.code, done.err) == (0, "")
    left = {"nested/data": b"foreign", "nested/.stager/lock": b"foreign", "sub/.stager": b"foreign"}
    assert tree(synced.destination) == {**without("only/one", "d1/f1"), **left}
    assert not (synced.destination / ".stager/former.jsonl").exists()
    assert not (synced.destination / "new").exists()
    assert (synced.destination / "empty").is_dir()
    assert os.listdir(tmp_path / "outside") == ["precious"]


def test_all_leaves_a_state_directory_inside_alone(sync: SyncHere, bucket: Bucket) -> None:
    inside = sync.destination / "my-state"
    assert sync.run("--state-dir", str(inside)).code == 0
    (sync.destination / "mine").write_bytes(b"foreign")
    assert sync.run("--state-dir", str(inside), "--delete=all").code == 0
    assert sorted(os.listdir(inside)) == ["lock", "manifest.jsonl", "receipt.json"]
    assert not (sync.destination / "mine").exists()


INSIDE = """
set -e
mount -t tmpfs none "$1/mounted"
mount --bind "$2" "$1/bound"
echo precious > "$1/mounted/f"
"$3" -c "import sys; from stager.cli import main; sys.exit(main())" sync "file://$4" "$1" --delete=all >&2
cat "$1/mounted/f" "$1/bound/f"
"""


def test_all_does_not_reach_into_what_is_mounted_below(tmp_path: Path) -> None:
    """Another file system, and a directory of the same one, which has the same device number."""
    for path, content in {"src/a": b"a", "src/bound/f": b"brought", "elsewhere/f": b"bound\n"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    sync = SyncHere(f"file://{tmp_path}/src", tmp_path / "dst", {})
    assert sync.run().code == 0
    (tmp_path / "src/bound/f").unlink()
    (sync.destination / "mounted").mkdir()
    (sync.destination / "mine").write_bytes(b"foreign")
    where = [str(sync.destination), str(tmp_path / "elsewhere"), sys.executable, str(tmp_path / "src")]
    done = subprocess.run(["unshare", "-rm", "sh", "-c", INSIDE, "sh", *where], capture_output=True, check=False)
    if done.returncode and b"unshare" in done.stderr:
        pytest.skip("this kernel lets this user make no mount namespace")
    assert (done.returncode, done.stdout) == (0, b"precious\nbound\n"), done.stderr
    assert sorted(os.listdir(sync.destination)) == [".stager", "a", "bound", "mounted"]
    assert "deleted 1 file" in sync.run("--delete").out  # which the mount had hidden
    assert sorted(os.listdir(sync.destination)) == [".stager", "a", "mounted"]


def test_more_than_may_go_is_refused_before_anything_moves(synced: SyncHere, bucket: Bucket, proxy: FaultProxy) -> None:
    bucket.drop(*list(FILES)[:20])
    bucket.put({"new": b"new"})
    refused(synced.run("--delete"), "20 of 32 files would be deleted (")
    refused(synced.run("--delete", "--max-delete", "19"), "and 19 may be (19): nothing was changed")
    refused(synced.run("--delete", "--max-delete", "62%"), "and 19 may be (62%)")
    shown = synced.run("--delete", "--dry-run", "-v")
    assert (shown.code, shown.out.count("delete d")) == (2, 20)
    assert tree(synced.destination) == FILES
    assert receipt(synced)["total"]["objects"] == len(FILES)
    assert synced.run("--delete", "--max-delete", "20").code == 0
    assert tree(synced.destination) == {**without(*list(FILES)[:20]), "new": b"new"}


def test_empty_source_deletes_nothing(synced: SyncHere, bucket: Bucket) -> None:
    bucket.drop(*FILES)
    refused(synced.run("--delete", "--max-delete", "100%"), "the source is empty: nothing is deleted")
    assert tree(synced.destination) == FILES


@pytest.mark.parametrize("damaged", ["manifest.jsonl", "former.jsonl", "foreign.json"])
def test_damaged_records_delete_nothing_until_a_whole_compare(synced: SyncHere, bucket: Bucket, damaged: str) -> None:
    bucket.drop("d0/f0")
    assert synced.run().code == 0
    path = synced.destination / ".stager" / damaged
    data = bytearray(path.read_bytes() if path.exists() else b'{"schema":1,"directories":["../x"]}')
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    refused(synced.run("--delete"), "damaged")
    assert tree(synced.destination) == FILES
    assert "is damaged" in synced.run().err
    assert synced.run("--delete").code == 0
    forgotten = damaged == "former.jsonl"
    assert tree(synced.destination) == (FILES if forgotten else without("d0/f0"))


@pytest.mark.parametrize("option", ["--delete", "--delete=all"])
def test_directory_that_no_sync_has_filled_is_refused(sync: SyncHere, option: str) -> None:
    assert sync.run(option, "--dry-run").code == 0
    sync.destination.mkdir()
    (sync.destination / "mine").write_bytes(b"foreign")
    refused(sync.run(option), "no sync has finished here")
    assert os.listdir(sync.destination) == ["mine"]
    (sync.destination / "mine").unlink()
    assert sync.run(option).code == 0
    assert tree(sync.destination) == FILES


@pytest.mark.parametrize("place", ["/", "home", "above", "/dev/shm"])
def test_root_homes_and_mount_points_are_refused_untouched(sync: SyncHere, tmp_path: Path, place: str) -> None:
    home = tmp_path / "users/me"
    home.mkdir(parents=True)
    where = {"home": home, "above": home.parent}.get(place, Path(place))
    before = sorted(os.listdir(where))
    done = SyncHere(sync.source, where, {**sync.environment, "HOME": str(home)}).run("--delete")
    refused(done, "nothing is deleted in it")
    assert sorted(os.listdir(where)) == before


def test_deleting_lists_page_after_page(
    sync: SyncHere, bucket: Bucket, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_list_parallel, "_SLOW_PAGE_S", 0.0)
    monkeypatch.setattr(s3_list, "PAGE_KEYS", 50)
    bucket.put({f"many/{n:04d}": b"" for n in range(400)})
    for option, parts in (("--verify", True), ("--delete", False)):
        proxy.counts.targets.clear()
        assert sync.run("--dry-run", "--listing-order", "byte-order", option).code == 0
        assert any("start-after" in target for target in proxy.counts.targets) is parts


def test_options_that_say_nothing_together_are_refused(sync: SyncHere, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"top\n")
    refused(sync.run("--max-delete", "5"), "--max-delete: is for --delete")
    refused(sync.run("--delete", "--max-delete", "half"), "neither a number of files")
    refused(sync.run("--delete", "--newer", "7d"), "--newer and --delete exclude each other")
    refused(sync.run("--delete", "--files-from", str(tmp_path / "list")), "--files-from and --delete exclude")
    assert not sync.destination.exists()


def test_file_that_cannot_be_removed_is_told_and_the_rest_goes(
    synced: SyncHere, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may remove from any directory, so the kernel's refusal is played."""
    unlink = os.unlink

    def refuse(name: Any, *, dir_fd: int | None = None) -> None:
        if name == b"one":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(name, dir_fd=dir_fd)

    bucket.drop("d0/f0", "only/one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        done = synced.run("--delete")
    assert done.code == 6
    assert "only/one: cannot delete: Permission denied" in done.err
    assert tree(synced.destination) == without("d0/f0")
    assert not (synced.destination / ".stager/receipt.json").exists()
    assert synced.run("--delete").code == 0
    assert tree(synced.destination) == without("d0/f0", "only/one")


def test_git_commit_that_drops_a_file_takes_it_away(git_server: GitHttp, tmp_path: Path) -> None:
    files = {"a": b"a", "d/b": b"b", "c": b"c"}
    make_repository(git_server.root / "words", files)
    sync = SyncHere(f"git+{git_server.url('words')}/.git", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    assert sync.run().code == 0
    (git_server.root / "words/d/b").unlink()
    commit_files(git_server.root / "words", {}, "without")
    assert sync.run().code == 0
    assert tree(sync.destination) == files
    assert "deleted 1 file" in sync.run("--delete").out
    assert tree(sync.destination) == {"a": b"a", "c": b"c"}
    assert not (sync.destination / "d").exists()


def test_links_and_special_modes_are_known_as_what_was_brought(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "stays").write_bytes(b"")
    for name in ("link", "changed"):
        (source / name).symlink_to("some/where")
    (source / "program").write_bytes(b"#!/bin/sh\n")
    (source / "program").chmod(0o755)
    sync = SyncHere(f"file://{source}", tmp_path / "dst", {})
    assert sync.run().code == 0
    (sync.destination / "changed").unlink()
    (sync.destination / "changed").symlink_to("else/where")
    for name in ("link", "changed", "program"):
        (source / name).unlink()
    done = sync.run("--delete")
    assert "deleted 2 files" in done.out
    assert "stays, for it was changed here: changed (" in done.err
    assert sorted(os.listdir(sync.destination)) == [".stager", "changed", "stays"]


def test_option_takes_its_value_behind_an_equals_sign_only(sync: SyncHere) -> None:
    done = sync.command("sync", "--delete", sync.source, str(sync.destination))
    assert (done.code, done.err) == (0, "")
    assert tree(sync.destination) == FILES
    assert sync.run("--exclude", "--delete").code == 0
    assert receipt(sync)["filter"] == {"patterns": [{"exclude": "--delete"}]}
    assert "does not take a value" in sync.run("--delete=some").err


@pytest.mark.parametrize("mode", ["--delete", "--delete=all"])
def test_killed_at_any_change_the_next_run_finishes_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Of a run that fetches, deletes what was left earlier and what is lost now, and takes back what was left out."""
    foreign = {"mine": b"foreign", "d/mine": b"foreign"}
    point, reached = 0, True
    while reached:
        source, sync = tmp_path / f"src{point}", SyncHere(f"file://{tmp_path}/src{point}", tmp_path / f"dst{point}", {})
        for path in ("a", "d/b", "e/f/c", "g/h", "k"):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(path.encode())
        assert sync.run().code == 0
        (source / "a").unlink()
        assert sync.run("--exclude", "k").code == 0
        for path in foreign:
            (sync.destination / path).write_bytes(foreign[path])
        for path in ("d/b", "e/f/c"):
            (source / path).unlink()
        (source / "new").write_bytes(b"new")
        reached = run_killed_at(sync, monkeypatch, point, mode)
        assert mode == "--delete=all" or foreign.items() <= tree(sync.destination).items()
        assert {"g/h", "k"} <= tree(sync.destination).keys()
        done = sync.run("--delete")
        assert (done.code, done.err) == (0, "")
        expected = {"g/h": b"g/h", "k": b"k", "new": b"new"}
        assert {path: found for path, found in tree(sync.destination).items() if path not in foreign} == expected
        assert sync.run(mode).code == 0
        assert tree(sync.destination) == (expected if mode == "--delete=all" else {**expected, **foreign})
        assert not (sync.destination / "e").exists()
        assert sorted(os.listdir(sync.destination / ".stager")) == ["lock", "manifest.jsonl", "receipt.json"]
        point += 1 if mode == "--delete" else 3
    assert point > 10
