"""bench/origin answers as AWS documents S3, and as moto answers for the same keys.

Pages are those of the "Amazon S3 API Reference" (GetObject, HeadObject, ListObjectsV2, Error responses) and the
"Amazon S3 User Guide". Where moto differs from them the pages win, and the test says so.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import ssl
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import awscrt.checksums
import pytest

from servers.bench_origin import Answer, BenchOrigin, bench_origin
from servers.certificates import Certificates
from servers.moto_s3 import MotoS3

pytestmark = pytest.mark.xdist_group("bench_origin")

KEYS = [
    *("a b+c%41", "a&b<c>'\"", "a-b", "a-b-c/d", "a.b", "a/0", "a/b/1", "a/b/2", "a/b0", "a/c/1", "ab/ab/ab"),
    *("b/x\x01\ty", "b0", "caf\u00e9/\u4e2d", "empty", "z~(1)!*.png"),
]
ETAG = re.compile(r'"[0-9a-f]{32}-1"')


def content_of(key: str) -> bytes:
    return b"" if key == "empty" else (key * 40).encode()


@pytest.fixture(scope="module")
def origin(origin_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchOrigin]:
    folder = tmp_path_factory.mktemp("folder")
    for key in KEYS:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content_of(key))
    with bench_origin(origin_program, "--folder", str(folder), "--checksum", "crc64nvme") as server:
        yield server


@pytest.fixture(scope="module")
def formula(origin_program: str) -> Iterator[BenchOrigin]:
    with bench_origin(origin_program, "2500", "1000", "set/", "--formula") as server:
        yield server


@pytest.fixture(scope="module")
def ask_moto(moto: MotoS3, bucket_name: Callable[[], str]) -> Callable[..., Answer]:
    """A GET or HEAD of the same keys at moto; "/bench" stands for the bucket there."""
    bucket = bucket_name()
    moto.make_bucket(bucket)
    moto.fill(bucket, {key: content_of(key) for key in KEYS})
    scope = "any/20200101/us-east-1/s3/aws4_request"
    authorization = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    server = BenchOrigin(port=moto.address[1], process=moto.process)

    def ask(path: str, method: str = "GET", **headers: str) -> Answer:
        return server.ask(path.replace("/bench", "/" + bucket, 1), method, Authorization=authorization, **headers)

    return ask


def path_of(key: str) -> str:
    return "/bench/" + urllib.parse.quote(key)


def parse(answer: Answer) -> ET.Element:
    assert answer.status == 200, answer.body
    return ET.fromstring(re.sub(rb' xmlns="[^"]*"', b"", answer.body, count=1))


def code_of(answer: Answer) -> str | None:
    code = re.search(rb"<Code>(\w+)</Code>", answer.body)
    return code[1].decode() if code else None


def list_page(ask: Callable[..., Answer], **parameters: str) -> ET.Element:
    query = {"list-type": "2", "encoding-type": "url"} | {name.replace("_", "-"): v for name, v in parameters.items()}
    return parse(ask("/bench?" + urllib.parse.urlencode(query)))


def names(page: ET.Element, path: str) -> list[str]:
    return [urllib.parse.unquote_plus(element.text or "") for element in page.findall(path)]


def list_pages(ask: Callable[..., Answer], **parameters: str) -> list[tuple[list[str], list[str]]]:
    """(keys, common prefixes) of each page."""
    pages, following = [], dict(parameters)
    while True:
        page = list_page(ask, **following)
        keys, prefixes = names(page, "Contents/Key"), names(page, "CommonPrefixes/Prefix")
        assert page.findtext("KeyCount") == str(len(keys) + len(prefixes))
        pages.append((keys, prefixes))
        if page.findtext("IsTruncated") == "false":
            assert page.find("NextContinuationToken") is None
            return pages
        token = page.findtext("NextContinuationToken")
        assert token is not None
        assert len(keys) + len(prefixes) > 0
        following = parameters | {"continuation_token": token}


def documented_pages(
    prefix: str = "", delimiter: str = "", start_after: str = "", max_keys: str = "1000"
) -> list[tuple[list[str], list[str]]]:
    """The rules of ListObjectsV2 in plain Python."""
    entries: dict[str, bool] = {}  # name: whether it is a common prefix, in byte order
    for key in sorted(KEYS, key=str.encode):
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        name = key[: at + len(delimiter)] if at >= 0 else key
        if key.startswith(prefix) and name.encode() > start_after.encode():
            entries[name] = at >= 0
    ordered, size, pages = list(entries), int(max_keys), []
    for start in range(0, max(len(ordered), 1), size):
        part = ordered[start : start + size]
        pages.append(([name for name in part if not entries[name]], [name for name in part if entries[name]]))
    return pages


PARAMETERS = ("prefix", "delimiter", "start_after", "max_keys")
COMBINATIONS = [
    {name: value for name, value in zip(PARAMETERS, choice, strict=True) if value}
    for choice in itertools.product(
        ("", "a", "a/", "a/b", "caf\u00e9/", "none"),
        ("", "/", "b", "/b"),
        ("", "a-b", "a/b/1", "a/b", "b", "\u4e2d"),
        ("", "1", "2", "5"),
    )
]


def test_every_listing_has_the_pages_of_the_documented_rules(origin: BenchOrigin) -> None:
    for parameters in COMBINATIONS:
        assert list_pages(origin.ask, **parameters) == documented_pages(**parameters), parameters


def test_listings_equal_those_of_moto(origin: BenchOrigin, ask_moto: Callable[..., Answer]) -> None:
    """Except that moto lists a common prefix which is not greater than start-after.

    ListObjectsV2: "CommonPrefixes is filtered out from results if it is not lexicographically greater than the
    StartAfter value."
    """
    compared = 0
    for parameters in COMBINATIONS[::3]:
        ours, theirs = list_pages(origin.ask, **parameters), list_pages(ask_moto, **parameters)
        after = parameters.get("start_after", "").encode()
        if any(name.encode() <= after for _, prefixes in theirs for name in prefixes):
            continue
        assert ours == theirs, parameters
        compared += 1
    assert compared > 100


def test_page_repeats_its_parameters_encoded(origin: BenchOrigin) -> None:
    """ListObjectsV2: with encoding-type, "Delimiter, Prefix, Key, and StartAfter" are encoded."""
    first = list_page(origin.ask, prefix="a", delimiter="caf\u00e9", start_after="a b", max_keys="1")
    assert [first.findtext(name) for name in ("Name", "EncodingType", "MaxKeys")] == ["bench", "url", "1"]
    assert [first.findtext(name) for name in ("Prefix", "Delimiter", "StartAfter")] == ["a", "caf%C3%A9", "a+b"]
    token = first.findtext("NextContinuationToken")
    assert token is not None
    second = list_page(origin.ask, prefix="a", delimiter="caf\u00e9", max_keys="1", continuation_token=token)
    assert second.findtext("ContinuationToken") == token


def test_without_encoding_names_are_escaped_as_the_user_guide_says(origin: BenchOrigin) -> None:
    """User Guide, "Naming Amazon S3 objects", XML related object key constraints."""
    answer = origin.ask("/bench?list-type=2&prefix=a%26")
    assert b"<Key>a&amp;b&lt;c&gt;&apos;&quot;</Key>" in answer.body
    assert b"<Key>b/x&#x1;&#x9;y</Key>" in origin.ask("/bench?list-type=2&prefix=b/").body


def test_listed_object_has_what_a_head_of_it_says(origin: BenchOrigin) -> None:
    for entry in list_page(origin.ask).findall("Contents"):
        key = urllib.parse.unquote_plus(entry.findtext("Key") or "")
        head = origin.ask(path_of(key), "HEAD")
        assert head.headers["etag"] == entry.findtext("ETag")
        assert head.headers["content-length"] == entry.findtext("Size")
        assert ETAG.fullmatch(head.headers["etag"])
        assert entry.findtext("ChecksumAlgorithm") == "CRC64NVME"
        assert entry.findtext("ChecksumType") == "FULL_OBJECT"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("max-keys=-1", "max-keys"),
        ("max-keys=ten", "max-keys"),
        ("max-keys=2147483648", "max-keys"),
        ("max-keys=", "max-keys"),
        ("continuation-token=", "continuation token"),
        ("continuation-token=000000000000000000000000", "continuation token"),
        ("encoding-type=base64", "Encoding Method"),
        ("prefix=%zz", "percent-encoded"),
        ("start-after=" + "a" * 1025, "longer"),
    ],
)
def test_wrong_parameter_is_an_invalid_argument(origin: BenchOrigin, query: str, text: str) -> None:
    """Error responses, list of error codes: InvalidArgument, 400."""
    answer = origin.ask("/bench?list-type=2&" + query)
    assert (answer.status, code_of(answer)) == (400, "InvalidArgument")
    assert text in (ET.fromstring(answer.body).findtext("Message") or "")


def test_page_holds_at_most_1000_and_none_when_none_are_asked_for(formula: BenchOrigin) -> None:
    """ListObjectsV2, MaxKeys: up to 1,000, fewer perhaps, "but will never contain more"."""
    page = list_page(formula.ask, max_keys="5000")
    assert [page.findtext(name) for name in ("MaxKeys", "KeyCount", "IsTruncated")] == ["1000", "1000", "true"]
    none = list_page(formula.ask, max_keys="0")
    assert (none.findtext("KeyCount"), none.findtext("IsTruncated")) == ("0", "false")
    pages = list_pages(formula.ask, prefix="set/")
    assert [key for keys, _ in pages for key in keys] == [f"set/{i // 1000:04}/{i:08}" for i in range(2500)]
    assert list_pages(formula.ask, prefix="set/", delimiter="/") == [([], ["set/0000/", "set/0001/", "set/0002/"])]


RANGES = [
    *("bytes=0-0", "bytes=0-", "bytes=3-6", "bytes=5-100000", "bytes=-4", "bytes=-100000", "bytes=119-", "BYTES=1-2"),
    *("bytes=120-", "bytes=120-130", "bytes=-0", "bytes=99999999999999999999-"),
]
IGNORED_RANGES = [
    *("bytes=6-3", "bytes=a-b", "bytes=", "bytes=-", "bytes=1", "items=0-1", "0-1", "bytes=0-1,3-4", "bytes=0x1-2"),
]


@pytest.mark.parametrize("key", ["a-b", "empty"])
@pytest.mark.parametrize("value", RANGES)
def test_range_is_answered_as_by_moto(
    origin: BenchOrigin, ask_moto: Callable[..., Answer], key: str, value: str
) -> None:
    """GetObject, Range; Error responses, InvalidRange: 416 where nothing of the object is in the range.

    Except for the Content-Range of a 416, which moto leaves out and RFC 9110 15.5.17 asks for.
    """
    ours, theirs = origin.ask(path_of(key), Range=value), ask_moto(path_of(key), Range=value)
    assert (ours.status, code_of(ours)) == (theirs.status, code_of(theirs))
    if ours.status == 416:
        assert ours.headers["content-range"] == f"bytes */{len(content_of(key))}"
    else:
        assert ours.headers.get("content-range") == theirs.headers.get("content-range")
        assert ours.body == theirs.body


@pytest.mark.parametrize("value", IGNORED_RANGES)
def test_range_that_is_no_single_range_is_ignored(origin: BenchOrigin, value: str) -> None:
    """RFC 9110 14.2: an invalid Range is ignored. GetObject: "Amazon S3 doesn't support retrieving multiple ranges"."""
    answer = origin.ask(path_of("a-b"), Range=value)
    assert (answer.status, answer.body, answer.headers.get("content-range")) == (200, content_of("a-b"), None)


def test_unsatisfiable_range_says_the_size(origin: BenchOrigin) -> None:
    """RFC 9110 15.5.17: Content-Range with an asterisk. Error responses, InvalidRange."""
    answer = origin.ask(path_of("a-b"), Range="bytes=120-130")
    error = ET.fromstring(answer.body)
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */120")
    assert (error.findtext("RangeRequested"), error.findtext("ActualObjectSize")) == ("bytes=120-130", "120")
    assert origin.ask(path_of("a-b"), "HEAD", Range="bytes=120-").status == 416


def test_head_of_a_range_has_its_length(origin: BenchOrigin) -> None:
    """HeadObject, Range: "only the ContentLength is affected in the response"."""
    whole, part = origin.ask(path_of("a-b"), "HEAD"), origin.ask(path_of("a-b"), "HEAD", Range="bytes=3-6")
    assert (whole.headers["content-length"], part.headers["content-length"]) == ("120", "4")
    assert whole.headers["etag"] == part.headers["etag"]


EARLIER, LATER = "Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
ITS, OTHER = "its", '"other"'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({"If_Match": ITS}, 200),
        ({"If_Match": OTHER}, 412),
        ({"If_None_Match": ITS}, 304),
        ({"If_None_Match": OTHER}, 200),
        ({"If_Modified_Since": EARLIER}, 200),
        ({"If_Unmodified_Since": EARLIER}, 412),
        ({"If_Unmodified_Since": LATER}, 200),
        ({"If_None_Match": ITS, "If_Modified_Since": EARLIER}, 304),
    ],
)
def test_condition_is_answered_as_documented_and_by_moto(
    origin: BenchOrigin, ask_moto: Callable[..., Answer], method: str, conditions: dict[str, str], status: int
) -> None:
    """GetObject and HeadObject, the four If headers and a stated combination of them."""
    for ask in (origin.ask, ask_moto):
        etag = ask(path_of("a-b"), "HEAD").headers["etag"]
        headers = {name: etag if value == ITS else value for name, value in conditions.items()}
        answer = ask(path_of("a-b"), method, **headers)
        assert answer.status == status
        if method == "GET" and status == 412:
            assert code_of(answer) == "PreconditionFailed"
        if status == 304:
            assert (answer.headers["etag"], answer.body) == (etag, b"")


def test_matching_tag_outweighs_the_date(origin: BenchOrigin, ask_moto: Callable[..., Answer]) -> None:
    """GetObject: If-Match true and If-Unmodified-Since false is a 200. moto says 412."""
    etag = origin.ask(path_of("a-b"), "HEAD").headers["etag"]
    assert origin.ask(path_of("a-b"), If_Match=etag, If_Unmodified_Since=EARLIER).status == 200
    etag = ask_moto(path_of("a-b"), "HEAD").headers["etag"]
    assert ask_moto(path_of("a-b"), If_Match=etag, If_Unmodified_Since=EARLIER).status == 412


def test_entity_tag_lists_and_the_asterisk_match(origin: BenchOrigin) -> None:
    """RFC 9110 13.1.1, 13.1.2. A condition comes before the range (13.2.2)."""
    etag = origin.ask(path_of("a-b"), "HEAD").headers["etag"]
    assert origin.ask(path_of("a-b"), If_Match=f'"x", {etag}').status == 200
    assert origin.ask(path_of("a-b"), If_Match="*").status == 200
    assert origin.ask(path_of("a-b"), If_None_Match="*").status == 304
    assert origin.ask(path_of("a-b"), If_Match='"x"', Range="bytes=900-").status == 412
    assert origin.ask(path_of("a-b"), If_Match=etag, Range="bytes=1-2").status == 206


def encoded(value: int, size: int) -> str:
    return base64.b64encode(value.to_bytes(size, "big")).decode()


@pytest.mark.parametrize(
    ("name", "compute"),
    [
        ("crc32", lambda data: encoded(zlib.crc32(data), 4)),
        ("crc32c", lambda data: encoded(awscrt.checksums.crc32c(data), 4)),
        ("crc64nvme", lambda data: encoded(awscrt.checksums.crc64nvme(data), 8)),
    ],
)
def test_checksum_is_that_of_the_whole_object(origin_program: str, name: str, compute: Callable[[bytes], str]) -> None:
    """GetObject, x-amz-checksum-mode: "To retrieve the checksum, this mode must be enabled"."""
    header = f"x-amz-checksum-{name}"
    for size in ("0", "7", "300001"):
        with bench_origin(origin_program, "3", size, "set/", "--formula", "--checksum", name) as server:
            path = "/bench/set/0000/00000002"
            whole = server.ask(path, x_amz_checksum_mode="ENABLED")
            assert (whole.headers[header], whole.headers["x-amz-checksum-type"]) == (compute(whole.body), "FULL_OBJECT")
            assert server.ask(path, "HEAD", x_amz_checksum_mode="ENABLED").headers[header] == whole.headers[header]
            assert header not in server.ask(path).headers


def test_etag_is_the_md5_where_that_is_asked_for(origin_program: str, tmp_path: Path) -> None:
    """Object (API reference, data types), ETag: of an object uploaded whole and not encrypted by KMS, its MD5."""
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode() * 100_000)
    with bench_origin(origin_program, "--folder", str(tmp_path), "--etag", "md5") as server:
        listed = {
            element.findtext("Key"): element.findtext("ETag") for element in list_page(server.ask).iter("Contents")
        }
        for name in ("one", "two"):
            answer = server.ask(path_of(name))
            assert answer.headers["etag"] == listed[name] == f'"{hashlib.md5(answer.body).hexdigest()}"'


def test_range_has_the_checksum_only_where_it_is_the_whole_part(origin: BenchOrigin) -> None:
    """User Guide, "Checking object integrity", part-level checksums.

    "you can get an individual part's checksum by using the GetObject or HeadObject operations and specifying a part
    number or byte range that aligns with a single part". Every object of the origin is one part.
    """
    checksum = origin.ask(path_of("a-b"), x_amz_checksum_mode="ENABLED").headers["x-amz-checksum-crc64nvme"]
    for method in ("GET", "HEAD"):
        for value in ("bytes=0-118", "bytes=1-", "bytes=3-6"):
            part = origin.ask(path_of("a-b"), method, Range=value, x_amz_checksum_mode="ENABLED")
            assert not [name for name in part.headers if name.startswith("x-amz-checksum")]
        whole = origin.ask(path_of("a-b"), method, Range="bytes=0-119", x_amz_checksum_mode="ENABLED")
        assert (whole.status, whole.headers["x-amz-checksum-crc64nvme"]) == (206, checksum)
        part = origin.ask(path_of("a-b") + "?partNumber=1", method, x_amz_checksum_mode="ENABLED")
        assert (part.status, part.headers["x-amz-checksum-crc64nvme"]) == (206, checksum)
        assert part.headers["x-amz-mp-parts-count"] == "1"
        assert origin.ask(path_of("a-b") + "?partNumber=2", method).status == 416


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/bench/none", 404, "NoSuchKey"),
        ("GET", "/bench/a/b", 404, "NoSuchKey"),
        ("GET", "/bench/a-b%00", 404, "NoSuchKey"),
        ("GET", "/bench/../bench/a-b", 404, "NoSuchKey"),
        ("GET", "/bench2/a-b", 404, "NoSuchBucket"),
        ("GET", "/other?list-type=2", 404, "NoSuchBucket"),
        ("GET", "/bench/%zz", 400, "InvalidURI"),
        ("GET", "/bench/" + "k" * 1025, 400, "KeyTooLongError"),
        ("PUT", "/bench/a-b", 405, "MethodNotAllowed"),
        ("DELETE", "/bench/a-b", 405, "MethodNotAllowed"),
        ("POST", "/bench?delete", 405, "MethodNotAllowed"),
        ("GET", "/bench?versions", 501, "NotImplemented"),
    ],
)
def test_error_has_its_documented_code(origin: BenchOrigin, method: str, path: str, status: int, code: str) -> None:
    """Error responses, list of error codes."""
    answer = origin.ask(path, method)
    assert (answer.status, code_of(answer)) == (status, code)
    assert f"<RequestId>{answer.headers['x-amz-request-id']}</RequestId>".encode() in answer.body


def test_head_of_what_is_missing_has_a_status_and_no_body(origin: BenchOrigin) -> None:
    """HeadObject: "if the HEAD request generates an error, it returns a generic code"."""
    assert [origin.ask(path, "HEAD").status for path in ("/bench/none", "/none/a-b")] == [404, 404]
    bucket = origin.ask("/bench", "HEAD")
    assert (bucket.status, bucket.headers["x-amz-bucket-region"]) == (200, "us-east-1")
    location = parse(origin.ask("/bench?location"))
    assert (location.tag, location.text) == ("LocationConstraint", None)


def test_bucket_may_stand_in_the_host(origin: BenchOrigin) -> None:
    """User Guide, "Virtual hosting of general purpose buckets"."""
    host = f"bench.127.0.0.1:{origin.port}"
    assert origin.ask("/a/b/1", Host=host).body == content_of("a/b/1")
    assert names(parse(origin.ask("/?list-type=2&prefix=a/b/", Host=host)), "Contents/Key") == ["a/b/1", "a/b/2"]


def test_every_key_of_a_folder_is_served(origin: BenchOrigin) -> None:
    for key in KEYS:
        assert origin.ask(path_of(key)).body == content_of(key)
    assert origin.ask("/bench/a%20b%2bc%2541").body == content_of("a b+c%41")


def test_formula_and_data_file_are_the_same_bytes(origin_program: str, formula: BenchOrigin, tmp_path: Path) -> None:
    with bench_origin(origin_program, "2500", "1000", "set/", "--data", str(tmp_path / "data")) as stored:
        data = (tmp_path / "data").read_bytes()
        for number in (0, 7, 2499):
            path = f"/bench/set/{number // 1000:04}/{number:08}"
            whole = formula.ask(path)
            assert whole.body == stored.ask(path).body == data[number * 1000 : (number + 1) * 1000]
            assert whole.headers["etag"] == stored.ask(path).headers["etag"]
            assert formula.ask(path, Range="bytes=3-996").body == whole.body[3:997]


def test_object_of_100_gib_and_a_million_objects_need_no_storage(origin_program: str) -> None:
    size = 100 << 30
    with bench_origin(origin_program, "1", str(size), "", "--formula") as server:
        assert server.ask("/bench/0000/00000000", "HEAD").headers["content-length"] == str(size)
        tail = server.ask("/bench/0000/00000000", Range="bytes=-100000")
        middle = server.ask("/bench/0000/00000000", Range=f"bytes={size - 50_000}-{size - 1}")
        assert tail.body[50_000:] == middle.body
    with bench_origin(origin_program, "1000000", "16384", "set/", "--formula") as server:
        folders = list_page(server.ask, prefix="set/", delimiter="/")
        assert names(folders, "CommonPrefixes/Prefix") == [f"set/{i:04}/" for i in range(1000)]
        last = list_page(server.ask, start_after="set/0999/00999997")
        assert names(last, "Contents/Key") == ["set/0999/00999998", "set/0999/00999999"]


def test_https_serves_the_same(origin_program: str, certificates: Certificates) -> None:
    tls = ("--tls", certificates.chain_file, certificates.key_file)
    context = ssl.create_default_context(cafile=certificates.ca_file)
    with bench_origin(origin_program, "3", "3000001", "set/", "--formula", *tls) as secure:
        url = f"https://127.0.0.1:{secure.port}/bench/set/0000/00000001"
        over_tls = urllib.request.urlopen(url, context=context, timeout=30).read()
    with bench_origin(origin_program, "3", "3000001", "set/", "--formula") as plain:
        assert plain.ask("/bench/set/0000/00000001").body == over_tls
