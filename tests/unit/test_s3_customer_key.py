"""The file of an SSE-C key: what it may hold, and whose and how open it may be."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from stager.errors import UsageError
from stager.sources.s3_customer_key import read_customer_key

KEY = bytes(range(200, 232))


def key_file(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("content", [KEY, base64.b64encode(KEY), base64.b64encode(KEY) + b"\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_32_bytes_or_base64_of_them_are_a_key(tmp_path: Path, content: bytes, mode: int) -> None:
    found = read_customer_key(key_file(tmp_path / "key", content, mode))
    (_, algorithm), (_, key), (_, _) = found.headers()
    assert (algorithm, base64.b64decode(key)) == ("AES256", KEY)
    assert key not in repr(found)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (KEY, 0o640, "is open to other users; chmod 600 it"),
        (KEY, 0o604, "is open to other users"),
        (b"hunter2" * 4, 0o600, "holds no SSE-C key"),
        (base64.b64encode(b"hunter2"), 0o600, "holds no SSE-C key"),
        (base64.b64encode(KEY) + b" " * 21, 0o600, "holds no SSE-C key"),
        (b"", 0o600, "holds no SSE-C key"),
        (KEY * 100, 0o600, "holds no SSE-C key"),
    ],
)
def test_file_that_is_no_private_key_is_refused_and_not_repeated(
    tmp_path: Path, content: bytes, mode: int, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read_customer_key(key_file(tmp_path / "key", content, mode))
    assert "hunter2" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_key_of_another_user_is_refused(tmp_path: Path) -> None:
    path = key_file(tmp_path / "key", KEY)
    os.chown(path, 4242, -1)
    with pytest.raises(UsageError, match="belongs to user 4242"):
        read_customer_key(path)


@pytest.mark.parametrize(("name", "words"), [("none", "No such file"), ("fifo", "not a regular file"), ("\0", "NUL")])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, name: str, words: str) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(UsageError, match=words):
        read_customer_key(f"{tmp_path}/{name}")
