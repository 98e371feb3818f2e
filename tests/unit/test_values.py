"""The values layer: errors carry their parts and exit codes, secrets do not come out."""

from __future__ import annotations

import copy
import errno
import json
import pickle

import pytest

from stager import errors
from stager.config import Secret
from stager.errors import BadKeysError, HostError, NoSpaceError, StagerError, from_os_error
from stager.model import DATASET_NAME, JOB_NAME, ExitInfo


def test_error_tree_has_the_exit_codes_of_the_manual() -> None:
    codes = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, StagerError) and not name.startswith("_")
    }
    assert codes == {
        "StagerError": 1,
        "InternalError": 1,
        "CommandError": 1,
        "UserError": 2,
        "UsageError": 2,
        "SpecError": 2, "FilterError": 2,
        "BadKeysError": 2,
        "BadListingError": 2,
        "SourceError": 3,
        "NotFoundError": 3, "NoObjectsError": 3,
        "ArchivedError": 3,
        "AccessDeniedError": 3,
        "IntegrityError": 4,
        "ChangedError": 4,
        "GoneError": 4,
        "GradeError": 4,
        "NoSpaceError": 5, "NoRoomError": 5,
        "HostError": 6, "NoRootError": 6,
        "MountError": 6,
        "TransientError": 7,
        "BusyError": 7,
    }


def test_error_text_says_where_what_and_what_to_do() -> None:
    error = StagerError("it broke", where="/data", hint="mend it")
    assert str(error) == "/data: it broke; mend it"
    assert str(StagerError("it broke")) == "it broke"


def test_many_problems_stand_one_a_line() -> None:
    error = BadKeysError("2 keys are no file names", ["a/../b", "c//d"], where="s3://bucket")
    assert str(error).splitlines() == ["s3://bucket: 2 keys are no file names", "  a/../b", "  c//d"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_full_disk_becomes_no_space(number: int) -> None:
    error = from_os_error(OSError(number, "x", "/tmp/f"), doing="write the file")
    assert isinstance(error, NoSpaceError)
    assert "/tmp/f" in str(error)


def test_other_os_error_becomes_host_error_with_its_reason() -> None:
    assert str(from_os_error(OSError(errno.EIO, "x", 7), doing="read")) == "cannot read: Input/output error"
    error = from_os_error(PermissionError(errno.EACCES, "x"), doing="write", where=b"/a\xff")
    assert type(error) is HostError
    assert "Permission denied" in str(error)


def test_secret_never_prints_or_serialises() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    for leak in (pickle.dumps, json.dumps, copy.copy):
        with pytest.raises(TypeError):
            leak(secret)
    assert secret.reveal() == "hunter2"


@pytest.mark.parametrize(
    ("status", "signal", "code"), [(0, None, 0), (3, None, 3), (None, 9, 137), (None, 15, 143)]
)
def test_exit_info_gives_the_shells_code(status: int | None, signal: int | None, code: int) -> None:
    assert ExitInfo(status=status, signal=signal, started_s=0.0, ended_s=1.0).code == code


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "a" * 129, "a\n", "ä"])
def test_bad_job_name_is_refused(name: str) -> None:
    assert JOB_NAME.fullmatch(name) is None


@pytest.mark.parametrize("name", ["", "a", "a/b/c", "../x", "a/..", "a/.b", ".a/b", "a/b\n", "/a", "a/"])
def test_bad_dataset_name_is_refused(name: str) -> None:
    assert DATASET_NAME.fullmatch(name) is None
