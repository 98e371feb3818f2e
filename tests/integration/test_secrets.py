"""No secret leaves a run: not by its outputs, its files, its children, its title, its memory or a core."""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from integration.job_driver import PROGRAM, Node
from integration.other_user import python_for, readable_copy
from integration.sync_driver import Sync, tree
from servers.certificates import Certificates
from servers.http_proxy import HttpProxy, http_proxy
from servers.s3 import Identity
from servers.strict_s3 import Reply, StrictS3, strict_s3

_OWN = f"{os.getpid():08}"  # other tests beside this one have secrets of their own, which a job of root may see
SECRET = f"secret-key/of+hunter2-{_OWN}="
TOKEN = f"session-token/of+hunter3-{_OWN}=="
PASSWORD = f"proxy:password@hunter4-{_OWN}"
KEY = f"customer-key-of-hunter5-{_OWN}".encode()  # 32 bytes
FILES = {"large": bytes(17 << 20), "small": b"abc"}
USER = 4711
_WAIT_S = 60.0


def marks() -> set[bytes]:
    """Every spelling of a secret that a careless program may write."""
    texts = [SECRET, TOKEN, PASSWORD, KEY.decode(), f"lab:{PASSWORD}"]
    plain = {text.encode() for text in texts}
    return {
        *plain,
        *(base64.b64encode(text).rstrip(b"=") for text in plain),
        *(quote(text, safe="").encode() for text in plain),
        *(json.dumps(text.decode()).strip('"').encode() for text in plain),
        *(text.hex().encode() for text in plain),
    }


def found_in(name: str, content: bytes) -> list[str]:
    return [f"{name}: {mark!r}" for mark in marks() if mark in content]


@dataclass
class Marked:
    """A server that is reached with secrets only, and what leads to it."""

    server: StrictS3
    environment: dict[str, str]
    key_file: Path


@pytest.fixture
def marked(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Marked]:
    key_file = tmp_path_factory.mktemp("keys") / "key"
    key_file.touch(0o600)
    key_file.write_bytes(KEY)
    with strict_s3(certificates) as server:
        server.identity = Identity("marked-access-key", SECRET)
        server.tokens.add(TOKEN)
        server.buckets["data"] = dict(FILES)
        server.customer_keys = dict.fromkeys(FILES, KEY)
        yield Marked(server, server.environment(TOKEN), key_file)


def find_marks(*outputs: str, below: Path) -> list[str]:
    found = [text for output in outputs for text in found_in("output", output.encode("utf-8", "surrogateescape"))]
    for path in below.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found += found_in(str(path), path.read_bytes())
        found += found_in("a name", os.fsencode(path))
    return found


@pytest.fixture
def proxy() -> Iterator[HttpProxy]:
    with http_proxy("lab", PASSWORD) as running:
        yield running


def test_sync_writes_no_secret(marked: Marked, proxy: HttpProxy, tmp_path: Path) -> None:
    sync = Sync("s3://data", tmp_path / "dst", {**marked.environment, **proxy.environment()})
    key = ("--sse-c-key-file", str(marked.key_file))
    done = [sync.run(*key, *options) for options in (("--json", "-vv"), ("-vv",))]
    assert [outcome.code for outcome in done] == [0, 0]
    assert tree(sync.destination) == FILES
    done.append(sync.run(*key, "-vv", source="s3://there-is-no-such-bucket"))
    done.append(sync.run("-vv", source="s3://data/small"))
    echo = f"Authorization: x, X-Amz-Security-Token: {TOKEN}, customer-key: {base64.b64encode(KEY).decode()}"
    marked.server.reply(Reply(method="GET", status=400, code="Odd", message=echo))
    done.append(sync.run(*key, "--json", "-vv"))
    wrong = {"https_proxy": proxy.url.replace("lab", "lob")}
    done.append(sync.run(*key, "-vv", environment=wrong))
    assert all(outcome.code in (3, 0) for outcome in done)
    assert all("Traceback" in outcome.err for outcome in done[2:])
    assert find_marks(*(outcome.out + outcome.err for outcome in done), below=tmp_path) == []


