"""What a sync brings when only some files are wanted, also after the filter has changed; and what a dry run shows."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.sync_driver import Outcome, SyncHere, tree
from servers.fault_proxy import FaultProxy, fault_proxy
from servers.git_http import GitHttp
from servers.moto_s3 import MotoS3
from servers.rclone_s3 import RcloneS3
from servers.repositories import make_repository
from stager.names import from_json

FILES = {
    "train/a.jpg": b"a" * 10, "train/b.jpg": b"b" * 2000, "train/bad.jpg": b"x", "train/notes.txt": b"n" * 5,
    "test/a.jpg": b"t" * 20, "tmp/keep": b"k", "tmp/scratch": b"s" * 3000, "readme": b"",
}  # fmt: skip


@pytest.fixture
def bucket(rclone: RcloneS3, bucket_name: Callable[[], str]) -> Path:
    """A bucket of rclone's, which is a directory."""
    name = bucket_name()
    rclone.make_bucket(name)
    rclone.fill(name, FILES)
    return rclone.directory / name


@pytest.fixture
def proxy(rclone: RcloneS3) -> Iterator[FaultProxy]:
    with fault_proxy(rclone.address) as running:
        yield running


@pytest.fixture
def sync(rclone: RcloneS3, bucket: Path, proxy: FaultProxy, tmp_path: Path) -> SyncHere:
    environment = {**rclone.environment(), "AWS_ENDPOINT_URL": proxy.url}
    return SyncHere(f"s3://{bucket.name}", tmp_path / "dst", environment)


def receipt(sync: SyncHere) -> dict[str, Any]:
    found = json.loads((sync.destination / ".stager/receipt.json").read_bytes())
    assert isinstance(found, dict)
    return found


def only(*paths: str) -> dict[str, bytes]:
    return {path: FILES[path] for path in paths}


def asked(proxy: FaultProxy) -> list[str]:
    return sorted(target.partition("?")[0] for target in proxy.counts.targets if "list-type=2" not in target)


def test_only_what_is_wanted_is_fetched_counted_and_receipted(
    sync: SyncHere, bucket: Path, proxy: FaultProxy
) -> None:
    done = sync.run("--include", "*.jpg", "--exclude", "bad*", "--exclude", "/test/", "--max-size", "1K", "--json")
    assert done.code == 0
    assert tree(sync.destination) == only("train/a.jpg")
    assert asked(proxy) == [f"/{bucket.name}/train/a.jpg"]
    assert done.event("listed")["total"]["objects"] == 8
    planned = done.event("planned")
    assert (planned["move"], planned["left_out"]["objects"]) == ({"objects": 1, "bytes": 10}, 7)
    told = receipt(sync)
    assert told["total"] == {"objects": 1, "bytes": 10}
    assert told["left_out"] == {"objects": 7, "bytes": sum(map(len, FILES.values())) - 10}
    assert told["filter"] == {
        "patterns": [{"include": "*.jpg"}, {"exclude": "bad*"}, {"exclude": "/test/"}], "max_bytes": 1024,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--exclude", "tmp/", "--include", "tmp/keep"], {"tmp/keep"}),
        (["--include", "tmp/keep", "--exclude=tmp/"], set()),
        (["--exclude=*", "--include=keep", "--exclude", "!scratch"], {"tmp/keep", "tmp/scratch"}),
    ],
)
def test_order_on_the_command_line_is_kept_across_both_options(
    sync: SyncHere, options: list[str], wanted: set[str]
) -> None:
    assert sync.run(*options).code == 0
    assert {path for path in tree(sync.destination) if path.startswith("tmp/")} == wanted


def test_changed_filters_bring_what_is_missing_and_leave_what_is_there(sync: SyncHere, proxy: FaultProxy) -> None:
    assert sync.run("--include", "train/").code == 0
    (sync.destination / "train/a.jpg").unlink()
    steps = [
        (["--include", "*.jpg"], 2),  # test/a.jpg, and the one that went missing
        (["--include", "*.txt"], 0),
        ([], 3),
        (["--exclude", "*"], 0),
        ([], 0),
    ]
    for options, fetched in steps:
        proxy.counts.targets.clear()
        assert sync.run(*options).code == 0
        assert len(asked(proxy)) == fetched, options
    assert tree(sync.destination) == FILES
    assert not (sync.destination / ".stager/former.jsonl").exists()


def test_change_at_the_source_of_what_was_left_out_is_seen_when_it_is_wanted(sync: SyncHere, bucket: Path) -> None:
    assert sync.run().code == 0
    (bucket / "train/b.jpg").write_bytes(b"new content")
    assert sync.run("--exclude", "*.jpg").code == 0
    assert tree(sync.destination) == FILES
    (sync.destination / "train/a.jpg").write_bytes(b"damaged")
    assert "fetched 2 objects" in sync.run().out
    assert tree(sync.destination) == {**FILES, "train/b.jpg": b"new content"}


