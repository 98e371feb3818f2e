"""Names that object stores allow: each arrives byte for byte, or is told in a form that does nothing to a terminal."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from entries import decode
from integration.sync_driver import Sync
from servers.slow_fuse import SlowFuse
from servers.strict_s3 import StrictS3
from stager.names import from_json

BUCKET = "names"
COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "caf\u00e9"), unicodedata.normalize("NFD", "caf\u00e9")
ODD = [
    COMPOSED, DECOMPOSED, f"{COMPOSED}-d/x", f"{DECOMPOSED}-d/x",
    "Readme", "README", "readme/x",
    "n" * 255, "\u00e9" * 127 + "n", f"{'d' * 255}/{'e' * 255}/{'f' * 255}",
    "line\nbreak", "\x1b]0;title\x07", "tab\t", "\u202etxt.exe", "back\\slash", "%41+%2F", " ", "trailing ", "-rf", "~",
    "...",
    "quo'te\"s", "a&b<c>", "\ud7ff\U0010ffff", os.fsdecode(b"\xff\xfe"), os.fsdecode(b"latin-\xe9/\xe9"),
]  # fmt: skip
EMPTY = ["empty", "dir/empty", os.fsdecode(b"empty-\xff")]
MARKERS = ["marker/", "dir/", "", f"{COMPOSED}/"]


def found(root: Path) -> dict[bytes, bytes]:
    """Every file below a directory by its path, as bytes; stager's state left out."""
    top = os.fsencode(root)
    files = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = os.path.relpath(os.path.join(directory, name), top)
            if not path.startswith(b".stager/"):
                with open(os.path.join(directory, name), "rb") as file:
                    files[path] = file.read()
    return files


@pytest.fixture
def sync(strict: StrictS3, tmp_path: Path) -> Sync:
    objects = {f"set/{name}": f"content of {number}".encode() for number, name in enumerate(ODD)}
    objects |= {f"set/{name}": b"" for name in [*EMPTY, *MARKERS]}
    strict.buckets[BUCKET] = {**objects, "set": b"a neighbour", "set2/x": b"another"}
    return Sync(f"s3://{BUCKET}/set", tmp_path / "dst", strict.environment())


def test_every_name_arrives_byte_for_byte_and_stays(sync: Sync, strict: StrictS3) -> None:
    """An empty object is asked for without a range, for which S3 (and this server) would answer InvalidRange."""
    done = sync.run("--json")
    assert done.code == 0, done
    wanted = {os.fsencode(name): f"content of {number}".encode() for number, name in enumerate(ODD)}
    wanted |= {os.fsencode(name): b"" for name in EMPTY}
    assert found(sync.destination) == wanted
    assert "range" not in strict.headers_seen
    assert not (sync.destination / "marker").exists()
    header, entries = decode((sync.destination / ".stager/manifest.jsonl").read_bytes())
    assert entries.keys() == wanted.keys()
    again = sync.run("--json")
    assert again.event("finished")["receipt"]["moved"]["objects"] == 0
    assert header.source


def test_names_of_another_case_are_refused_where_the_file_system_folds_them(
    strict: StrictS3, slow_disk: SlowFuse
) -> None:
    slow_disk.fold()
    strict.buckets[BUCKET] = dict.fromkeys(("Readme", "README", "d/x", "other"), b"x")
    sync = Sync(f"s3://{BUCKET}", slow_disk.mountpoint / "dst", strict.environment())
    (slow_disk.mountpoint / "entry").touch()
    for options in (["--dry-run"], []):
        failed = sync.run("--json", *options)
        assert failed.code == 2
        assert sorted(failed.event("error")["problems"]) == [
            f"{name}: is the same name as another key on this file system" for name in ("README", "Readme")
        ]
        assert os.listdir(slow_disk.backing) == ["entry"]
    del strict.buckets[BUCKET]["README"]
    assert sync.run().code == 0
    assert set(os.listdir(slow_disk.backing / "dst")) == {".stager", "readme", "d", "other"}


def test_names_that_cannot_be_files_are_told_without_doing_anything_to_a_terminal(
    strict: StrictS3, tmp_path: Path
) -> None:
    hostile = ["..\x1b[2J/up", "../\x1b]0;owned\x07", "a//\u202eb", os.fsdecode(b"x\xff\n/../y"), "n\r" * 200]
    strict.buckets[BUCKET] = dict.fromkeys([*hostile, "..\x1b[2J/../up", "good"], b"x")
    sync = Sync(f"s3://{BUCKET}", tmp_path / "dst", strict.environment())
    told = sync.run()
    assert told.code == 2
    lines = told.err.splitlines()
    assert len(lines) == 1 + len(hostile)
    assert all(line.isprintable() for line in lines), lines
    problems = sync.run("--json").event("error")["problems"]
    assert any(problem.startswith("x\\xff\\x0a/../y: ") for problem in problems)
    assert all(problem.isprintable() for problem in problems)
    assert sync.run("--on-bad-key", "skip").code == 0
    assert found(tmp_path / "dst").keys() == {b"good", b"..\x1b[2J/up"}


def test_names_that_are_no_utf8_are_in_every_record_without_loss(tmp_path: Path) -> None:
    source, names = tmp_path / "src", [b"\xff", b"d\xe9/\xfe\x01", "plain-\u00e9".encode(), b"quo\"te\\\x7f"]
    for name in names:
        path = Path(os.fsdecode(bytes(source) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    sync = Sync(f"file://{source}", tmp_path / "dst", {})
    assert sync.run().code == 0
    assert found(tmp_path / "dst") == {name: name for name in names}
    manifest = (tmp_path / "dst/.stager/manifest.jsonl").read_bytes()
    paths = [json.loads(line)[0] for line in manifest.splitlines()[1:-1]]  # of bytes: texts have other line ends too
    assert sorted(map(from_json, paths)) == sorted(names)
    assert "fetched 0 objects" in sync.run().out
    Path(os.fsdecode(bytes(source) + b"/\xff")).unlink()
    os.mkfifo(os.fsdecode(bytes(source) + b"/\xff"))
    failed = sync.run("--json")
    assert failed.event("error")["problems"] == ["\\xff: a FIFO"]
