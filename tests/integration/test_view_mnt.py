"""/mnt in a job's view: what the host has there, and the storages beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.view_sandbox import Sandbox, sandbox

pytestmark = pytest.mark.root

STORAGES = ["cluster_storage", "local_storage", "shared_storage", "user_storage"]


@pytest.fixture(params=["root", "user"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A host with a shared /mnt, as systemd makes it, and a disk mounted in it."""
    with sandbox(request.param) as here:
        here.host("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/mnt")
        here.host("mount", "--make-shared", "/mnt")
        here.host("mkdir", "/mnt/disk", "/mnt/plain")
        here.host("sh", "-c", "echo kept > /mnt/plain/f; echo file > /mnt/file; ln -s plain/f /mnt/link")
        mount(here, "/mnt/disk", "disk")
        mount(here, "/mnt/local_storage", "hosts")
        yield here


def mount(box: Sandbox, path: str, content: str) -> None:
    box.host("mkdir", "-p", path)
    box.host("mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", path)
    box.host("sh", "-c", f"echo {content} > {path}/f; chmod 666 {path}/f")


def await_in_job(condition: str) -> str:
    return f"until {condition}; do sleep 0.01; done"


def test_mnt_has_what_the_host_has_and_the_storages(box: Sandbox) -> None:
    script = "cd /mnt; ls; cat disk/f plain/f file link; echo mine > disk/f; ! touch new && ! mkdir user_storage/x"
    outcome = box.run("sh", "-c", script)
    assert outcome.info["status"] == 0, outcome.err
    listed = sorted([*STORAGES, "disk", "file", "link", "plain"])
    assert outcome.out.split() == [*listed, "disk", "kept", "file", "kept"]
    assert box.host("cat", "/mnt/disk/f") == "mine\n"
    assert sorted(box.host("ls", "/mnt").split()) == ["disk", "file", "link", "local_storage", "plain"]


def test_mounts_of_the_host_in_mnt_come_and_go(box: Sandbox) -> None:
    script = [
        "echo ready", await_in_job("test -e /mnt/new/f"), await_in_job("test -e /mnt/plain/g/f"), "cat /mnt/new/f",
        "echo seen", await_in_job("! test -e /mnt/disk/f"), await_in_job("! test -e /mnt/new/f"), "ls /mnt/disk",
        "cat /mnt/local_storage/mine", "! touch /mnt/x && echo gone",
    ]  # fmt: skip
    box.host("sh", "-c", f"echo mine > {box.job}/logs/mine")
    mounts = [{"kind": "own", "source": f"{box.job}/logs", "target": "/mnt/local_storage"}]
    run = box.start("sh", "-c", "\n".join(script), mounts=mounts)
    assert run.line() == "ready"
    mount(box, "/mnt/plain/g", "below")
    mount(box, "/mnt/new", "new")
    assert (run.line(), run.line()) == ("new", "seen")
    box.host("umount", "/mnt/local_storage", "/mnt/disk", "/mnt/new")
    assert run.finish().out == "mine\ngone\n"


def test_mnt_that_has_places_for_the_storages_is_shown_as_it_is(box: Sandbox) -> None:
    box.host("chmod", "777", "/mnt")
    box.host("sh", "-c", "umount /mnt/local_storage; cd /mnt && mkdir -p " + " ".join(STORAGES))
    mounts = [{"kind": "own", "source": f"{box.job}/logs", "target": "/mnt/local_storage"}]
    script = "echo x > /mnt/new; echo x > /mnt/local_storage/new; cat /mnt/disk/f"
    outcome = box.run("sh", "-c", script, mounts=mounts)
    assert (outcome.info["status"], outcome.out) == (0, "disk\n"), outcome.err
    assert box.host("cat", "/mnt/new", f"{box.job}/logs/new") == "x\nx\n"
    assert box.host("ls", "/mnt/local_storage") == ""


def test_a9_storage_that_others_could_enter_is_not_mounted(box: Sandbox) -> None:
    own = f"{box.scratch}/own"
    box.host("sh", "-c", f"mkdir -m 0700 {own}; chown {box.uid} {own}")
    mounts = [{"kind": "storage", "source": own, "target": "/mnt/user_storage", "owner": box.uid}]
    assert box.run("touch", "/mnt/user_storage/x", mounts=mounts).info["status"] == 0
    for change in (f"chmod 0750 {own}", f"chmod 0755 {own}; chown 4242 {own}"):
        box.host("sh", "-c", change)
        outcome = box.run("true", mounts=mounts)
        assert f"is not a directory of user {box.uid} alone" in outcome.info.get("text", ""), outcome