def test_delete_takes_only_what_the_filter_wants(sync: SyncHere, bucket: Path) -> None:
    assert sync.run().code == 0
    for path in ("train/a.jpg", "train/b.jpg", "tmp/keep"):
        (bucket / path).unlink()
    assert "deleted 1 file" in sync.run("--delete", "--exclude", "tmp/", "--max-size", "1K").out
    assert tree(sync.destination).keys() == FILES.keys() - {"train/a.jpg"}
    (sync.destination / "tmp/mine").write_bytes(b"foreign")
    (sync.destination / "train/mine").write_bytes(b"foreign")
    assert sync.run("--delete=all", "--include", "train/").code == 0
    left = FILES.keys() - {"train/a.jpg", "train/b.jpg"} | {"tmp/mine"}
    assert tree(sync.destination).keys() == left
    assert "deleted 1 file" in sync.run("--delete").out
    assert tree(sync.destination).keys() == left - {"tmp/keep"}


def test_listed_files_come_from_a_file_a_pipe_or_standard_input(sync: SyncHere, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"./train/a.jpg\n/readme\n\n")
    assert sync.run("--files-from", str(tmp_path / "list")).code == 0
    assert tree(sync.destination) == only("train/a.jpg", "readme")
    reader, writer = os.pipe()
    os.write(writer, b"tmp/keep\0tmp/scratch\0")
    os.close(writer)
    assert sync.run("--files-from", f"/dev/fd/{reader}", "-0", "--max-size", "1K").code == 0
    os.close(reader)
    assert tree(sync.destination) == only("train/a.jpg", "readme", "tmp/keep")
    assert receipt(sync)["filter"]["files"]["paths"] == 2
    with sync.start("--files-from", "-", standard_input=subprocess.PIPE) as process:
        process.communicate("test/a.jpg\n", timeout=60)
    assert process.returncode == 0
    assert (sync.destination / "test/a.jpg").exists()


def test_every_listed_path_that_is_not_there_is_told_before_anything_is_moved(sync: SyncHere, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"train/a.jpg\ntrain\nno\x1bsuch\n\xffgone\n")
    done = sync.run("--files-from", str(tmp_path / "list"), "--json")
    assert done.code == 2
    assert done.event("error")["problems"] == [
        "no\\x1bsuch: is not there",
        "train: is a directory: name its files, or use --include",
        "\\xffgone: is not there",
    ]
    assert tree(sync.destination) == {}
    (tmp_path / "list").write_bytes(b"train/\ntmp/\n")
    assert sync.run("--files-from", str(tmp_path / "list")).err.count("is a directory") == 2
    assert "cannot be read: No such file" in sync.run("--files-from", str(tmp_path / "none")).err


def test_newer_is_measured_at_the_sources_times(sync: SyncHere, bucket: Path) -> None:
    for number, path in enumerate(FILES):
        os.utime(bucket / path, (1_700_000_000 + number, 1_700_000_000 + number))
    assert sync.run("--newer", "2023-11-14T22:13:26Z").code == 0
    assert tree(sync.destination) == only("tmp/scratch", "readme")
    assert receipt(sync)["filter"] == {"newer": "2023-11-14T22:13:26Z"}
    os.utime(bucket / "tmp/keep")
    assert sync.run("--newer", "1h").code == 0
    assert tree(sync.destination) == only("tmp/scratch", "readme", "tmp/keep")


def test_one_object_has_a_time_too(sync: SyncHere, bucket: Path) -> None:
    os.utime(bucket / "readme", (1_700_000_000, 1_700_000_000))
    for when, there in (("2023-11-15", False), ("2023-11-14", True)):
        assert sync.run("--newer", when, source=f"{sync.source}/readme").code == 0
        assert (sync.destination / "readme").exists() is there


