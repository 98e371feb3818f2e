"""Whatever the job tries, public data, other jobs and masked directories stay as they were."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.view_sandbox import CANARY, PRINCIPALS, Sandbox, sandbox

pytestmark = pytest.mark.root

NESTED = pytest.mark.parametrize("nested", [(), ("nested",)], ids=["job", "nested namespace"])


@pytest.fixture(params=["root", "user"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with sandbox(request.param) as here:
        yield here
        here.assert_untouched()


@pytest.fixture(params=PRINCIPALS)
def any_box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """For what a view of root's for a user could do otherwise, and for what tries everything at once."""
    with sandbox(request.param) as here:
        yield here
        here.assert_untouched()


@pytest.fixture
def root_box() -> Iterator[Sandbox]:
    with sandbox("root") as here:
        yield here
        here.assert_untouched()


def refused(met: dict[str, str]) -> bool:
    assert "done" not in met.values(), met
    return True


def test_c12_change_through_public_mount_fails_with_erofs(box: Sandbox) -> None:
    met = box.attack("change", "/public/imagenet")
    assert set(met.values()) == {"EROFS"}


def test_c12_change_below_a_submount_of_public_data_fails_with_erofs(box: Sandbox) -> None:
    box.host("mount", "-t", "tmpfs", "tmpfs", f"{box.public}/sub")
    box.host("sh", "-c", f"printf x > {box.public}/sub/train.txt")
    box.open_up()
    met = box.attack("change", "/public/imagenet/sub", f"{box.public}/sub")
    assert set(met.values()) == {"EROFS"}


def test_c12_change_through_original_path_fails_with_erofs(box: Sandbox) -> None:
    met = box.attack("change", box.public)
    assert set(met.values()) == {"EROFS"}


def test_change_through_another_mount_of_the_file_system_fails_with_erofs(box: Sandbox) -> None:
    tops = {"above": f"{box.fs}/public", "same": box.public, "whole": box.fs}
    shown = {"above": "/imagenet", "same": "", "whole": "/public/imagenet"}
    for name, source in tops.items():
        os.mkdir(f"{box.base}/{name}")
        box.host("mount", "--bind", source, f"{box.base}/{name}")
    box.host("cp", box.canary, f"{box.public}/sub/train.txt")
    box.open_up()
    os.mkdir(f"{box.base}/below")
    box.host("mount", "--bind", f"{box.public}/sub", f"{box.base}/below")
    met = box.attack("change", f"{box.base}/below", *(f"{box.base}/{name}{rest}" for name, rest in shown.items()))
    assert set(met.values()) == {"EROFS"}


def test_change_through_a_writable_bind_that_holds_the_public_data_fails_with_erofs(box: Sandbox) -> None:
    mounts = [row for row in box.mounts() if row["kind"] != "bind"]
    mounts.append({"kind": "bind", "source": box.fs, "target": "/data/lab/all"})
    met = box.attack("change", "/data/lab/all/public/imagenet", mounts=mounts)
    assert set(met.values()) == {"EROFS"}


@NESTED
def test_mount_calls_cannot_take_the_view_apart(box: Sandbox, nested: tuple[str, ...]) -> None:
    assert refused(box.attack(*nested, "undo", "/public/imagenet", box.public, box.scratch))


@NESTED
def test_file_handle_does_not_open_through_a_writable_mount(box: Sandbox, nested: tuple[str, ...]) -> None:
    met = box.attack(*nested, "handle", "/public/imagenet", "/data/lab/scans", "/logs", box.fs)
    assert len(met) == 3
    assert refused(met)


def test_descriptors_of_stager_do_not_reach_the_job(any_box: Sandbox) -> None:
    box = any_box
    assert box.attack("descriptors", inherit=[box.public, "/"]) == {}


def test_standard_input_from_public_data_is_read_only(any_box: Sandbox) -> None:
    box = any_box
    met = box.attack("stdin", stdin_path=box.canary)
    assert met == {"read": CANARY, "write": "EROFS"}


def test_file_system_mounted_later_below_public_data_is_not_written(any_box: Sandbox) -> None:
    box = any_box
    run = box.start(*box.attacker("later", "/public/imagenet", box.public))
    assert run.line() == "ready"
    box.host("mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", f"{box.public}/later")
    run.say()
    outcome = run.finish()
    assert "done" not in outcome.out, outcome.out
    assert box.host("ls", f"{box.public}/later") == ""


