"""The shortcut around aiobotocore: a table of settings and buckets for which it says the same, or nothing."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession, get_session
from botocore.configprovider import (
    BOTOCORE_DEFAUT_SESSION_VARIABLES,
    DEFAULT_PROXIES_CONFIG_VARS,
    DEFAULT_S3_CONFIG_VARS,
)
from botocore.loaders import Loader, create_loader

from stager.config import Remote
from stager.errors import UsageError
from stager.sources import s3_endpoint, s3_quick
from stager.sources.s3_access import Access
from stager.sources.s3_endpoint import Session
from stager.sources.s3_values import Credentials, Prepared

Row = tuple[Any, ...]
Environment = dict[str, str]
Files = tuple[str, str]

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret/with+signs="}
SECRETS = "aws_access_key_id = FILEKEY\naws_secret_access_key = file/secret\n"
BOTOCORES = {**BOTOCORE_DEFAUT_SESSION_VARIABLES, **DEFAULT_S3_CONFIG_VARS, **DEFAULT_PROXIES_CONFIG_VARS}

ENVIRONMENTS: list[Environment] = [
    {},
    KEYS,
    {**KEYS, "AWS_SESSION_TOKEN": "token=="},
    {**KEYS, "AWS_SECURITY_TOKEN": "older", "AWS_SESSION_TOKEN": "newer"},
    {**KEYS, "AWS_SECURITY_TOKEN": "", "AWS_SESSION_TOKEN": "newer"},
    {**KEYS, "AWS_SESSION_TOKEN": ""},
    {**KEYS, "AWS_SESSION_TOKEN": "tok en"},
    {**KEYS, "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z"},
    {**KEYS, "AWS_SECRET_ACCESS_KEY": ""},
    {**KEYS, "AWS_SECRET_ACCESS_KEY": "sécret"},
    {**KEYS, "AWS_ACCESS_KEY_ID": ""},
    {**KEYS, "AWS_ACCESS_KEY_ID": "with/slash"},
    {"AWS_SECRET_ACCESS_KEY": "alone"},
    {"AWS_PROFILE": "lab"},
    {"AWS_PROFILE": ""},
    {**KEYS, "AWS_PROFILE": "lab"},
    {**KEYS, "AWS_PROFILE": "default"},
    {**KEYS, "AWS_PROFILE": "lab", "AWS_DEFAULT_PROFILE": "default"},
    {**KEYS, "AWS_DEFAULT_PROFILE": "", "AWS_PROFILE": "lab"},
    {**KEYS, "AWS_REGION": "eu-west-1"},
    {**KEYS, "AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-2"},
    {**KEYS, "AWS_DEFAULT_REGION": ""},
    {**KEYS, "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"},
    {**KEYS, "AWS_ENDPOINT_URL": "http://one.example:1"},
    {**KEYS, "AWS_ENDPOINT_URL": "http://one.example:1", "AWS_ENDPOINT_URL_S3": "https://two.example"},
    {**KEYS, "AWS_ENDPOINT_URL": "http://one.example:1", "AWS_ENDPOINT_URL_S3": ""},
    {**KEYS, "AWS_ENDPOINT_URL": "http://one.example:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
    {**KEYS, "AWS_ENDPOINT_URL_STS": "http://sts.example:1"},
    {**KEYS, "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"},
    {"AWS_CONFIG_FILE": "~/.aws/credentials"},
    {"AWS_SHARED_CREDENTIALS_FILE": "$HOME/.aws/config"},
    {**KEYS, "AWS_SHARED_CREDENTIALS_FILE": ""},
    *(
        {**KEYS, f"AWS_{name}": value}
        for name in ("REQUEST_CHECKSUM_CALCULATION", "RESPONSE_CHECKSUM_VALIDATION")
        for value in ("when_supported", "when_required", "When_Required", "", "never")
    ),
    *({**KEYS, name: value} for name in sorted(s3_quick._WITHOUT_EFFECT) for value in ("", __file__)),
]
FILES: list[Files] = [
    ("", ""),
    ("", f"[default]\n{SECRETS}"),
    ("", f"[default]\n{SECRETS}aws_session_token=file+token\n[lab]\n{SECRETS}region = sa-east-1\n"),
    ("[default]\nregion = eu-north-1\noutput = json\n", f"[default]\n{SECRETS}"),
    ("[profile lab]\nregion=eu-south-1\n", f"[lab]\n{SECRETS}"),
    ("[profile lab]\nregion = eu-south-1\n", f"[default]\n{SECRETS}"),
    ("[lab]\nregion = eu-south-1\n", f"[lab]\n{SECRETS}"),
    ("[profile default]\nregion = eu-south-2\n", f"[default]\n{SECRETS}"),
    ("[default]\nregion = eu-south-1\n[profile default]\nregion = eu-south-2\n", f"[default]\n{SECRETS}"),
    ("[default]\nregion = eu-north-1\n", f"[default]\n{SECRETS}region = eu-north-2\n"),
    ("[default]\nendpoint_url = http://file.example:8000\n", f"[default]\n{SECRETS}"),
    ("", f"[default]\n{SECRETS}endpoint_url = http://file.example:8000/base/\n[lab]\n{SECRETS}"),
    (f"[default]\n{SECRETS}", ""),
    (f"[profile lab]\n{SECRETS}", f"[lab]\n{SECRETS.replace('FILE', 'OTHER')}"),
    ("[default]\ns3 =\n  addressing_style = virtual\n  use_dualstack_endpoint = true\n", f"[default]\n{SECRETS}"),
    ("[default]\nREGION = eu-north-1\n# a comment\n\n; another\n", f"[default]\n{SECRETS.upper()}"),
    ("[default]\nregion : eu-north-1\n", f"[default]\n{SECRETS}"),
    ("[default]\nregion = eu-north-1 # here\n", f"[default]\n{SECRETS}"),
    ("[default]\nregion = eu-north-1\n   \n  # indented\n", f"[default]\n{SECRETS}"),
    ("[default]\nregion = eu-north-1\n  continued\n", f"[default]\n{SECRETS}"),
    ("[default]\nregion =\n", f"[default]\n{SECRETS}"),
    ("[default]\nregion = eu-north-1\nregion = eu-north-2\n", f"[default]\n{SECRETS}"),
    ("[default]\nregion = eu-north-1\n[default]\nregion = eu-north-2\n", f"[default]\n{SECRETS}"),
    ("[DEFAULT]\nregion = eu-north-1\n[default]\n", f"[default]\n{SECRETS}"),
    ("[default]\r\nregion = eu-north-1\r\n", f"[default]\r\n{SECRETS}"),
    ("[default]\n#\rregion = eu-north-1\n", f"[default]\n{SECRETS}"),
    ("[default] junk\nregion = eu-north-1\n", f"[default]\n{SECRETS}"),
    (" [default]\nregion = eu-north-1\n", f"[default]\n{SECRETS}"),
    ("[profilex lab]\nregion = eu-north-1\n", f"[default]\n{SECRETS}"),
    ('[profile "lab"]\nregion = eu-north-1\n', f"[lab]\n{SECRETS}"),
    ("region = eu-north-1\n", f"[default]\n{SECRETS}"),
    ("nonsense\n", f"[default]\n{SECRETS}"),
    ("[default]\nregion = eu-nörth-1\n", f"[default]\n{SECRETS}"),
    ("[default]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = lab\n", f"[lab]\n{SECRETS}"),
    ("[default]\ncredential_process = /bin/false\n", f"[default]\n{SECRETS}"),
    ("", f"[default]\n{SECRETS}credential_process = /bin/false\n"),
    ("[default]\nservices = local\n[services local]\ns3 =\n  endpoint_url = http://x.y\n", f"[default]\n{SECRETS}"),
    ("[sso-session x]\nsso_region = eu-west-1\n[preview]\nx = 1\n", f"[default]\n{SECRETS}"),
    ("", "[default]\naws_access_key_id = FILEKEY\n"),
    ("", "[default]\naws_secret_access_key = file/secret\n"),
    ("", f"[default]\n{SECRETS}aws_security_token = older\naws_session_token = newer\n"),
    *(
        (f"[default]\n{name} = {value}\n", f"[default]\n{SECRETS}")
        for setting in BOTOCORES.values()
        for name in (setting[0] if isinstance(setting[0], list) else [setting[0]])
        for value in ("true", "1")
        if isinstance(name, str)
    ),
]
REMOTES = [
    Remote(),
    Remote(sign_requests=False),
    Remote(profile="lab"),
    Remote(profile="default"),
    Remote(profile="nobody"),
    Remote(profile=""),
    Remote(profile="lab", region="ca-central-1"),
    Remote(endpoint_url="http://127.0.0.1:9000"),
    Remote(endpoint_url="https://s3.example", addressing_style="virtual", sign_requests=False),
    Remote(endpoint_url=""),
    Remote(addressing_style="path"),
    Remote(use_fips_endpoint=True),
    Remote(use_dualstack_endpoint=False),
]
ENDPOINTS = [
    None,
    "http://127.0.0.1:9000",
    "http://[::1]:9000",
    "https://[2001:db8::1]",
    "http://localhost",
    "http://localhost:80",
    "https://localhost:443/",
    "https://s3.example:65535/base",
    "https://s3.example:65536",
    "https://s3.example:0443",
    "https://s3.example:",
    "http://s3.example/a/b/",
    "http://s3.example//a",
    "http://s3.example/a%20b",
    "http://s3.example/a/../b",
    "HTTP://s3.example",
    "https://S3.example",
    "https://s3_x.example",
    "https://a--b.example",
    "https://1.2.3",
    "https://999.999.999.999",
    "https://s3.example.",
    "s3.example",
    "ftp://s3.example",
    "https://s3.eu-west-1.amazonaws.com",
    "https://s3.cn-north-1.amazonaws.com.cn",
    "https://s3-accelerate.amazonaws.com",
    "https://bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com",
    "https://storage.googleapis.com",
    "https://account.r2.cloudflarestorage.com",
]
BUCKETS = [
    "bucket",
    "a-b",
    "abc",
    "ab",
    "a" * 63,
    "a" * 64,
    "a--b",
    "-bucket",
    "bucket-",
    "Bucket",
    "with_underscore",
    "dotted.bucket",
    "two..dots",
    "123456",
    "192.168.0.1",
    "xn--bucket",
    "x--use1-az1--x-s3",
    "name-s3alias",
    "name--ol-s3",
    "test-accessp-e0000075e8c0f5d4f3a5--op-s3",
    "mfzwi23gnjvgw.mrap",
    "arn:aws:s3:us-east-1:123456789012:accesspoint/name",
]
ODD_REGIONS = [
    "aws-global",
    "s3-external-1",
    "fips-us-gov-west-1",
    "us-gov-west-1",
    "us-iso-east-1",
    "cn-north-1",
    "eusc-de-east-1",
    "us-east-99",
    "xx-nowhere-1",
    "default",
    "garage",
    "auto",
    "RegionOne",
    "1",
    "with_underscore",
    "with.dot",
    "-a",
    "a-",
    "a--b",
    "a" * 63,
    "a" * 64,
    "a b",
]


@pytest.fixture(scope="module")
def loader() -> Loader:
    """One for all sessions: what it reads is botocore's own data."""
    return create_loader()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: Loader) -> None:
    (tmp_path / ".aws").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))

    def with_loader() -> AioSession:
        session = get_session()
        session.register_component("data_loader", loader)
        return session

    monkeypatch.setattr(s3_endpoint, "get_session", with_loader)


