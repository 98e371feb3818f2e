"""Fixtures every test may ask for: the real servers, each started once by the worker that first needs it."""

from __future__ import annotations

import gc
import itertools
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from own_var_tmp import make_own_var_tmp
from servers.bench_origin import build_origin
from servers.certificates import Certificates, make_certificates
from servers.giftless_lfs import Giftless, giftless
from servers.git_http import GitHttp, git_http
from servers.git_ssh import GitSsh, git_ssh
from servers.http_proxy import HttpProxy, http_proxy
from servers.juicefs_s3 import juicefs_s3
from servers.moto_s3 import MotoS3, moto_s3
from servers.rclone_s3 import RcloneS3, rclone_s3
from servers.s3 import S3Server
from servers.seaweedfs import SeaweedFS, seaweedfs
from servers.slow_fuse import SlowFuse, slow_fuse
from servers.strict_s3 import StrictS3, strict_s3


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="larger counts, for hours")
    parser.addoption("--soak-seed", type=int, default=None, help="repeat a soak with the seed it printed")


def pytest_configure(config: pytest.Config) -> None:
    """Workers run at once, and every stager of a user knows of all scratches of that user on the node."""
    runs_tests = hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None)
    if runs_tests and (remove := make_own_var_tmp()) is not None:
        config.add_cleanup(remove)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the credentials, proxies or git settings of whoever runs it, nor the scratch of another.

    What passed leaves no directories (`tmp_path_retention_policy`): a job's view masks each scratch that was used on
    this node and is there still, so that every job would take longer than the one before.
    """
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    scratch = tmp_path_factory.mktemp("scratch")
    scratch.chmod(0o700)
    for name in [name for name in os.environ if name.startswith(("AWS_", "GIT_", "STAGER_", "SSL_CERT_"))]:
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("STAGER_SCRATCH", str(scratch))
    yield
    shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def weed(certificates: Certificates) -> Iterator[SeaweedFS]:
    """SeaweedFS over http, and over https at its ``https_url``."""
    with seaweedfs(certificates) as server:
        yield server


@pytest.fixture(scope="session")
def rclone() -> Iterator[RcloneS3]:
    with rclone_s3() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_tls(certificates: Certificates) -> Iterator[RcloneS3]:
    with rclone_s3(certificates) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoS3]:
    with moto_s3() as server:
        yield server


@pytest.fixture(scope="session")
def juicefs() -> Iterator[S3Server]:
    """JuiceFS's gateway: MinIO's S3 over a file system."""
    with juicefs_s3() as server:
        yield server


@pytest.fixture
def strict() -> Iterator[StrictS3]:
    """Our own strict S3, empty, for regions, expiry, clocks and errors on order."""
    with strict_s3() as server:
        yield server


@pytest.fixture(scope="session")
def site_proxy() -> Iterator[HttpProxy]:
    """A real HTTP proxy that wants a user and a password, with characters that URLs do not take."""
    with http_proxy("lab user", "p@ss:w/rd") as server:
        yield server


@pytest.fixture(scope="session")
def origin_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """bench/origin, compiled with sanitizers."""
    return build_origin(tmp_path_factory.mktemp("origin"))


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitHttp]:
    """An http git server over ``tmp_path / "repositories"``."""
    root = tmp_path / "repositories"
    root.mkdir()
    with git_http(root) as server:
        yield server


@pytest.fixture
def git_tls_server(tmp_path: Path, certificates: Certificates) -> Iterator[GitHttp]:
    """The same over https."""
    root = tmp_path / "repositories"
    root.mkdir(exist_ok=True)
    with git_http(root, certificates) as server:
        yield server


@pytest.fixture
def git_ssh_server(tmp_path: Path) -> Iterator[GitSsh]:
    """An sshd over the same."""
    root = tmp_path / "repositories"
    root.mkdir(exist_ok=True)
    with git_ssh(root) as server:
        yield server


@pytest.fixture(scope="session")
def lfs_streaming() -> Iterator[Giftless]:
    """A giftless over http with its objects on disk: it knows no ranges."""
    with giftless() as server:
        yield server


@pytest.fixture(scope="session")
def lfs_in_s3(weed: SeaweedFS) -> Iterator[Giftless]:
    """A giftless over http that signs URLs of SeaweedFS: objects come in ranges, from another origin."""
    weed.make_bucket("lfs")
    with giftless(s3=(weed, "lfs")) as server:
        yield server


@pytest.fixture(scope="session")
def lfs_in_s3_tls(weed: SeaweedFS, certificates: Certificates) -> Iterator[Giftless]:
    """The same with URLs of https, for a forge that is itself reached by https."""
    assert weed.https_url is not None
    weed.make_bucket("lfs-tls")
    with giftless(s3=(replace(weed, endpoint_url=weed.https_url, ca_file=certificates.ca_file), "lfs-tls")) as server:
        yield server


@pytest.fixture
def slow_disk() -> Iterator[SlowFuse]:
    """A file system that holds, sleeps in or fails the operations it is told to."""
    with slow_fuse() as mounted:
        yield mounted


@pytest.fixture(scope="session")
def bucket_name() -> Callable[[], str]:
    """A new bucket name at every call, so that tests share servers and not buckets."""
    counter = itertools.count()
    return lambda: f"bucket-{os.getpid()}-{next(counter)}"


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> int:
    """What a test multiplies its counts by: 1, or 20 under --soak."""
    return 20 if request.config.getoption("--soak") else 1


@pytest.fixture
def seed(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> int:
    """The seed of a randomised test: fixed, or under --soak a new one, printed."""
    chosen = request.config.getoption("--soak-seed")
    if chosen is None:
        chosen = random.randrange(1 << 32) if request.config.getoption("--soak") else 20240501
    print(f"seed {chosen}; repeat with --soak --soak-seed {chosen}")
    record_property("seed", chosen)
    return int(chosen)


def pytest_collection_finish() -> None:
    """The tests' data lives as long as they do: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
