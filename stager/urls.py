"""Source URLs: the one place that takes them apart.

``s3://BUCKET[/PREFIX]``, ``s3://BUCKET/KEY?versionId=ID`` (an access point's ARN may stand for the bucket),
``git+https://...``, ``git+ssh://...``, ``git+file://...`` (with ``@REF`` and ``#subdir=...``), ``file:///DIR``,
``bind:/MOUNTED/PATH``, ``nfs://HOST/EXPORT``.

A ``?`` stands for itself in a key, but for a closing ``?versionId=ID``: a key that itself ends so is reached by its
prefix.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from stager.errors import UsageError
from stager.model import SourceRef

__all__ = ["check_endpoint", "parse_source", "redacted"]

_KINDS = "s3://, git+https://, git+ssh://, git+file://, file:///, bind:/, nfs://"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_ARN = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?P<service>[a-z0-9-]+):(?P<region>[a-z0-9-]*):(?P<account>[0-9]{12}):"
    r"(?P<resource>.*)",
    re.DOTALL,
)
_ACCESS_POINT = re.compile(
    r"accesspoint[/:](?P<name>[a-z0-9][a-z0-9-]{1,48}[a-z0-9](?:\.mrap)?)(?:/(?P<prefix>.*))?", re.DOTALL
)
_OTHER_ARNS = {
    "s3-object-lambda": "Object Lambda access points",
    "s3-outposts": "buckets on Outposts",
    "s3express": "directory buckets",
}
_NAME_THE_BUCKET = "name the bucket behind it, or a plain access point"
_LONGEST_HOST = 253  # characters (RFC 1035, section 2.3.4, written with dots)
_VERSION = re.compile(r"(?P<key>.*)\?versionId=(?P<id>[^?]*)", re.DOTALL)
_VERSION_ID = re.compile(r"[!-~]{1,1024}")  # "URL-ready" (Amazon S3 User Guide, "How S3 Versioning works")
_SCP_LIKE = re.compile(r"[\w.-]+@[\w.-]+:(?!//).+", re.DOTALL)  # git-clone(1), "Git URLs": [USER@]HOST:PATH
_INLINE_REF = re.compile(r"(?P<url>//[^/]*/.*[^/])@(?P<ref>[^@]*)")  # an @ that begins a path segment is the path's own
_REF = re.compile(r"(?!-)(?!.*(\.\.|@\{))[^\s~^:?*\[\\]+")  # git-check-ref-format(1), the parts that matter here
_EXPORT = re.compile(r"//(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?P<path>/[^?#]*)")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SIGNED = re.compile(r"(?i)(x-amz-(signature|credential|security-token)|awsaccesskeyid|[?&]signature)=")


def parse_source(text: str, *, ref: str | None = None) -> SourceRef:
    """Take a source URL apart.

    ``ref`` is the job file's field of that name; it and ``@REF`` in the URL exclude each other.
    Raises `UsageError`: an unknown kind, a URL that carries a password or a signature (the message never repeats
    it), a relative path, an empty bucket.
    """
    if _UNSEEN.search(text):
        raise UsageError("a source holds no control characters and none that turn the direction of text")
    scheme, separator, rest = text.partition(":")
    if not separator or text.startswith(("/", "./", "../", "~")):
        raise UsageError("not a source", where=redacted(text),
                         hint=f"a directory is written file:///DIR, with its full path; else one of {_KINDS}")
    if _SIGNED.search(text):
        raise UsageError("a signed URL is refused: it carries a secret", where=f"{scheme}:...",
                         hint="name the bucket (s3://BUCKET/PREFIX) and let the credential chain sign")
    if scheme.startswith("git+"):
        return _git(text, scheme.removeprefix("git+"), rest, ref)
    if ref is not None:
        raise UsageError("ref is for git sources", where=redacted(text))
    if scheme == "s3":
        return _s3(text, rest)
    if scheme == "file":
        return SourceRef(scheme="file", location=_absolute(text, _unquote(rest)), text=text)
    if scheme == "bind":
        return SourceRef(scheme="bind", location=_absolute(text, rest), text=text)
    if scheme == "nfs":
        return _nfs(text, rest)
    hint = f"write one of {_KINDS}"
    if scheme in ("http", "https", "ssh") and rest.startswith("//"):
        hint = f"a Git repository is written git+{scheme}://...; else {hint}"
    elif _SCP_LIKE.fullmatch(text):
        hint = f"a Git repository is written git+ssh://USER@HOST/PATH; else {hint}"
    raise UsageError(f"unknown kind of source {scheme!r}", where=redacted(text), hint=hint)


def _nfs(text: str, rest: str) -> SourceRef:
    """RFC 2224, without a port: nfs(5) has no such form either."""
    match = _EXPORT.fullmatch(rest)
    if match is None or ".." in match["path"].split("/"):
        raise UsageError("not an NFS export", where=redacted(text), hint="write nfs://HOST/EXPORT, a plain path")
    return SourceRef(scheme="nfs", location=f"{match['host']}:{match['path']}", text=text)


def check_endpoint(url: str, *, where: str) -> None:
    """Refuse an endpoint that carries a user, a password or what may be a piece of one: `UsageError`.

    ``where`` names the setting; the message never repeats the URL. An empty one is none.
    """
    if "@" in url or "?" in url or "#" in url:
        raise UsageError("an endpoint with a user or a query in it is refused", where=where,
                         hint="write https://HOST[:PORT][/PATH] and let the credential chain sign")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        valid = not url or (parts.scheme in ("http", "https") and 0 < len(host) <= _LONGEST_HOST and parts.port != 0)
    except ValueError:
        valid = False
    if not valid:
        raise UsageError("is no http:// or https:// URL", where=where, hint="write http[s]://HOST[:PORT][/PATH]")


def redacted(text: str) -> str:
    """``text`` with ``...`` for all that may be user info: what lies between the first ``//`` and the last ``@``."""
    return re.sub(r"(?s)//.*@", "//...@", text)


