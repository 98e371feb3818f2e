"""What the stagers of one node share: free space that is planned with once, limits, and a cap on trees."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.real_disks import disk
from integration.shared_node import Gated, Site, another_user, moving
from integration.sync_driver import tree, wait_until
from stager.host.board import Board, Claimed, Taking
from stager.host.reservations import device_of
from unit.scripted_http import scripted

MIB = 1 << 20
SOMEBODY = 54321
NO_SPACE = 5

Sites = Callable[[str], Site]

pytestmark = pytest.mark.root


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 64 MiB, of which about 56 are free."""
    with disk(tmp_path / "disk", "ext4"):
        yield tmp_path / "disk"


@pytest.fixture
def bucket() -> Iterator[Gated]:
    """Thirty MiB in six objects."""
    made = Gated([f"o{number}" for number in range(6)], 5 * MIB)
    with scripted(made.answer) as made.server:
        yield made
        made.open_all()


@pytest.fixture
def sites(tmp_path: Path, bucket: Gated) -> Iterator[Sites]:
    """A node whose site says so."""
    assert bucket.server is not None
    site = Site(tmp_path, "", bucket.server.port)
    yield site.says
    site.end_all()


@pytest.fixture
def alone(sites: Sites) -> Site:
    """A node whose site says nothing."""
    return sites("")


