"""What git, curl and ssh say becomes one of our errors, without anybody's secret."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from stager.errors import HostError
from stager.host import git
from stager.host.git import GitFailure, error_from, local_environment, network_environment, run_git
from stager.host.private import PrivateDirectory

SAID = [
    ("git: error: cannot run ssh: No such file or directory\nfatal: unable to fork", "HostError"),
    ("/bin/sh: 1: my-ssh: not found", "HostError"),
    ("fatal: unable to access 'https://h/r/': Could not resolve host: h", "NotFoundError"),
    ("ssh: Could not resolve hostname h: Name or service not known", "NotFoundError"),
    ("ssh: Could not resolve hostname h: Temporary failure in name resolution", "TransientError"),
    ("fatal: unable to access 'https://h/r/': Failed to connect to h port 443: Connection refused", "TransientError"),
    ("fatal: unable to access 'https://h/r/': The requested URL returned error: 503", "TransientError"),
    ("error: RPC failed; curl 18\nfatal: early EOF\nfatal: invalid index-pack output", "TransientError"),
    ("fatal: unable to access 'https://h/r/': The requested URL returned error: 403", "AccessDeniedError"),
    ("fatal: could not read Username for 'https://h': terminal prompts disabled", "AccessDeniedError"),
    ("remote: HTTP Basic: Access denied\nfatal: Authentication failed for 'https://h/r/'", "AccessDeniedError"),
    ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", "AccessDeniedError"),
    ("Host key verification failed.\nfatal: Could not read from remote repository.", "AccessDeniedError"),
    ("fatal: detected dubious ownership in repository at '/srv/r'", "AccessDeniedError"),
    ("fatal: unable to access 'https://h/': SSL certificate problem: self-signed", "AccessDeniedError"),
    ("remote: Repository not found.\nfatal: repository 'https://h/r/' not found", "NotFoundError"),
    ("fatal: '/srv/r' does not appear to be a git repository", "NotFoundError"),
    ("fatal: couldn't find remote ref nope", "NotFoundError"),
    ("fatal: remote error: upload-pack: not our ref 1234", "NotFoundError"),
    ("error: object 1234: hasDotgit: contains '.git'\nfatal: fsck error in packed object", "IntegrityError"),
    ("fatal: pack has bad object at offset 12: inflate returned -3\nfatal: early EOF", "IntegrityError"),
    ("fatal: transport 'ext' not allowed", "UsageError"),
    ("fatal: write error: No space left on device", "NoSpaceError"),
    ("something new", "SourceError"),
    ("", "SourceError"),
]


@pytest.mark.parametrize(("said", "kind"), SAID)
def test_words_of_git_become_an_error(said: str, kind: str) -> None:
    error = error_from(GitFailure(128, said), where="https://h/r")
    assert type(error).__name__ == kind
    assert "\n" not in str(error)


def test_unknown_host_is_not_called_a_missing_repository() -> None:
    said = "fatal: unable to access 'https://h/r/': Could not resolve host: h"
    assert str(error_from(GitFailure(128, said), where="https://h/r")).startswith("https://h/r: no such host")


def test_secrets_and_control_characters_of_git_are_not_repeated() -> None:
    said = (
        "fatal: unable to access 'https://bob:hunter2@h/r/': The requested URL returned error: 403 \x1b[31m "
        "Authorization: Basic aHVudGVyMg== token=hunter3 password: hunter4"
    )
    text = str(error_from(GitFailure(128, said), where="https://h/r"))
    assert "hunter" not in text and "aHVudGVyMg" not in text and "\x1b" not in text
    assert len(str(error_from(GitFailure(1, "fatal: " + "x" * 10_000), where="u"))) < 500


def test_environment_of_git_is_an_allow_list() -> None:
    given = {"PATH": "/bin", "GIT_DIR": "/evil", "GIT_TRACE": "/log", "LD_PRELOAD": "x", "AWS_SECRET_ACCESS_KEY": "s"}
    for found in (network_environment("/r", "https://h/r", given), local_environment("/r", given)):
        assert found["GIT_DIR"] == "/r"
        assert not {"GIT_TRACE", "LD_PRELOAD", "AWS_SECRET_ACCESS_KEY"} & set(found)
    assert network_environment("/r", "https://h/r", given)["GIT_ALLOW_PROTOCOL"] == "https"
    kept = network_environment("/r", "https://h/r", {"GIT_ASKPASS": "/ci/token"})
    assert kept["GIT_ASKPASS"] == "/ci/token"
    assert network_environment("/r", "https://h/r", {})["GIT_ASKPASS"] == ""


def test_missing_git_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="git is not installed"):
        asyncio.run(run_git(["--version"], local_environment("/r", {"PATH": str(tmp_path)})))


def test_much_input_and_output_at_once_do_not_block(tmp_path: Path) -> None:
    """Git answers while it is still being asked: neither side may wait for the other."""
    environment = local_environment(str(tmp_path / "r"), os.environ)
    asyncio.run(run_git(["init", "-q", "--bare", "--template="], environment))
    questions = b"".join(b"%040x\n" % number for number in range(50_000))
    answers = asyncio.run(run_git(["cat-file", "--batch-check"], environment, stdin=questions))
    assert answers.count(b" missing\n") == 50_000


def test_leaving_with_more_output_than_is_read_ahead_ends_git(tmp_path: Path) -> None:
    """Asyncio stops reading a pipe of which it holds more than 128 KiB; 64 KiB more wait in the kernel's."""
    go, done = tmp_path / "go", tmp_path / "done"
    os.mkfifo(go)
    much = (128 << 10) + 1 + (64 << 10)
    script = f"printf x; read _ < {go}; head -c {much} /dev/zero; : > {done}; exec cat /dev/zero"

    def wait_until_written() -> None:
        go.write_text("\n")
        while not done.exists():
            time.sleep(0.001)

    async def leave() -> int:
        environment = dict(os.environ)
        async with aclosing(
            git._stream(("sh", "-c", f"echo $$; {script}"), environment, stdin=b"", cwd="/", watched=False)
        ) as pieces:
            said = b""
            while not said.endswith(b"x"):
                said += await anext(pieces)
            await asyncio.to_thread(wait_until_written)
        return int(said.split()[0])

    process = asyncio.run(asyncio.wait_for(leave(), 30))
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_directory_of_a_killed_run_is_swept_and_one_in_use_is_not(tmp_path: Path) -> None:
    old = time.time() - 3600
    (tmp_path / "git-dead_one").mkdir()
    (tmp_path / "git-new__one").mkdir()
    (tmp_path / "other").mkdir()
    used = PrivateDirectory(str(tmp_path), "git-")
    for path in (tmp_path / "git-dead_one", tmp_path / "other", Path(used.path)):
        os.utime(path, (old, old))
    mine = PrivateDirectory(str(tmp_path), "git-")
    names = {"git-new__one", "other", os.path.basename(used.path), os.path.basename(mine.path)}
    assert set(os.listdir(tmp_path)) == names
    mine.close()
    used.close()
    assert set(os.listdir(tmp_path)) == {"git-new__one", "other"}
