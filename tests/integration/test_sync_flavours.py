"""Requester pays, the expected owner, and SSE-C: with every request that S3 wants them with, and with no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import botocore.config
import botocore.session
import pytest

from integration.job_driver import Node
from integration.sync_driver import Outcome, Sync, tree
from servers.certificates import Certificates
from servers.s3 import Identity, object_bytes
from servers.strict_s3 import StrictS3, strict_s3

ACCOUNT = "123456789012"
KEY = bytes(range(200, 232))
LARGE = object_bytes(17 << 20, seed=1)
FILES = {"d/small": object_bytes(1000, seed=2), "empty": b""}
SSE_C = {f"x-amz-server-side-encryption-customer-{name}" for name in ("algorithm", "key", "key-md5")}


@pytest.fixture
def secure(certificates: Certificates) -> Iterator[StrictS3]:
    """Over https, every object stored with KEY."""
    with strict_s3(certificates) as server:
        server.buckets["data"] = dict(FILES)
        server.customer_keys = dict.fromkeys(FILES, KEY)
        server.algorithm = "crc64nvme"
        yield server


@pytest.fixture
def sync(secure: StrictS3, tmp_path: Path) -> Sync:
    return Sync("s3://data", tmp_path / "dst", secure.environment())


def key_file(path: Path, content: bytes = KEY, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def assert_told(outcome: Outcome, code: int, words: str) -> None:
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_objects_of_a_customers_key_arrive(sync: Sync, secure: StrictS3, tmp_path: Path) -> None:
    secure.buckets["data"]["large"], secure.customer_keys["large"] = LARGE, KEY
    key = key_file(tmp_path / "key")
    assert sync.run("--sse-c-key-file", key).code == 0
    assert tree(sync.destination) == {**FILES, "large": LARGE}
    assert {method for method, _ in secure.requests} == {"GET", "HEAD"}
    before = len(secure.requests)
    assert sync.run("--sse-c-key-file", key).code == 0
    assert len(secure.requests) == before + 1  # their ETags are no MD5s, and say all the same that nothing changed


def test_key_is_sent_only_over_tls_that_is_checked(sync: Sync, strict: StrictS3, tmp_path: Path) -> None:
    strict.buckets["data"] = dict(FILES)
    key = key_file(tmp_path / "key")
    clear = sync.run("--sse-c-key-file", key, environment=strict.environment())
    assert_told(clear, 2, "an SSE-C key is not sent in the clear")
    assert strict.requests == []
    assert_told(sync.run("--sse-c-key-file", key, "--no-verify-ssl"), 2, "only where the certificate is checked")
    assert not (sync.destination / "d").exists()


def test_file_that_is_no_private_key_is_exit_2_before_anything_is_asked(
    sync: Sync, secure: StrictS3, tmp_path: Path
) -> None:
    assert_told(sync.run("--sse-c-key-file", key_file(tmp_path / "key", mode=0o640)), 2, "is open to other users")
    assert secure.requests == []


def test_wrong_missing_and_superfluous_keys_are_told_with_what_to_do(
    sync: Sync, secure: StrictS3, tmp_path: Path
) -> None:
    wrong = sync.run("--sse-c-key-file", key_file(tmp_path / "key", bytes(32)))
    assert (wrong.code, "access denied" in wrong.err) == (3, True)
    assert_told(sync.run(), 3, "is read with --sse-c-key-file")
    secure.customer_keys.clear()
    superfluous = sync.run("--sse-c-key-file", key_file(tmp_path / "key"))
    assert_told(superfluous, 3, "The encryption parameters are not applicable to this object.")


def test_who_pays_and_whose_the_bucket_is_stand_in_every_request(strict: StrictS3, tmp_path: Path) -> None:
    strict.buckets["data"], strict.requester_pays, strict.owners = dict(FILES), {"data"}, {"data": ACCOUNT}
    strict.algorithm, strict.buckets["data"]["large"] = "crc32", LARGE
    sync = Sync("s3://data", tmp_path / "dst", strict.environment())
    assert_told(sync.run(), 3, "--request-payer")
    assert_told(sync.run("--request-payer", "--expected-bucket-owner", "1" * 12), 3, "access denied")
    assert sync.run("--request-payer", "--expected-bucket-owner", ACCOUNT).code == 0
    assert tree(sync.destination) == {**FILES, "large": LARGE}
    assert "HEAD" in {method for method, _ in strict.requests}
    assert_told(sync.run("--expected-bucket-owner", "me"), 2, "write its 12 digits")


def test_remote_of_a_job_file_has_them_all(secure: StrictS3, tmp_path: Path) -> None:
    secure.requester_pays, secure.owners = {"data"}, {"data": ACCOUNT}
    node = Node(tmp_path, secure.environment())
    node.write_job(
        '[[dataset]]\nname = "a/b"\nsource = "s3://data"\nremote = "x"\n[s3.x]\nrequest_payer = true\n'
        f'expected_bucket_owner = "{ACCOUNT}"\nsse_c_key_file = "{key_file(tmp_path / "key")}"\n'
    )
    assert node.stager("stage", "JOB.toml", "--job-id", "j").code == 0
    assert tree(node.tree("j") / "data" / "a" / "b") == FILES
    node.write_job(
        "[s3.x]\nrequest_payr = true\nexpected_bucket_owner = 'me'\n[s3.y]\nexpected_bucket_owner = 'me'\n"
        "sse_c_key_file = 'key'\nrequest_payer = 'requester'\n[s3.z]\nexpected_bucket_owner = 'me'\n"
    )
    wrong = node.stager("stage", "JOB.toml")
    assert wrong.code == 2
    for words in ("did you mean request_payer?", "s3.y.request_payer", "s3.z.expected_bucket_owner"):
        assert words in wrong.err


def test_remotes_of_one_job_have_their_own_endpoint_profile_and_ca(
    secure: StrictS3, strict: StrictS3, tmp_path: Path, certificates: Certificates
) -> None:
    """Each server takes its own identity alone, so that it would tell of the other's."""
    strict.buckets["data"] = {"a": b"clear"}
    secure.customer_keys, secure.identity = {}, Identity("second-key", "second/secret")
    profiles = {"one": strict.identity, "two": secure.identity}
    shared = tmp_path / "credentials"
    shared.write_text("".join(
        f"[{name}]\naws_access_key_id = {who.access_key}\naws_secret_access_key = {who.secret_key}\n"
        for name, who in profiles.items()
    ))  # fmt: skip
    node = Node(tmp_path, {"AWS_SHARED_CREDENTIALS_FILE": str(shared), "AWS_CONFIG_FILE": "/dev/null"})
    remotes = f'[s3.x]\nendpoint_url = "{strict.endpoint_url}"\nprofile = "one"\n'
    remotes += f'[s3.y]\nendpoint_url = "{secure.endpoint_url}"\nprofile = "two"\n'
    datasets = "".join(f'[[dataset]]\nname = "a/{n}"\nsource = "s3://data"\nremote = "{n}"\n' for n in "xy")
    node.write_job(datasets + remotes)
    untrusted = node.stager("stage", "JOB.toml", "--job-id", "j1")
    assert (untrusted.code, "certificate is not trusted" in untrusted.err) == (3, True)
    node.write_job(f'{datasets}{remotes}ca_bundle = "{certificates.ca_file}"\n')
    staged = node.stager("stage", "JOB.toml", "--job-id", "j2")
    assert staged.code == 0, staged.err
    assert tree(node.tree("j2") / "data" / "a" / "x") == {"a": b"clear"}
    assert tree(node.tree("j2") / "data" / "a" / "y") == FILES


