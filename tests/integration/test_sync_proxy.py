"""stager sync through a real proxy: what goes there, what does not, and what is told when it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from integration.job_driver import Node
from integration.sync_driver import Outcome, Sync, tree
from servers.certificates import Certificates
from servers.git_http import GitHttp
from servers.http_proxy import HttpProxy, http_proxy
from servers.moto_s3 import MotoS3
from servers.process import free_ports
from servers.repositories import make_repository
from servers.strict_s3 import StrictS3, strict_s3

FILES = {f"d/{i}": b"%d" % i * 1000 for i in range(40)} | {"large": bytes(17 << 20)}


@pytest.fixture(params=["http", "https"])
def s3(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[StrictS3]:
    with ExitStack() as stack:
        server = stack.enter_context(strict_s3(certificates if request.param == "https" else None))
        server.buckets["data"] = dict(FILES)
        yield server


def sync_from(server: StrictS3, tmp_path: Path, **more: str) -> Sync:
    return Sync("s3://data", tmp_path / "dst", {**server.environment(), **more})


def place(url: str) -> str:
    """HOST:PORT, as the proxy logs it."""
    return urlsplit(url).netloc


def dead_proxy() -> str:
    (port,) = free_ports(1)
    return f"http://127.0.0.1:{port}"


def assert_told(outcome: Outcome, code: int, *words: str) -> None:
    assert (outcome.code, len(outcome.err.splitlines())) == (code, 1), outcome.err
    assert all(word in outcome.err for word in words), outcome.err


def asked_of_proxy(s3: StrictS3) -> str:
    return f"{'CONNECT' if s3.ca_file else 'GET'} {place(s3.endpoint_url)}"


def test_everything_goes_through_the_proxy_and_its_password_stays_outside_of_tunnels(
    s3: StrictS3, site_proxy: HttpProxy, tmp_path: Path
) -> None:
    sync = sync_from(s3, tmp_path, **site_proxy.environment())
    outcome = sync.run()
    assert (outcome.code, outcome.err) == (0, "")
    assert tree(sync.destination) == FILES
    assert site_proxy.wait_carried(asked_of_proxy(s3)) >= 1
    assert all(target.startswith("/data") for _, target in s3.requests)
    if s3.ca_file:  # in the clear it is the proxy's to take off, and this one does so on first requests only
        assert "proxy-authorization" not in s3.headers_seen
    receipt = json.loads((sync.destination / ".stager" / "receipt.json").read_bytes())
    assert receipt["pinned"]["proxy"] == site_proxy.bare_url


def test_proxy_that_is_reached_over_tls_carries_everything_too(
    s3: StrictS3, certificates: Certificates, tmp_path: Path
) -> None:
    with http_proxy("user", "pass", certificates) as over_tls:
        trust = {"AWS_CA_BUNDLE": certificates.ca_file}
        sync = sync_from(s3, tmp_path, **over_tls.environment(), **trust)
        outcome = sync.run()
        assert (outcome.code, outcome.err) == (0, "")
        assert tree(sync.destination) == FILES
        assert over_tls.wait_carried(asked_of_proxy(s3)) >= 1
        asked = len(s3.requests)
        stranger = {"AWS_CA_BUNDLE": certificates.stranger_ca_file}
        assert_told(sync.run(environment=stranger), 3, "the proxy's certificate is not trusted")
        assert len(s3.requests) == asked


def test_host_in_no_proxy_is_reached_directly(s3: StrictS3, tmp_path: Path) -> None:
    proxies = {"HTTPS_PROXY": dead_proxy(), "HTTP_PROXY": dead_proxy(), "NO_PROXY": "10.0.0.0/8 127.0.0.0/8,localhost"}
    sync = sync_from(s3, tmp_path, **proxies)
    assert sync.run().code == 0
    assert tree(sync.destination) == FILES


def test_option_stands_above_the_environment(s3: StrictS3, tmp_path: Path) -> None:
    sync = sync_from(s3, tmp_path, ALL_PROXY=dead_proxy())
    assert sync.run("--proxy", "none").code == 0
    other = sync_from(s3, tmp_path / "other", NO_PROXY="*")
    assert_told(other.run("--proxy", dead_proxy()), 7, "through the proxy", "Connection refused")


def test_wrong_password_is_told_once_and_not_repeated(s3: StrictS3, site_proxy: HttpProxy, tmp_path: Path) -> None:
    wrong = f"http://lab%20user:hunter2@{place(site_proxy.bare_url)}"
    sync = sync_from(s3, tmp_path, https_proxy=wrong, http_proxy=wrong)
    outcome = sync.run("-v")
    assert_told(outcome, 3, "the proxy wants other credentials", "407")
    assert "hunter2" not in outcome.err + outcome.out
    assert not s3.requests


def test_proxy_that_is_not_there_is_given_up(s3: StrictS3, tmp_path: Path) -> None:
    sync = sync_from(s3, tmp_path, HTTPS_PROXY=dead_proxy(), HTTP_PROXY=dead_proxy())
    assert_told(sync.run(), 7, "no way through the proxy", "Connection refused", "NO_PROXY")


def test_server_that_the_proxy_does_not_reach_is_the_proxys_to_tell(site_proxy: HttpProxy, tmp_path: Path) -> None:
    environment = {**StrictS3().environment(), "AWS_ENDPOINT_URL": dead_proxy(), **site_proxy.environment()}
    outcome = Sync("s3://data", tmp_path / "dst", environment).run()
    assert_told(outcome, 7, "the proxy failed", "502")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("https_proxy", "http://user:hunter2@proxy.example:x", "https_proxy: names no proxy"),
        ("ALL_PROXY", "socks5://user:hunter2@proxy.example", "ALL_PROXY: names a SOCKS proxy"),
        ("--proxy", "http://user:hunter2@proxy.example", "--proxy: a proxy with a user in it"),
        ("--proxy", "http://proxy.example/hunter2", "--proxy: names no proxy"),
    ],
)
def test_url_that_is_no_proxy_is_refused_before_anything_moves(
    tmp_path: Path, name: str, value: str, words: str
) -> None:
    environment = {**StrictS3().environment(), "AWS_ENDPOINT_URL": "https://localhost:1"}
    sync = Sync("s3://data", tmp_path / "dst", environment)
    outcome = sync.run(name, value) if name == "--proxy" else sync.run(environment={name: value})
    assert_told(outcome, 2, words)
    assert "hunter2" not in outcome.err + outcome.out


def test_git_goes_through_the_proxy(
    git_tls_server: GitHttp, site_proxy: HttpProxy, tmp_path: Path
) -> None:
    make_repository(git_tls_server.root / "words", {"a": b"a\n"})
    assert git_tls_server.ca_file is not None
    environment = {"STAGER_SCRATCH": str(tmp_path), "GIT_SSL_CAINFO": git_tls_server.ca_file}
    sync = Sync(f"git+{git_tls_server.url('words')}/.git", tmp_path / "dst", environment)
    where = place(git_tls_server.base_url)
    assert sync.run(environment={"HTTPS_PROXY": site_proxy.url}).code == 0
    assert tree(sync.destination) == {"a": b"a\n"}
    assert site_proxy.wait_carried(f"CONNECT {where}") >= 1
    exempt = {"HTTPS_PROXY": dead_proxy(), "NO_PROXY": where}  # with a port, which libcurl does not know
    assert sync.run(environment=exempt).code == 0
    assert sync.run("--proxy", "none", environment={"HTTPS_PROXY": dead_proxy()}).code == 0
    assert_told(sync.run("--proxy", site_proxy.bare_url), 3, "the proxy wants other credentials")


@pytest.mark.parametrize("tls", [False, True])
def test_git_behind_a_proxy_that_refuses_is_told_so(
    tls: bool, request: pytest.FixtureRequest, site_proxy: HttpProxy, tmp_path: Path
) -> None:
    server: GitHttp = request.getfixturevalue("git_tls_server" if tls else "git_server")
    sync = Sync(f"git+{server.url('words')}/.git", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    wrong = f"http://lab%20user:hunter2@{place(site_proxy.bare_url)}"
    outcome = sync.run(environment={"http_proxy": wrong, "https_proxy": wrong})
    assert_told(outcome, 3, "the proxy wants other credentials")
    assert "hunter2" not in outcome.err
    assert not server.requests


def test_git_over_http_takes_the_upper_case_name_too(
    git_server: GitHttp, site_proxy: HttpProxy, tmp_path: Path
) -> None:
    make_repository(git_server.root / "words", {"a": b"a\n"})
    sync = Sync(f"git+{git_server.url('words')}/.git", tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path)})
    assert sync.run(environment={"HTTP_PROXY": site_proxy.url}).code == 0
    assert site_proxy.wait_carried(f"GET {place(git_server.base_url)}") >= 1


def test_remote_of_a_job_file_names_its_proxy(s3: StrictS3, tmp_path: Path) -> None:
    node = Node(tmp_path, {**s3.environment(), "ALL_PROXY": dead_proxy()})
    node.write_job('[[dataset]]\nname = "a/b"\nsource = "s3://data"\nremote = "x"\n[s3.x]\nproxy = "none"\n')
    assert node.stager("stage", "JOB.toml", "--job-id", "j1").code == 0
    node.write_job(
        f'[[dataset]]\nname = "a/b"\nsource = "s3://data"\nremote = "x"\n[s3.x]\nproxy = "{dead_proxy()}"\n'
    )
    refused = node.stager("stage", "JOB.toml", "--job-id", "j2", ALL_PROXY="", NO_PROXY="*")
    assert refused.code == 7, refused.err
    assert "through the proxy" in refused.err


def test_token_service_is_asked_through_the_proxy(moto: MotoS3, site_proxy: HttpProxy, tmp_path: Path) -> None:
    moto.make_bucket("through-a-proxy")
    moto.fill("through-a-proxy", {"a": b"abc"})
    (tmp_path / "config").write_text(
        "[profile lab]\nrole_arn = arn:aws:iam::123456789012:role/reader\nsource_profile = base\nregion = us-east-1\n"
        "[profile base]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n"
    )
    environment = {
        "AWS_ENDPOINT_URL": moto.endpoint_url,
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    sync = Sync("s3://through-a-proxy", tmp_path / "dst", environment)
    where = place(moto.endpoint_url)
    outcome = sync.run("--profile", "lab", environment=site_proxy.environment())
    assert (outcome.code, outcome.err) == (0, "")
    assert tree(sync.destination) == {"a": b"abc"}
    assert site_proxy.wait_carried(f"POST {where}") >= 1
    assert site_proxy.wait_carried(f"GET {where}") >= 1
    wrong = f"http://{quote('lab user')}:hunter2@{place(site_proxy.bare_url)}"
    refused = sync.run("--profile", "lab", environment={"http_proxy": wrong})
    assert_told(refused, 3, "the proxy wants other credentials")
    assert "hunter2" not in refused.err
