"""Where the site lets one job run on a node at a time, the next one waits, and says so."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.shared_node import Site

pytestmark = pytest.mark.root


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:
        os.chmod(shared, 0o1777)
        made = Site(tmp_path, f'[node]\ndirectory = "{shared}"\njobs_per_node = 1\n')
        yield made
        made.end_all()


def test_q2_second_job_waits_for_the_end_of_the_first(site: Site, tmp_path: Path) -> None:
    noted, gate = tmp_path / "noted", tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "scratch").mkdir(mode=0o700)
    script = f"echo start >> {noted}; test $STAGER_JOB_ID = b || cat {gate} > /dev/null; echo end >> {noted}"
    first, second, third = [
        ("run", "--scratch", str(tmp_path / "scratch"), "--job-id", name, "--", "sh", "-c", script) for name in "abc"
    ]
    one = site.start(*first)
    with open(gate, "w") as held:  # opens when the first job reads
        two = site.start(*second)
        assert two.stderr is not None
        told = two.stderr.readline()
        assert "waits for this node" in told and "the site allows 1" in told
        assert noted.read_text().split() == ["start"]
        assert not (tmp_path / "scratch" / "jobs" / "b").exists()  # nothing is staged for it either
        held.write("end")
    assert [site.end(one).code, site.end(two).code] == [0, 0]
    assert noted.read_text().split() == ["start", "end", "start", "end"]

    one = site.start(*third)
    with open(gate, "w"):
        one.kill()
        site.end(one)
        assert site.stager(*second).code == 0  # who was killed keeps nobody waiting


def test_limit_of_jobs_needs_a_directory_that_all_know(site: Site, tmp_path: Path) -> None:
    site.says("[node]\njobs_per_node = 1\n")
    done = site.stager("run", "--", "true")
    assert done.code == 125 and "node.directory: is needed" in done.err
