"""The job file: what is accepted, every mistake with its place, and files that mean harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.config import Integrity, Remote
from stager.errors import SpecError
from stager.model import JobSpec
from stager.stages.spec import load_spec, parse_spec, with_options
from stager.stages.spec_file import MAX_FILE_BYTES

HEAD = 'version = 1\n[job]\nname = "j"\n'


def parse(text: str | bytes) -> JobSpec:
    data = text.encode() if isinstance(text, str) else text
    return parse_spec(data, where="JOB.toml", base="/base")


def problems(text: str | bytes) -> str:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert caught.value.exit_code == 2
    return "\n".join(caught.value.problems) or str(caught.value)


def test_whole_file_becomes_a_spec() -> None:
    spec = parse(
        """
version = 1
[job]
name = "mnist-train"
command = "python 'train it.py' --n $N *"
workdir = "/data/vision/mnist"
environment = { EPOCHS = "3" }
[code]
source = "git+https://git.example/vision/mnist-train"
ref = "v1.4"
[[dataset]]
name = "vision/mnist"
source = "s3://datasets/mnist/"
remote = "ceph"
[[dataset]]
name = "speech/words"
source = "git+ssh://git@git.example/speech/words"
ref = "3f2c9a1"
access = "read-write"
integrity = "strict"
require_integrity = "A"
[[dataset]]
name = "lab/scans"
source = "bind:/mnt/efs/scans"
[[public]]
name = "imagenet"
source = "/srv/public/imagenet/"
[logs]
persist = "results/{job.name}"
[view]
profile = "host"
[s3.ceph]
endpoint_url = "https://ceph.example:7480"
profile = "ceph"
ca_bundle = "/etc/ssl/site.pem"
listing_order = "byte-order"
proxy = "http://proxy.example:3128"
"""
    )
    assert spec.command == ("python", "train it.py", "--n", "$N", "*")
    assert spec.code is not None and spec.code.source.ref == "v1.4"
    assert [dataset.source.scheme for dataset in spec.datasets] == ["s3", "git", "bind"]
    assert spec.datasets[0].remote == Remote(
        endpoint_url="https://ceph.example:7480",
        profile="ceph",
        ca_bundle="/etc/ssl/site.pem",
        listing_order="byte-order",
        proxy="http://proxy.example:3128",
    )
    assert [dataset.integrity for dataset in spec.datasets] == [
        Integrity(), Integrity(level="strict", require="A"), Integrity(),
    ]  # fmt: skip
    assert spec.public[0].source == "/srv/public/imagenet"
    assert spec.logs.persist == "/base/results/{job.name}"
    assert (spec.environment, spec.workdir, spec.pass_credentials) == ({"EPOCHS": "3"}, "/data/vision/mnist", False)


def test_smallest_file_is_enough() -> None:
    assert parse(HEAD) == JobSpec(name="j")


def test_code_may_be_a_directory_beside_the_job_file() -> None:
    spec = parse(HEAD + '[code]\nsource = "src"\n')
    assert spec.code is not None
    assert (spec.code.source.scheme, spec.code.source.location) == ("file", "/base/src")


MISTAKES = [
    ("no version", '[job]\nname = "j"\n', "version: is missing"),
    ("other version", 'version = 2\n[job]\nname = "j"\n', "version (line 1): '2' is not known"),
    ("version as text", 'version = "1"\n[job]\nname = "j"\n', "version (line 1): '1' is not known"),
    ("version as truth", 'version = true\n[job]\nname = "j"\n', "version (line 1): 'True' is not known"),
    ("no job", "version = 1\n", "job: is missing"),
    ("job as text", 'version = 1\njob = "x"\n', "job (line 2): must be a table"),
    ("no name", "version = 1\n[job]\n", "job.name (line 2): is missing"),
    ("bad name", 'version = 1\n[job]\nname = "../x"\n', "job.name (line 3): '../x'"),
    ("long name", f'version = 1\n[job]\nname = "{"x" * 129}"\n', "job.name (line 3)"),
    ("misspelt key", HEAD + 'comand = ["x"]\n', "job.comand (line 4): unknown key; did you mean command?"),
    ("misspelt table", HEAD + "[[datset]]\n", "datset (line 4): unknown key; did you mean dataset?"),
    ("strange key", HEAD + '"a\\u001bb" = 1\n', "job.'a\\x1bb' (line 2): unknown key"),
    ("wrong type", HEAD + "command = 5\n", "job.command (line 4): expected"),
    ("wrong item", HEAD + "command = [5]\n", "job.command (line 4): expected"),
    ("open quote", HEAD + "command = \"echo 'a\"\n", "job.command (line 4): cannot be split"),
    ("empty command", HEAD + 'command = " "\n', "job.command (line 4): names no program"),
    ("empty program", HEAD + 'command = ["", "x"]\n', "job.command (line 4): names no program"),
    ("NUL in command", HEAD + 'command = ["a\\u0000"]\n', "job.command (line 4): holds a NUL"),
    ("relative workdir", HEAD + 'workdir = "x"\n', "job.workdir (line 4)"),
    ("workdir upwards", HEAD + 'workdir = "/code/../etc"\n', "job.workdir (line 4)"),
    ("bad variable", HEAD + 'environment = { "A=B" = "x" }\n', "is no variable's name"),
    ("own variable", HEAD + 'environment = { STAGER_JOB_ID = "x" }\n', "is set by stager"),
    ("NUL in a variable", HEAD + 'environment = { A = "x\\u0000" }\n', "holds a NUL"),
    ("dataset no list", HEAD + '[dataset]\nname = "a/b"\n', "dataset (line 4): must be a list of tables"),
    ("dataset no table", HEAD + "dataset = [1]\n", "unknown key"),
    ("no source", HEAD + '[[dataset]]\nname = "a/b"\n', "dataset[1].source (line 4): is missing"),
    ("name of one level", HEAD + '[[dataset]]\nname = "a"\nsource = "s3://bkt"\n', "dataset[1].name (line 5)"),
    ("name upwards", HEAD + '[[dataset]]\nname = "../x"\nsource = "s3://bkt"\n', "dataset[1].name (line 5)"),
    ("name with dot", HEAD + '[[dataset]]\nname = ".a/b"\nsource = "s3://bkt"\n', "dataset[1].name (line 5)"),
    ("name of three", HEAD + '[[dataset]]\nname = "a/b/c"\nsource = "s3://bkt"\n', "dataset[1].name (line 5)"),
    ("name with newline", HEAD + '[[dataset]]\nname = "a/b\\n"\nsource = "s3://bkt"\n', "dataset[1].name (line 5)"),
    (
        "name twice",
        HEAD + '[[dataset]]\nname = "a/b"\nsource = "s3://bkt"\n[[dataset]]\nname = "a/b"\nsource = "s3://c12"\n',
        "dataset[2].name (line 8): 'a/b' is there twice",
    ),
    ("unknown source", HEAD + '[[dataset]]\nname = "a/b"\nsource = "ftp://x"\n', "unknown kind of source"),
    ("nfs source", HEAD + '[[dataset]]\nname = "a/b"\nsource = "nfs://h/../e"\n', "not an NFS export"),
    ("nfs and a type", HEAD + '[[dataset]]\nname = "a/b"\nsource = "nfs://h/e"\nmounted = "nfs4"\n', "is for bind:"),
    ("no type", HEAD + '[[dataset]]\nname = "a/b"\nsource = "bind:/e"\nmounted = "NFS 4"\n', "is no type of"),
    ("source with password", HEAD + '[[dataset]]\nname="a/b"\nsource="git+https://u:hunter2@h/r"\n', "is refused"),
    ("unknown remote", HEAD + '[[dataset]]\nname="a/b"\nsource="s3://bkt"\nremote="x"\n', "no [s3.x] in this file"),
    ("remote for git", HEAD + '[[dataset]]\nname="a/b"\nsource="file:///x"\nremote="x"\n[s3.x]\n', "is for s3://"),
    ("ref for s3", HEAD + '[[dataset]]\nname="a/b"\nsource="s3://bkt"\nref="x"\n', "ref is for git sources"),
    ("two refs", HEAD + '[[dataset]]\nname="a/b"\nsource="git+https://h/r@a"\nref="b"\n', "keep ref ="),
    ("option as ref", HEAD + '[[dataset]]\nname="a/b"\nsource="git+https://h/r"\nref="--x"\n', "is no ref"),
    ("other grade", HEAD + '[[dataset]]\nname="a/b"\nsource="s3://bkt"\nrequire_integrity="C"\n', "write one of A, B"),
    ("grade of a bind", HEAD + '[[dataset]]\nname="a/b"\nsource="bind:/x"\nintegrity="light"\n', "for what is copied"),
    ("other access", HEAD + '[[dataset]]\nname="a/b"\nsource="s3://bkt"\naccess="rw"\n', "read-write, read-only"),
    ("public upwards", HEAD + '[[public]]\nname = ".."\nsource = "/srv"\n', "public[1].name"),
    ("public relative", HEAD + '[[public]]\nname = "p"\nsource = "srv"\n', "public[1].source"),
    ("public is root", HEAD + '[[public]]\nname = "p"\nsource = "//"\n', "public[1].source"),
    ("code from s3", HEAD + '[code]\nsource = "s3://bkt/x"\n', "code comes from git or a directory"),
    ("code ref for a directory", HEAD + '[code]\nsource = "."\nref = "x"\n', "ref is for git sources"),
    ("logs upwards", HEAD + '[logs]\npersist = "/a/../b"\n', "logs.persist (line 5): '..' is refused"),
    ("logs unknown field", HEAD + '[logs]\npersist = "/a/{job.owner}"\n', "'{job.owner}' is not known"),
    ("logs open brace", HEAD + '[logs]\npersist = "/a/{job.id"\n', "is not known"),
    ("remote with user", HEAD + '[s3.x]\nendpoint_url = "https://u:p@h"\n', "s3.x.endpoint_url (line 5)"),
    ("proxy with user", HEAD + '[s3.x]\nproxy = "http://u:hunter2@h"\n', "s3.x.proxy (line 5): a proxy with a user"),
    ("proxy of socks", HEAD + '[s3.x]\nproxy = "socks5://h"\n', "s3.x.proxy (line 5): names a SOCKS proxy"),
    ("no proxy", HEAD + '[s3.x]\nproxy = "http://h:0"\n', "s3.x.proxy (line 5): names no proxy"),
    ("remote misspelt", HEAD + '[s3.x]\nendpoint = "https://h"\n', "did you mean endpoint_url?"),
    ("remote no table", HEAD + "[s3]\nx = 1\n", "s3.x (line 5): must be a table"),
    ("other profile", HEAD + '[view]\nprofile = "none"\n', "view.profile (line 5)"),
]


@pytest.mark.parametrize(("text", "told"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_mistake_is_told_with_its_place(text: str, told: str) -> None:
    found = problems(text)
    assert told in found
    assert "hunter2" not in found


def test_what_is_not_built_yet_is_refused_by_name() -> None:
    (line,) = problems(HEAD + '[[dataset]]\nname="a/b"\nsource="gs://bucket/key"\n').splitlines()
    assert line.startswith("dataset[1].source") and "not available in this version" in line


def test_all_mistakes_come_at_once() -> None:
    found = problems('version = 9\n[job]\nnam = "x"\n[[dataset]]\nname = "x"\nsource = "y"\n[results]\n').splitlines()
    places = {line.split(" ")[0].rstrip(":") for line in found}
    assert places == {"results.persist", "version", "dataset[1].name", "dataset[1].source", "job.nam", "job.name"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xff\xfe", "not UTF-8 (line 1)"),
        (b'version = 1\nx = "\xff"', "not UTF-8 (line 2)"),
        (b"version = 1\x00", "not TOML"),
        (b"version = ", "not TOML"),
        (b"a = 1\na = 2\n", "not TOML"),
        (b"x = " + b"[" * 100_000, "nested too deep"),
        (b"x = " + b"9" * 10_000, "not TOML"),
        (b"x = 2000-99-99", "not TOML"),
        (b"", "version: is missing"),
    ],
)
def test_hostile_bytes_are_one_clear_error(data: bytes, told: str) -> None:
    assert told in problems(data)


def test_deep_dotted_key_is_refused() -> None:
    assert "unknown key" in problems(HEAD + "x." * 5_000 + "x = 1\n")


def test_messages_hold_no_control_characters() -> None:
    found = problems(HEAD + '[[dataset]]\nname = "\\u001b[31m"\nsource = "\\u001b[31m:x"\n')
    assert "\x1b" not in found


def test_fifo_as_job_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "JOB.toml")
    with pytest.raises(SpecError, match="not a regular file"):
        load_spec(str(tmp_path / "JOB.toml"))


def test_directory_or_device_as_job_file_is_refused(tmp_path: Path) -> None:
    for path in (str(tmp_path), "/dev/zero"):
        with pytest.raises(SpecError, match="not a regular file"):
            load_spec(path)


def test_missing_job_file_is_told(tmp_path: Path) -> None:
    for path in (str(tmp_path / "none"), str(tmp_path / "a\0b")):
        with pytest.raises(SpecError):
            load_spec(path)


def test_huge_job_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "JOB.toml"
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(SpecError, match="over 1 MiB"):
        load_spec(str(path))


def test_symlink_to_a_job_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(HEAD)
    (tmp_path / "JOB.toml").symlink_to("real")
    assert load_spec(str(tmp_path / "JOB.toml")).name == "j"


@pytest.mark.root
def test_root_refuses_the_job_file_of_another_user(tmp_path: Path) -> None:
    path = tmp_path / "JOB.toml"
    path.write_text(HEAD)
    os.chown(path, 4711, -1)
    with pytest.raises(SpecError, match="belongs to user 4711"):
        load_spec(str(path))


def test_options_alone_make_a_job() -> None:
    spec = with_options(
        JobSpec(name="x"), data=["a/b=s3://bkt/p=q", "c/d=bind:/mnt"], public=["p=/srv/p"], code="/src", base="/base"
    )
    found = [(dataset.name, dataset.source.location) for dataset in spec.datasets]
    assert found == [("a/b", "bkt/p=q"), ("c/d", "/mnt")]
    assert spec.public[0].name == "p"
    assert spec.code is not None and spec.code.source.location == "/src"


def test_mistakes_in_options_come_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        with_options(
            JobSpec(name="-"), data=["x", "a=s3://bkt", "a/b=zz"], public=["=/x", "p=rel"], code="s3://b", base="/"
        )
    assert len(caught.value.problems) == 7
    assert all(problem.startswith("--") for problem in caught.value.problems)


def test_option_that_repeats_a_dataset_of_the_file_is_refused() -> None:
    spec = parse(HEAD + '[[dataset]]\nname = "a/b"\nsource = "s3://bkt"\n')
    with pytest.raises(SpecError, match="there twice"):
        with_options(spec, data=["a/b=s3://other"], base="/")


def dataset(text: str, source: str = "s3://b/p") -> str:
    return f'{HEAD}[[dataset]]\nname = "o/d"\nsource = "{source}"\n{text}'


def test_dataset_says_which_files_are_wanted(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a\n./d/b\n")
    text = dataset(
        'exclude = ["bad*", "!bad/one"]\ninclude = ["*.jpg"]\nmin_size = "1K"\nmax_size = "2G"\n'
        'newer = "2023-11-14"\nfiles_from = "list"\n'
    )
    wanted = parse_spec(text.encode(), where="", base=str(tmp_path)).datasets[0].filter
    assert [(rule.include, rule.glob) for rule in wanted.rules] == [
        (True, b"*.jpg"), (False, b"bad*"), (True, b"bad/one"),
    ]  # fmt: skip
    assert (wanted.min_bytes, wanted.max_bytes, wanted.paths) == (1024, 2 << 30, frozenset([b"a", b"d/b"]))
    assert wanted.since_ns == 1_699_920_000 * 10**9
    assert not parse(dataset("")).datasets[0].filter


def test_every_mistake_in_what_chooses_files_is_told_with_its_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    told = problems(
        dataset(
            'exclude = ["a//b", "ok", "["]\nmin_size = "12"\nnewer = "soon"\n'
            f'files_from = "{tmp_path}/pipe"\nmax_size = 3\n'
        )
    )
    assert "dataset[1].max_size" in told
    told = problems(
        dataset(
            f'exclude = ["a//b", "ok", "["]\nmin_size = "12"\nnewer = "soon"\nfiles_from = "{tmp_path}/pipe"\n'
        )
    )
    assert told.count("dataset[1].exclude") == 2
    assert "the pattern 'a//b' has an empty segment" in told
    assert "dataset[1].min_size (line 8): '12' has no unit" in told
    assert "dataset[1].newer" in told
    assert "dataset[1].files_from (line 10): " in told
    assert "it is not a regular file" in told
    assert "no times" in problems(dataset('newer = "7d"', "git+https://h/r"))
    assert "a bind shows all" in problems(dataset('include = ["x"]', "bind:/mnt/x"))


def test_frozen_listing_is_found_from_the_job_file_and_is_for_sources_that_are_listed() -> None:
    job = 'version = 1\n[job]\nname = "j"\n[[dataset]]\nname = "a/b"\n'
    (dataset,) = parse(f'{job}source = "s3://b/p"\nfrozen = "lists/p.jsonl"\n').datasets
    assert dataset.frozen == "/base/lists/p.jsonl"
    for source, frozen in (("file:///d", "f"), ("bind:/d", "f"), ("s3://b/p", ""), ("s3://b/p", "a\\u0000")):
        assert "dataset[1].frozen" in problems(f'{job}source = "{source}"\nfrozen = "{frozen}"\n')


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ('[[resource]]\nsource = "bind:/mnt/x"\n', "resource[1].source", "a resource is copied"),
        ('[[resource]]\nsource = "git+https://h/o/r"\nhistory = true\n', "resource[1].history", "put together"),
        ('[[resource]]\nsource = "s3://b/x"\nremote = "nowhere"\n', "resource[1].remote", "no [s3.nowhere]"),
        ('[[resource]]\nname = "x"\nsource = "s3://b/x"\n', "resource[1].name", "unknown key"),
        ('[results]\ninclude = ["*.h5"]\n', "results.persist", "is missing"),
        ('[results]\npersist = "/r"\nwhitelist = "("\n', "results.whitelist", "no regular expression"),
        ('[results]\npersist = "/r"\ninclude = ["["]\n', "results.include", "without a ]"),
        ('[results]\npersist = "/r"\nsnapshot = "often"\n', "results.snapshot", "no time"),
        ('[results]\npersist = "s3://B!/r"\n', "results.persist", "no s3://BUCKET/PREFIX"),
        ('[results]\npersist = "/r"\nremote = "x"\n[s3.x]\n', "results.remote", "is for s3:// places"),
        ('[logs]\npersist = "s3://b/l"\nremote = "x"\n[s3.x]\nsse_c_key_file = "/k"\n', "logs.remote", "for sources"),
        ('[logs]\npersist = "/l"\n[results]\npersist = "/x/../l/"\n', "results.persist", "'..' is refused"),
        ('[logs]\npersist = "/l"\n[results]\npersist = "/l/"\n', "results.persist", "is the place of the logs"),
        ('[logs]\ndrain = "30s"\n', "logs.drain", "needs persist"),
        ('[logs]\npersist = "gs://b/l"\n', "logs.persist", "is not a directory"),
    ],
)
def test_mistake_in_what_is_kept_is_told_with_its_place(text: str, place: str, told: str) -> None:
    lines = problems(HEAD + text).splitlines()
    assert any(line.startswith(place) and told in line for line in lines), lines