def write(files: Files) -> None:
    for name, text in zip(("config", "credentials"), files, strict=True):
        path = Path("~/.aws").expanduser() / name
        path.unlink(missing_ok=True)
        if text:
            path.write_text(text, encoding="utf-8", newline="")


def shown(credentials: Credentials | None) -> tuple[str, ...] | None:
    if credentials is None:
        return None
    token = credentials.token.reveal() if credentials.token else ""
    return (credentials.access_key, credentials.secret_key.reveal(), token)


Answer = tuple[tuple[str, ...] | None, Prepared]


async def by_the_chain(session: Session, bucket: str, region: str | None = None) -> Answer:
    return shown(await session.credentials()), await session.prepare(bucket, region)


def by_the_shortcut(remote: Remote, bucket: str = "bucket", region: str | None = None) -> Answer | None:
    settings = s3_quick.read_settings(remote)
    prepared = settings and s3_quick.prepare(settings, bucket, region)
    return (shown(settings.credentials), prepared) if settings and prepared else None


def sample(rows: list[Row], count: int, seed: int) -> list[Row]:
    return random.Random(seed).sample(rows, min(count, len(rows)))


def check_settings(environment: Environment, files: Files, remote: Remote) -> bool:
    """Whether the shortcut says something for these settings; it is what the chain says."""
    write(files)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        quick = by_the_shortcut(remote)
        if quick is not None:
            assert quick == asyncio.run(by_the_chain(Session(remote), "bucket")), (environment, files, remote)
    return quick is not None


