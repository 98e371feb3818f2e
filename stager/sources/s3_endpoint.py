"""Where a bucket is and as whom to ask: everything taken from aiobotocore, nothing rebuilt.

The request template is what aiobotocore itself was about to send for a GetObject: its public ``before-send`` event
shows the finished request, and sending stops there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import quote, urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession, get_session
from botocore import UNSIGNED
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    EndpointProviderError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    SSLError,
    UnknownCredentialError,
    UnsupportedS3AccesspointConfigurationError,
    UnsupportedS3ConfigurationError,
)
from botocore.httpsession import ProxyConfiguration

from stager.config import Remote, Secret
from stager.errors import AccessDeniedError, SourceError, StagerError, TransientError, UsageError
from stager.host.proxies import proxy_for
from stager.retry import error_for
from stager.sources.s3_host import ca_file
from stager.sources.s3_values import Credentials, Prepared
from stager.urls import check_endpoint, redacted

__all__ = ["Session"]

_PLACEHOLDER: Final = "stager-placeholder"
_CREDENTIAL: Final = re.compile(r"^AWS4-HMAC-SHA256 Credential=[^/,]+/\d{8}/([^/,]+)/([^/,]+)/aws4_request,")
_AMAZON: Final = (".amazonaws.com", ".amazonaws.com.cn")
_RESERVED: Final = {
    "--x-s3": "directory buckets",
    "--xa-s3": "access points of directory buckets",
    "--ol-s3": "Object Lambda access points",
    "--op-s3": "access points on Outposts",
    ".mrap": "Multi-Region Access Points",
}
"""Ends of names that no bucket has: Amazon S3 User Guide, "General purpose bucket naming rules"."""
_MADE_BY_THE_SIGNER: Final = frozenset({"x-amz-date", "x-amz-content-sha256", "x-amz-security-token"})
_ASK_BY_HAND: Final = "check the profile; what it runs can be tried by hand"
_CONNECT_WITHIN_S: Final = 10.0
_CREDENTIALS_WITHIN_S: Final = 120.0  # a helper that asks a person something nobody sees would hold the run for ever

logging.getLogger("aiobotocore").addHandler(logging.NullHandler())  # it logs what it raises, and so do we


class _CapturedError(Exception):
    """Carries the prepared request out of aiobotocore instead of sending it."""

    def __init__(self, request: Any) -> None:
        super().__init__("captured")
        self.request = request


class _Straight:
    """An aiohttp session that takes an answer as it is: a redirect would carry the session token to another host."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(self, *arguments: Any, **named: Any) -> Any:
        return self._session.request(*arguments, **named, allow_redirects=False)


