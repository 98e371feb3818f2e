"""Every class of failure: its exit code, one clear line, no secret in it, and the JSON that programs read."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.sync_driver import Outcome, Sync, tree
from servers.certificates import Certificates
from servers.fault_proxy import Fault, fault_proxy
from servers.process import free_ports
from servers.rclone_s3 import RcloneS3
from servers.s3 import Identity, object_bytes
from servers.seaweedfs import SeaweedFS

SECRET = "S3cr3tS3cr3tS3cr3tS3cr3t"


@pytest.fixture
def bucket(weed: SeaweedFS, bucket_name: Callable[[], str]) -> str:
    name = bucket_name()
    weed.make_bucket(name)
    weed.fill(name, {"a": b"alpha", "d/b": b"beta"})
    return name


@pytest.fixture
def sync(weed: SeaweedFS, bucket: str, tmp_path: Path) -> Sync:
    return Sync(f"s3://{bucket}", tmp_path / "dst", weed.environment())


def assert_one_line(failed: Outcome, code: int, *words: str) -> None:
    assert (failed.code, failed.out) == (code, ""), failed
    assert len(failed.err.splitlines()) == 1, failed.err
    assert failed.err.startswith("stager: ")
    for word in words:
        assert word in failed.err
    assert SECRET not in failed.err


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("s4://x/y", ["unknown kind of source"]),
        ("s3://a_key:b_secret@bucket/x", ["a URL with a user in it is refused"]),
        ("bind:/tmp", ["not copied"]),
        ("relative", ["not a source"]),
    ],
)
def test_wrong_source_is_exit_2(sync: Sync, source: str, words: list[str]) -> None:
    assert_one_line(sync.run(source=source), 2, *words)
    assert not sync.destination.exists()


def test_endpoint_with_a_user_is_exit_2_before_anything(sync: Sync) -> None:
    url = f"http://user:{SECRET}@127.0.0.1:1"
    assert_one_line(sync.run("--endpoint-url", url), 2, "endpoint_url", "a user")
    assert_one_line(sync.run(environment={"AWS_ENDPOINT_URL": url}), 2, "AWS_ENDPOINT_URL", "a user")
    assert not sync.destination.exists()


def test_wrong_option_is_exit_2_with_a_suggestion(sync: Sync) -> None:
    failed = sync.run("--dry-rum")
    assert failed.code == 2
    assert "--dry-run" in failed.err


def test_missing_profile_is_exit_2(sync: Sync) -> None:
    environment = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert_one_line(sync.run("--profile", "nobody", environment=environment), 2, "no such profile", "nobody")


def test_destination_that_is_a_file_is_exit_2(sync: Sync) -> None:
    sync.destination.write_bytes(b"a file")
    assert_one_line(sync.run(), 2, "is not a directory")
    assert sync.destination.read_bytes() == b"a file"


def test_no_such_bucket_is_exit_3(sync: Sync) -> None:
    assert_one_line(sync.run(source="s3://there-is-no-such-bucket/x"), 3, "no such bucket")


def test_no_such_key_is_exit_3(sync: Sync) -> None:
    assert_one_line(sync.run(source=sync.source + "/nothing/here"), 3, "nothing is stored under this name")


def test_sync_that_fails_at_once_leaves_nothing_behind(sync: Sync, tmp_path: Path) -> None:
    deep = Sync(sync.source + "/nothing", tmp_path / "a/b", sync.environment)
    assert deep.run().code == 3
    assert deep.run("--state-dir", str(tmp_path / "s/t")).code == 3
    assert sorted(os.listdir(tmp_path)) == []
    deep.destination.mkdir(parents=True)
    (deep.destination / "mine").touch()
    assert deep.run().code == 3
    assert os.listdir(deep.destination) == ["mine"]


def test_another_stager_at_work_is_exit_7(sync: Sync) -> None:
    (sync.destination / ".stager").mkdir(parents=True)
    with open(sync.destination / ".stager/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_one_line(sync.run(), 7, "another stager", "is working here")


def test_leftovers_of_killed_runs_are_swept_and_nothing_else(sync: Sync) -> None:
    state = sync.destination / ".stager"
    (state / "tmp.0123456789abcdef").mkdir(parents=True)
    (state / ".manifest.jsonl.0123456789abcdef").touch()
    (state / "tmp.mine").touch()
    assert sync.run().code == 0
    assert sorted(os.listdir(state)) == ["lock", "manifest.jsonl", "receipt.json", "tmp.mine"]


def test_wrong_secret_is_exit_3_told_once(sync: Sync) -> None:
    failed = sync.run(environment={"AWS_SECRET_ACCESS_KEY": SECRET})
    assert_one_line(failed, 3, "the secret key does not match the access key")


def test_unknown_access_key_is_exit_3(sync: Sync) -> None:
    failed = sync.run(environment={"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": SECRET})
    assert_one_line(failed, 3, "the access key is not known")


def test_no_credentials_is_exit_3(sync: Sync) -> None:
    environment = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert_one_line(sync.run(environment=environment), 3, "no credentials found")


def test_not_signing_where_it_is_needed_is_exit_3(sync: Sync) -> None:
    assert_one_line(sync.run("--no-sign-request"), 3, "access denied")


def test_reader_may_read(sync: Sync, weed: SeaweedFS) -> None:
    reader: Identity = weed.others[0]
    assert sync.run(environment=weed.environment(reader)).code == 0
    assert tree(sync.destination) == {"a": b"alpha", "d/b": b"beta"}


def test_unknown_host_is_exit_3(sync: Sync) -> None:
    failed = sync.run("--endpoint-url", "http://no-such-host.invalid:9000")
    assert failed.code in (3, 7)  # 7 where no resolver answers at all
    assert "no-such-host.invalid" in failed.err


def test_refused_connection_is_exit_7(sync: Sync) -> None:
    (port,) = free_ports(1)
    assert_one_line(sync.run("--endpoint-url", f"http://127.0.0.1:{port}"), 7, "cannot connect")


def test_object_that_never_arrives_is_exit_7(weed: SeaweedFS, sync: Sync) -> None:
    with fault_proxy(weed.address) as proxy:
        proxy.add(Fault(path="/d/b", reset_at=0, times=100))
        assert_one_line(sync.run("--endpoint-url", proxy.url, "--retries", "3"), 7, "d/b", "after 3 attempts")
    assert tree(sync.destination) == {"a": b"alpha"}


def test_stalled_connection_is_given_up_and_tried_again(weed: SeaweedFS, sync: Sync) -> None:
    with fault_proxy(weed.address) as proxy:
        proxy.add(Fault(path="/d/b", stall_at=1))
        assert sync.run("--endpoint-url", proxy.url, "--stall-timeout", "0.5").code == 0
        proxy.release()
    assert tree(sync.destination) == {"a": b"alpha", "d/b": b"beta"}


def test_object_changed_while_it_is_copied_is_exit_4(
    rclone: RcloneS3, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    name = bucket_name()
    rclone.make_bucket(name)
    rclone.fill(name, {f"f{n}": b"old content" for n in range(5)})
    with fault_proxy(rclone.address) as proxy:
        proxy.add(Fault(path="list-type=2", stall_at=1))
        sync = Sync(f"s3://{name}", tmp_path / "dst", {**rclone.environment(), "AWS_ENDPOINT_URL": proxy.url})
        process = sync.start()
        proxy.wait_stalled()
        rclone.fill(name, {"f3": b"new content"})
        proxy.release()
        out, err = process.communicate(timeout=60)
    assert_one_line(Outcome(process.returncode, out, err), 4, "f3", "changed while it was being copied")
    assert "f3" not in tree(sync.destination)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    root = tmp_path / "small"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "small", str(root)], check=True)
    yield root
    subprocess.run(["umount", "-l", str(root)], check=True)


@pytest.mark.root
def test_too_little_space_is_exit_5_before_the_first_byte(weed: SeaweedFS, bucket: str, small_disk: Path) -> None:
    weed.fill(bucket, {"big": object_bytes(2 << 20, 1)})
    failed = Sync(f"s3://{bucket}", small_disk / "dst", weed.environment()).run()
    assert_one_line(failed, 5, "bytes are needed", "are free")
    assert tree(small_disk / "dst") == {}


@pytest.mark.root
def test_too_few_inodes_is_exit_5_before_the_first_byte(weed: SeaweedFS, bucket: str, small_disk: Path) -> None:
    weed.fill(bucket, {f"many/{n}": b"" for n in range(80)})
    failed = Sync(f"s3://{bucket}", small_disk / "dst", weed.environment()).run()
    assert_one_line(failed, 5, "inodes are needed")
    assert tree(small_disk / "dst") == {}


@pytest.mark.root
def test_disk_that_fills_up_meanwhile_is_exit_5_and_continues(weed: SeaweedFS, bucket: str, small_disk: Path) -> None:
    weed.fill(bucket, {f"f{n}": object_bytes(100_000, n) for n in range(8)})
    with fault_proxy(weed.address) as proxy:
        proxy.add(*(Fault(path=f"/f{n}", stall_at=50_000) for n in range(8)))
        sync = Sync(f"s3://{bucket}", small_disk / "dst", {**weed.environment(), "AWS_ENDPOINT_URL": proxy.url})
        process = sync.start()
        proxy.wait_stalled()
        hog = small_disk / "hog"
        hog.write_bytes(bytes(700_000))
        proxy.release()
        out, err = process.communicate(timeout=60)
    assert_one_line(Outcome(process.returncode, out, err), 5, "No space left")
    hog.unlink()
    again = Sync(f"s3://{bucket}", small_disk / "dst", weed.environment())
    assert again.run().code == 0
    assert len(tree(small_disk / "dst")) == 10


def https(weed: SeaweedFS, sync: Sync) -> Sync:
    assert weed.https_url is not None
    environment = {**weed.environment(), "AWS_ENDPOINT_URL": weed.https_url}
    environment.pop("AWS_CA_BUNDLE", None)
    return Sync(sync.source, sync.destination, environment)


def test_certificate_of_a_stranger_is_exit_3(weed: SeaweedFS, sync: Sync, certificates: Certificates) -> None:
    failed = https(weed, sync).run("--ca-bundle", certificates.stranger_ca_file)
    assert_one_line(failed, 3, "certificate is not trusted")
    assert_one_line(https(weed, sync).run(), 3, "certificate is not trusted")
    assert tree(sync.destination) == {}


@pytest.mark.parametrize("way", ["--ca-bundle", "AWS_CA_BUNDLE", "SSL_CERT_FILE", "--no-verify-ssl"])
def test_https_works_with_the_right_bundle_or_when_told_not_to_look(
    weed: SeaweedFS, sync: Sync, certificates: Certificates, way: str
) -> None:
    secure = https(weed, sync)
    if way.startswith("--ca"):
        done = secure.run(way, certificates.ca_file)
    elif way.startswith("--"):
        done = secure.run(way)
    else:
        done = secure.run(environment={way: certificates.ca_file})
    assert done.code == 0
    assert tree(sync.destination) == {"a": b"alpha", "d/b": b"beta"}


def test_ca_bundle_that_is_not_there_is_exit_2(weed: SeaweedFS, sync: Sync) -> None:
    assert_one_line(https(weed, sync).run("--ca-bundle", "/no/such.pem"), 2, "no such CA bundle")


def test_secret_is_in_no_output_and_no_file(weed: SeaweedFS, sync: Sync) -> None:
    secret = weed.identity.secret_key
    done = sync.run("--json", "-vv")
    texts = [done.out, done.err]
    texts += [path.read_text("latin-1") for path in sync.destination.rglob("*") if path.is_file()]
    assert all(secret not in text for text in texts)
    failed = sync.run("-vv", source="s3://there-is-no-such-bucket/x")
    assert "Traceback" in failed.err
    assert secret not in failed.err


def test_json_events_have_the_fields_that_programs_rely_on(sync: Sync) -> None:
    done = sync.run("--json")
    assert (done.code, done.err) == (0, "")
    shapes = {event["event"]: set(event) - {"schema", "event", "time"} for event in done.events}
    assert shapes == {
        "started": {"source"},
        "listed": {"source", "total"},
        "planned": {"source", "destination", "move", "keep", "skipped", "left_out", "delete", "disk_bytes", "inodes"},
        "progress": {"source", "done", "move", "received_bytes", "seconds"},
        "finished": {"source", "receipt", "dry_run", "bottleneck"},
    }
    assert {event["schema"] for event in done.events} == {1}
    receipt = done.event("finished")["receipt"]
    assert set(receipt) == {
        "source", "destination", "how", "pinned", "total", "moved", "grades", "unverified", "read_back_bytes",
        "seconds", "continued_bytes", "skipped", "archived", "filter", "left_out", "deleted", "boot", "durable",
        "reused", "cache",
    }  # fmt: skip
    assert set(done.event("finished")["bottleneck"]) == {"kind", "why", "figures"}
    failed = sync.run("--json", source=sync.source + "/nothing")
    assert failed.code == 3
    assert failed.err == ""
    error = failed.event("error")
    assert set(error) - {"schema", "event", "time"} == {
        "class", "exit_code", "retryable", "what", "where", "hint", "problems",
    }  # fmt: skip
    assert (error["class"], error["exit_code"], error["retryable"]) == ("NotFoundError", 3, False)


def test_quiet_run_says_nothing(sync: Sync) -> None:
    assert sync.run("-q") == Outcome(0, "", "")


def test_reader_that_goes_away_does_not_stop_the_sync(sync: Sync) -> None:
    process = sync.start("--json")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert tree(sync.destination) == {"a": b"alpha", "d/b": b"beta"}