def test_every_single_setting_means_what_botocore_makes_of_it() -> None:
    for environment in ENVIRONMENTS:
        check_settings(environment, ("", ""), Remote())
    for files, remote in itertools.product(FILES, (Remote(), Remote(sign_requests=False))):
        check_settings({}, files, remote)
    for remote in REMOTES:
        check_settings(KEYS, FILES[2], remote)


def test_settings_together_mean_what_botocore_makes_of_them(soak: int, seed: int) -> None:
    rows = sample(list(itertools.product(ENVIRONMENTS, FILES, REMOTES)), 300 * soak, seed)
    assert sum(check_settings(*row) for row in rows) > len(rows) // 20


def check_buckets(rows: list[Row]) -> int:
    """How many of (endpoint, addressing style, signed, bucket, region) the shortcut answers, as the chain does."""

    async def run() -> int:
        answered = 0
        sessions: dict[Remote, Session] = {}
        for endpoint, style, signed, bucket, region in rows:
            remote = Remote(endpoint_url=endpoint, addressing_style=style, sign_requests=signed)
            quick = by_the_shortcut(remote, bucket, region)
            if quick is not None:
                session = sessions.setdefault(remote, Session(remote))
                assert quick == await by_the_chain(session, bucket, region), (remote, bucket, region)
                answered += 1
        return answered

    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        return asyncio.run(run())