class _Proxies(ProxyConfiguration):
    """Our choice of a proxy for each URL in place of botocore's, which reads NO_PROXY another way."""

    def __init__(self, setting: str | None, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._setting = setting
        self._environment = environment

    def proxy_url_for(self, url: str) -> str | None:  # type: ignore[override]  # as the original does
        proxy = proxy_for(url, self._setting, self._environment)
        return proxy.url_with_user() if proxy else None


class _StraightSession(AIOHTTPSession):
    """What the clients of the credential chain (STS, SSO) send with."""

    proxies: ClassVar[ProxyConfiguration]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._proxy_config = self.proxies

    async def send(self, request: Any) -> Any:
        """As the original; a proxy's refusal in the clear is no answer of the service. Raises `AccessDeniedError`."""
        answer = await super().send(request)
        if answer.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raise _proxy_refusal(answer.status_code, "credentials")
        return answer

    async def _get_session(self, proxy_url: str | None) -> Any:
        return _Straight(await super()._get_session(proxy_url))  # type: ignore[misc]  # private: the stubs leave it out


class Session:
    """aiobotocore's view of one remote: its credential chain, its endpoints, and the calls that are rare."""

    def __init__(self, remote: Remote, environment: Mapping[str, str] = os.environ) -> None:
        """Raises `UsageError` for an endpoint with a user in it."""
        self._remote = remote
        self._environment = environment
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            check_endpoint(environment.get(name, ""), where=name)
        check_endpoint(remote.endpoint_url or "", where="endpoint_url")
        self._session: AioSession | None = None
        self._credentials: Any = None

    async def credentials(self, *, again: bool = False) -> Credentials | None:
        """The chain's credentials (``again``: read from the start), None when requests are not signed.

        Raises `AccessDeniedError` without any or when the chain fails in whatever way, `TransientError` when who
        gives them cannot be reached or is busy, `UsageError` for a profile that is not there.
        """
        if not self._remote.sign_requests:
            return None
        try:
            async with asyncio.timeout(_CREDENTIALS_WITHIN_S):
                frozen = await self._freeze(again=again)
        except Exception as error:  # the chain runs programs and reads files of others: anything comes out of it
            raise _credentials_error(error) from None  # a traceback would show what a helper printed
        return Credentials(
            access_key=frozen.access_key,
            secret_key=Secret(frozen.secret_key),
            token=Secret(frozen.token) if frozen.token else None,
            expires_s=self._expires_s(),
        )

    def _expires_s(self) -> float | None:
        expiry = getattr(self._credentials, "_expiry_time", None)  # nothing public tells it
        return expiry.timestamp() if isinstance(expiry, datetime) else None

    async def _freeze(self, *, again: bool) -> Any:
        if again:
            self._session = self._credentials = None
        if self._credentials is None:
            session = self._aws()
            _confine_metadata(session)
            self._credentials = await session.get_credentials()
        if self._credentials is None:
            raise NoCredentialsError
        return await self._credentials.get_frozen_credentials()

    async def prepare(self, bucket: str, region: str | None = None) -> Prepared:
        """What a GetObject of ``bucket`` would look like; for ``region`` when the bucket turned out to be there.

        Nothing is sent. Raises `UsageError`, `AccessDeniedError`, `SourceError`.
        """
        where = f"s3://{bucket}"
        try:
            async with self._client(region) as client:
                check_endpoint(client.meta.endpoint_url, where="the profile's endpoint_url")
                client.meta.events.register_first("before-send.s3", _capture)
                await client.get_object(Bucket=bucket, Key=_PLACEHOLDER)
        except _CapturedError as captured:
            self._check_host(bucket, urlsplit(captured.request.url).hostname or "", where)
            return _prepared(captured.request, where, signed=self._remote.sign_requests)
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            raise _mapped(error, where) from None  # a traceback would show an endpoint as a profile has it
        raise SourceError("aiobotocore prepared no request", where=where)

    def _check_host(self, bucket: str, host: str, where: str) -> None:
        """Refuse what Amazon serves in other ways than buckets, and an endpoint that is not what was asked for."""
        for ending, what in _RESERVED.items():
            if bucket.endswith(ending) and host.endswith(_AMAZON):
                raise SourceError(f"{what} are not supported", where=where, hint="name the bucket behind it")
        remote = self._remote
        for wanted, word in ((remote.use_fips_endpoint, "fips"), (remote.use_dualstack_endpoint, "dualstack")):
            if wanted and word not in re.split(r"[.-]", host):
                raise UsageError(
                    f"use_{word}_endpoint has no effect on this endpoint", where=host, hint="leave one of them out"
                )

    def _aws(self) -> AioSession:
        if self._session is None:
            self._session = get_session()
            proxies = _Proxies(self._remote.proxy, self._environment)
            straight = type("_Session", (_StraightSession,), {"proxies": proxies})
            self._session.set_default_client_config(AioConfig(http_session_cls=straight))
            if self._remote.profile is not None:
                self._session.set_config_variable("profile", self._remote.profile)
        return self._session

    def client(self, *, connections: int) -> Any:
        """A client of S3, aiobotocore's, to be entered; it computes and compares no checksums of its own accord.

        Raises, now or when it is entered, what `explained` explains.
        """
        return self._client(
            None, max_pool_connections=connections, connect_timeout=_CONNECT_WITHIN_S,
            request_checksum_calculation="when_required", response_checksum_validation="when_required",
        )  # fmt: skip

    @staticmethod
    def explained(error: Exception, where: str) -> StagerError:
        """What a client of ours raised, in words of ours."""
        return _mapped(error, where)

    def _client(self, region: str | None, **more: Any) -> Any:
        remote = self._remote
        session = self._aws()
        options: dict[str, Any] = {"retries": {"total_max_attempts": 3}, **more}
        if not remote.sign_requests:
            options["signature_version"] = UNSIGNED
        for name in ("use_dualstack_endpoint", "use_fips_endpoint"):
            if (wanted := getattr(remote, name)) is not None:
                options[name] = wanted
        if remote.addressing_style != "auto":
            options["s3"] = {"addressing_style": remote.addressing_style}
        chosen = region or remote.region or self._environment.get("AWS_REGION") or session.get_config_variable("region")
        return session.create_client(
            "s3",
            region_name=chosen or "us-east-1",
            endpoint_url=remote.endpoint_url,
            verify=ca_file(remote, self._environment) if remote.verify_ssl else False,
            config=AioConfig(**options),
        )


def _confine_metadata(session: AioSession) -> None:
    """What gives credentials to this host or container is asked directly, and its answer is taken as it is.

    botocore would ask a proxy for instance metadata, which answers for another host, and would carry a container's
    token to wherever an answer points.
    """
    chain = session.get_component("credential_provider")
    for name, fetcher in (("iam-role", "_role_fetcher"), ("container-role", "_fetcher")):
        with suppress(UnknownCredentialError):
            _confine(getattr(chain.get_provider(name), fetcher)._session)  # noqa: SLF001 - nothing public leads there


def _confine(http: Any) -> None:
    find = http._get_session  # noqa: SLF001

    async def find_straight(proxy_url: str | None) -> _Straight:
        return _Straight(await find(proxy_url))

    http._proxy_config = ProxyConfiguration()  # noqa: SLF001
    http._get_session = find_straight  # noqa: SLF001


def _capture(request: Any, **_: object) -> None:
    raise _CapturedError(request)


def _prepared(request: Any, where: str, *, signed: bool) -> Prepared:
    parts = urlsplit(request.url)
    if parts.query or not parts.path.endswith(_PLACEHOLDER) or parts.hostname is None:
        raise SourceError("this endpoint wants a kind of request that stager cannot send", where=where)
    headers = {str(name).lower(): _text(value) for name, value in request.headers.items()}
    region, service = "", "s3"
    if signed:
        scope = _CREDENTIAL.match(headers.get("authorization", ""))
        if scope is None:
            raise SourceError("this bucket needs a kind of signature that stager cannot make", where=where)
        region, service = scope.groups()
    if service != "s3" or "x-amz-s3session-token" in headers:
        raise SourceError(f"buckets of the service {service} are not supported", where=where)
    kept = tuple(
        (name, value)
        for name, value in headers.items()
        if name.startswith("x-amz-") and name not in _MADE_BY_THE_SIGNER
    )
    tls = parts.scheme == "https"
    host_header = parts.netloc.rpartition("@")[2]
    path = parts.path.removesuffix(_PLACEHOLDER)
    return Prepared(
        url=f"{parts.scheme}://{host_header}",
        host=parts.hostname,
        port=parts.port or (443 if tls else 80),
        tls=tls,
        host_header=host_header,
        path_prefix=quote(path, safe="/%-._~").encode("ascii"),
        headers=kept,
        region=region,
        service=service,
    )


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


@dataclass(kw_only=True)
class _Answer:
    """An answer that botocore took for an error, as `stager.retry` wants to see it."""

    status: int
    code: str
    message: str
    kind: str = "http"
    errno: int = 0
    where: str = ""


def _proxy_refusal(status: int, where: str) -> StagerError:
    return error_for(_Answer(kind="proxy", where="tunnel", status=status, code="", message=""), where=where)


def _credentials_error(error: Exception) -> StagerError:
    """Whatever came out of the credential chain: worth another try, or no access. What its helpers print stays out."""
    where = "credentials"
    match error:
        case StagerError():
            return error
        case ParamValidationError() | CredentialRetrievalError():
            pass
        case TimeoutError():
            return TransientError(f"not there after {_CREDENTIALS_WITHIN_S:.0f} s", where=where, hint=_ASK_BY_HAND)
        case ClientError():
            mapped = _mapped(error, where)
            if isinstance(mapped, TransientError):
                return mapped
            denied = str(error.response.get("Error", {}).get("Code", "")).startswith("AccessDenied")
            hint = _ASK_BY_HAND if denied else mapped.hint  # what is told of denied objects is of no use here
            return AccessDeniedError(f"the chain gives none: {mapped.what}", where=where, hint=hint)
        case BotoCoreError():
            return _mapped(error, where)
        case OSError():
            reason = f"{error.strerror or type(error).__name__}{f': {error.filename}' if error.filename else ''}"
            return AccessDeniedError(f"the chain gives none: {reason}", where=where, hint=_ASK_BY_HAND)
    detail = str(error.kwargs["provider"]) if isinstance(error, CredentialRetrievalError) else type(error).__name__
    return AccessDeniedError(f"the chain gives none that can be used ({detail})", where=where, hint=_ASK_BY_HAND)


def _mapped(error: Exception, where: str) -> StagerError:
    """The errors of botocore, in words of ours."""
    match error:
        case ClientError():
            told = error.response.get("Error", {})
            answer = _Answer(
                status=int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
                code=str(told.get("Code", "")),
                message=str(told.get("Message", "")),
            )
            return error_for(answer, where=where)
        case NoCredentialsError():
            return AccessDeniedError(
                "no credentials found", where=where, hint="set AWS_PROFILE or AWS_ACCESS_KEY_ID, or --no-sign-request"
            )
        case PartialCredentialsError():
            return AccessDeniedError(f"the credentials are not complete ({_one_line(error)})", where=where)
        case ProfileNotFound():
            return UsageError("no such profile", where=str(error.kwargs.get("profile", "")), hint="check --profile")
        case (
            ParamValidationError()
            | ValueError()
            | EndpointProviderError()
            | UnsupportedS3AccesspointConfigurationError()
            | UnsupportedS3ConfigurationError()
        ):
            return UsageError(f"aiobotocore refuses this source ({_one_line(error)})", where=where)
        case HTTPClientError() if isinstance(ours := error.kwargs.get("error"), StagerError):
            return ours  # a proxy's URL that is none
        case ProxyConnectionError() if status := getattr(error.kwargs.get("error"), "status", 0):
            return _proxy_refusal(status, where)
        case SSLError():
            return SourceError(f"no trusted connection ({_one_line(error)})", where=where, hint="check --ca-bundle")
        case HTTPClientError() | ConnectionError() | OSError():
            return TransientError(f"cannot ask the server ({_one_line(error)})", where=where)
    return AccessDeniedError(f"no usable credentials or settings ({_one_line(error)})", where=where)


def _one_line(error: Exception) -> str:
    return redacted(" ".join(str(error).split()))[:300]
