"""``stager verify --repair`` after syncs that were killed, of some files, and with times; and what its receipt says."""

from __future__ import annotations

import json
import os
import signal
from array import array
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from integration.sync_driver import Outcome, SyncHere, tree, wait_until
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.repositories import commit_files, make_repository
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3
from stager._native import Entries, KeyOrder, KeyTable, digest_bytes
from stager.host.journal import Journal, load_journal
from stager.host.manifest_file import ManifestFile

BUCKET = "data"
PART = 16 << 20
LARGE = object_bytes(PART + 5, seed=1)
NEWER = object_bytes(PART + 7, seed=2)


@pytest.fixture
def proxy(strict: StrictS3) -> Iterator[FaultProxy]:
    with fault_proxy(("127.0.0.1", urlsplit(strict.endpoint_url).port or 0)) as running:
        yield running


@pytest.fixture
def sync(strict: StrictS3, proxy: FaultProxy, tmp_path: Path) -> SyncHere:
    strict.buckets[BUCKET] = {"a": b"first", "b": b"other", "sub/c": b"third", "large": LARGE}
    return SyncHere(f"s3://{BUCKET}", tmp_path / "dst", {**strict.environment(), "AWS_ENDPOINT_URL": proxy.url})


def verify(sync: SyncHere, *options: str) -> Outcome:
    return sync.command("verify", str(sync.destination), *options)


def receipt(sync: SyncHere) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((sync.destination / ".stager/receipt.json").read_bytes())
    except FileNotFoundError:
        return None
    return found


def journaled(destination: Path) -> set[bytes]:
    try:
        state_fd = os.open(destination / ".stager", os.O_RDONLY)
    except FileNotFoundError:
        return set()
    try:
        found = load_journal(state_fd, "journal")
    finally:
        os.close(state_fd)
    return {row[0] for row in found.entries.table.rows()} if found is not None else set()


def has_blocks(destination: Path) -> bool:
    """Whether an unfinished file has a record of a block (`stager.host.partial`)."""
    return any(path.stat().st_size >= 24 + 32 for path in destination.glob(".stager/partial/*.blocks"))


def kill(
    sync: SyncHere, proxy: FaultProxy, *, held: str, done: set[bytes], argv: Sequence[str] = ()
) -> None:
    """A sync (or ``argv``) that is ended when these files are recorded, and of ``held`` one of two parts."""
    proxy.add(Fault(path=held, stall_at=0))
    process = sync.start(argv=argv)
    proxy.wait_stalled()
    wait_until(lambda: journaled(sync.destination) >= done and has_blocks(sync.destination))
    sync.stop(process, signal.SIGKILL)
    proxy.clear()
    proxy.release()


def test_killed_sync_is_verified_and_repaired_by_what_it_recorded_and_stays_unfinished(
    sync: SyncHere, strict: StrictS3, proxy: FaultProxy
) -> None:
    assert sync.run().code == 0
    strict.buckets[BUCKET] |= {"a": b"newer first", "large": NEWER}
    kill(sync, proxy, held=f"{BUCKET}/large", done={b"a"})
    command = f"`stager sync s3://{BUCKET}/ {sync.destination}`, with the options that it had, finishes it"
    done = verify(sync)
    assert (done.code, done.err.count(command)) == (0, 1)
    (sync.destination / "a").write_bytes(b"damaged")  # the new one
    (sync.destination / "sub/c").unlink()  # as the manifest says
    assert verify(sync).code == 4
    done = verify(sync, "--repair")
    assert (done.code, done.err.count(command)) == (0, 1), done
    old = {"a": b"newer first", "b": b"other", "sub/c": b"third", "large": LARGE}
    assert tree(sync.destination) == old
    assert receipt(sync) is None
    assert verify(sync).code == 0
    assert any((sync.destination / ".stager/partial").iterdir())
    told = sync.run("--json").event("finished")["receipt"]
    assert told["moved"]["objects"] == 1
    assert tree(sync.destination) == strict.buckets[BUCKET]
    assert receipt(sync) is not None


