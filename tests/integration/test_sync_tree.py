"""What a tree looks like after syncs: first, again, after it was tampered with, after a kill, with hostile keys."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entries import decode, encode
from integration.sync_driver import Sync, tree, wait_until
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.moto_s3 import MotoS3
from servers.rclone_s3 import RcloneS3
from servers.s3 import object_bytes
from stager.host.workspace import boot_id
from stager.manifest import Entry, Header
from stager.names import from_json

FILES = {f"d{n % 3}/f{n}": object_bytes(3000 + n, n) for n in range(30)} | {"empty": b""}
LARGE = object_bytes(40 << 20, 5)


@pytest.fixture
def bucket(rclone: RcloneS3, bucket_name: Callable[[], str]) -> str:
    name = bucket_name()
    rclone.make_bucket(name)
    rclone.fill(name, FILES)
    return name


@pytest.fixture
def proxy(rclone: RcloneS3) -> Iterator[FaultProxy]:
    with fault_proxy(rclone.address) as running:
        yield running


@pytest.fixture
def sync(rclone: RcloneS3, bucket: str, proxy: FaultProxy, tmp_path: Path) -> Sync:
    environment = {**rclone.environment(), "AWS_ENDPOINT_URL": proxy.url}
    return Sync(f"s3://{bucket}", tmp_path / "dst", environment)


def objects_asked(proxy: FaultProxy) -> list[str]:
    return [target for target in proxy.counts.targets if "list-type=2" not in target]


def state(sync: Sync) -> Path:
    return sync.destination / ".stager"


def content(path: Path) -> bytes:
    """What a file that comes and goes holds at this moment."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def receipt(sync: Sync) -> dict[str, Any]:
    found = json.loads((state(sync) / "receipt.json").read_bytes())
    assert isinstance(found, dict)
    return found


def test_first_sync_brings_everything_and_leaves_only_its_records(sync: Sync) -> None:
    done = sync.run()
    assert (done.code, done.err) == (0, "")
    assert "fetched 31 objects" in done.out
    assert tree(sync.destination) == FILES
    assert sorted(os.listdir(state(sync))) == ["lock", "manifest.jsonl", "receipt.json"]
    assert receipt(sync)["total"] == {"objects": 31, "bytes": sum(map(len, FILES.values()))}
    assert (receipt(sync)["grades"], receipt(sync)["unverified"]) == ({"A": 31}, {})
    header, entries = decode((state(sync) / "manifest.jsonl").read_bytes())
    assert header.boot == boot_id()
    assert {path.decode() for path in entries} == set(FILES)


