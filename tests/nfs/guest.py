"""Run inside User Mode Linux, by `init.sh`: stager on a real NFS client of the kernel's. Root of the guest runs it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.job_driver import Node, Outcome

EXPORT = Path("/mnt/export")
MOUNTED = Path("/mnt/client")
SCANS = EXPORT / "scans"


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (SCANS / "one").write_text("one\n")
    (SCANS / "old").write_text("old\n")
    return Node(tmp_path)


@pytest.fixture
def mounted() -> Iterator[Path]:
    mount()
    yield MOUNTED
    subprocess.run(["umount", "--lazy", MOUNTED], check=False)


def mount() -> None:
    """A hard one, as is usual: when the server is gone, it sleeps."""
    MOUNTED.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "nfs4", "-o", "vers=4.2", "127.0.0.1:/", MOUNTED], check=True)


def run(node: Node, source: str, script: str, *more: str) -> Outcome:
    job = node.write_job(f"[[dataset]]\nname = 'lab/scans'\nsource = '{source}'\n" + "".join(more))
    return node.stager("run", job, "--", "sh", "-ec", script)


WORK = """
cd /data/lab/scans
stat -f -c %T .
cat one
echo job > new
rm old
test -e "$SEEN/new" && echo seen
"""


def judge(done: Outcome) -> None:
    assert done.code == 0, done.err
    assert done.out.split() == ["nfs", "one", "seen"]
    assert (SCANS / "new").read_text() == "job\n"
    assert not (SCANS / "old").exists()


def test_export_is_mounted_for_the_job_alone_and_its_writes_reach_the_server(node: Node) -> None:
    judge(run(node, "nfs://127.0.0.1/scans", f"SEEN={SCANS}\n{WORK}"))
    assert b" nfs4 " not in Path("/proc/self/mountinfo").read_bytes()
    (told,) = [data for data in node.receipt(node_job(node))["datasets"] if data["name"] == "lab/scans"]
    assert (told["how"], told["source"], told["pinned"]) == ("nfs", "127.0.0.1:/scans", {"address": "127.0.0.1"})


def node_job(node: Node) -> str:
    (job,) = os.listdir(node.scratch / "jobs")
    return job


def test_what_the_server_does_not_export_is_said(node: Node) -> None:
    done = run(node, "nfs://127.0.0.1/missing", "true")
    assert done.code == 125
    assert "127.0.0.1:/missing: cannot mount the export: No such file or directory" in done.err, done.err


def test_bind_of_a_mounted_export_works_and_a_type_that_is_not_there_is_refused(node: Node, mounted: Path) -> None:
    judge(run(node, f"bind:{mounted}/scans", f"SEEN={SCANS}\n{WORK}", "mounted = 'nfs4'\n"))
    subprocess.run(["umount", mounted], check=True)
    (mounted / "scans").mkdir(exist_ok=True)
    done = run(node, f"bind:{mounted}/scans", "true", "mounted = 'nfs4'\n")
    assert done.code == 125 and "no nfs4 is mounted there" in done.err, done.err
    (mounted / "scans").rmdir()


def test_public_export_is_read_only_for_root(node: Node, mounted: Path) -> None:
    job = node.write_job(f"[[public]]\nname = 'scans'\nsource = '{mounted}/scans'\n")
    script = "cd /public/scans; cat one; touch x; rm one"
    done = node.stager("run", job, "--", "sh", "-c", script)
    assert done.out == "one\n" and done.err.count("Read-only file system") == 2, done.err
    assert (SCANS / "one").exists() and not (SCANS / "x").exists()


def test_sync_and_layout_publish_on_nfs(node: Node, mounted: Path) -> None:
    """There is no O_TMPFILE, and no exchange of two names."""
    source = node.root / "source"
    source.mkdir()
    for number in range(20):
        (source / f"{number}").write_text(f"{number}\n" * 1000)
    assert node.stager("sync", f"file://{source}", f"{mounted}/volume/synced").code == 0
    assert len(os.listdir(EXPORT / "volume/synced")) == 21
    job = node.write_job(f"[[dataset]]\nname = 'lab/words'\nsource = 'file://{source}'\n")
    for content in ("first\n", "second\n"):
        (source / "0").write_text(content)
        (mounted / "volume/data").mkdir(exist_ok=True)
        done = node.stager("stage", "--layout", f"data={mounted}/volume/data", job)
        assert done.code == 0, done.err
        assert (EXPORT / "volume/data/lab/words/0").read_text() == content


def test_server_that_is_gone_stops_the_job_and_not_the_node(node: Node, mounted: Path) -> None:
    assert os.listdir(mounted)
    subprocess.run(["rpc.nfsd", "0"], check=True)
    try:
        done = run(node, f"bind:{mounted}/scans", "true")
        assert done.code == 125 and "no answer; the server behind this mount may be gone" in done.err, done.err
        done = run(node, "nfs://127.0.0.1/scans", "true")
        assert done.code == 125 and "does not answer at port 2049" in done.err, done.err
    finally:  # else the kernel waits for it when the mount goes
        subprocess.run(["rpc.nfsd", "-N", "3", "-U", "2"], check=True)
        Path("/proc/fs/nfsd/v4_end_grace").write_text("Y\n")
    judge(run(node, f"bind:{mounted}/scans", f"SEEN={SCANS}\n{WORK}"))
