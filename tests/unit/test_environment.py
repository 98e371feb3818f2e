"""What a job's command finds in its environment, made without running one; and the same as files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stager.errors import HostError
from stager.host.cloud_settings import CloudSettings
from stager.host.site import site_cloud
from stager.model import JobSpec
from stager.scheduler import JobIdentity, scheduler_facts
from stager.stages.environment import Places, job_environment, own_environment
from stager.stages.environment_file import beyond_docker, for_docker, for_shell
from stager.tasks import Instances
from stager.view_paths import MODULES

SITE = '[cloud]\nbucket = "acme.training"\nregion = "eu-west-1"\norg_id = "org_7"\ncloud_id = "cld_x"\n'


def environment(spec: JobSpec, environ: Mapping[str, str], workdir: str = "/code") -> dict[str, str]:
    return job_environment(spec, JobIdentity(id="7"), scheduler_facts(environ), environ, workdir=workdir)


def test_environment_is_the_users_without_credentials_and_with_ours() -> None:
    around = {
        "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "r", "STAGER_SCRATCH": "/s", "TASK_PATH": "/outer",
        "CLUSTERONE_CLOUD": "0", "PWD": "/old", "OLDPWD": "/older", "INSTANCE_ID": "3", "JOB_NAME": "ci-run",
    }  # fmt: skip
    spec = JobSpec(name="train", environment={"HOME": "/other", "A": "b"})
    assert environment(spec, around) == {
        "HOME": "/other", "A": "b", "PWD": "/code", "STAGER_JOB_ID": "7", "STAGER_JOB_NAME": "train",
        "STAGER_ATTEMPT": "0", "STAGER_NODE_RANK": "0", "STAGER_NODE_COUNT": "1",
        "CLUSTERONE_CLOUD": "1", "CLUSTERONE_JOB_ID": "7",
        "TASK_PATH": "/task", "TMP_PATH": "/task_tmp", "TMP_RAMFS_PATH": "/task_ramfs",
        "INSTANCE_ID": "0", "INSTANCE_COUNT": "1",
    }  # fmt: skip


def test_credentials_are_passed_when_asked_for() -> None:
    spec = JobSpec(name="j", pass_credentials=True)
    assert environment(spec, {"AWS_SECRET_ACCESS_KEY": "s"})["AWS_SECRET_ACCESS_KEY"] == "s"


def test_where_there_is_no_view_directories_have_their_own_paths() -> None:
    spec = JobSpec(name="j", clusterone_shim=True)
    places = Places(task="/t/task", tmp="/t/tmp", tmp_ramfs="/t/ram", modules="/t/modules")
    found = own_environment(spec, JobIdentity(id="7", attempt=2), scheduler_facts({}), places=places)
    assert [found[name] for name in ("TASK_PATH", "TMP_PATH", "TMP_RAMFS_PATH", "PYTHONPATH", "STAGER_ATTEMPT")] == [
        "/t/task", "/t/tmp", "/t/ram", "/t/modules", "2",
    ]  # fmt: skip


def test_node_is_slurms() -> None:
    found = environment(
        JobSpec(name="j"), {"SLURM_JOB_ID": "7", "SLURM_NODEID": "2", "SLURM_JOB_NUM_NODES": "4"}
    )
    assert (found["STAGER_NODE_RANK"], found["STAGER_NODE_COUNT"]) == ("2", "4")


def test_instance_that_nobody_names_has_the_count_alone() -> None:
    spec = JobSpec(name="j", instances=Instances(ids=(4, 5)))
    found = own_environment(spec, JobIdentity(id="7"), scheduler_facts({}))
    assert (found.get("INSTANCE_ID"), found["INSTANCE_COUNT"]) == (None, "2")


@pytest.mark.parametrize(
    ("around", "own", "path"),
    [({}, {}, MODULES), ({"PYTHONPATH": "/u"}, {}, f"{MODULES}:/u"),
     ({"PYTHONPATH": "/u"}, {"PYTHONPATH": "/j:/k"}, f"{MODULES}:/j:/k")],
)  # fmt: skip
def test_shim_comes_first_on_the_pythonpath_when_asked_for(
    around: dict[str, str], own: dict[str, str], path: str
) -> None:
    assert environment(JobSpec(name="j", environment=own, clusterone_shim=True), around)["PYTHONPATH"] == path
    unasked = environment(JobSpec(name="j", environment=own), around)
    assert unasked.get("PYTHONPATH") == {**around, **own}.get("PYTHONPATH")


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a13_cloud_of_the_site_is_in_three_variables(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "site.toml").write_text(f'{SITE}scheme = "{scheme}"\n')
    cloud = site_cloud(str(tmp_path / "site.toml"), owner=os.getuid())
    spec = JobSpec(name="j", environment={"ANYSCALE_ARTIFACT_STORAGE": "s3://somewhere/else"})
    given = {"ANYSCALE_CLOUD_STORAGE_BUCKET": "other"}
    found = job_environment(spec, JobIdentity(id="7"), scheduler_facts({}), given, workdir="/", cloud=cloud)
    assert found["ANYSCALE_CLOUD_STORAGE_BUCKET"] == "acme.training"
    assert found["ANYSCALE_CLOUD_STORAGE_BUCKET_REGION"] == "eu-west-1"
    parts = urlsplit(found["ANYSCALE_ARTIFACT_STORAGE"])
    assert (parts.scheme, parts.netloc, parts.path) == (scheme, "acme.training", "/org_7/cld_x/artifact_storage/")
    without = job_environment(spec, JobIdentity(id="7"), scheduler_facts({}), given, workdir="/")
    assert without["ANYSCALE_CLOUD_STORAGE_BUCKET"] == "other"  # of a platform that stager runs on


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[cloud]\nbucket = "acme"\nregion = "r"\norg_id = "o"\n', r"cloud\.cloud_id: is missing"),
        (SITE.replace("acme.training", "s3://acme"), r"cloud\.bucket: a bucket's name, not 's3://acme'"),
        (SITE.replace("org_7", "a/b"), r"cloud\.org_id: an id"),
        (SITE.replace('"cld_x"', "7"), r"cloud\.cloud_id: an id .*, not 7"),
        (SITE.replace("eu-west-1", "Europe 1"), r"cloud\.region"),
        (SITE + 'scheme = "http"\n', r'cloud\.scheme: "s3" or "gs"'),
        (SITE + 'buckets = "x"\n', r"cloud\.buckets: no such key"),
    ],
)
def test_half_a_cloud_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(HostError, match=said):
        site_cloud(str(tmp_path / "site.toml"), owner=os.getuid())
    (tmp_path / "site.toml").write_text("")
    assert site_cloud(str(tmp_path / "site.toml"), owner=os.getuid()) == CloudSettings()


HOSTILE = {
    "PLAIN": "a", "EMPTY": "", "SPACES": "  a  b ", "QUOTE": "it's", "QUOTES": "'\"'\"", "DOLLAR": "$HOME `id` $(id)",
    "BACKSLASH": "a\\", "GLOB": "* ? [a] ~", "LINES": "a\nexport B=c\n", "HASH": "# a", "EQUALS": "a=b=",
    "TAB": "\ta\t", "BANG": "!x", "SEMI": "; rm -rf /", "BYTES": os.fsdecode(b"\xff\xfe"), "CR": "a\r",
    "UNICODE": "\u20ac\u2028", "BOTH": '"quoted"', "LONG": "x" * 70_000, "ESCAPE": "\x1b[2J", "BOM": "\ufeffx",
}  # fmt: skip
BEYOND = {"LINES", "BYTES", "CR", "BOTH", "LONG"}


def read_by_sh(path: Path) -> dict[str, str]:
    """What a real shell passes on when it has read the file, and nothing besides."""
    done = subprocess.run(
        ["/bin/sh", "-c", '. "$1" && exec env -0', "sh", path], env={}, stdout=subprocess.PIPE, check=True
    )
    variables = dict(os.fsdecode(line).split("=", 1) for line in done.stdout.split(b"\0")[:-1])
    return {name: value for name, value in variables.items() if name not in ("PWD", "OLDPWD", "SHLVL", "_")}


def read_as_docker(body: bytes, *, takes_quotes: bool) -> dict[str, str]:
    """The rules of docker/cli's pkg/kvfile, for a file as `bufio.Scanner` and `bufio.ScanLines` take it apart."""
    variables = {}
    for number, line in enumerate(body.split(b"\n")):
        assert len(line) < 64 * 1024
        text = (line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line).removesuffix(b"\r").decode().lstrip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        assert name and equals and not set(name) & set(" \t")
        if takes_quotes and len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        variables[name] = value
    return variables