def test_files_and_state_have_the_modes_that_cp_and_a_private_directory_have(sync: Sync) -> None:
    assert sync.run().code == 0
    umask = os.umask(0)
    os.umask(umask)
    for path in FILES:
        assert stat.S_IMODE((sync.destination / path).stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE(state(sync).stat().st_mode) == 0o700


def test_second_sync_asks_for_one_listing_and_nothing_else(sync: Sync, proxy: FaultProxy) -> None:
    assert sync.run().code == 0
    before = {path: (sync.destination / path).stat() for path in FILES}
    proxy.counts.targets.clear()
    done = sync.run()
    assert done.code == 0
    assert "fetched 0 objects" in done.out
    assert len(proxy.counts.targets) == 1
    assert "list-type=2" in proxy.counts.targets[0]
    assert {path: (sync.destination / path).stat() for path in FILES} == before


def test_local_damage_is_put_right_and_foreign_files_stay(sync: Sync, proxy: FaultProxy) -> None:
    assert sync.run().code == 0
    (sync.destination / "d0/f0").write_bytes(object_bytes(3000, 99))
    os.truncate(sync.destination / "d1/f1", 10)
    with (sync.destination / "d2/f2").open("ab") as file:
        file.write(b"more")
    (sync.destination / "d0/f3").unlink()
    (sync.destination / "d1/f4").chmod(0o600)
    (sync.destination / "d2/f5").unlink()
    (sync.destination / "d2/f5").symlink_to("/etc/hostname")
    (sync.destination / "empty").write_bytes(b"not empty")
    (sync.destination / "mine").write_bytes(b"foreign")
    proxy.counts.targets.clear()
    assert sync.run().code == 0
    assert tree(sync.destination) == {**FILES, "mine": b"foreign"}
    assert not (sync.destination / "d2/f5").is_symlink()
    assert len(objects_asked(proxy)) == 7


def test_changed_and_new_objects_are_fetched_and_no_others(sync: Sync, rclone: RcloneS3, proxy: FaultProxy) -> None:
    assert sync.run().code == 0
    bucket = sync.source.removeprefix("s3://")
    rclone.fill(bucket, {"d0/f0": b"new content", "d9/new": b"new file"})
    proxy.counts.targets.clear()
    assert sync.run().code == 0
    assert tree(sync.destination) == {**FILES, "d0/f0": b"new content", "d9/new": b"new file"}
    assert len(objects_asked(proxy)) == 2


def test_killed_sync_continues_without_fetching_finished_files_again(sync: Sync, proxy: FaultProxy) -> None:
    kill_before_the_last_file(sync, proxy)
    proxy.release()
    assert not (sync.destination / "d2/f29").exists()
    assert not (state(sync) / "receipt.json").exists()
    proxy.counts.targets.clear()
    done = sync.run()
    assert done.code == 0
    assert [target.rpartition("/")[2] for target in objects_asked(proxy)] == ["f29"]
    assert tree(sync.destination) == FILES
    assert sorted(os.listdir(state(sync))) == ["lock", "manifest.jsonl", "receipt.json"]


def kill_before_the_last_file(sync: Sync, proxy: FaultProxy) -> None:
    proxy.add(Fault(path="/d2/f29", stall_at=100))
    process = sync.start()
    proxy.wait_stalled()
    journal = state(sync) / "journal"
    recorded = {boot_id(), *FILES} - {"d2/f29"}
    wait_until(lambda: all(text.encode() in content(journal) for text in recorded))
    assert sync.stop(process, signal.SIGKILL).code == -signal.SIGKILL


def test_killed_before_and_after_a_reboot_still_fetches_only_what_is_missing(sync: Sync, proxy: FaultProxy) -> None:
    kill_before_the_last_file(sync, proxy)
    journal = state(sync) / "journal"
    written, boot = journal.read_bytes(), boot_id().encode()
    assert boot in written
    length = int.from_bytes(written[:4], "little")
    header = written[8 : 8 + length].replace(boot, bytes(reversed(boot)))
    journal.write_bytes(written[:4] + zlib.crc32(header).to_bytes(4, "little") + header + written[8 + length :])
    kill_before_the_last_file(sync, proxy)
    proxy.release()
    assert sync.run().code == 0
    asked = [target for target in objects_asked(proxy) if not target.endswith("/f29")]
    assert len(asked) == len(set(asked)) == len(FILES) - 1
    assert tree(sync.destination) == FILES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_stalled_sync_and_says_how_to_continue(
    sync: Sync, proxy: FaultProxy, number: signal.Signals
) -> None:
    proxy.add(Fault(path="/d2/f29", stall_at=100))
    process = sync.start()
    proxy.wait_stalled()
    ended = sync.stop(process, number)
    proxy.release()
    assert ended.code == 128 + number
    assert "run the same command again to continue" in ended.err
    assert "Traceback" not in ended.err
    assert not (sync.destination / "d2/f29").exists()
    assert [name for name in os.listdir(state(sync)) if name.startswith("tmp.")] == []
    for path, content in tree(sync.destination).items():
        assert content == FILES[path]
    assert sync.run().code == 0
    assert tree(sync.destination) == FILES


def test_signal_sent_twice_leaves_nothing_behind_either(sync: Sync, proxy: FaultProxy) -> None:
    proxy.add(Fault(path="/d2/f29", stall_at=100))
    process = sync.start()
    proxy.wait_stalled()
    process.send_signal(signal.SIGINT)
    ended = sync.stop(process, signal.SIGTERM)
    proxy.release()
    assert "Traceback" not in ended.err
    assert [name for name in os.listdir(state(sync)) if name.startswith("tmp.")] == []


def test_large_object_arrives_in_parts_and_is_resynced_by_nothing(
    sync: Sync, rclone: RcloneS3, proxy: FaultProxy
) -> None:
    bucket = sync.source.removeprefix("s3://")
    rclone.fill(bucket, {"large.bin": LARGE})
    done = sync.run("--json")
    assert done.code == 0
    assert (sync.destination / "large.bin").read_bytes() == LARGE
    parts, head = 3, 1  # answers, for a late one may have been asked for twice
    assert done.event("finished")["bottleneck"]["figures"]["answers"] == parts + head + len(FILES)
    assert len([target for target in proxy.counts.targets if "large.bin" in target]) >= parts + head
    proxy.counts.targets.clear()
    assert sync.run().code == 0
    assert objects_asked(proxy) == []


def test_lost_and_cut_answers_are_fetched_again(sync: Sync, proxy: FaultProxy) -> None:
    proxy.add(
        Fault(path="/d0/f0", reset_at=1000),
        Fault(path="/d1/f1", cut_at=1000, times=2),
        Fault(path="/d2/f2", cut_at=0),
        Fault(path="list-type=2", reset_at=10),
    )
    assert sync.run().code == 0
    assert tree(sync.destination) == FILES
    assert proxy.counts.faults == 5


def test_damaged_manifest_means_a_full_compare_and_a_warning(sync: Sync, proxy: FaultProxy) -> None:
    assert sync.run().code == 0
    manifest = state(sync) / "manifest.jsonl"
    data = bytearray(manifest.read_bytes())
    data[len(data) // 2] ^= 1
    manifest.write_bytes(data)
    (sync.destination / "mine").write_bytes(b"foreign")
    done = sync.run()
    assert done.code == 0
    assert "the manifest is damaged" in done.err
    assert tree(sync.destination) == {**FILES, "mine": b"foreign"}
    proxy.counts.targets.clear()
    assert sync.run().code == 0
    assert objects_asked(proxy) == []


def rewrite_manifest(sync: Sync, change: Callable[[Header, dict[bytes, Entry]], tuple[Header, list[Entry]]]) -> None:
    manifest = state(sync) / "manifest.jsonl"
    manifest.write_bytes(encode(*change(*decode(manifest.read_bytes()))))


def hide_change(sync: Sync, path: str, *, boot: str) -> None:
    """Change a file's content and make the manifest's size and times agree with the file."""
    (sync.destination / path).write_bytes(object_bytes(len(FILES[path]), 1234))
    status = (sync.destination / path).stat()

    def change(header: Header, entries: dict[bytes, Entry]) -> tuple[Header, list[Entry]]:
        old = entries[path.encode()]
        entries[old.path] = Entry(
            old.path, old.size, old.identity, old.digest, status.st_mtime_ns, status.st_ctime_ns, old.mode, old.grade
        )
        return Header(source=header.source, boot=boot), list(entries.values())

    rewrite_manifest(sync, change)


def test_receipt_names_the_boot_in_which_it_holds(sync: Sync) -> None:
    assert sync.run().code == 0
    assert receipt(sync)["boot"] == boot_id() != ""


def test_paths_that_are_no_utf8_are_copied_and_told_without_loss(tmp_path: Path) -> None:
    source, destination = Path(os.fsdecode(bytes(tmp_path) + b"/s\xff")), Path(os.fsdecode(bytes(tmp_path) + b"/d\xff"))
    source.mkdir()
    (source / "f").write_bytes(b"content")
    for url in (f"file://{source}", f"file://{tmp_path}/s%ff"):
        done = Sync(url, destination, {}).run("--json")
        assert done.code == 0, done
        assert tree(destination) == {"f": b"content"}
        written = json.loads((destination / ".stager/receipt.json").read_bytes())
        for told in (written, done.event("finished")["receipt"]):
            assert from_json(told["destination"]) == bytes(destination)
            assert from_json(told["pinned"]["path"]) == bytes(source)
            assert from_json(told["source"]) == os.fsencode(url)
    shutil.rmtree(destination)
    assert "d\\udcff" in Sync(f"file://{source}", destination, {}).run().out


def test_verify_finds_a_change_that_times_do_not_show(sync: Sync, proxy: FaultProxy) -> None:
    assert sync.run().code == 0
    hide_change(sync, "d0/f0", boot=boot_id())
    assert sync.run().code == 0
    assert tree(sync.destination) != FILES
    proxy.counts.targets.clear()
    assert sync.run("--verify").code == 0
    assert tree(sync.destination) == FILES
    assert len(objects_asked(proxy)) == 1


def test_after_another_boot_files_are_hashed_before_they_are_believed(sync: Sync, proxy: FaultProxy) -> None:
    assert sync.run().code == 0
    hide_change(sync, "d0/f0", boot="another")
    proxy.counts.targets.clear()
    assert sync.run().code == 0
    assert tree(sync.destination) == FILES
    assert len(objects_asked(proxy)) == 1


def test_dry_run_says_what_would_move_and_makes_nothing(sync: Sync, proxy: FaultProxy) -> None:
    done = sync.run("--dry-run")
    assert done.code == 0
    assert "would fetch 31 objects" in done.out
    assert not sync.destination.exists()
    assert objects_asked(proxy) == []
    assert sync.run().code == 0
    (sync.destination / "d0/f0").unlink()
    before = sorted(sync.destination.rglob("*"))
    assert "would fetch 1 object," in sync.run("--dry-run").out
    assert sorted(sync.destination.rglob("*")) == before


def test_state_directory_elsewhere_leaves_only_data_in_the_destination(sync: Sync, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "state")
    assert sync.run("--state-dir", elsewhere).code == 0
    assert not (sync.destination / ".stager").exists()
    assert tree(sync.destination) == FILES
    assert "fetched 0 objects" in sync.run("--state-dir", elsewhere).out


def test_two_syncs_into_one_directory_the_second_refuses(sync: Sync, proxy: FaultProxy) -> None:
    proxy.add(Fault(path="/d2/f29", stall_at=100))
    process = sync.start()
    proxy.wait_stalled()
    second = sync.run()
    proxy.release()
    process.communicate(timeout=60)
    assert second.code == 7
    assert f"another stager (process {process.pid}) is working here" in second.err
    assert process.returncode == 0
    assert tree(sync.destination) == FILES


def test_stale_temporaries_of_dead_runs_are_swept(sync: Sync) -> None:
    (state(sync) / "tmp.00000000deadbeef").mkdir(parents=True)
    (state(sync) / "tmp.00000000deadbeef" / "half").write_bytes(b"half a file")
    assert sync.run().code == 0
    assert sorted(os.listdir(state(sync))) == ["lock", "manifest.jsonl", "receipt.json"]


HOSTILE = [
    "../escape", "a//b", "x/../../y", ".stager/manifest.jsonl", ".StAgEr/x", "both", "long/" + "n" * 300, "./dot",
]  # fmt: skip


@pytest.fixture
def hostile(moto: MotoS3, bucket_name: Callable[[], str], tmp_path: Path) -> Sync:
    name = bucket_name()
    moto.make_bucket(name)
    moto.fill(name, {f"set/{key}": b"payload" for key in [*HOSTILE, "both/child", "good", "marker/child"]})
    client = moto.client()
    client.put_object(Bucket=name, Key="set/marker/", Body=b"")
    client.close()
    return Sync(f"s3://{name}/set/", tmp_path / "deep" / "dst", moto.environment())


def test_hostile_keys_are_all_listed_before_the_first_byte(hostile: Sync, tmp_path: Path) -> None:
    failed = hostile.run("--json")
    assert failed.code == 2
    error = failed.event("error")
    assert error["class"] == "BadKeysError"
    assert len(error["problems"]) == len(HOSTILE)
    assert tree(tmp_path) == {} or set(tree(tmp_path)) <= {"deep/dst/.stager/lock"}
    told = hostile.run()
    assert told.code == 2
    assert len(told.err.splitlines()) == 1 + len(HOSTILE)


def test_hostile_keys_are_left_out_when_asked(hostile: Sync, tmp_path: Path) -> None:
    done = hostile.run("--on-bad-key", "skip")
    assert done.code == 0
    assert f"{len(HOSTILE)} skipped" in done.out
    assert set(tree(hostile.destination)) == {"both/child", "good", "marker/child"}
    assert os.listdir(tmp_path) == ["deep"]
    assert os.listdir(tmp_path / "deep") == ["dst"]


def test_what_stands_in_the_way_is_listed_and_left_alone(sync: Sync, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    sync.destination.mkdir()
    (sync.destination / "d0").symlink_to("../outside")
    (sync.destination / "d1").write_bytes(b"a file")
    (sync.destination / "empty").mkdir()
    failed = sync.run("--json")
    assert failed.code == 2
    problems = failed.event("error")["problems"]
    assert sorted(problems) == [
        "d0: a symlink, which is not followed, stands where a directory must go (no sync put it there)",
        "d1: a file stands where a directory must go (no sync put it there)",
        "empty: a directory stands where a file must go (no sync put it there)",
    ]
    assert os.listdir(tmp_path / "outside") == []
    assert (sync.destination / "d1").read_bytes() == b"a file"


def test_state_directory_that_is_a_symlink_is_refused(sync: Sync, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    sync.destination.mkdir()
    (sync.destination / ".stager").symlink_to("../outside")
    assert sync.run().code == 6
    assert os.listdir(tmp_path / "outside") == []