def partition_regions() -> list[str]:
    return sorted(get_session().get_component("data_loader").load_data("partitions")["partitions"][0]["regions"])


def test_every_region_of_the_partition_has_the_host_that_botocore_gives_it() -> None:
    regions = [region for region in partition_regions() if region != "aws-global"]
    assert len(regions) > 30
    rows = list(itertools.product([None], ["auto", "path", "virtual"], [True], ["bucket"], regions))
    assert check_buckets(rows) == len(rows)


def test_endpoints_buckets_and_regions_make_the_request_that_botocore_makes(soak: int, seed: int) -> None:
    regions = [None, "eu-west-1", "us-east-1", *ODD_REGIONS]
    rows = list(itertools.product(ENDPOINTS, ["auto", "path", "virtual"], [True, False], BUCKETS, regions))
    chosen = sample(rows, 1300 * soak, seed)
    assert check_buckets(chosen) > len(chosen) // 20
    alone = [(endpoint, "auto", True, "bucket", None) for endpoint in ENDPOINTS]
    alone += [(endpoint, "auto", True, bucket, None) for endpoint in ENDPOINTS[:2] for bucket in BUCKETS]
    alone += [(endpoint, "auto", True, "bucket", region) for endpoint in ENDPOINTS[:2] for region in ODD_REGIONS]
    check_buckets(alone)


