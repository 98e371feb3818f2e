"""The whole chain of credentials against recording services, and credentials that end while a copy runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.job_driver import Node
from integration.sync_driver import Sync, tree
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3
from servers.token_service import CONTAINER_TOKEN, IDENTITY_TOKEN, SSO_TOKEN, TokenService, token_service
from stager.config import Remote, Secret
from stager.errors import AccessDeniedError
from stager.sources.s3_access import Access
from stager.sources.s3_endpoint import Session
from stager.sources.s3_values import Credentials, refresh_pause_s
from unit.scripted_http import Request, response, scripted

FILES = {f"d/f{n:02d}": object_bytes(300 + n, n) for n in range(60)}
BASE = "aws_access_key_id = AKIDBASE\naws_secret_access_key = base/secret\n"
ROLE = "[profile lab]\nrole_arn = arn:aws:iam::123456789012:role/reader\nregion = us-east-1\n"
_WAIT_S = 60.0


@pytest.fixture
def service(strict: StrictS3) -> Iterator[TokenService]:
    strict.buckets["data"] = dict(FILES)
    with token_service(strict) as running:
        yield running


def environment_of(kind: str, service: TokenService, home: Path) -> dict[str, str]:
    """What a user sets to have credentials in this way."""
    (home / "token").write_text(IDENTITY_TOKEN)
    config = ROLE + "source_profile = base\n"
    variables = {"AWS_PROFILE": "lab"}
    match kind:
        case "source profile":
            config += f"[profile base]\n{BASE}"
        case "credential source":
            config = ROLE + "credential_source = Environment\n"
            variables |= {"AWS_ACCESS_KEY_ID": "AKIDBASE", "AWS_SECRET_ACCESS_KEY": "base/secret"}
        case "role of a role":
            config += "[profile base]\nrole_arn = arn:aws:iam::123456789012:role/first\nsource_profile = root\n"
            config += f"[profile root]\n{BASE}"
        case "web identity of a profile":
            config = f"{ROLE}web_identity_token_file = {home}/token\n"
        case "web identity":
            config = ""
            variables = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader",
                         "AWS_WEB_IDENTITY_TOKEN_FILE": f"{home}/token"}  # fmt: skip
        case "sso":
            config = (
                "[profile lab]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n"
                "[sso-session s]\nsso_region = us-east-1\nsso_start_url = https://sso.example/start\n"
            )
            cached = {"accessToken": SSO_TOKEN, "expiresAt": "2999-01-01T00:00:00Z", "region": "us-east-1",
                      "startUrl": "https://sso.example/start"}  # fmt: skip
            (home / f"{hashlib.sha1(b's').hexdigest()}.json").write_text(json.dumps(cached))
        case "container":
            config = ""
            variables = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{service.url}/container",
                         "AWS_CONTAINER_AUTHORIZATION_TOKEN": CONTAINER_TOKEN}  # fmt: skip
        case "instance":
            config = ""
            variables = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url, "AWS_EC2_METADATA_DISABLED": "false"}
    (home / "config").write_text(config)
    return {
        "AWS_CONFIG_FILE": str(home / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_ENDPOINT_URL_STS": service.url,
        "AWS_ENDPOINT_URL_SSO": service.url,
        "AWS_ENDPOINT_URL_S3": service.s3.endpoint_url,
        "AWS_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "HOME": str(home),
        **variables,
    }


KINDS = {
    "source profile": ["AssumeRole"],
    "credential source": ["AssumeRole"],
    "role of a role": ["AssumeRole"] * 2,
    "web identity of a profile": ["AssumeRoleWithWebIdentity"],
    "web identity": ["AssumeRoleWithWebIdentity"],
    "sso": ["sso"],
    "container": ["container"],
    "instance": ["instance"],
}


@pytest.fixture
def sso_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where botocore looks is settled when it is imported."""
    for where in ("tokens.SSOTokenProvider", "credentials.SSOProvider"):
        monkeypatch.setattr(f"botocore.{where}._SSO_TOKEN_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("sso_tokens")
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_credentials_is_taken_and_their_end_is_known(
    kind: str, service: TokenService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(kind, service, tmp_path).items():
        monkeypatch.setenv(name, value)
    found = asyncio.run(Session(Remote(profile=os.environ.get("AWS_PROFILE"))).credentials())
    assert found is not None
    assert found.token is not None
    assert service.calls == KINDS[kind]
    assert found.token.reveal() == service.tokens[-1]
    assert found.secret_key.reveal() == service.s3.identity.secret_key
    ends = service.s3.token_ends[service.tokens[-1]]
    assert found.expires_s == pytest.approx(ends, abs=2.0)


@pytest.mark.usefixtures("sso_tokens")
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("kind", ["container", "instance", "sso"])
def test_redirect_of_who_gives_credentials_leads_nowhere(
    kind: str, status: str, service: TokenService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(lambda request, connection: connection.sendall(response(b"{}"))) as other:
        away = response(b"", status, etag=None, location=f"http://127.0.0.1:{other.port}/container")

        def answer(request: Request, connection: object) -> None:
            known = response(b"token", x_aws_ec2_metadata_token_ttl_seconds="21600")
            connection.sendall(known if request.method == "PUT" else away)  # type: ignore[attr-defined]

        with scripted(answer) as moved:
            for name, value in environment_of(kind, service, tmp_path).items():
                monkeypatch.setenv(name, value.replace(service.url, f"http://127.0.0.1:{moved.port}"))
            monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
            with pytest.raises(AccessDeniedError):
                asyncio.run(Session(Remote()).credentials())
            assert moved.requests
        assert other.accepted == 0


def test_pause_leaves_most_of_a_life_and_is_never_none() -> None:
    def pause(expires_s: float | None) -> float:
        found = Credentials(access_key="k", secret_key=Secret("s"), token=None, expires_s=expires_s)
        return refresh_pause_s(found, 1000.0, most_s=60.0)

    assert [pause(end) for end in (None, 4600.0, 1006.0, 1000.1, 1000.0, 0.0)] == [60.0, 60.0, 2.0, 0.5, 60.0, 60.0]
    assert refresh_pause_s(None, 1000.0, most_s=60.0) == 60.0


def with_role(service: TokenService, tmp_path: Path) -> Sync:
    return Sync("s3://data", tmp_path / "dst", environment_of("source profile", service, tmp_path))


def test_tokens_that_end_all_the_time_are_renewed_once_each(service: TokenService, tmp_path: Path) -> None:
    service.uses = 20
    sync = with_role(service, tmp_path)
    done = sync.run("--max-connections", "4")
    assert (done.code, done.err) == (0, "")
    assert tree(sync.destination) == FILES
    assert 4 <= len(service.calls) <= 6


def test_tokens_that_live_seconds_are_renewed_before_they_end(service: TokenService, tmp_path: Path) -> None:
    service.life_s = 4.0
    renewed = threading.Event()

    def hold(method: str, target: str) -> None:
        """The first objects are held until the third token is there, past the life of the first."""
        if "/f" in target:
            while len(service.tokens) < 4 and not renewed.wait(0.02):
                pass
            renewed.set()

    service.s3.on_request = hold
    sync = with_role(service, tmp_path)
    process = sync.start()
    assert renewed.wait(_WAIT_S)
    _, err = process.communicate(timeout=_WAIT_S)
    assert (process.returncode, err) == (0, "")
    assert tree(sync.destination) == FILES


def test_service_that_stops_giving_credentials_ends_the_copy_in_one_line(
    service: TokenService, tmp_path: Path
) -> None:
    service.uses = 20

    def stop(method: str, target: str) -> None:
        service.refuse = True

    sync = with_role(service, tmp_path)
    service.s3.on_request = stop
    service.s3.buckets["data"] = {f"f{n:04d}": b"x" for n in range(3000)}
    failed = sync.run()
    assert (failed.code, len(failed.err.splitlines())) == (3, 1)
    assert "the chain gives none" in failed.err
    assert service.calls.count("refused AssumeRole") == 1
    assert len(service.s3.requests) < 1500


def test_datasets_of_one_remote_ask_for_credentials_once(service: TokenService, tmp_path: Path) -> None:
    node = Node(tmp_path, environment_of("source profile", service, tmp_path))
    names = ["one/a", "two/b", "three/c"]
    node.write_job("".join(f'[[dataset]]\nname = "{name}"\nsource = "s3://data/d"\n' for name in names))
    staged = node.stager("stage", "JOB.toml", "--job-id", "j")
    assert staged.code == 0, staged.err
    assert service.calls == ["AssumeRole"]


def test_datasets_that_get_no_credentials_are_told_once_by_one_name(service: TokenService, tmp_path: Path) -> None:
    service.refuse = True
    node = Node(tmp_path, environment_of("source profile", service, tmp_path))
    names = ["one/a", "two/b", "three/c"]
    node.write_job("".join(f'[[dataset]]\nname = "{name}"\nsource = "s3://data/d"\n' for name in names))
    failed = node.stager("stage", "JOB.toml", "--job-id", "j")
    assert (failed.code, len(failed.err.splitlines())) == (3, 1)
    assert sum(name in failed.err for name in names) == 1, failed.err
    assert "what it runs can be tried by hand" in failed.err
    assert service.calls == ["refused AssumeRole"]


def test_credentials_that_were_refused_are_read_once_for_all_who_ask(
    service: TokenService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of("source profile", service, tmp_path).items():
        monkeypatch.setenv(name, value)

    async def run() -> None:
        access = Access(Remote())
        first, also = await asyncio.gather(access.credentials(), access.credentials())
        assert first is also is not None
        fresh = await asyncio.gather(*(access.credentials(refused=first) for _ in range(5)))
        assert not any(found is None or found.same_as(first) for found in fresh)
        later = await access.credentials(refused=first)
        assert later is fresh[0]

    asyncio.run(run())
    assert len(service.calls) == 2
