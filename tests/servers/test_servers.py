"""The servers of the tests do what the other tests believe of them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import botocore.exceptions
import pytest

from servers.git_http import GitHttp
from servers.moto_s3 import MotoS3
from servers.process import ServerFailedError, ServerProcess
from servers.rclone_s3 import RcloneS3
from servers.repositories import git, make_repository
from servers.s3 import Identity, S3Server
from servers.seaweedfs import SeaweedFS

KEYS = {"a/b": b"1", "a-b": b"2", "sp ace+é&%41": b"3", "empty": b"", "large": bytes(9 << 20)}
NewName = Callable[[], str]


def error_code(error: pytest.ExceptionInfo[botocore.exceptions.ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def contents(server: S3Server, bucket: str) -> dict[str, bytes]:
    client = server.client()
    listing = client.list_objects_v2(Bucket=bucket)["Contents"]
    found = {row["Key"]: client.get_object(Bucket=bucket, Key=row["Key"])["Body"].read() for row in listing}
    client.close()
    return found


def listed(server: S3Server, bucket: str) -> list[str]:
    client = server.client()
    keys = [row["Key"] for row in client.list_objects_v2(Bucket=bucket)["Contents"]]
    client.close()
    return keys


def test_filled_seaweedfs_serves_the_same_bytes_over_http_and_https(weed: SeaweedFS, bucket_name: NewName) -> None:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, KEYS)
    assert contents(weed, bucket) == KEYS
    assert weed.https_url is not None
    assert contents(replace(weed, endpoint_url=weed.https_url), bucket) == KEYS


def test_seaweedfs_refuses_a_wrong_secret_an_unknown_key_and_a_reader_who_writes(
    weed: SeaweedFS, bucket_name: NewName
) -> None:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    wrong = {
        Identity(weed.identity.access_key, "wrong"): "SignatureDoesNotMatch",
        Identity("nobody", "wrong"): "InvalidAccessKeyId",
        weed.others[0]: "AccessDenied",
    }
    for identity, code in wrong.items():
        client = weed.client(identity=identity)
        with pytest.raises(botocore.exceptions.ClientError) as error:
            client.put_object(Bucket=bucket, Key="k", Body=b"")
        client.close()
        assert error_code(error) == code


def test_seaweedfs_does_not_list_in_byte_order(weed: SeaweedFS, bucket_name: NewName) -> None:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, {"a/b": b"", "a-b": b""})
    assert listed(weed, bucket) == ["a/b", "a-b"]


def test_filled_rclone_serves_the_same_bytes(rclone: RcloneS3, bucket_name: NewName) -> None:
    bucket = bucket_name()
    rclone.make_bucket(bucket)
    rclone.fill(bucket, KEYS)
    assert contents(rclone, bucket) == KEYS


def test_rclone_over_tls_serves_the_same_bytes(rclone_tls: RcloneS3, bucket_name: NewName) -> None:
    bucket = bucket_name()
    rclone_tls.make_bucket(bucket)
    rclone_tls.fill(bucket, KEYS)
    assert contents(rclone_tls, bucket) == KEYS


def test_filled_moto_serves_the_same_bytes_in_byte_order(moto: MotoS3, bucket_name: NewName) -> None:
    bucket = bucket_name()
    moto.make_bucket(bucket)
    moto.fill(bucket, KEYS)
    assert contents(moto, bucket) == KEYS
    assert listed(moto, bucket) == sorted(KEYS)


def test_moto_tells_the_region_of_a_bucket_in_the_answer_to_head(moto: MotoS3, bucket_name: NewName) -> None:
    bucket = bucket_name()
    moto.make_bucket(bucket, "eu-west-1")
    client = moto.client()
    headers = client.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
    client.close()
    assert headers["x-amz-bucket-region"] == "eu-west-1"


def test_server_that_ends_at_once_fails_with_its_log() -> None:
    with (
        ServerProcess(["sh", "-c", "echo no such luck; exit 3"]) as process,
        pytest.raises(ServerFailedError, match="status 3\nno such luck"),
    ):
        process.wait_ready(lambda: False)


def test_clone_from_the_git_server_has_the_files(git_server: GitHttp, tmp_path: Path) -> None:
    commit = make_repository(git_server.root / "r", {"a/b.txt": b"hello"})
    git(tmp_path, "clone", "-q", git_server.url("r"), "copy")
    assert (tmp_path / "copy/a/b.txt").read_bytes() == b"hello"
    assert git(tmp_path / "copy", "rev-parse", "HEAD") == commit


def test_clone_over_https_needs_the_authority(git_tls_server: GitHttp, tmp_path: Path) -> None:
    make_repository(git_tls_server.root / "r", {"f": b"x"})
    url = git_tls_server.url("r")
    git(tmp_path, "-c", f"http.sslCAInfo={git_tls_server.ca_file}", "clone", "-q", url, "copy")
    assert (tmp_path / "copy/f").exists()
    with pytest.raises(subprocess.CalledProcessError):
        git(tmp_path, "clone", "-q", url, "other")


def test_git_server_with_credentials_refuses_a_clone_without_them(git_server: GitHttp, tmp_path: Path) -> None:
    make_repository(git_server.root / "r", {"f": b"x"})
    git_server.credentials = ("user", "word")
    with pytest.raises(subprocess.CalledProcessError):
        git(tmp_path, "clone", "-q", git_server.url("r"), "refused")
    with_user = git_server.url("r").replace("http://", "http://user:word@")
    git(tmp_path, "clone", "-q", with_user, "copy")
    assert (tmp_path / "copy/f").exists()


def test_git_server_cuts_one_pack_and_serves_the_next(git_server: GitHttp, tmp_path: Path) -> None:
    make_repository(git_server.root / "r", {"f": bytes(range(256)) * 400})
    git_server.cut_pack_after_bytes, git_server.cuts_left = 600, 1
    with pytest.raises(subprocess.CalledProcessError):
        git(tmp_path, "clone", "-q", git_server.url("r"), "cut")
    assert git_server.cuts_left == 0
    git(tmp_path, "clone", "-q", git_server.url("r"), "copy")
    assert (tmp_path / "copy/f").exists()