def test_mount_of_public_data_made_later_elsewhere_becomes_read_only(any_box: Sandbox) -> None:
    box = any_box
    place = f"{box.fs}/mirror"
    box.host("mkdir", place)
    run = box.start(*box.attacker("waiting", "change", f"{place}/imagenet"))
    keeper = run.line()
    box.host("mount", "--bind", os.path.dirname(box.public), place)
    until(lambda: box.host("grep", f" {place}/imagenet ro,", f"/proc/{keeper}/mountinfo") != "")
    # What the keeper does to the mounts wakes it: unless it does nothing to those that are as they should be, it never
    # rests, and whoever rests is asleep at every look.
    until(lambda: {state_of(keeper) for _ in range(200)} == {"S"})
    run.say()
    assert set(json.loads(run.finish().out).values()) == {"EROFS"}


def state_of(pid: str) -> str:
    """S: it sleeps (proc_pid_stat(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; the test's time limit is the limit."""
    while not condition():
        os.sched_yield()


def test_source_swapped_for_a_symlink_after_the_check_is_refused(any_box: Sandbox) -> None:
    box = any_box
    box.host("chmod", "777", box.fs)
    outcome = box.run("true", rename=[[box.live, f"{box.fs}/gone"]], symlink=[[f"{box.scratch}/job-2/data", box.live]])
    assert outcome.info["error"] == "MountError"
    assert box.live in outcome.info["text"]


def test_parent_swapped_for_a_symlink_after_the_check_is_refused(any_box: Sandbox) -> None:
    box = any_box
    box.host("mkdir", "-p", f"{box.fs}/evil/imagenet")
    box.open_up()
    box.host("chmod", "777", box.fs)
    parent = os.path.dirname(box.public)
    outcome = box.run("true", rename=[[parent, f"{box.fs}/gone"]], symlink=[[f"{box.fs}/evil", parent]])
    assert outcome.info["error"] == "MountError"
    box.host("rm", parent)
    box.host("mv", f"{box.fs}/gone", parent)


def test_source_swapped_for_another_directory_after_the_check_is_refused(any_box: Sandbox) -> None:
    box = any_box
    box.host("chmod", "777", box.fs)
    outcome = box.run("true", rename=[[box.live, f"{box.fs}/gone"]], mkdir=[box.live])
    assert outcome.info["error"] == "MountError"
    assert "another directory" in outcome.info["text"]


@NESTED
def test_disk_under_public_data_cannot_be_opened(root_box: Sandbox, nested: tuple[str, ...]) -> None:
    box = root_box
    disk, image = f"{box.base}/disk", f"{box.base}/image"
    os.mkdir(disk)
    box.host("truncate", "-s", "16M", image)
    box.host("mkfs.ext4", "-q", image)
    box.host("mount", "-o", "loop", image, disk)
    box.host("sh", "-c", f"mkdir {disk}/set && printf '{CANARY}' > {disk}/set/train.txt")
    device = box.host("findmnt", "-no", "MAJ:MIN", disk).strip()
    block = box.host("findmnt", "-no", "SOURCE", disk).strip()
    node = f"{box.fs}/node"
    box.host("mknod", node, "b", *device.split(":"))
    mounts = [*box.mounts(), {"kind": "public", "source": f"{disk}/set", "target": "/public/disk"}]
    assert refused(box.attack(*nested, "disk", block, node, device, mounts=mounts))
    assert refused(box.attack(*nested, "change", "/public/disk", f"{disk}/set", mounts=mounts))


def test_character_devices_still_open(box: Sandbox) -> None:
    names = ["null", "zero", "urandom", "tty0" if box.uid == 0 else "full", "fuse" if box.uid == 0 else "random"]
    script = "; ".join(f"head -c 0 /dev/{name}" for name in names) + "; echo x > /dev/null && ls -l /dev/pts/ptmx"
    outcome = box.run("sh", "-ec", script)
    assert outcome.info.get("status") == 0, outcome.err


def test_raw_memory_and_later_devices_do_not_open(root_box: Sandbox) -> None:
    met = root_box.attack(
        "controls", *(path for path in ("/dev/mem", "/dev/port", "/dev/loop0") if os.path.exists(path))
    )
    assert refused(met)