def test_file_of_a_killed_sync_that_the_source_has_no_longer_is_told_with_what_to_run(
    sync: SyncHere, strict: StrictS3, proxy: FaultProxy
) -> None:
    assert sync.run().code == 0
    strict.buckets[BUCKET] |= {"a": b"newer first", "large": NEWER}
    kill(sync, proxy, held=f"{BUCKET}/large", done={b"a"})
    (sync.destination / "large").unlink()
    done = verify(sync, "--repair")
    assert done.code == 4
    assert f"stager sync s3://{BUCKET}" in done.err.splitlines()[-1]
    assert sync.run().code == 0
    assert tree(sync.destination) == strict.buckets[BUCKET]


def test_tree_whose_first_sync_was_killed_is_told_with_what_to_run(sync: SyncHere, proxy: FaultProxy) -> None:
    kill(sync, proxy, held=f"{BUCKET}/large", done={b"a"})
    for options in ([], ["--repair"]):
        done = verify(sync, *options)
        assert done.code == 2
        assert f"no sync has finished here; `stager sync s3://{BUCKET}/ {sync.destination}`" in done.err
    assert sync.run().code == 0


def test_tree_that_a_sync_of_another_source_has_begun_to_change_is_not_repaired(
    sync: SyncHere, strict: StrictS3, proxy: FaultProxy
) -> None:
    assert sync.run().code == 0
    strict.buckets["else"] = {"a": b"of another", "large": NEWER}
    other = SyncHere("s3://else", sync.destination, sync.environment)
    kill(other, proxy, held="else/large", done={b"a"})
    assert verify(sync).code == 0
    (sync.destination / "b").unlink()
    done = verify(sync, "--repair")
    assert done.code == 2
    assert f"`stager sync s3://else/ {sync.destination}`, with the options that it had, finishes it" in done.err
    assert other.run().code == 0


def test_killed_repair_is_finished_by_the_next_one_and_its_receipt_comes_back(
    sync: SyncHere, strict: StrictS3, proxy: FaultProxy
) -> None:
    assert sync.run().code == 0
    before = receipt(sync)
    assert before is not None
    for name in ("a", "large"):
        (sync.destination / name).unlink()
    kill(sync, proxy, held=f"{BUCKET}/large", done={b"a"}, argv=["verify", str(sync.destination), "--repair"])
    assert receipt(sync) is None
    done = verify(sync)
    assert (done.code, "a repair did not finish: run it again" in done.err) == (4, True)
    assert verify(sync, "--repair").code == 0
    after = receipt(sync)
    assert after is not None and after["total"] == before["total"]
    assert not (sync.destination / ".stager/repair.json").exists()
    assert tree(sync.destination) == strict.buckets[BUCKET]


def test_receipt_after_a_repair_counts_the_tree_as_it_is(sync: SyncHere, strict: StrictS3) -> None:
    strict.encryption = dict.fromkeys(("a", "b", "large"), "aws:kms")
    assert sync.run("--exclude", "sub/").code == 0
    before = receipt(sync)
    assert before is not None and before["unverified"] == {"encrypted-etag": 3}
    (sync.destination / "a").write_bytes(b"damaged")
    assert verify(sync, "--repair").code == 0
    told = receipt(sync)
    assert told is not None
    assert (told["grades"], told["unverified"]) == ({"B": 3}, {"earlier-run": 2, "encrypted-etag": 1})
    assert told["moved"] == {"objects": 1, "bytes": 5}
    assert told["read_back_bytes"] == told["continued_bytes"] == 0
    assert {name: told[name] for name in ("total", "filter", "left_out", "source")} == {
        name: before[name] for name in ("total", "filter", "left_out", "source")
    }
    (sync.destination / "a").write_bytes(b"damaged")
    assert verify(sync, "--repair", "--integrity", "light").code == 0
    again = receipt(sync)
    assert again is not None and sum(again["unverified"].values()) == 3


def test_repaired_file_has_the_time_that_its_source_says_where_that_was_asked_for(
    sync: SyncHere, strict: StrictS3
) -> None:
    strict.metadata = {"a": {"mtime": "1500000000.25"}, "large": {"mtime": "1400000000"}}
    assert sync.run("--preserve").code == 0

    def times() -> dict[str, int]:
        return {name: os.stat(sync.destination / name).st_mtime_ns for name in tree(sync.destination)}

    dated = times()
    assert dated["a"] == 1500000000_250000000
    strict.buckets[BUCKET]["new"] = b"undated"
    assert sync.run().code == 0
    for name in ("a", "sub/c", "large"):
        (sync.destination / name).unlink()
    assert verify(sync, "--repair").code == 0
    assert {name: time for name, time in times().items() if name != "new"} == dated
    assert "fetched 0 objects" in sync.run().out


