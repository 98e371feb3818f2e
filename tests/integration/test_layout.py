"""Where nobody may mount anything: `stager stage --layout` into mounted volumes, and `stager run --view none`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.job_driver import Node
from integration.other_user import python_for, readable_copy
from servers.repositories import make_repository
from servers.slow_fuse import SlowFuse
from stager.cli.group import run

USER = 1_234_567
POD = r"""
set -e
for name in data code logs scratch; do mount -t tmpfs -o mode=0777 tmpfs "$BASE/$name"; done
chmod 1777 "$BASE/scratch"
while read -r _ point _; do
    point=$(printf '%b' "$point")
    case $point in "$BASE"/data|"$BASE"/code|"$BASE"/logs|"$BASE"/scratch) ;;
    *) mount -o remount,bind,ro "$point" 2>/dev/null || umount --lazy "$point" ;; esac
done < /proc/self/mounts
cd /
exec setpriv --reuid="$USER_ID" --regid=0 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
    env -i PATH=/usr/bin:/bin sh -euc "$INSIDE"
"""
PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from stager.cli import main; sys.exit(main())"
INSIDE = r"""
grep -q 'CapEff:.0000000000000000' /proc/self/status
if touch /var/tmp/x 2>/dev/null; then echo "the root can be written to"; exit 1; fi
stager() { "$PYTHON" -c "$PROGRAM" "$LIBRARY" "$@"; }
stager stage --layout "data=$BASE/data,code=$BASE/code,logs=$BASE/logs" "$BASE/job.toml"
cat "$BASE/data/lab/words/a.txt" "$BASE/code/train.py"
ls -A "$BASE/data/.stager"; ls -A "$BASE/code"
stager run --scratch "$BASE/scratch" --view none -q "$BASE/job.toml" -- \
    sh -c 'cat "$STAGER_TREE/data/lab/words/a.txt" train.py; echo "${CLUSTERONE_CLOUD-none}"; exit 7' && exit 1
