"""A job file before it is submitted: all that is wrong with it, at once, and one to begin with."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path

from integration.job_driver import Node
from servers.repositories import make_repository
from servers.strict_s3 import StrictS3
from stager.cli.init import TEMPLATE
from stager.stages.spec import parse_spec
from stager.stages.spec_schema import TABLES

_OPTIONAL = re.compile(r"^#(?! )", re.MULTILINE)


def test_everything_that_is_wrong_with_a_job_file_is_told_at_once_and_nothing_moves(
    tmp_path: Path, strict: StrictS3
) -> None:
    node = Node(tmp_path, strict.environment())
    strict.buckets["b"] = {f"d/{number:04}": b"x" for number in range(1100)}
    strict.buckets["closed"] = {"k": b"x"}
    strict.listed_only.add("closed")
    commit = make_repository(tmp_path / "words", {"w": b"w"})
    (tmp_path / "public").mkdir()
    sources = {
        "a/whole": "s3://b/d/", "a/none": "s3://b/n/", "a/bucket": "s3://no-such-bucket/", "a/closed": "s3://closed/",
        "a/main": f"git+file://{tmp_path}/words@main", "a/ref": f"git+file://{tmp_path}/words@gone",
        "a/bind": f"bind:{tmp_path}/gone", "a/file": f"file://{tmp_path}/public",
    }  # fmt: skip
    text = "".join(f'[[dataset]]\nname = "{name}"\nsource = "{source}"\n' for name, source in sources.items())
    text += f'[[public]]\nname = "p"\nsource = "{tmp_path}/public"\n[logs]\npersist = "{tmp_path}/words/w/logs"\n'
    done = node.stager("check", "--json", node.write_job(text))
    events = [json.loads(line) for line in done.out.splitlines()]
    assert {event["name"]: event["error"]["class"] for event in events if event["error"]} == {
        "dataset a/none": "NotFoundError", "dataset a/bucket": "NotFoundError", "dataset a/ref": "NotFoundError",
        "dataset a/closed": "AccessDeniedError", "dataset a/bind": "NotFoundError", "logs": "HostError",
    }  # fmt: skip
    assert {event["name"]: event["found"] for event in events if not event["error"]} == {
        "dataset a/whole": "can be listed and read", "dataset a/main": f"answers; is at commit {commit}",
        "dataset a/file": "can be read", "public p": "can be mounted",
    }  # fmt: skip
    assert done.code == 3
    whole = [(method, target) for method, target in strict.requests if "d%2F" in target or "/d/" in target]
    asked = [f"{method} {target.partition('?')[0]}" for method, target in whole]
    assert asked == ["GET /b", "HEAD /b/d/0000"]  # one page, one object
    # What is wrong with the file itself is told with the rest.
    mistaken = node.stager("check", node.write_job(f"{text}[view]\nprofil = 1\n[[dataset]]\nname = 'a'\n"))
    assert mistaken.code == 2
    for told in ("view.profil (line", "did you mean profile?", ".source (line", "dataset a/ref: ", "a/bind: "):
        assert told in mistaken.err
    assert [name for name in os.listdir(node.scratch) if name in ("jobs", "cache")] == []


def test_job_file_of_init_is_accepted_as_it_is_and_with_all_that_is_commented_out(tmp_path: Path) -> None:
    node = Node(tmp_path)
    assert node.stager("init", "train.toml").code == 0
    done = node.stager("check", "train.toml")
    assert done.code == 0 and "train.toml: nothing is wrong with it" in done.out, done.err
    again = node.stager("init", "train.toml")
    assert again.code == 2 and "is there already" in again.err
    template = TEMPLATE.replace('source = "."', 'source = "git+https://git.example/c"')  # a directory has no ref
    spec = parse_spec(_OPTIONAL.sub("", template).encode(), where="template", base="/")
    assert len(spec.datasets) == 3 and spec.datasets[0].remote is not None
    assert set(tomllib.loads(_OPTIONAL.sub("", template))) == set(TABLES)
