"""What the prolog believes of what a job says: its comment, its user's part, its user's files."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from stager.errors import AccessDeniedError, MountError, StagerError
from stager.host import own_command
from stager.host.becoming import Channel
from stager.host.own_command import Ran, run_stager
from stager.host.principal import Principal
from stager.job import hosting
from stager.job.slurm_told import Told, job_file_of, open_told, read_told, task_lines, tell_tasks

ALICE = Principal(4711, 4711, (4711,), "alice", "/users/alice", "/bin/sh")
SELF = Principal(os.geteuid(), os.getegid(), (os.getegid(),), "self", "/", "/bin/sh")


@pytest.mark.parametrize(
    ("comment", "file"),
    [
        ("", None),
        ("weekly run", None),
        ("stager=", None),
        ("restager=a.toml", None),
        ("weekly stager=a.toml", "/users/alice/a.toml"),
        ("stager=/srv/a.toml x", "/srv/a.toml"),
        ("stager='my jobs/a.toml'", "/users/alice/my jobs/a.toml"),
        ("alice's stager=a.toml", "/users/alice/a.toml"),
    ],
)
def test_comment_names_the_job_file(comment: str, file: str | None) -> None:
    assert job_file_of({"SLURM_JOB_COMMENT": comment, "SLURM_JOB_WORK_DIR": "/users/alice"}) == file


@pytest.mark.parametrize(
    ("message", "fails"),
    [
        ({"target": "/etc", "kind": "own", "read_only": False}, MountError),
        ({"target": "/data", "kind": "own", "read_only": False}, MountError),
        ({"target": "/data/a/../../etc", "kind": "own", "read_only": False}, MountError),
        ({"target": "/data/a/b", "kind": "own", "read_only": False}, AccessDeniedError),  # somebody else's directory
        ({"target": "/data/a/b", "kind": "bind", "read_only": False}, AccessDeniedError),
        ({"target": "/public/a", "kind": "public", "read_only": True}, AccessDeniedError),
        ({"target": "/task_ramfs", "bytes": 0, "inodes": 0}, MountError),  # without an end
        ({"target": "/logs", "bytes": 4096, "inodes": 4}, MountError),
    ],
)
def test_what_a_user_asks_of_root_is_not_believed(
    message: dict[str, object], fails: type[StagerError], tmp_path: Path
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    source = os.open(tmp_path, os.O_PATH)
    with ours, theirs:
        Channel(theirs).say(message, *([source] if "kind" in message else []))
        with pytest.raises(fails):
            hosting._take(Channel(ours), ALICE)
    os.close(source)


def test_other_end_that_was_killed_is_no_bug(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours:
        for talk in (lambda: Channel(ours).say({"taken": True}), lambda: Channel(ours).hear()):
            with pytest.raises(StagerError, match="has ended"):
                talk()


def test_tasks_are_told_their_lines_and_nobody_else(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    environ = {"SLURM_JOB_ID": "7"}
    assert task_lines(environ, directory=run) == ([], True)
    fd = open_told(run)
    tell_tasks(fd, "7", SELF, Told(failed="first\nsecond"))
    assert stat.S_IMODE(os.stat("7", dir_fd=fd).st_mode) == 0o400
    assert task_lines(environ, directory=run) == (["print stager: first", "print stager: second"], False)
    assert task_lines({"SLURM_JOB_ID": "8"}, directory=run) == ([], True)
    (tmp_path / "run/slurm/7").chmod(0o600)
    (tmp_path / "run/slurm/7").write_text("no JSON")
    with pytest.raises(StagerError, match="damaged"):
        read_told(fd, "7")
    os.close(fd)


def test_command_of_a_user_has_an_end_and_says_no_more_than_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(program: str, limit_s: float) -> Ran:
        monkeypatch.setattr(own_command, "_BOOT", f"import sys, time; {program}")
        return run_stager([["ls"]], SELF, {}, limit_s=limit_s)

    long = run("sys.stderr.write('x' * 100000 + 'end'); sys.exit(3)", 60.0)
    assert (long.code, len(long.said), long.said[-4:]) == (3, 8 << 10, "xend")
    assert run("sys.stderr.write('so far'); sys.stderr.flush(); time.sleep(60)", 0.5) == Ran(None, "so far")