def _s3(text: str, rest: str) -> SourceRef:
    if not rest.startswith("//"):
        raise UsageError("not an S3 source", where=redacted(text), hint="write s3://BUCKET/PREFIX")
    location, version = rest[2:], None
    if match := _VERSION.fullmatch(location):
        location, version = match["key"], _version_id(match["id"], redacted(text))
    location = _access_point(location) if location.startswith("arn:") else _in_bucket(text, location)
    if version is not None and location.endswith("/"):
        raise UsageError("a version is one of a single key", where=redacted(text),
                         hint="write s3://BUCKET/KEY?versionId=ID")
    return SourceRef(scheme="s3", location=location, version_id=version, text=text)


def _in_bucket(text: str, location: str) -> str:
    bucket, _, prefix = location.partition("/")
    if "@" in bucket or (":" in bucket and "@" in prefix):  # a secret key may hold a slash
        raise UsageError("a URL with a user in it is refused", where="s3://...", hint="use a profile or a remote")
    if not _BUCKET.fullmatch(bucket):
        where = "s3://..." if ":" in bucket else redacted(text)
        raise UsageError("no valid bucket name", where=where, hint="write s3://BUCKET/PREFIX")
    return f"{bucket}/{prefix}"


def _version_id(encoded: str, shown: str) -> str:
    found = _unquote(encoded)
    if not _VERSION_ID.fullmatch(found):
        raise UsageError("no version id stands after ?versionId=", where=shown)
    return found


def _access_point(arn: str) -> str:
    """``ARN/PREFIX`` of an access point with the ARN spelled without a slash, as botocore takes it too.

    Source: Amazon S3 User Guide, "Access point naming rules, restrictions, and limitations".
    """
    parts = _ARN.fullmatch(arn)
    service = parts["service"] if parts else ""
    named = _ACCESS_POINT.fullmatch(parts["resource"]) if parts else None
    if service in _OTHER_ARNS:
        raise UsageError(f"{_OTHER_ARNS[service]} are not supported", where="s3://arn:...", hint=_NAME_THE_BUCKET)
    if parts is None or named is None or service != "s3":
        raise UsageError("no ARN of an access point", where="s3://arn:...",
                         hint="write s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/PREFIX, or s3://BUCKET/PREFIX")
    if not parts["region"] or named["name"].endswith(".mrap"):
        raise UsageError("Multi-Region Access Points are not supported", where="s3://arn:...", hint=_NAME_THE_BUCKET)
    arn = f"arn:{parts['partition']}:s3:{parts['region']}:{parts['account']}:accesspoint:{named['name']}"
    return f"{arn}/{named['prefix'] or ''}"


def _git(text: str, transport: str, rest: str, ref: str | None) -> SourceRef:
    shown = redacted(text)
    if transport not in ("https", "http", "ssh", "file") or not rest.startswith("//"):
        raise UsageError(f"unknown git transport {transport!r}", where=shown,
                         hint="use git+https://, git+ssh:// or git+file://")
    url, _, fragment = rest.partition("#")
    inline = None
    if match := _INLINE_REF.fullmatch(url):
        url, inline = match["url"], match["ref"]
    try:
        parts = urlsplit(f"{transport}:{url}")
        parts.port  # noqa: B018 - what stands there is looked at when it is asked for
    except ValueError:
        raise UsageError("no valid host and port; a password may not stand here", where=shown,
                         hint="use git's credential helper, netrc or ssh") from None
    if parts.password is not None or (parts.username is not None and transport != "ssh"):
        raise UsageError("a URL with a user or a password in it is refused", where=shown,
                         hint="use git's credential helper, netrc or ssh")
    subdir = None
    for name, value in parse_qsl(fragment, keep_blank_values=True, strict_parsing=False):
        if name != "subdir":
            raise UsageError("unknown part after # of a git source", where=shown, hint="only #subdir= is known")
        subdir = value.strip("/") or None
    if fragment and subdir is None:
        raise UsageError("the part after # is not subdir=DIRECTORY", where=shown)
    if subdir is not None and any(part in ("", ".", "..") for part in subdir.split("/")):
        raise UsageError("subdir is not a plain relative path", where=shown)
    if inline is not None and ref is not None:
        raise UsageError("the ref stands in the URL and in ref", where=shown, hint="keep ref =")
    wanted = ref if ref is not None else inline
    if wanted is not None and not _REF.fullmatch(wanted):
        raise UsageError(f"{wanted!r} is no ref", where=shown, hint="name a branch, a tag or a commit")
    if transport != "file" and not parts.hostname:
        raise UsageError("no host", where=shown)
    if (parts.hostname or "").startswith("-") or (parts.username or "").startswith("-"):
        raise UsageError("a host or user that starts with '-' is refused", where=shown)
    location = _absolute(text, _unquote(url)) if transport == "file" else f"{transport}:{url}"
    if transport == "file":
        location = f"file://{location}"
    return SourceRef(scheme="git", location=location, ref=wanted, subdir=subdir, text=text)


def _unquote(text: str) -> str:
    """What percent-encoding stands for, byte by byte: a path need not be UTF-8."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(text)))


def _absolute(text: str, path: str) -> str:
    path = path.removeprefix("//") if path.startswith("///") else path
    if not path.startswith("/") or path.startswith("//") or "\0" in path:
        raise UsageError("needs an absolute path", where=redacted(text), hint="write file:///DIR or bind:/DIR")
    return os.path.normpath(path)

