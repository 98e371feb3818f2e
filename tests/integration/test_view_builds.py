"""What a job finds in its view, and how its command is started."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from integration.view_sandbox import Sandbox, sandbox

pytestmark = pytest.mark.root

PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
PRINT_ARGUMENTS = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.fixture(params=["root", "user"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with sandbox(request.param) as here:
        yield here


def test_c2_view_without_any_mount_has_the_four_directories(box: Sandbox) -> None:
    looks = [box.run("ls", "-d", "/data", "/public", "/code", "/logs", **how) for how in ({"mounts": []}, {})]
    assert [look.out.split() for look in looks] == [["/code", "/data", "/logs", "/public"]] * 2


def test_host_root_is_never_touched(box: Sandbox) -> None:
    before = sorted(os.listdir("/"))
    box.run("true")
    assert sorted(os.listdir("/")) == before


def test_root_of_the_view_is_read_only_and_its_host_directories_are_not(box: Sandbox) -> None:
    script = f"! mkdir /new && ! touch /data/new && touch {box.live}/new && rm {box.live}/new && touch /logs/new"
    assert box.run("sh", "-c", script).info["status"] == 0


def test_c13_c14_write_to_a_bind_reaches_the_source_at_once_and_back(box: Sandbox) -> None:
    script = "cd /data/lab/scans; echo mine > job; echo mine > cut; echo ready; read line; cat host; rm host; : > cut"
    run = box.start("sh", "-c", script)
    assert run.line() == "ready"
    assert box.host("cat", f"{box.live}/job") == "mine\n"
    assert box.run("sh", "-c", "cat /data/lab/scans/job; echo theirs > /data/lab/scans/host").out == "mine\n"
    run.say()
    assert run.finish().out == "theirs\n"
    assert box.host("sh", "-c", f"cd {box.live} && ls && cat cut") == "cut\njob\n"


def test_write_to_copy_code_and_logs_lands_in_the_job_tree(box: Sandbox) -> None:
    box.run("sh", "-c", "for top in /data/alice/mnist /code /logs; do echo x > $top/new; done")
    for name in ("data/mnist", "code", "logs"):
        assert box.host("cat", f"{box.job}/{name}/new") == "x\n"


def test_read_only_copy_refuses_writes(box: Sandbox) -> None:
    mounts = [{"kind": "copy", "source": f"{box.job}/data/mnist", "target": "/data/a/b", "read_only": True}]
    outcome = box.run("sh", "-c", "! touch /data/a/b/new", mounts=mounts)
    assert outcome.info["status"] == 0, outcome.err


def test_staged_data_is_nosuid_and_nodev(box: Sandbox) -> None:
    outcome = box.run("cat", "/proc/self/mountinfo")
    options = {fields[4]: fields[5].split(",") for fields in map(str.split, outcome.out.splitlines())}
    for target in ("/data/alice/mnist", "/data/lab/scans", "/public/imagenet", "/code", "/logs"):
        assert {"nosuid", "nodev"} <= set(options[target])


def test_files_keep_their_owner_in_the_view(box: Sandbox) -> None:
    box.run("touch", "/data/lab/scans/mine")
    assert box.host("stat", "-c", "%u", f"{box.live}/mine").strip() == str(box.uid)
    assert box.run("id", "-u").out.strip() == str(box.uid)


def test_root_owns_and_gives_away_files_as_ever() -> None:
    with sandbox("root") as box:
        box.run(
            "sh", "-c", "touch /data/lab/scans/f && chown 1234:1234 /data/lab/scans/f && chmod 600 /data/lab/scans/f"
        )
        assert box.host("stat", "-c", "%u", f"{box.live}/f").strip() == "1234"
        assert box.run("cat", "/data/lab/scans/f").info["status"] == 0


def test_job_has_no_more_rights_than_it_may(box: Sandbox) -> None:
    status = dict(
        line.split(":\t", 1) for line in box.run("cat", "/proc/self/status").out.splitlines() if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    allowed = 0 if box.uid else 0x818044FB  # what `capabilities.CAPABILITIES` says is kept
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) & ~allowed == 0
    settable = ~(3 << 31)  # 32 and 33 belong to the C library, which lets nobody ask for them: they stay as inherited
    assert int(status["SigBlk"], 16) & settable == int(status["SigIgn"], 16) & settable == 0


def test_arguments_are_literal(box: Sandbox) -> None:
    words = ["$HOME", "*", ";", "a  b", "", "`id`", "\n", "-x", "\udcff"]
    outcome = box.run(box.python, "-I", "-S", "-c", PRINT_ARGUMENTS, *words)
    assert json.loads(outcome.out) == words


def test_environment_is_exactly_what_was_asked_for(box: Sandbox) -> None:
    asked = {"PATH": "/usr/bin:/bin", "A": "b c", "EMPTY": "", "LC_ALL": "C.UTF-8", "BYTES": "\udcfe"}
    assert json.loads(box.run(box.python, "-I", "-S", "-c", PRINT_ENVIRONMENT, environment=asked).out) == asked


def test_command_starts_in_its_working_directory(box: Sandbox) -> None:
    assert box.run("pwd", "-P", workdir="/code").out == "/code\n"


def test_command_is_found_by_its_own_path_variable(box: Sandbox) -> None:
    box.host("sh", "-c", f"printf '#!/bin/sh\\necho found\\n' > {box.job}/code/tool; chmod 755 {box.job}/code/tool")
    assert box.run("tool", environment={"PATH": "/code"}).out == "found\n"


@pytest.mark.parametrize("status", [0, 1, 125, 255])
def test_exit_status_is_passed_through(status: int) -> None:
    with sandbox("user") as box:
        assert box.run("sh", "-c", f"exit {status}").info == {"status": status, "signal": None, "code": status}


def test_death_by_signal_is_128_and_the_number(box: Sandbox) -> None:
    outcome = box.run("sh", "-c", "kill -KILL $$")
    assert outcome.info == {"status": None, "signal": 9, "code": 137}


@pytest.mark.parametrize("number", [2, 15, 1, 3, 10, 12], ids=lambda number: signal.Signals(number).name)
def test_signal_to_stager_reaches_the_command(number: int) -> None:
    with sandbox("user") as box:
        run = box.start("sh", "-c", f"trap 'exit 40' {number}; echo ready; while :; do read line; done")
        assert run.line() == "ready"
        run.driver.send_signal(number)
        assert run.finish().info["status"] == 40


def test_unhandled_signal_to_stager_ends_the_command_by_it(box: Sandbox) -> None:
    run = box.start("sh", "-c", "echo ready; exec cat")
    assert run.line() == "ready"
    run.driver.send_signal(signal.SIGTERM)
    run.drain()
    assert run.finish().info == {"status": None, "signal": 15, "code": 143}


def test_missing_command_is_127_with_a_hint_when_it_lies_in_code(box: Sandbox) -> None:
    assert box.run("no-such-command").info["status"] == 127
    box.host("touch", f"{box.job}/code/train.py")
    outcome = box.run("train.py")
    assert outcome.info["error"] == "CommandError"
    assert outcome.info["status"] == 127
    assert "/code/train.py" in outcome.info["hint"]


def test_command_that_cannot_be_executed_is_126(box: Sandbox) -> None:
    box.host("sh", "-c", f"echo data > {box.job}/code/text; cp {box.job}/code/text {box.job}/code/script")
    box.host("chmod", "644", f"{box.job}/code/text")
    box.host("chmod", "755", f"{box.job}/code/script")
    for name in ("text", "script"):
        outcome = box.run(f"/code/{name}")
        assert (outcome.info["error"], outcome.info["status"]) == ("CommandError", 126)


def test_missing_working_directory_is_named(box: Sandbox) -> None:
    outcome = box.run("true", workdir="/code/none")
    assert (outcome.info["error"], outcome.info["status"]) == ("CommandError", 126)
    assert "/code/none" in outcome.info["text"]


def test_every_bad_source_is_reported_at_once(box: Sandbox) -> None:
    box.host("touch", f"{box.fs}/file")
    mounts = [
        {"kind": "bind", "source": f"{box.fs}/none", "target": "/data/a/none"},
        {"kind": "bind", "source": f"{box.fs}/file", "target": "/data/a/file"},
        {"kind": "bind", "source": "/", "target": "/data/a/root"},
        {"kind": "bind", "source": box.live, "target": "/etc"},
        {"kind": "public", "source": box.public, "target": "/public/p"},
        {"kind": "bind", "source": f"{box.public}/sub", "target": "/data/a/inside"},
    ]
    outcome = box.run("true", mounts=mounts)
    assert outcome.info["error"] == "MountError"
    for words in ("no such directory", "Not a directory", "root directory", "only what a job has"):
        assert words in outcome.info["text"]
    assert "lies inside /public/p" in outcome.info["text"]


def test_missing_source_alone_is_not_found(box: Sandbox) -> None:
    outcome = box.run("true", mounts=[{"kind": "bind", "source": f"{box.fs}/none", "target": "/data/a/b"}])
    assert outcome.info["error"] == "NotFoundError"


def test_unreachable_source_is_access_denied() -> None:
    with sandbox("user") as box:
        box.host("chmod", "700", os.path.dirname(box.live))
        box.host("chmod", "700", box.live)
        outcome = box.run("true", mounts=[{"kind": "bind", "source": box.live, "target": "/data/a/b"}])
        assert outcome.info["error"] == "AccessDeniedError"


def test_symlink_to_a_source_is_followed_once(box: Sandbox) -> None:
    box.host("ln", "-s", box.public, f"{box.fs}/link")
    mounts = [{"kind": "public", "source": f"{box.fs}/link", "target": "/public/p"}]
    outcome = box.run("sh", "-c", f"cat /public/p/train.txt && ! touch {box.public}/new", mounts=mounts)
    assert outcome.info["status"] == 0, outcome.err


def test_umask_of_the_caller_is_kept(box: Sandbox) -> None:
    old = os.umask(0o077)
    try:
        outcome = box.run("sh", "-c", "umask")
    finally:
        os.umask(old)
    assert outcome.out == "0077\n"


def test_root_without_sys_admin_gets_its_view_by_user_namespace() -> None:
    with sandbox("root") as box:
        weaker = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all")
        box.as_principal = lambda *argv: box.enter(*weaker, *argv)  # type: ignore[method-assign]
        outcome = box.run("sh", "-c", f"id -u; touch /data/lab/scans/new; touch {box.public}/new || echo refused")
        assert outcome.out.split() == ["0", "refused"], outcome
        assert box.host("ls", box.live) == "new\n"


def test_forbidden_namespaces_name_the_switch() -> None:
    with sandbox("user") as box:
        # A limit of the caller's own user namespace, so that the machine's setting stays as it is.
        box.as_principal = lambda *argv: box.enter(  # type: ignore[method-assign]
            "unshare",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            'echo 0 > /proc/sys/user/max_mnt_namespaces; exec "$@"',
            "sh",
            *argv,
        )
        outcome = box.run("true")
        assert outcome.info["error"] == "MountError"
        assert "/proc/sys/user/max_mnt_namespaces" in outcome.info["text"]


IN_A_SANDBOX = """
test "$(id -u)" = "$0"
head -c 1 /dev/zero | od -An -c
echo job > /data/alice/mnist/new
echo job > /public/imagenet/new || echo closed
umount /public/imagenet || echo locked
"""


def test_bwrap_starts_in_the_view_and_devices_open(box: Sandbox) -> None:
    """A job of root cannot have a new /proc: controls of the kernel would be writable in it."""
    own_pids = ["--unshare-pid", "--proc", "/proc"] if box.uid else []
    bwrap = ["bwrap", "--unshare-user", *own_pids, "--bind", "/", "/", "--dev-bind", "/dev", "/dev"]
    done = box.run(*bwrap, "sh", "-c", IN_A_SANDBOX, str(box.uid))
    assert done.info.get("status") == 0, done.err
    assert done.out.split() == ["\\0", "closed", "locked"]
    assert box.host("cat", f"{box.job}/data/mnist/new") == "job\n"
    box.assert_untouched()
