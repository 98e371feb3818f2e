"""What is taken from aiobotocore: the request's shape and the credentials; and its errors in our words."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from servers.http_proxy import HttpProxy
from servers.process import free_ports
from stager.config import Remote
from stager.errors import AccessDeniedError, SourceError, TransientError, UsageError
from stager.sources import s3_endpoint
from stager.sources.s3_endpoint import Session
from stager.sources.s3_values import Prepared
from unit.scripted_http import Request, response, scripted

KEY, SECRET = "AKIDEXAMPLE", "secret/with+signs"


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }.items():
        monkeypatch.setenv(name, value)


def prepare(bucket: str = "bucket", region: str | None = None, **remote: object) -> Prepared:
    return asyncio.run(Session(Remote(**remote)).prepare(bucket, region))  # type: ignore[arg-type]


def test_bucket_on_aws_is_virtual_hosted() -> None:
    found = prepare(region="eu-central-1")
    assert (found.host, found.port, found.tls) == ("bucket.s3.eu-central-1.amazonaws.com", 443, True)
    assert (found.path_prefix, found.region, found.service) == (b"/", "eu-central-1", "s3")


def test_dotted_bucket_on_https_is_path_style() -> None:
    assert prepare("dotted.bucket").path_prefix == b"/dotted.bucket/"


def test_endpoint_with_port_and_base_path_is_kept() -> None:
    found = prepare(endpoint_url="http://127.0.0.1:9000/base")
    assert (found.host_header, found.port, found.tls) == ("127.0.0.1:9000", 9000, False)
    assert found.path_prefix == b"/base/bucket/"


def test_endpoint_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one.example:1")
    assert prepare(addressing_style="path").host == "one.example"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://two.example:2")
    assert prepare(addressing_style="path").host == "two.example"
    assert prepare(addressing_style="path", endpoint_url="http://three.example:3").host == "three.example"


def test_region_comes_from_option_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare().region == "us-east-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert prepare().region == "eu-west-1"
    assert prepare(region="ap-south-1").region == "ap-south-1"


def test_unsigned_request_has_no_scope() -> None:
    found = prepare(sign_requests=False)
    assert (found.region, found.headers) == ("", (("x-amz-checksum-mode", "ENABLED"),))
    assert asyncio.run(Session(Remote(sign_requests=False)).credentials()) is None


@pytest.mark.parametrize(
    ("bucket", "what"),
    [
        ("x--use1-az1--x-s3", "directory buckets"),
        ("x--use1-az1--xa-s3", "access points of directory buckets"),
        ("name-hrzrlukc5m36ft7okagglf3gmwl--ol-s3", "Object Lambda access points"),
        ("test-accessp-e0000075e8c0f5d4f3a5--op-s3", "access points on Outposts"),
        ("mfzwi23gnjvgw.mrap", "Multi-Region Access Points"),
    ],
)
def test_what_only_looks_like_a_bucket_is_refused_by_name(bucket: str, what: str) -> None:
    with pytest.raises(SourceError, match=f"^s3://{bucket}: {what} are not supported"):
        prepare(bucket)


WEST = "us-west-2"
POINT = "arn:aws:s3:us-west-2:123456789012:accesspoint:my-ap"
ALIAS = "my-ap-hrzrlukc5m36ft7okagglf3gmwluquse1b-s3alias"
LINK = "vpce-1a2b3c4d-5e6f.s3.us-west-2.vpce.amazonaws.com"
DUAL, FIPS = {"use_dualstack_endpoint": True}, {"use_fips_endpoint": True}


@pytest.mark.parametrize(
    ("bucket", "settings", "host", "path"),
    [
        ("bucket", DUAL, "bucket.s3.dualstack.us-west-2.amazonaws.com", "/"),
        ("dotted.bucket", DUAL, "s3.dualstack.us-west-2.amazonaws.com", "/dotted.bucket/"),
        ("bucket", FIPS, "bucket.s3-fips.us-west-2.amazonaws.com", "/"),
        ("bucket", DUAL | FIPS, "bucket.s3-fips.dualstack.us-west-2.amazonaws.com", "/"),
        ("bucket", {"endpoint_url": f"https://bucket.{LINK}"}, f"bucket.{LINK}", "/bucket/"),
        (ALIAS, {}, f"{ALIAS}.s3.us-west-2.amazonaws.com", "/"),
        (POINT, {}, "my-ap-123456789012.s3-accesspoint.us-west-2.amazonaws.com", "/"),
        (POINT, {"region": "eu-west-1"}, "my-ap-123456789012.s3-accesspoint.us-west-2.amazonaws.com", "/"),
        (POINT, {"addressing_style": "path"}, "my-ap-123456789012.s3-accesspoint.us-west-2.amazonaws.com", "/"),
        (POINT, DUAL, "my-ap-123456789012.s3-accesspoint.dualstack.us-west-2.amazonaws.com", "/"),
        (POINT, FIPS, "my-ap-123456789012.s3-accesspoint-fips.us-west-2.amazonaws.com", "/"),
        (POINT, {"endpoint_url": f"https://accesspoint.{LINK}"}, f"my-ap-123456789012.accesspoint.{LINK}", "/"),
    ],
)
def test_address_comes_from_the_resolver_of_botocore(
    bucket: str, settings: dict[str, object], host: str, path: str
) -> None:
    settings = {"region": WEST, **settings}
    found = asyncio.run(Session(Remote(**settings)).prepare(bucket))  # type: ignore[arg-type]
    assert (found.host, found.path_prefix, found.tls) == (host, path.encode(), True)
    assert (found.region, found.service) == (WEST, "s3")


@pytest.mark.parametrize("where", ["environment", "profile"])
def test_dual_stack_and_fips_of_environment_and_profile_count_and_a_remote_stands_above(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "environment":
        monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
        monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    else:
        (tmp_path / "config").write_text("[default]\nuse_dualstack_endpoint = true\nuse_fips_endpoint = true\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert prepare(region=None).host == "bucket.s3-fips.dualstack.us-east-1.amazonaws.com"
    assert prepare(use_dualstack_endpoint=False).host == "bucket.s3-fips.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("bucket", "settings", "words"),
    [
        ("bucket", FIPS | {"endpoint_url": "https://s3.example"}, "use_fips_endpoint has no effect"),
        ("bucket", DUAL | {"endpoint_url": "https://s3.example"}, "use_dualstack_endpoint has no effect"),
        ("bucket", FIPS | {"region": "cn-north-1"}, "Partition does not support FIPS"),
    ],
)
def test_endpoint_that_is_not_what_was_asked_for_is_refused(
    bucket: str, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        asyncio.run(Session(Remote(**settings)).prepare(bucket))  # type: ignore[arg-type]


def test_profile_gives_its_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text(
        "[lab]\naws_access_key_id = LABKEY\naws_secret_access_key = labsecret\naws_session_token = labtoken\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    found = asyncio.run(Session(Remote(profile="lab")).credentials())
    assert found is not None
    assert found.token is not None
    assert (found.access_key, found.secret_key.reveal(), found.token.reveal()) == ("LABKEY", "labsecret", "labtoken")
    assert "labsecret" not in repr(found)
    with pytest.raises(UsageError, match="nobody"):
        asyncio.run(Session(Remote(profile="nobody")).credentials())
    with pytest.raises(AccessDeniedError, match="no credentials"):
        asyncio.run(Session(Remote()).credentials())


def chain_of(process: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session whose credentials come from a program."""
    (tmp_path / "config").write_text(f"[profile lab]\ncredential_process = {process}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    return Session(Remote(profile="lab"))


@pytest.mark.parametrize(
    ("process", "word"),
    [
        ("/no/such/helper", "/no/such/helper"),
        ("sh -c 'echo hunter2'", "JSON"),
        ("sh -c 'echo hunter2 >&2; exit 1'", "custom-process"),
        ("sh -c 'echo []'", "AttributeError"),
        ("sh -c 'unclosed", "ValueError"),
    ],
)
def test_credential_helper_that_fails_is_no_access_and_its_words_are_not_repeated(
    process: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = chain_of(process, tmp_path, monkeypatch)
    for again in (False, True):
        with pytest.raises(AccessDeniedError, match=word) as caught:
            asyncio.run(session.credentials(again=again))
        assert "hunter2" not in str(caught.value)


ROLE = """
[profile lab]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = base
region = us-east-1
[profile base]
aws_access_key_id = AKIDEXAMPLE
aws_secret_access_key = secret
"""


@pytest.mark.parametrize(
    ("proxy", "kind", "words"),
    [
        ("http://user:hunter2@{address}", AccessDeniedError, "the proxy wants other credentials"),
        ("{url}", TransientError, "the proxy failed"),
        ("http://user:hunter2@{address}/path", UsageError, "https_proxy: names no proxy"),
    ],
)
def test_token_service_behind_a_proxy_that_does_not_serve(
    proxy: str,
    kind: type[Exception],
    words: str,
    site_proxy: HttpProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (nowhere,) = free_ports(1)
    (tmp_path / "config").write_text(ROLE)
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_ENDPOINT_URL_STS": f"https://127.0.0.1:{nowhere}",
        "AWS_MAX_ATTEMPTS": "1",
        "https_proxy": proxy.format(url=site_proxy.url, address=urlsplit(site_proxy.bare_url).netloc),
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind, match=words) as caught:
        asyncio.run(Session(Remote(profile="lab")).credentials())
    assert "hunter2" not in str(caught.value)


def test_instance_metadata_is_asked_without_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request, connection: socket.socket) -> str:
        body = b"token"
        if request.path.endswith("/security-credentials/"):
            body = b"role"
        elif request.path.endswith("/role"):
            body = (
                b'{"Code": "Success", "AccessKeyId": "IMDSKEY", "SecretAccessKey": "imdssecret", "Token": "imdstoken",'
                b' "Expiration": "2999-01-01T00:00:00Z"}'
            )
        connection.sendall(response(body, x_aws_ec2_metadata_token_ttl_seconds="21600"))
        return "close"

    (nowhere,) = free_ports(1)
    with scripted(answer) as server:
        for name, value in {
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{server.port}",
            "AWS_EC2_METADATA_DISABLED": "false",
            "http_proxy": f"http://127.0.0.1:{nowhere}",
        }.items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        found = asyncio.run(Session(Remote()).credentials())
    assert found is not None
    assert found.access_key == "IMDSKEY"


def test_credential_chain_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(s3_endpoint, "_CREDENTIALS_WITHIN_S", 0.01)
    monkeypatch.setattr(s3_endpoint.AioSession, "get_credentials", wait)
    with pytest.raises(TransientError, match="not there after"):
        asyncio.run(Session(Remote()).credentials())


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "ExpiredToken", AccessDeniedError),
        (403, "AccessDenied", AccessDeniedError),
        (400, "ValidationError", AccessDeniedError),
        (400, "Throttling", TransientError),
        (503, "", TransientError),
    ],
)
def test_refusal_of_the_token_service_is_no_access_or_worth_another_try(
    status: int, code: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise ClientError(
            {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
            "AssumeRole",
        )

    monkeypatch.setattr(s3_endpoint.AioSession, "get_credentials", refuse)
    with pytest.raises(kind):
        asyncio.run(Session(Remote()).credentials())


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "profile"])
def test_endpoint_with_a_user_is_refused_wherever_it_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://user:hunter2@127.0.0.1:1"
    if name == "profile":
        (tmp_path / "config").write_text(f"[default]\nendpoint_url = {url}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    else:
        monkeypatch.setenv(name, url)
    with pytest.raises(UsageError, match="is refused") as caught:
        prepare()
    assert "hunter2" not in str(caught.value)