@pytest.mark.parametrize(
    ("environment", "files", "remote", "bucket"),
    [
        (KEYS, ("", ""), Remote(), "bucket"),
        ({**KEYS, "AWS_SESSION_TOKEN": "t", "AWS_REGION": "eu-west-1"}, ("", ""), Remote(), "bucket"),
        ({**KEYS, "AWS_ENDPOINT_URL": "https://ceph.example:7480"}, ("", ""), Remote(), "Some_Bucket.old"),
        (KEYS, ("", ""), Remote(endpoint_url="http://127.0.0.1:9000"), "bucket"),
        ({**KEYS, "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"}, ("", ""), Remote(), "bucket"),
        (KEYS, FILES[3], Remote(region="eu-central-1", addressing_style="path"), "bucket"),
        ({}, ("", ""), Remote(sign_requests=False), "bucket"),
        ({}, FILES[1], Remote(), "bucket"),
        ({}, FILES[3], Remote(), "bucket"),
        ({}, FILES[4], Remote(profile="lab"), "bucket"),
        ({"AWS_PROFILE": "lab"}, FILES[2], Remote(endpoint_url="https://s3.example"), "bucket"),
        ({}, FILES[10], Remote(), "bucket"),
    ],
)
def test_plain_settings_take_the_shortcut(
    environment: Environment, files: Files, remote: Remote, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    write(files)
    assert by_the_shortcut(remote, bucket) is not None


def environment_names() -> Iterator[str]:
    for _, names, *_ in BOTOCORES.values():
        yield from names if isinstance(names, list) else [names] if names else []


@pytest.mark.parametrize("name", sorted({*environment_names(), "AWS_ROLE_ARN", "BOTO_CONFIG", "AWS_OF_LATER"}))
def test_variable_that_is_not_understood_is_left_to_botocore(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {**KEYS, name: "true"}.items():
        monkeypatch.setenv(key, value)
    known = name in s3_quick._UNDERSTOOD | s3_quick._WITHOUT_EFFECT
    assert known or s3_quick.read_settings(Remote()) is None


def test_models_of_the_user_are_left_to_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    assert s3_quick.read_settings(Remote()) is not None
    Path("~/.aws/models").expanduser().mkdir()
    assert s3_quick.read_settings(Remote()) is None


def test_file_that_cannot_be_read_as_text_is_left_to_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    (Path("~/.aws").expanduser() / "config").write_bytes(b"[default]\nregion = \xff\n")
    assert s3_quick.read_settings(Remote()) is None


def test_access_asks_the_chain_for_what_is_not_plain() -> None:
    write(("[default]\ncredential_process = sh -c 'echo {}'\n", ""))
    access = Access(Remote())
    write(("", f"[default]\n{SECRETS}"))

    async def run() -> None:
        found = await access.credentials()
        assert shown(found) == ("FILEKEY", "file/secret", "")
        assert (await access.prepare("dotted.bucket")).path_prefix == b"/dotted.bucket/"

    asyncio.run(run())


def test_credentials_asked_for_again_are_read_again_from_the_files() -> None:
    write(("", f"[default]\n{SECRETS}"))
    access = Access(Remote())

    async def run() -> list[str]:
        write(("", f"[default]\n{SECRETS.replace('FILEKEY', 'SECOND')}"))
        first = await access.credentials()
        second = await access.credentials(refused=first)
        assert first is not None
        assert second is not None
        return [first.access_key, second.access_key]

    assert asyncio.run(run()) == ["FILEKEY", "SECOND"]


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_endpoint_with_a_user_is_refused_before_anything_else(name: str) -> None:
    with pytest.raises(UsageError, match="is refused"):
        Access(Remote(), {name: "http://user:secret@127.0.0.1:1"})