def test_host_process_of_the_same_user_is_no_door(any_box: Sandbox) -> None:
    box = any_box
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if box.uid == 0 else []
    door = subprocess.Popen(box.as_principal(*powerless, "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert door.stdin is not None and door.stdout is not None
    try:
        door.stdin.write(b"x")
        door.stdin.flush()
        assert door.stdout.read(1) == b"x"
        assert refused(box.attack("processes", box.canary, str(door.pid)))
    finally:
        door.stdin.close()
        door.stdout.close()
        door.wait()


def test_keeper_of_the_view_is_no_door(any_box: Sandbox) -> None:
    box = any_box
    script = f"exec {' '.join(box.attacker('processes', box.canary))} $PPID"
    outcome = box.run("sh", "-c", script)
    assert outcome.info.get("status") == 0, outcome.err
    assert "done" not in outcome.out


@NESTED
def test_chroot_leads_nowhere(box: Sandbox, nested: tuple[str, ...]) -> None:
    assert refused(box.attack(*nested, "escape", box.canary))


def test_masked_directories_are_empty_and_read_only(any_box: Sandbox) -> None:
    box = any_box
    os.mkdir(f"{box.base}/alias")
    box.host("mount", "--bind", box.fs, f"{box.base}/alias")
    os.mkdir(f"{box.base}/inner")
    box.host("mount", "--bind", f"{box.scratch}/job-2", f"{box.base}/inner")
    shown = f"ls -A {box.scratch} {box.base}/alias/scratch {box.base}/inner | grep -v : | grep ."
    assert box.run("sh", "-c", shown).out == ""
    met = box.attack("change", box.scratch, f"{box.base}/alias/scratch", f"{box.base}/inner")
    assert set(met.values()) <= {"EROFS", "ENOENT", "EACCES"}


def test_kernel_controls_are_read_only_for_a_job_of_root(root_box: Sandbox) -> None:
    paths = [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/block/loop0/queue/read_ahead_kb",
        *(path for path in ("/sys/fs/cgroup/cpu/release_agent",) if os.path.exists(path)),
    ]
    met = root_box.attack("controls", *(path for path in paths if os.path.exists(path)))
    assert len(met) >= 3
    assert set(met.values()) == {"EROFS"}


def test_job_of_root_gets_no_control_group_namespace(root_box: Sandbox) -> None:
    outcome = root_box.run("sh", "-c", "unshare -UC true 2>&1 && echo got one; unshare -Um true && echo others work")
    assert "got one" not in outcome.out
    assert "others work" in outcome.out


OWN = ("/task", "/task_tmp", "/task_ramfs", "/mnt/local_storage", "/logs", "/code", "/data/alice/mnist")


@NESTED
def test_no_mount_of_a_job_that_has_everything_leads_anywhere(any_box: Sandbox, nested: tuple[str, ...]) -> None:
    box = any_box
    program, show, kept = f"{box.fs}/whoami", f"{box.fs}/show", "/data/kept/tree"
    box.host("sh", "-c", f"cp /usr/bin/id {program}; printf '#!/bin/sh\\nexec {program} -u\\n' > {show}")
    mounts = box.all_mounts()
    box.host("chmod", "4755", program)
    box.host("chmod", "755", show)
    above = os.path.dirname(box.public)
    tops = ["/", "/data", "/mnt", kept, "/public/imagenet", box.public, above, box.fs, box.scratch]
    attacks = [["own_mounts", show, *OWN], ["change", kept], ["clones", *tops], ["undo", kept, box.public, box.scratch],
               ["handle", kept, *OWN, box.fs], ["escape", box.canary]]  # fmt: skip
    several = [word for attack in attacks for word in (*attack, "+")]
    met = box.attack(*nested, *several, mounts=mounts, ramdisk=True)
    assert met.pop("set-id program") == "True"
    assert len(met) == 10 * len(OWN) + 7 + 3 * len(tops) + 15 + len(OWN) + 2
    assert {met[name] for name in met if name.endswith(f" {kept}")} <= {"EROFS", "EPERM", "EACCES", "EINVAL"}
    assert refused(met)
    assert box.host("cat", f"{box.scratch}/cache/tree/train.txt") == CANARY


@NESTED
def test_strict_view_is_no_easier_to_leave(any_box: Sandbox, nested: tuple[str, ...]) -> None:
    box = any_box
    mounts = box.all_mounts()
    box.host("cp", f"{box.library}/view_attacker.py", f"{box.job}/code")
    box.open_up()
    attacks = [["change", "/public/imagenet"], ["clones", "/", "/usr", "/public/imagenet", "/data", "/mnt"],
               ["undo", "/public/imagenet", "/data/kept/tree", "/mnt"], ["handle", "/public/imagenet", *OWN],
               ["processes", "/public/imagenet/train.txt", "1"], ["escape", box.canary]]  # fmt: skip
    several = [word for attack in attacks for word in (*attack, "+")]
    script = ["/usr/bin/python3", "-I", "-S", "/code/view_attacker.py", *nested, *several]
    outcome = box.run(*script, mounts=mounts, ramdisk=True, profile="strict")
    assert outcome.info.get("status") == 0, (outcome.info, outcome.err)
    assert refused(json.loads(outcome.out))


def test_no_process_of_the_node_is_a_door(any_box: Sandbox) -> None:
    met = any_box.attack("doors", any_box.canary)
    assert int(met.pop("tried")) > 3
    assert refused(met)


def test_keeper_that_root_started_is_not_the_users_to_stop() -> None:
    with sandbox("as-user") as box:
        outcome = box.run("sh", "-c", f"exec {' '.join(box.attacker('keeper'))} $PPID")
        assert set(json.loads(outcome.out).values()) == {"EPERM"}