def test_git_has_no_times_and_its_shortcut_knows_of_filters(git_server: GitHttp, tmp_path: Path) -> None:
    make_repository(git_server.root / "words", FILES)
    sync = SyncHere(f"git+{git_server.url('words')}/.git", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    done = sync.run("--newer", "7d")
    assert (done.code, "this source has no times" in done.err) == (2, True)
    assert sync.run("--exclude", "*.jpg").code == 0
    assert tree(sync.destination) == {path: found for path, found in FILES.items() if not path.endswith(".jpg")}
    assert sync.run().code == 0
    assert tree(sync.destination) == FILES
    (sync.destination / "readme").write_bytes(b"changed here")
    assert sync.run("--include", "*.jpg").code == 0
    assert "fetched 1 object" in sync.run().out
    assert tree(sync.destination) == FILES


def test_names_that_cannot_be_files_are_no_problem_when_they_are_left_out(
    moto: MotoS3, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    name = bucket_name()
    moto.make_bucket(name)
    moto.fill(name, {"good": b"g", "bad/../x": b"b", "bad//y": b"b", "both": b"1", "both/child": b"2"})
    sync = SyncHere(f"s3://{name}", tmp_path / "dst", moto.environment())
    assert sync.run().code == 2
    assert sync.run("--exclude", "bad", "--exclude", "/both/").code == 0
    assert tree(sync.destination) == {"good": b"g", "both": b"1"}


def test_what_a_directory_or_a_commit_cannot_give_is_no_problem_when_it_is_left_out(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 5\n" % (b"0" * 64)
    attributes = b"*.crlf text eol=crlf\n*.enc filter=crypt\n"
    files = {".gitattributes": attributes, "large.bin": pointer, "a.crlf": b"1\n2\n", "s.enc": b"x", "ok": b"ok"}
    make_repository(tmp_path / "origin", files)
    git = SyncHere(f"git+file://{tmp_path}/origin", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    assert "s.enc: needs a git filter" in git.run().err
    left_out = ["--exclude", "*.bin", "--exclude", "*.enc", "--exclude", ".gitattributes"]
    assert git.run(*left_out).code == 0
    assert tree(git.destination) == {"a.crlf": b"1\r\n2\r\n", "ok": b"ok"}
    assert "fetched 0 objects" in git.run(*left_out).out
    assert "s.enc: needs a git filter" in git.run().err
    (tmp_path / "src/tmp").mkdir(parents=True)
    os.mkfifo(tmp_path / "src/tmp/pipe")
    (tmp_path / "src/ok").write_bytes(b"ok")
    local = SyncHere(f"file://{tmp_path}/src", tmp_path / "copy", {})
    assert "tmp/pipe: a FIFO" in local.run().err
    assert local.run("--exclude", "tmp/").code == 0
    assert tree(local.destination) == {"ok": b"ok"}


def test_space_is_checked_for_what_is_wanted_alone(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "small").write_bytes(b"s")
    with (source / "huge").open("wb") as file:
        file.truncate(1 << 43)
    sync = SyncHere(f"file://{source}", tmp_path / "dst", {})
    assert sync.run().code == 5
    assert sync.run("--max-size", "1G").code == 0
    assert tree(sync.destination) == {"small": b"s"}


def named(done: Outcome) -> list[tuple[str, bytes, int]]:
    return [
        (event["action"], from_json(event["path"]), event["bytes"])
        for event in done.events
        if event["event"] == "file"
    ]


def test_dry_run_names_what_would_move_and_go_escaped_and_in_json_without_loss(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name in (b"plain", b"esc\x1b[31m", b"\xff\n", b"back\\slash"):
        (source / os.fsdecode(name)).write_bytes(name)
    sync = SyncHere(f"file://{source}", tmp_path / "dst", {})
    shown = sync.run("--dry-run", "-v")
    assert sorted(shown.out.splitlines()[:4]) == [
        "fetch \\xff\\x0a (2 B)", "fetch back\\\\slash (10 B)", "fetch esc\\x1b[31m (8 B)", "fetch plain (5 B)",
    ]  # fmt: skip
    assert "would fetch 4 objects, 25 B" in shown.out
    assert "fetch p" not in sync.run("--dry-run").out
    quiet = sync.run("--dry-run", "-v", "-q")
    assert (quiet.out, quiet.err) == ("", "")
    assert not sync.destination.exists()
    assert sync.run().code == 0
    (source / os.fsdecode(b"\xff\n")).rename(source / "new")
    told = sync.run("--dry-run", "--json", "--delete")
    assert named(told) == [("fetch", b"new", 2), ("delete", b"\xff\n", 2)]
    files = [set(event) for event in told.events if event["event"] == "file"]
    assert files == [{"schema", "event", "time", "source", "action", "path", "bytes"}] * 2
    assert told.event("finished")["receipt"]["deleted"] == {"objects": 1, "bytes": 2}
    assert named(sync.run("--json", "--delete")) == [("delete", b"\xff\n", 2)]


def test_job_brings_only_what_its_file_wants(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for path, content in FILES.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
    job = tmp_path / "job.toml"
    job.write_text(
        f'version = 1\n[job]\nname = "j"\n[[dataset]]\nname = "o/d"\nsource = "file://{source}"\n'
        'include = ["train/"]\nexclude = ["*.jpg", "!/train/a.jpg"]\n'
    )
    here = SyncHere("", tmp_path, {})
    done = here.command("stage", str(job), "--scratch", str(tmp_path / "scratch"), "--job-id", "7", "--json")
    assert done.code == 0, done
    (staged,) = tmp_path.glob("scratch/**/data/o/d/train")
    assert sorted(os.listdir(staged)) == ["a.jpg", "notes.txt"]
    told = done.event("finished")["receipt"]
    assert (told["total"]["objects"], told["left_out"]["objects"]) == (2, 6)
