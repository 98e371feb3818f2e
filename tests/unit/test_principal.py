"""For whom root acts, and what of root's environment goes along."""

from __future__ import annotations

import os
import pwd

import pytest

from stager.cli.as_user import taken_out
from stager.errors import UsageError
from stager.host.principal import Principal, environment_of, find_principal, slurm_principal
from stager.host.rights import refuse_target, why_not_allowed

ROOT = pwd.getpwuid(0)
ALICE = Principal(1001, 1001, (1001, 50), "alice", "/people/alice", "")


def test_user_is_found_by_name_number_and_job() -> None:
    found = find_principal(ROOT.pw_name, {})
    assert found == find_principal("0", {}) == find_principal("slurm", {"SLURM_JOB_UID": "0"})
    assert found[:2] == (0, 0)
    assert found.gid in found.groups


@pytest.mark.parametrize("asked", ["", "-1", "0x0", "nobody-of-that-name", "a\0b", "4294967296", "99999999999", " 0"])
def test_what_is_no_user_is_refused(asked: str) -> None:
    with pytest.raises(UsageError, match="there is no user"):
        find_principal(asked, {})


@pytest.mark.parametrize("number", [None, "", "root", "-1", "1;0", " 0"])
def test_job_without_a_uid_is_refused(number: str | None) -> None:
    with pytest.raises(UsageError, match="SLURM_JOB_UID is no number"):
        slurm_principal({} if number is None else {"SLURM_JOB_UID": number})


def test_environment_has_what_a_login_gives_and_nothing_that_could_be_roots_secret() -> None:
    kept = {"LANG": "C.UTF-8", "LC_ALL": "C", "TZ": "UTC", "SLURM_JOB_ID": "7", "STAGER_SCRATCH": "/nvme",
            "NO_PROXY": "example", "https_proxy": "http://proxy:3128"}  # fmt: skip
    roots = {"HOME": ROOT.pw_dir, "PATH": "/opt/sbin", "AWS_PROFILE": "x", "KUBECONFIG": "x", "PYTHONPATH": "x",
             "LD_PRELOAD": "x", "SSH_AUTH_SOCK": "x", "XDG_RUNTIME_DIR": "x", "STAGER_TOKEN": "x", "TMPDIR": "x",
             "GIT_ASKPASS": "x", "SLURM_JWT": "x", "KRB5CCNAME": "x", "HTTP_PROXY": "http://root:word@proxy",
             "OLDPWD": "x"}  # fmt: skip
    assert environment_of(ALICE, kept | roots) == kept | {
        "HOME": "/people/alice", "USER": "alice", "LOGNAME": "alice", "SHELL": "/bin/sh",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }  # fmt: skip


def test_option_is_taken_wherever_it_stands_before_the_command() -> None:
    for argv in (["--as-user", "a", "run", "--", "x"], ["run", "--as-user=a", "--", "x"]):
        assert taken_out(argv) == ("a", ["run", "--", "x"])
    assert taken_out(["run", "--", "--as-user", "a"]) == (None, ["run", "--", "--as-user", "a"])
    for wrong in (["--as-user"], ["--as-user="], ["--as-user", "a", "--as-user", "b", "ls"]):
        with pytest.raises(UsageError, match="needs one user"):
            taken_out(wrong)


def test_places_of_a_view_are_these_and_each_is_taken_once() -> None:
    good = ["/data/a/b", "/data/a/c", "/public/x", "/code", "/logs", "/task", "/mnt/user_storage"]
    assert [refuse_target(target, good[:at]) for at, target in enumerate(good)] == [None] * len(good)
    bad = ["/data", "/data/a", "/data/a/b/c", "/data/../x", "/data/./b", "/public", "/code/", "code", "/etc", "/mnt",
           "/", "/data/a/b\0", "/data//b", "/mnt/other", ""]  # fmt: skip
    assert not [target for target in bad if refuse_target(target, []) is None]
    assert refuse_target("/code", ["/code"]) == "is mounted twice"


def test_allowed_is_what_lies_at_or_below_a_place_by_whole_names() -> None:
    for real in ("/mnt/efs", "/mnt/efs/a/b"):
        assert why_not_allowed("bind", real, ["/srv", "/mnt/efs"]) is None
    for real in ("/mnt", "/mnt/efs2", "/", os.sep + "x/mnt/efs"):
        assert why_not_allowed("public", real, ["/mnt/efs"]) is not None
    assert why_not_allowed("bind", "/mnt/efs", []) is not None
