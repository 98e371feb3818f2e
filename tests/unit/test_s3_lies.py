"""A server of S3 that lies: what a sync makes of its answers, and what it never tells anybody else."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from stager.config import Remote, Retry, Timeouts
from stager.errors import AccessDeniedError, ChangedError, IntegrityError, SourceError, TransientError
from stager.model import DatasetReceipt, SourceRef
from stager.pipeline import SyncOptions, sync
from stager.transfer import Transfer
from stager.urls import parse_source
from unit.scripted_http import Request, ScriptedServer, response, scripted

KEY, SECRET, TOKEN = "AKIDCANARY", "canary-secret", "canary-token"
ETAG = '"e"'
LARGE = 20 << 20
REF: SourceRef = parse_source("s3://b/p")


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


def copy(server: ScriptedServer, root: Path, *, region: str | None = None, stall_s: float = 30.0) -> DatasetReceipt:
    remote = Remote(endpoint_url=f"http://127.0.0.1:{server.port}", region=region)

    async def run() -> DatasetReceipt:
        retry = Retry(attempts=2, base_s=0.01, cap_s=0.01)
        async with Transfer(retry=retry, timeouts=Timeouts(stall_s=stall_s)) as transfer:
            return await sync(REF, str(root / "dst"), transfer=transfer, options=SyncOptions(remote=remote))

    return asyncio.run(run())


def listing(*objects: tuple[str, int, str], token: str = "") -> bytes:
    """A page of (key, size, ETag)."""
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    rows = "".join(
        f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>{etag}</ETag></Contents>"
        for key, size, etag in objects
    )
    truncated = str(bool(token)).lower()
    return response(
        f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{rows}</ListBucketResult>".encode()
    )


def is_listing(request: Request) -> bool:
    return "list-type=2" in request.path


def only_listing(page: bytes) -> Callable[[Request, socket.socket], object]:
    return lambda request, connection: connection.sendall(page)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("when", ["list", "single key", "object"])
def test_redirect_to_another_server_is_never_followed(tmp_path: Path, status: str, when: str) -> None:
    with scripted(only_listing(listing(("p/a", 3, ETAG)))) as other:
        away = response(b"", status, etag=None, location=f"http://127.0.0.1:{other.port}/b/p")
        lists = itertools.count()

        def answer(request: Request, connection: socket.socket) -> None:
            if not is_listing(request) or when == "list" or (when == "single key" and next(lists)):
                connection.sendall(away)
            elif when == "single key":
                connection.sendall(listing())
            else:
                connection.sendall(listing(("p/a", 3, ETAG)))

        with scripted(answer) as server, pytest.raises(SourceError):
            copy(server, tmp_path)
        assert server.requests
        assert other.accepted == 0


@pytest.mark.parametrize("status", ["301 Moved", "307 Temporary", "308 Permanent"])
def test_redirect_of_who_gives_credentials_is_never_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(
        f"[profile lab]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nregion = us-east-1\n"
        f"[profile base]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\naws_session_token = {TOKEN}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with scripted(lambda request, connection: connection.sendall(response(b""))) as other:
        away = response(b"", status, etag=None, location=f"http://127.0.0.1:{other.port}/")
        with scripted(lambda request, connection: connection.sendall(away)) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.port}")
            with pytest.raises(AccessDeniedError, match="the chain gives none"):
                copy(server, tmp_path)
            assert any(TOKEN in value for request in server.requests for value in request.headers.values())
        assert other.accepted == 0


def test_region_of_a_redirect_is_signed_for_at_the_same_server(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        if "/eu-west-1/s3/" not in request.headers["authorization"]:
            connection.sendall(response(b"", "301 Moved", etag=None, x_amz_bucket_region="eu-west-1"))
        else:
            connection.sendall(listing(("p/a", 3, ETAG)) if is_listing(request) else response(b"abc"))

    with scripted(answer) as server:
        copy(server, tmp_path, region="us-east-1")
    assert (tmp_path / "dst" / "a").read_bytes() == b"abc"


@pytest.mark.parametrize("silent_at", [0, 1])
def test_server_that_never_answers_is_given_up_after_the_stall_time(tmp_path: Path, silent_at: int) -> None:
    lists = itertools.count()

    def answer(request: Request, connection: socket.socket) -> None:
        if next(lists) < silent_at:
            connection.sendall(listing())  # nothing below p/: now p itself is looked for

    with scripted(answer) as server, pytest.raises(TransientError, match=r"no progress .*after 2 attempts"):
        copy(server, tmp_path, stall_s=0.3)
    assert len(server.requests) == silent_at + 2


@pytest.mark.parametrize("size", ["", "-1", str(2**63), "1e3"])
def test_single_key_of_an_impossible_size_is_damage(tmp_path: Path, size: str) -> None:
    row = f"<Contents><Key>p</Key><Size>{size}</Size><ETag>e</ETag></Contents>".encode()

    def answer(request: Request, connection: socket.socket) -> None:
        body = b"<ListBucketResult><IsTruncated>false</IsTruncated>%b</ListBucketResult>"
        connection.sendall(response(body % (b"" if "prefix=p%2F" in request.path else row)))

    with scripted(answer) as server, pytest.raises(IntegrityError, match="size"):
        copy(server, tmp_path)


def test_objects_without_an_etag_are_of_grade_c_and_come_in_one_answer_each_time(tmp_path: Path) -> None:
    bodies = {"small": b"abc", "large": b"L" * LARGE}

    def answer(request: Request, connection: socket.socket) -> None:
        if is_listing(request):
            connection.sendall(listing(*((f"p/{name}", len(body), "") for name, body in bodies.items())))
        else:
            assert "Range" not in request.headers
            assert "range" not in request.headers
            connection.sendall(response(bodies[request.path.rpartition("/")[2]], etag=None))

    with scripted(answer) as server:
        assert copy(server, tmp_path).grades == {"C": 2}
        bodies["large"] = b"M" * LARGE
        assert copy(server, tmp_path).moved.objects == 2  # nothing says that they are still the same
    assert (tmp_path / "dst" / "large").read_bytes() == bodies["large"]


def test_object_whose_answers_show_no_etag_is_refused_when_its_listing_did(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(listing(("p/a", 3, ETAG)) if is_listing(request) else response(b"abc", etag=None))

    with scripted(answer) as server, pytest.raises(ChangedError):
        copy(server, tmp_path)


@pytest.mark.parametrize("objects", [[], [("p/a", 3, ETAG), ("p/b", 3, ETAG)]])
def test_listing_that_goes_on_without_a_new_key_ends(tmp_path: Path, objects: list[tuple[str, int, str]]) -> None:
    turns = itertools.count()

    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(listing(*objects, token=f"t{next(turns)}"))

    with scripted(answer) as server, pytest.raises(IntegrityError, match="1000 pages without a new key"):
        copy(server, tmp_path)


def test_empty_pages_before_a_full_one_are_read_on(tmp_path: Path) -> None:
    turns = itertools.count()

    def answer(request: Request, connection: socket.socket) -> None:
        turn = next(turns) if is_listing(request) else -1
        if 0 <= turn < 20:
            connection.sendall(listing(token=f"t{turn}"))
        else:
            connection.sendall(listing(("p/a", 3, ETAG)) if turn >= 0 else response(b"abc"))

    with scripted(answer) as server:
        assert copy(server, tmp_path).total.objects == 1


@pytest.mark.parametrize("etag", ["a&#13;&#10;X-Evil: 1", "a&#9;b", "e" * 3000], ids=["header", "tab", "long"])
def test_etag_that_cannot_be_sent_back_is_damage_and_names_its_key(tmp_path: Path, etag: str) -> None:
    with (
        scripted(only_listing(listing(("p/the-key", 3, etag)))) as server,
        pytest.raises(IntegrityError, match="the ETag of the-key"),
    ):
        copy(server, tmp_path)


def test_listing_that_does_not_end_is_damage_and_no_lack_of_space(tmp_path: Path) -> None:
    def answer(request: Request, connection: socket.socket) -> object:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(40):
            connection.sendall(b" " * (1 << 20))
        return "close"

    with scripted(answer) as server, pytest.raises(IntegrityError, match="page of the listing is larger"):
        copy(server, tmp_path)