def test_signed_headers_are_those_that_botocore_sends(secure: StrictS3, sync: Sync, tmp_path: Path) -> None:
    """The server checks that all are signed; here, that they are all there and no others."""
    secure.owners = {"data": ACCOUNT}
    options = ("--request-payer", "--expected-bucket-owner", ACCOUNT, "--sse-c-key-file", key_file(tmp_path / "key"))
    assert sync.run(*options).code == 0
    ours = {name for name in secure.headers_seen if name.startswith("x-amz-")}
    secure.headers_seen.clear()
    client = botocore.session.Session().create_client(
        "s3", endpoint_url=secure.endpoint_url, region_name=secure.region, verify=secure.ca_file,
        aws_access_key_id=secure.identity.access_key, aws_secret_access_key=secure.identity.secret_key,
        config=botocore.config.Config(s3={"addressing_style": "path"}, proxies={}),
    )  # fmt: skip
    client.get_object(
        Bucket="data", Key="empty", RequestPayer="requester", ExpectedBucketOwner=ACCOUNT, ChecksumMode="ENABLED",
        SSECustomerAlgorithm="AES256", SSECustomerKey=KEY,
    )  # fmt: skip
    client.close()
    theirs = {name for name in secure.headers_seen if name.startswith("x-amz-")}
    assert ours == theirs
    assert theirs >= SSE_C


def test_access_point_stands_for_its_bucket(strict: StrictS3, tmp_path: Path) -> None:
    """The server stands as a proxy in front of what is called Amazon's."""
    strict.region = "us-west-2"
    strict.buckets["behind"] = {"d/a": b"alpha", "d/b": b"beta", "e": b""}
    strict.hosts["my-ap-123456789012.s3.us-west-2.amazonaws.com"] = "behind"
    environment = {**strict.environment(), "http_proxy": strict.endpoint_url}
    environment["AWS_ENDPOINT_URL"] = "http://s3.us-west-2.amazonaws.com"
    sync = Sync("s3://arn:aws:s3:us-west-2:123456789012:accesspoint/my-ap/d", tmp_path / "dst", environment)
    assert sync.run().code == 0
    assert tree(sync.destination) == {"a": b"alpha", "b": b"beta"}
    assert_told(sync.run("--use-fips-endpoint"), 2, "use_fips_endpoint has no effect")