@pytest.fixture
def shared() -> Iterator[Path]:
    """The directory of a site, which every user can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        path = Path(made) / "node"
        path.mkdir()
        path.chmod(0o1777)
        yield path


def test_second_stager_is_refused_what_the_first_is_about_to_fill(small: Path, bucket: Gated, alone: Site) -> None:
    first = alone.start("sync", "s3://bucket/one/", str(small / "one"))
    wait_until(lambda: bool(bucket.asked))
    second = alone.stager("sync", "s3://bucket/two/", str(small / "two"))
    assert second.code == NO_SPACE, second.err
    assert "of them are reserved (30.0 MiB, " in second.err
    assert f"30.0 MiB and 6 inodes by your process {first.pid}; wait for their end" in second.err
    assert not any(name.startswith("two") for name in bucket.asked)
    assert not (small / "two").exists()
    bucket.open_all()
    assert alone.end(first).code == 0
    assert tree(small / "one") == bucket.tree


def test_of_four_at_once_exactly_one_goes_ahead_where_one_fits(small: Path, bucket: Gated, alone: Site) -> None:
    bucket.listings = threading.Barrier(4)
    started = {name: alone.start("sync", f"s3://bucket/{name}/", str(small / name)) for name in "abcd"}
    wait_until(lambda: [process.poll() for process in started.values()].count(NO_SPACE) == 3)
    (ahead,) = [name for name, process in started.items() if process.poll() is None]
    assert {name.partition("/")[0] for name in bucket.asked} <= {ahead}
    bucket.open_all()
    assert {name: alone.end(process).code for name, process in started.items()} == {
        name: 0 if name == ahead else NO_SPACE for name in "abcd"
    }
    assert tree(small / ahead) == bucket.tree


def test_killed_stager_has_nothing_reserved_at_once(small: Path, bucket: Gated, alone: Site) -> None:
    first = alone.start("sync", "s3://bucket/one/", str(small / "one"))
    wait_until(lambda: bool(bucket.asked))
    assert alone.claims_of(first)
    first.send_signal(signal.SIGKILL)
    alone.end(first)
    bucket.open_all()
    assert alone.stager("sync", "s3://bucket/two/", str(small / "two")).code == 0
    assert tree(small / "two") == bucket.tree


def test_what_is_reserved_goes_down_as_data_arrives(small: Path, bucket: Gated, alone: Site) -> None:
    bucket.opened = {"o0", "o1", "o2", "o3"}
    first = alone.start("sync", "s3://bucket/one/", str(small / "one"))
    wait_until(lambda: [claim.bytes for claim in alone.claims_of(first)] == [10 * MIB])
    second = alone.start("sync", "s3://bucket/two/", str(small / "two"))  # 56 free, less 20, less 10: it does not fit
    assert alone.end(second).code == NO_SPACE
    bucket.names = bucket.names[:4]
    bucket.open_all()
    assert alone.stager("sync", "s3://bucket/two/", str(small / "two")).code == 0
    assert alone.end(first).code == 0
    assert alone.claims_of(first) == []


def test_datasets_of_one_job_that_only_fit_one_by_one_are_refused(small: Path, bucket: Gated, alone: Site) -> None:
    done = alone.stager("stage", "--no-cache", "--scratch", str(small), "--data", "a/one=s3://bucket/one/", "--data",
                        "a/two=s3://bucket/two/")  # fmt: skip
    assert done.code == NO_SPACE, done.err
    assert "30.0 MiB and 6 inodes by your process" in done.err


def test_claims_of_another_user_count_up_to_a_share_of_the_disk(
    small: Path, bucket: Gated, shared: Path, sites: Sites
) -> None:
    bucket.open_all()
    fd = os.open(small, os.O_RDONLY | os.O_DIRECTORY)
    claim = Claimed(device=device_of(fd), bytes=1 << 50, inodes=1 << 40, since_ns=0, decided=True)
    os.close(fd)

    def claim_all() -> None:
        board = Board(str(shared))
        for _ in range(10):
            board.post(board.new_name(), claim)

    half = f'[node]\ndirectory = "{shared}"\n'
    tenth = f'{half}reserved_per_user = "10%"\n'
    with another_user(SOMEBODY, claim_all):
        refused = sites(half).stager("sync", "s3://bucket/one/", str(small / "one"))
        assert refused.code == NO_SPACE, refused.err
        assert "inodes by other users" in refused.err
        assert str(SOMEBODY) not in refused.err
        own = sites(tenth).stager("sync", "s3://bucket/one/", str(small / "one"))
        assert own.code == NO_SPACE, own.err
        assert "one user may have reserved" in own.err
        bucket.names = bucket.names[:1]
        assert sites(half).stager("sync", "s3://bucket/one/", str(small / "one")).code == 0
        assert "reserved for 10" in sites(half).stager("doctor", "--scratch", str(small)).out
    assert os.listdir(shared)  # of the dead, whom only root and their own may sweep
    assert sites(half).stager("sync", "s3://bucket/two/", str(small / "two")).code == 0
    assert os.listdir(shared) == []


def test_two_jobs_at_once_go_to_two_disks(tmp_path: Path, bucket: Gated, sites: Sites) -> None:
    with disk(tmp_path / "x", "ext4"), disk(tmp_path / "y", "ext4"):
        roots = f'roots = ["{tmp_path}/x", "{tmp_path}/y"]'
        site = sites(f'[placement]\n{roots}\nfloor = "1M"\n')
        os.environ.pop("STAGER_SCRATCH")
        jobs = [
            site.start("stage", "--json", "--no-cache", "--job-id", name, "--data", f"a/b=s3://bucket/{name}/")
            for name in ("one", "two")
        ]
        wait_until(lambda: {name.partition("/")[0] for name in bucket.asked} == {"one", "two"})
        bucket.open_all()
        done = [site.end(job) for job in jobs]
        assert [each.code for each in done] == [0, 0], [each.err for each in done]
        assert {each.event("staged")["tree"] for each in done} in (
            {f"{tmp_path}/x/jobs/one/tree", f"{tmp_path}/y/jobs/two/tree"},
            {f"{tmp_path}/y/jobs/one/tree", f"{tmp_path}/x/jobs/two/tree"},
        )
        third = site.stager("plan", "--json", write_job(tmp_path))
        assert third.code == NO_SPACE


def write_job(top: Path) -> str:
    (top / "JOB.toml").write_text(
        'version = 1\n[job]\nname = "job"\n[[dataset]]\nname = "a/b"\nsource = "s3://bucket/three/"\n'
    )
    return str(top / "JOB.toml")


def test_three_stagers_of_two_users_share_the_limits_of_the_node(
    tmp_path: Path, bucket: Gated, shared: Path, sites: Sites
) -> None:
    limits = f'[node]\ndirectory = "{shared}"\nmax_bandwidth = "240M"\nmax_requests_per_second = 600\n'
    site = sites(limits)

    def rates() -> dict[int, tuple[float, float]]:
        return {record.who.pid: (says.bytes, says.requests) for record, says in moving(shared)}

    def take_part() -> None:
        Board(str(shared)).post(f"{SOMEBODY}.{'0' * 16}", Taking())

    with another_user(SOMEBODY, take_part, again_s=0.2):
        first, second = (site.start("sync", f"s3://bucket/{name}/", str(tmp_path / name)) for name in ("one", "two"))
        half = (60.0 * MIB, 150.0)
        wait_until(lambda: [rates().get(each.pid) for each in (first, second)] == [half, half])
        wait_until(lambda: len({name.partition("/")[0] for name in bucket.asked}) == 2)
        page = site.stager("doctor", "--scratch", str(tmp_path)).out
        assert "max_bandwidth 240M, max_requests_per_second 600; " in page
    second.send_signal(signal.SIGKILL)
    site.end(second)
    wait_until(lambda: rates().get(first.pid) == (240.0 * MIB, 600.0))
    bucket.open_all()
    done = site.end(first)
    assert done.code == 0, done.err
    assert tree(tmp_path / "one") == bucket.tree
    wait_until(lambda: not moving(shared))


def test_directory_of_the_site_that_is_not_safe_stops_every_command(
    tmp_path: Path, shared: Path, sites: Sites
) -> None:
    shared.chmod(0o777)
    site = sites(f'[node]\ndirectory = "{shared}"\n')
    done = site.stager("sync", "s3://bucket/one/", str(tmp_path / "one"))
    assert done.code == 6
    assert f"{shared}: the directory in which the stagers of this node see one another cannot be used" in done.err
    assert not (tmp_path / "one").exists()
    assert "shared:          PROBLEM: " in site.stager("doctor", "--scratch", str(tmp_path)).out


def test_trees_beyond_the_cap_are_refused_before_anything_moves(tmp_path: Path, bucket: Gated, sites: Sites) -> None:
    site = sites("[node]\ntrees_per_user = 2\n")
    bucket.open_all()
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700)

    def stage(name: str) -> tuple[int, str]:
        data = f"a/b=s3://bucket/{name}/"
        done = site.stager("stage", "--no-cache", "--scratch", str(scratch), "--job-id", name, "--data", data)
        return done.code, done.err

    assert [stage(name)[0] for name in ("one", "two")] == [0, 0]
    code, told = stage("three")
    assert code == 6
    assert "2 trees of jobs are not removed yet, and this site allows each user 2" in told
    assert "the oldest is that of job one (ready); `stager teardown one` removes it" in told
    assert not (scratch / "jobs" / "three").exists()
    assert not any(name.startswith("three") for name in bucket.asked)
    assert site.stager("teardown", "--scratch", str(scratch), "one").code == 0
    assert stage("three")[0] == 0


def test_job_reaches_nothing_of_what_stagers_say(tmp_path: Path, bucket: Gated, shared: Path, sites: Sites) -> None:
    board = Board(str(shared))
    board.post(board.new_name(), Taking())
    site = sites(f'[node]\ndirectory = "{shared}"\nmax_bandwidth = "1G"\n')
    bucket.open_all()
    nested = " ".join([*site.argv, "sync", "-q", "s3://bucket/one/", "/logs/one"])
    keys = "AWS_ACCESS_KEY_ID=AKID AWS_SECRET_ACCESS_KEY=secret"
    script = f"ls {shared}; touch {shared}/x; AWS_ENDPOINT_URL=http://127.0.0.1:{site.port} {keys} {nested}"
    done = site.stager("run", "--logs", str(tmp_path / "logs"), "--job-id", "j", "--", "sh", "-c", script)
    assert done.code == 0, done.err
    assert "Read-only file system" in done.err
    assert done.out == ""
    assert len(os.listdir(shared)) == 1
    assert tree(tmp_path / "logs" / "j" / "0" / "one") == bucket.tree
