"""The plain cases of the AWS chain without aiobotocore, whose import and client take 0.7 s of CPU.

Static credentials, an endpoint that is named or AWS's own, a bucket whose name can be a host's label. What is said here
is what `stager.sources.s3_endpoint.Session` says, compared field by field over a table in the tests; where anything is
set that is not understood here, nothing is said and aiobotocore decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from stager.config import Remote, Secret
from stager.sources.s3_profile import Profile, read_profile
from stager.sources.s3_values import CHECKSUM_MODE, Credentials, Prepared

__all__ = ["Settings", "prepare", "read_settings"]

_UNDERSTOOD: Final = frozenset({
    "AWS_ACCESS_KEY_ID",
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
})  # fmt: skip
_WITHOUT_EFFECT: Final = frozenset({  # on a GET that is signed with static credentials
    "AWS_CA_BUNDLE",  # looked at by `stager.sources.s3_host.ca_file`
    "AWS_DEFAULT_OUTPUT",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EXECUTION_ENV",
    "AWS_PAGER",
})  # fmt: skip
_CHECKSUMS_WHEN: Final = ("when_supported", "when_required")
_CUSTOM_MODELS: Final = "~/.aws/models"  # where a user may change what botocore knows of S3

# Patterns of `re.fullmatch`, compiled where they are needed: a compilation takes as long as reading the environment.
_KEY: Final = r"[A-Za-z0-9_.-]+"
_HOSTABLE: Final = r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"
_PATH_BUCKET: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]"
_AWS_REGION: Final = r"(?:af|ap|ca|eu|il|me|mx|sa|us)-[a-z]+-[0-9]"  # of the partition amazonaws.com
_REGION: Final = r"[a-z0-9]*[a-z][a-z0-9]*(?:-[a-z0-9]+)*"
_ENDPOINT: Final = (
    r"(?P<scheme>https?)://(?P<host>[a-z0-9]+(?:[.-][a-z0-9]+)*|\[[0-9a-f:]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>(?:/[A-Za-z0-9_-]+)*)/?"
)


class Settings(Struct, frozen=True, kw_only=True):
    """What options, environment and files say of every bucket. ``credentials``: None when requests are not signed."""

    credentials: Credentials | None
    headers: tuple[tuple[str, str], ...]
    endpoint_url: str | None
    region: str
    addressing_style: str


def read_settings(remote: Remote, environment: Mapping[str, str] = os.environ) -> Settings | None:
    """The settings where all of them are plain, else None. Raises nothing."""
    known = _UNDERSTOOD | _WITHOUT_EFFECT
    if any(name.startswith(("AWS_", "BOTO")) and name not in known for name in environment):
        return None
    if os.path.lexists(os.path.expanduser(_CUSTOM_MODELS)):
        return None
    if remote.use_dualstack_endpoint is not None or remote.use_fips_endpoint is not None:
        return None
    of_requests = environment.get("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    of_answers = environment.get("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_supported")
    if of_requests not in _CHECKSUMS_WHEN or of_answers not in _CHECKSUMS_WHEN:
        return None
    profile = read_profile(remote.profile, environment)
    if profile is None:
        return None
    credentials = _credentials(remote, environment, profile)
    if remote.sign_requests and credentials is None:
        return None
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or profile.endpoint_url
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION", profile.region)
    return Settings(
        credentials=credentials,
        headers=(CHECKSUM_MODE,) if of_answers == "when_supported" else (),
        endpoint_url=endpoint if remote.endpoint_url is None else remote.endpoint_url,
        region=remote.region or region or "us-east-1",
        addressing_style=remote.addressing_style,
    )


def prepare(settings: Settings, bucket: str, region: str | None = None) -> Prepared | None:
    """What a GetObject of ``bucket`` looks like, None where aiobotocore has to say; see `Session.prepare`."""
    region = region or settings.region
    if "--" in bucket or ".." in bucket or bucket.endswith("-s3alias"):  # directory buckets, access points, the like
        return None
    if settings.endpoint_url is None:
        return _on_aws(settings, bucket, region)
    return _on_endpoint(settings, settings.endpoint_url, bucket, region)


def _credentials(remote: Remote, environment: Mapping[str, str], profile: Profile) -> Credentials | None:
    """The first of environment and profile; a profile that was asked for by option leaves the environment out."""
    if not remote.sign_requests:
        return None
    if remote.profile is None and (key := environment.get("AWS_ACCESS_KEY_ID")):
        secret = environment.get("AWS_SECRET_ACCESS_KEY", "")
        token = environment.get("AWS_SECURITY_TOKEN") or environment.get("AWS_SESSION_TOKEN")
    else:
        key, secret, token = profile.access_key, profile.secret_key, profile.token
    if not re.fullmatch(_KEY, key) or not _is_plain(secret) or (token and not _is_plain(token)):
        return None
    return Credentials(access_key=key, secret_key=Secret(secret), token=Secret(token) if token else None)


def _is_plain(secret: str) -> bool:
    return secret.isascii() and secret.isprintable() and " " not in secret and secret != ""


def _on_aws(settings: Settings, bucket: str, region: str) -> Prepared | None:
    if not re.fullmatch(_HOSTABLE, bucket) or not re.fullmatch(_AWS_REGION, region):
        return None
    host = "s3.amazonaws.com" if region == "us-east-1" else f"s3.{region}.amazonaws.com"
    if settings.addressing_style == "path":
        return _prepared(settings, region, "https", host, None, f"/{bucket}/")
    return _prepared(settings, region, "https", f"{bucket}.{host}", None, "/")


def _on_endpoint(settings: Settings, url: str, bucket: str, region: str) -> Prepared | None:
    endpoint = re.fullmatch(_ENDPOINT, url)
    if endpoint is None or f".{endpoint['host']}".endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return None
    if not re.fullmatch(_REGION, region) or len(region) > 63 or "fips" in region or region.startswith(("aws-", "s3-")):
        return None
    scheme, host, port, path = endpoint["scheme"], endpoint["host"], endpoint["port"], endpoint["path"]
    if settings.addressing_style == "virtual":
        if host.startswith("[") or host.replace(".", "").isdigit() or not re.fullmatch(_HOSTABLE, bucket):
            return None
        return _prepared(settings, region, scheme, f"{bucket}.{host}", port, f"{path}/")
    if not re.fullmatch(_PATH_BUCKET, bucket):
        return None
    return _prepared(settings, region, scheme, host, port, f"{path}/{bucket}/")


def _prepared(
    settings: Settings, region: str, scheme: str, host: str, port: str | None, path_prefix: str
) -> Prepared | None:
    tls = scheme == "https"
    number = int(port) if port else 443 if tls else 80
    if number > 0xFFFF:
        return None
    host_header = f"{host}:{port}" if port else host
    return Prepared(
        url=f"{scheme}://{host_header}",
        host=host.strip("[]"),
        port=number,
        tls=tls,
        host_header=host_header,
        path_prefix=path_prefix.encode("ascii"),
        headers=settings.headers,
        region=region if settings.credentials else "",
        service="s3",
    )