def test_bad_profile_is_not_repeated_in_a_traceback(marked: Marked, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = https://u:{PASSWORD}@in valid\n")
    environment = {**marked.environment, "AWS_CONFIG_FILE": str(tmp_path / "config")}
    del environment["AWS_ENDPOINT_URL"]
    failed = Sync("s3://data", tmp_path / "dst", environment).run("-vv")
    assert failed.code == 2
    assert "Traceback" in failed.err
    assert found_in("output", failed.err.encode()) == []


SPY = """
for p in /proc/[0-9]*; do
    for f in environ cmdline comm; do cat $p/$f; echo; done
done > /logs/seen 2> /dev/null
env > /logs/env
"""


def test_job_writes_and_sees_no_secret(marked: Marked, tmp_path: Path) -> None:
    """The command looks at every process of the node, stager's own among them."""
    node = Node(tmp_path, marked.environment)
    options = ("--data", "me/x=s3://data", "--sse-c-key-file", str(marked.key_file), "--logs", str(tmp_path / "logs"))
    with node.start("run", "--job-id", "j", *options, "--keep", "-vv", "--", "sh", "-c", SPY) as stager:
        out, err = stager.communicate(timeout=60)
    assert stager.returncode == 0, err
    assert tree(node.tree("j") / "data" / "me" / "x") == FILES
    (seen,) = (tmp_path / "logs").rglob("seen")
    assert b"me/x=s3://data" in seen.read_bytes()  # stager's own command line, which anyone may see
    assert "STAGER_JOB_ID" in (seen.parent / "env").read_text()
    assert find_marks(out, err, below=tmp_path) == []


@contextmanager
def held(server: StrictS3, argv: list[str], environment: dict[str, str], **options: object) -> Iterator[int]:
    """A running stager that waits for an answer of the server; its process id."""
    asked, go_on = threading.Event(), threading.Event()

    def hold(method: str, target: str) -> None:
        if "small" in target:
            asked.set()
            go_on.wait(_WAIT_S)

    server.on_request = hold
    process = subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    try:
        assert asked.wait(_WAIT_S)
        yield process.pid
    finally:
        go_on.set()
        process.kill()
        process.wait()


def core_limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def leaves_a_core(pid: int) -> bool:
    os.kill(pid, signal.SIGSEGV)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    return os.WCOREDUMP(status)


@pytest.mark.root
def test_stager_leaves_no_core_where_others_do(strict: StrictS3, tmp_path: Path) -> None:
    strict.buckets["data"] = dict(FILES)
    other = subprocess.Popen(["sleep", "60"], cwd=tmp_path, preexec_fn=core_limit)
    does = leaves_a_core(other.pid)
    other.wait()
    if not does:
        pytest.skip("nothing leaves a core on this node")
    argv = [sys.executable, "-c", PROGRAM, "sync", "s3://data", str(tmp_path / "dst")]
    environment = {**os.environ, **strict.environment()}
    with held(strict, argv, environment, cwd=tmp_path, preexec_fn=core_limit) as pid:
        assert not leaves_a_core(pid)


@pytest.mark.root
@pytest.mark.parametrize("what", ["environ", "gcore"])
def test_other_programs_of_the_same_user_cannot_read_stager(strict: StrictS3, what: str) -> None:
    if what == "gcore" and not shutil.which("gcore"):
        pytest.skip("there is no gcore")
    strict.buckets["data"] = dict(FILES)
    base = Path(tempfile.mkdtemp(prefix="stager-user-"))
    try:
        base.chmod(0o1777)
        library = readable_copy(base / "library")
        python = python_for(USER, library)
        program = f"import sys; sys.path.insert(0, {str(library)!r}); {PROGRAM}"
        argv = [python, "-I", "-c", program, "sync", "s3://data", str(base / "dst")]
        environment = {"PATH": os.environ["PATH"], "HOME": str(base), **strict.environment()}
        who = {"user": USER, "group": USER, "extra_groups": [], "cwd": "/"}
        sleeper = subprocess.Popen(["sleep", "60"], **who)  # type: ignore[call-overload]
        with held(strict, argv, environment, **who) as pid:
            look = ["gcore", "-o", f"{base}/core"] if what == "gcore" else ["head", "-c", "1"]
            outcomes = {}
            for number in (sleeper.pid, pid):
                where = str(number) if what == "gcore" else f"/proc/{number}/{what}"
                outcomes[number] = subprocess.run([*look, where], capture_output=True, text=True, check=False, **who)  # type: ignore[call-overload]
            sleeper.kill()
            sleeper.wait()
        assert outcomes[pid].returncode != 0
        assert not (base / f"core.{pid}").exists()
        if what == "environ":
            assert outcomes[sleeper.pid].returncode == 0
            assert "Permission denied" in outcomes[pid].stderr
    finally:
        shutil.rmtree(base)