def test_repaired_file_is_of_now_where_no_times_were_asked_for(sync: SyncHere, strict: StrictS3) -> None:
    strict.metadata = {"a": {"mtime": "1500000000.25"}}
    assert sync.run().code == 0
    before = os.stat(sync.destination / "sub/c").st_mtime_ns
    (sync.destination / "a").unlink()
    assert verify(sync, "--repair").code == 0
    assert os.stat(sync.destination / "a").st_mtime_ns >= before


@pytest.fixture
def git(tmp_path: Path) -> SyncHere:
    make_repository(tmp_path / "origin", {"data": b"v1", "more": b"more", "left/out": b"x"})
    source = f"git+file://{tmp_path}/origin/.git"
    return SyncHere(source, tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})


def test_some_files_of_a_commit_are_repaired_at_that_commit(git: SyncHere, tmp_path: Path) -> None:
    assert git.run("--exclude", "left/").code == 0
    commit_files(tmp_path / "origin", {"data": b"v2"}, "second")
    (git.destination / "data").write_bytes(b"damaged")
    assert verify(git, "--repair").code == 0
    assert tree(git.destination) == {"data": b"v1", "more": b"more"}
    assert "fetched 1 objects" in git.run("--exclude", "left/").out.replace("1 object,", "1 objects,")


def test_manifest_that_does_not_know_its_commit_says_what_to_run(git: SyncHere) -> None:
    assert git.run("--exclude", "left/").code == 0
    manifest = git.destination / ".stager/manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    header = json.loads(lines[0])
    assert header.pop("part_of")
    body = json.dumps(header).encode() + b"\n" + b"".join(lines[1:-1])
    trailer = {**json.loads(lines[-1]), "blake2b": blake2b(body, digest_size=16).hexdigest()}
    manifest.write_bytes(body + json.dumps(trailer).encode() + b"\n")
    (git.destination / "data").write_bytes(b"damaged")
    done = verify(git, "--repair")
    assert done.code == 2
    command = f"stager sync --verify {git.source} {git.destination}"
    assert f"`{command}`, with the ref and the options that it had, puts it right" in done.err
    assert git.run("--verify", "--exclude", "left/").code == 0
    (git.destination / "data").write_bytes(b"damaged")
    assert verify(git, "--repair").code == 0


def test_what_an_unfinished_sync_brought_of_another_commit_is_left_to_it(git: SyncHere) -> None:
    """All else is repaired."""
    assert git.run().code == 0
    table = KeyTable()
    table.append(b"data", 2, b"0" * 40)
    entries, order = Entries(table), KeyOrder(table)
    entries.put(0, digest_bytes(b"v2"), 1, 1, 0o644, "A")
    state_fd = os.open(git.destination / ".stager", os.O_RDONLY)
    with ManifestFile(state_fd) as file:
        header = file.header
    journal = Journal(state_fd, "journal", entries, order, source=header.source, boot=header.boot)
    journal.append(array("I", [0]))
    journal.close()
    os.close(state_fd)
    (git.destination / ".stager/receipt.json").unlink()
    (git.destination / "more").unlink()
    (git.destination / "data").write_bytes(b"v2")
    assert verify(git, "--repair").code == 0
    (git.destination / "more").unlink()
    (git.destination / "data").write_bytes(b"damaged")
    done = verify(git, "--repair")
    assert done.code == 4
    assert "stager sync git+file://" in done.err.splitlines()[-1]
    assert tree(git.destination) == {"data": b"damaged", "more": b"more", "left/out": b"x"}
    assert git.run("--verify").code == 0
    assert tree(git.destination)["data"] == b"v1"


def test_copy_of_a_directory_is_put_right_by_the_sync_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a").write_bytes(b"a")
    sync = SyncHere(f"file://{tmp_path}/src", tmp_path / "dst", {})
    assert sync.run().code == 0
    (sync.destination / "a").write_bytes(b"b")
    done = verify(sync, "--repair")
    assert done.code == 2
    assert f"`stager sync --verify {sync.source} {sync.destination}`" in done.err
