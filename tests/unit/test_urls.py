"""Source URLs: what is taken, what is refused, and that a refusal never repeats a secret."""

from __future__ import annotations

import pytest

from stager.errors import UsageError
from stager.urls import check_endpoint, parse_source

ARN = "arn:aws:s3:us-west-2:123456789012:accesspoint"


@pytest.mark.parametrize(
    ("text", "scheme", "location", "ref", "subdir"),
    [
        ("s3://bucket", "s3", "bucket/", None, None),
        ("s3://bucket/a/b/", "s3", "bucket/a/b/", None, None),
        (f"s3://{ARN}/my-ap", "s3", f"{ARN}:my-ap/", None, None),
        (f"s3://{ARN}:my-ap/a@b/", "s3", f"{ARN}:my-ap/a@b/", None, None),
        ("git+https://host/vision/net", "git", "https://host/vision/net", None, None),
        ("git+https://host/vision/net@v1.4#subdir=a/b", "git", "https://host/vision/net", "v1.4", "a/b"),
        ("git+https://host/vision/net@feature/x", "git", "https://host/vision/net", "feature/x", None),
        ("git+https://host/@scope/net", "git", "https://host/@scope/net", None, None),
        ("git+https://host/@scope/net@v1", "git", "https://host/@scope/net", "v1", None),
        ("git+ssh://git@host/speech/words", "git", "ssh://git@host/speech/words", None, None),
        ("git+ssh://git@host/speech/words@main", "git", "ssh://git@host/speech/words", "main", None),
        ("git+file:///srv/net.git@v1", "git", "file:///srv/net.git", "v1", None),
        ("file:///data/a%20b", "file", "/data/a b", None, None),
        ("file:/data", "file", "/data", None, None),
        ("bind:/mnt/efs", "bind", "/mnt/efs", None, None),
        ("bind:/mnt/a%20b", "bind", "/mnt/a%20b", None, None),
    ],
)
def test_good_source_is_taken_apart(
    text: str, scheme: str, location: str, ref: str | None, subdir: str | None
) -> None:
    source = parse_source(text)
    assert (source.scheme, source.location, source.ref, source.subdir) == (scheme, location, ref, subdir)


@pytest.mark.parametrize(
    ("text", "location", "version_id"),
    [
        ("s3://b/k?versionId=3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY", "b/k", "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"),
        ("s3://b/k?versionId=a%2Bb", "b/k", "a+b"),
        ("s3://b/dir/what?x=1?versionId=null", "b/dir/what?x=1", "null"),
        ("s3://b/k?versionId=v?x=1", "b/k?versionId=v?x=1", None),
        ("s3://b/k?versionid=v", "b/k?versionid=v", None),
        ("s3://b/k?", "b/k?", None),
    ],
)
def test_version_of_a_key_is_what_closes_the_url(text: str, location: str, version_id: str | None) -> None:
    source = parse_source(text)
    assert (source.location, source.version_id, source.text) == (location, version_id, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data",
        "s3://b/k?versionId=",
        "s3://b/k?versionId=a%20b",
        "s3://b/k?versionId=%00",
        "s3://b/k?versionId=" + "v" * 1025,
        "s3://b/?versionId=v",
        "s3://b/dir/?versionId=v",
        "s3://b?versionId=v",
        "http://host/x",
        "s3:bucket",
        "s3:///key",
        "s3://bu cket/x",
        "s3://arn:aws:s3:::bucket/key",
        f"s3://{ARN}",
        f"s3://{ARN}/My-Ap/x",
        f"s3://{ARN}/my-ap:x",
        "s3://arn:aws:s3:us-west-2:1234:accesspoint/my-ap",
        "s3://arn:aws:sqs:us-west-2:123456789012:accesspoint/my-ap",
        "git+https://host/x@-upload-pack=touch",
        "git+https://host/x@",
        "git+https://host/x@a..b",
        "git+ext://sh -c id",
        "git+https:///x",
        "git+https://host/x#branch=v1",
        "git+https://host/x#subdir=../y",
        "git+ssh://-oProxyCommand=id/x",
        "git+file://relative",
        "file:relative",
        "file://host/dir",
        "bind:relative",
        "s3://bucket/a\nb",
        "s3://bucket/a\x1b[2J",
    ],
)
def test_bad_source_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_source(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://key:hunter2@bucket/x",
        "git+https://user:hunter2@host/x",
        "git+https://hunter2@host/x",
        "git+ssh://git:hunter2@host/x",
        "s3://bucket/x?X-Amz-Signature=hunter2",
        "https://hunter2@host/x",
        "s3://AKIAEXAMPLE:hun/hunter2@bucket/x",
        "s3://AKIAEXAMPLE:hunter2/bucket",
        "s3://AKIAEXAMPLE:hunter2",
        "git+https://user:p@hunter2@host/x",
        "git+https://user:hunter2/ss@127.0.0.1/x",
        "git+ssh://user:hunter2/ss@127.0.0.1/x",
        "git+https://user:p#hunter2@host/x",
        "git+ssh://user@hunter2@host:port/x",
    ],
)
def test_source_with_a_secret_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_source(text)
    assert "hunter2" not in str(caught.value)


def test_ref_given_twice_is_refused() -> None:
    with pytest.raises(UsageError):
        parse_source("git+https://host/x@v1", ref="v2")


def test_ref_for_a_source_without_refs_is_refused() -> None:
    with pytest.raises(UsageError):
        parse_source("s3://bucket/x", ref="v2")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@127.0.0.1:9000",
        "http://user:hun/hunter2@127.0.0.1",
        "hunter2@host",
        "http://host?hunter2",
        "http://host:hunter2/",
        "hunter2:1234",
        "ftp://hunter2",
        "http://:80/hunter2",
    ],
)
def test_endpoint_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL") as caught:
        check_endpoint(url, where="AWS_ENDPOINT_URL")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://host:0", "http://host:99999", "http://[::1", f"http://{'a.' * 127}"])
def test_endpoint_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"^endpoint_url: is no "):
        check_endpoint(url, where="endpoint_url")


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9000/base", "https://[::1]:9000", "https://host"])
def test_plain_endpoint_is_taken(url: str) -> None:
    check_endpoint(url, where="endpoint_url")


def test_accepted_git_source_keeps_its_text() -> None:
    assert parse_source("git+ssh://git@host/x@v1").text == "git+ssh://git@host/x@v1"
    assert parse_source("git+https://host/x@v1").text == "git+https://host/x@v1"


@pytest.mark.parametrize("character", ["\n", "\x1b", "\x7f", "\x9b", "\u202e", "\u2028", "\u2066", "\u200f"])
def test_source_that_would_act_on_a_terminal_is_refused_without_repeating_it(character: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_source(f"s3://bucket/{character}")
    assert character not in str(caught.value)


def test_percent_encoding_of_a_file_source_stands_for_bytes() -> None:
    assert parse_source("file:///d%ff/%E3%80%80").location == "/d\udcff/\u3000"
    with pytest.raises(UsageError):
        parse_source("file:///d%00")


@pytest.mark.parametrize(
    ("arn", "words"),
    [
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap/x", "Multi-Region Access Points are not supported"),
        ("arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/a-b", "Object Lambda access points are not"),
        ("arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/a", "buckets on Outposts are not"),
        ("arn:aws:s3express:us-west-2:123456789012:accesspoint/a--usw2-az1--xa-s3", "directory buckets are not"),
    ],
)
def test_what_cannot_be_signed_is_refused_by_name(arn: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_source(f"s3://{arn}")