def test_shell_file_gives_back_every_value(tmp_path: Path) -> None:
    (tmp_path / "job.env").write_bytes(for_shell(HOSTILE))
    assert read_by_sh(tmp_path / "job.env") == HOSTILE


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40).filter(lambda value: b"\0" not in value), min_size=20, max_size=60))
def test_shell_file_gives_back_any_bytes(tmp_path: Path, values: list[bytes]) -> None:
    variables = {f"V{number}": os.fsdecode(value) for number, value in enumerate(values)}
    (tmp_path / "job.env").write_bytes(for_shell(variables))
    assert read_by_sh(tmp_path / "job.env") == variables


@pytest.mark.parametrize("takes_quotes", [False, True])
def test_docker_file_gives_back_every_value_or_says_that_it_cannot(takes_quotes: bool) -> None:
    body = for_docker(HOSTILE)
    assert beyond_docker(HOSTILE).keys() == BEYOND
    kept = {name: value for name, value in HOSTILE.items() if name not in BEYOND}
    assert read_as_docker(body, takes_quotes=takes_quotes) == kept
    for name in BEYOND:
        assert f"# {name} is left out: ".encode() in body


@given(st.text(st.characters(exclude_characters="\0"), max_size=20))
def test_docker_file_is_never_wrong(value: str) -> None:
    if beyond_docker({"V": value}):
        assert read_as_docker(for_docker({"V": value}), takes_quotes=True) == {}
    else:
        for takes_quotes in (False, True):
            assert read_as_docker(for_docker({"V": value}), takes_quotes=takes_quotes) == {"V": value}