echo "ended with $?"
"""


@pytest.fixture
def open_base() -> Iterator[Path]:
    """A directory that every user can reach."""
    base = Path(tempfile.mkdtemp(prefix="stager-pod-", dir="/tmp"))
    base.chmod(0o755)
    try:
        yield base
    finally:
        shutil.rmtree(base)


def test_layout_and_view_none_as_an_arbitrary_user_without_capabilities_on_a_read_only_root(open_base: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("playing the cluster takes root")
    for name in ("data", "code", "logs", "scratch", "words"):
        (open_base / name).mkdir()
    (open_base / "words/a.txt").write_text("words\n")
    make_repository(open_base / "repository", {"train.py": b"print()\n"})
    subprocess.run(["chown", "-R", str(USER), open_base / "repository"], check=True)
    (open_base / "job.toml").write_text(
        f"version = 1\n[job]\nname = 'job'\n[code]\nsource = 'git+file://{open_base}/repository'\n"
        f"[[dataset]]\nname = 'lab/words'\nsource = 'file://{open_base}/words'\n"
    )
    library = readable_copy(open_base / "library")
    given = f"BASE={open_base} PYTHON={python_for(USER, library)} LIBRARY={library} PROGRAM='{PROGRAM}'"
    environment = {
        "PATH": os.environ["PATH"], "BASE": str(open_base), "USER_ID": str(USER), "INSIDE": f"{given}\n{INSIDE}",
    }  # fmt: skip
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", POD],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split("\n") == [
        "words", "print()", "lock", "published.json", "receipt.json", ".stager", "train.py",
        "words", "print()", "none", "ended with 7", "",
    ]  # fmt: skip


class World:
    """A job with one dataset and code, and two volumes that a job may have had before."""

    def __init__(self, root: Path, volumes: Path) -> None:
        self.root, self.data, self.code = root, volumes / "data", volumes / "code"
        for directory in (root / "words", root / "src", self.data, self.code):
            directory.mkdir()
        (root / "words/a.txt").write_text("words\n")
        (root / "src/train.py").write_text("one\n")
        (root / "src/old.py").write_text("old\n")
        self.job = f"{root}/job.toml"
        Path(self.job).write_text(
            f"version = 1\n[job]\nname = 'job'\n[code]\nsource = '{root}/src'\n"
            f"[[dataset]]\nname = 'lab/words'\nsource = 'file://{root}/words'\n"
        )

    def stage(self) -> int:
        return run(["stage", "-q", "--layout", f"data={self.data},code={self.code}", self.job])

    def files(self) -> dict[str, str]:
        return {
            str(path.relative_to(volume.parent)): path.read_text()
            for volume in (self.data, self.code)
            for path in sorted(volume.rglob("*"))
            if path.is_file() and ".stager" not in path.parts
        }


@pytest.mark.parametrize("kind", ["disk", "fuse"])
def test_layout_again_replaces_what_the_job_changed_whole_and_keeps_what_is_not_stagers(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """Also on a file system that cannot exchange two names, as NFS."""
    (tmp_path / "volumes").mkdir()
    fuse: SlowFuse | None = request.getfixturevalue("slow_disk") if kind == "fuse" else None
    world = World(tmp_path, tmp_path / "volumes" if fuse is None else fuse.mountpoint)
    assert world.stage() == 0
    assert world.files() == {"data/lab/words/a.txt": "words\n", "code/old.py": "old\n", "code/train.py": "one\n"}
    (world.data / "lab/words/a.txt").write_text("changed")
    (world.data / "lab/words/new").write_text("new")
    (world.data / "lab/own").write_text("own")
    (world.code / ".stager/staging").symlink_to(tmp_path)
    (tmp_path / "src/old.py").unlink()
    assert world.stage() == 0
    assert world.files() == {"data/lab/words/a.txt": "words\n", "data/lab/own": "own", "code/train.py": "one\n"}
    assert (tmp_path / "src").is_dir()
    receipt = (world.data / ".stager/receipt.json").read_bytes()
    shutil.rmtree(tmp_path / "words")
    assert world.stage() == 3
    assert world.files()["data/lab/words/a.txt"] == "words\n"
    assert (world.data / ".stager/receipt.json").read_bytes() == receipt
    assert sorted(os.listdir(world.data / ".stager")) == ["lock", "published.json", "receipt.json"]


def test_layout_follows_no_symlink_and_replaces_nothing_that_stager_did_not_put_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "volumes").mkdir()
    (tmp_path / "outside/words").mkdir(parents=True)
    world = World(tmp_path, tmp_path / "volumes")

    def refused(code: int, message: str) -> None:
        assert world.stage() == code
        text = "".join(capsys.readouterr())
        assert message in text, text
        assert os.listdir(tmp_path / "outside") == ["words"] and os.listdir(tmp_path / "outside/words") == []

    (world.data / "lab").symlink_to(tmp_path / "outside")
    refused(2, "'lab/words': something lies there that stager did not put there")
    (world.data / "lab").unlink()
    (world.code / "train.py").symlink_to(tmp_path / "outside/train.py")
    refused(2, "'train.py': something lies there")
    assert not (world.data / "lab").exists()
    shutil.rmtree(world.code / ".stager")
    (world.code / ".stager").symlink_to(tmp_path / "outside")
    refused(2, "cannot be staged into")


def test_layout_names_every_part_of_a_job_that_has_no_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Node(tmp_path).write_job(
        f"[code]\nsource = '{tmp_path}'\n[[dataset]]\nname = 'a/b'\nsource = 'bind:/mnt'\n"
        "[[public]]\nname = 'set'\nsource = '/srv'\n"
    )
    assert run(["stage", "--layout", f"data={tmp_path},logs=/nonexistent/logs", str(tmp_path / job)]) == 2
    text = "".join(capsys.readouterr())
    for part in ("a/b: what is not copied", "/public/set: what is not", "no code=DIR", "logs: /nonexistent/logs"):
        assert part in text
    for layout, message in (("date=/x", "did you mean data?"), ("data=x", "no absolute path"),
                            ("data=/x,code=/x/y", "lie in one another"), ("logs=/", "root directory")):  # fmt: skip
        assert run(["stage", "--layout", layout, str(tmp_path / job)]) == 2
        assert message in "".join(capsys.readouterr())
