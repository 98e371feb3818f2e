"""Eight stagers at once on small disks, killed, stopped and short of room while others empty the cache: whoever says
that it is done has exactly its data, and in the end nothing is left, runs or is held.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import pytest

from faults.syncing import Synced, run_here
from integration.clone_disk import used_bytes
from integration.job_driver import Node
from integration.real_disks import disk
from integration.sync_driver import wait_until
from servers.s3 import object_bytes
from servers.seaweedfs import SeaweedFS
from stager.host.leases import STALE_S

pytestmark = [pytest.mark.root, pytest.mark.timeout(7200)]

MIB = 1 << 20
AT_ONCE = 8
DATASETS = 3
DISKS = {"xfs": 320 * MIB, "ext4": 112 * MIB}
SHOW = "cd /data/o/n && find . -type f -exec sha256sum {} +"
MARK = "STAGER_SOAK_MARK"
NO_ROOM = ("are needed", "No space left", "no space left")


def digests(objects: Mapping[str, bytes]) -> dict[str, str]:
    return {key: hashlib.sha256(content).hexdigest() for key, content in objects.items()}


def digests_below(tree: Path) -> dict[str, str]:
    return digests({str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()})


@dataclass(frozen=True)
class Started:
    node: Node
    argv: tuple[str, ...]
    wanted: dict[str, str]  # digests
    process: subprocess.Popen[str]
    fate: str

    @property
    def job(self) -> str:
        return self.argv[2]


class Soak:
    """The nodes, one for each disk, their datasets in the buckets of one server, and what is drawn for them."""

    def __init__(self, nodes: list[Node], weed: SeaweedFS, name: str, seed: int) -> None:
        self.draw = random.Random(seed)
        self.nodes = nodes
        self.ends: Counter[str] = Counter()
        self._weed = weed
        self._name = name
        self._objects: list[dict[str, bytes]] = [{} for _ in range(DATASETS)]
        self._jobs = 0
        for number in range(DATASETS):
            weed.make_bucket(f"{name}-{number}")
            self._put(number, {f"d{at % 3}/{at}": self._content(9_000) for at in range(20)})
            self._put(number, {"large": self._content(10 * MIB)})
            source = f'[[dataset]]\nname = "o/n"\nsource = "s3://{name}-{number}/"\n'
            for node in nodes:
                node.write_job(source, f"{number}.toml")
                node.write_job(source + 'access = "read-only"\n', f"{number}-read-only.toml")
        all_of_them = [f'[[dataset]]\nname = "o/{at}"\nsource = "s3://{name}-{at}/"\n' for at in range(DATASETS)]
        for node in nodes:
            node.write_job("".join(all_of_them), "all.toml")

    def _content(self, size: int) -> bytes:
        return object_bytes(size, self.draw.randrange(1 << 30))

    def _put(self, number: int, objects: dict[str, bytes]) -> None:
        self._weed.fill(f"{self._name}-{number}", objects)
        self._objects[number] |= objects

    def change(self) -> None:
        """New objects, and others in the place of old ones, in one of the datasets."""
        number = self.draw.randrange(DATASETS)
        self._put(number, {f"d1/{self.draw.randrange(30)}": self._content(20_000)})
        if self.draw.random() < 0.3:
            self._put(number, {"large": self._content(10 * MIB)})

    def round(self) -> None:
        """Start them all, do to each what is drawn for it, and look at what those say that end by themselves."""
        started = [self._start() for _ in range(AT_ONCE)]
        events = [event for number, one in enumerate(started) for event in self._events(number, one.fate)]
        begun_s = time.monotonic()
        for at_s, number, signal in sorted(events):
            time.sleep(max(0.0, begun_s + at_s - time.monotonic()))
            started[number].process.send_signal(signal)
        for one in started:
            out, err = one.process.communicate(timeout=120)
            self._check(one, out, err)
        await_end_of_all()
        for node in self.nodes:
            for job in lines(node, "ls"):
                if self.draw.random() < 0.6:
                    remove(node, str(job["id"]))

    def _start(self) -> Started:
        node, draw = self.draw.choice(self.nodes), self.draw
        number = draw.randrange(DATASETS)
        self._jobs += 1
        argv: tuple[str, ...] = draw.choice(
            [("stage", "--job-id", f"job{self._jobs}", f"{number}.toml")] * 4
            + [("run", "--job-id", f"job{self._jobs}", f"{number}.toml", "--", "sh", "-c", SHOW)] * 2
            + [("run", "--job-id", f"job{self._jobs}", f"{number}-read-only.toml", "--", "sh", "-c", SHOW)] * 2
            + [("cache", "gc", "--keep", draw.choice(["0", "12M"]))]
            + [("cache", "rm", "--all")]
        )
        fate = draw.choice(["left alone"] * 4 + ["killed"] * 3 + ["stopped"] * 2 + ["stopped and killed"])
        process = node.start(*argv, **{MARK: "1"})
        return Started(node, argv, digests(self._objects[number]), process, fate)

    def _events(self, number: int, fate: str) -> Iterator[tuple[float, int, int]]:
        at_s = self.draw.uniform(0.2, 2.5)
        if "stopped" in fate:
            yield at_s, number, SIGSTOP
            at_s += self.draw.uniform(0.1, 2.0)
            yield at_s, number, SIGCONT
        if "killed" in fate:
            yield at_s, number, SIGKILL

    def _check(self, one: Started, out: str, err: str) -> None:
        code, says = one.process.returncode, (one.argv, one.fate, out, err)
        self.ends[f"{one.argv[0]} {code}"] += 1
        if code == -SIGKILL and "killed" in one.fate:
            return
        if one.argv[0] == "cache":
            assert code in (0, 7), says
        elif code == 0:
            if one.argv[0] == "stage":
                found = digests_below(one.node.tree(one.job) / "data/o/n")
            else:
                found = dict(reversed(line.split("  ./")) for line in out.splitlines())
            assert found == one.wanted, says
        else:
            assert code == {"stage": 5, "run": 125}[one.argv[0]], says
            assert any(words in err for words in NO_ROOM), says

    def stage_all(self) -> None:
        """Every dataset on every disk: nobody is waited for who is no more."""
        for node in self.nodes:
            begun_s = time.monotonic()
            done = node.stager("stage", "--job-id", "last", "all.toml")
            assert done.code == 0, done.err
            assert time.monotonic() - begun_s < STALE_S
            for number, objects in enumerate(self._objects):
                assert digests_below(node.tree("last") / f"data/o/{number}") == digests(objects)
            remove(node, "last")


def here(node: Node, *argv: str) -> Synced:
    return run_here(*argv, environment={"STAGER_SCRATCH": str(node.scratch)})


def lines(node: Node, *argv: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in here(node, *argv, "--json").out.splitlines()]


def remove(node: Node, job: str) -> None:
    done = here(node, "teardown", "--discard-uncollected", job)
    assert done.status == 0 or not (node.scratch / "jobs" / job / "job.json").exists(), done.err


def await_end_of_all() -> None:
    """Nothing that a stager started outlives it for long, whatever became of it."""
    wait_until(lambda: not marked())


def marked() -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"{MARK}=1".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue
    return found


@pytest.fixture
def nodes(weed: SeaweedFS) -> Iterator[list[Node]]:
    """One on each disk; in the end nothing holds the disks, nor is any room of them lost."""
    top = Path(tempfile.mkdtemp(prefix="stager-disk-"))
    try:
        with ExitStack() as disks:
            nodes, before = [], []
            for kind, size in DISKS.items():
                place = top / kind
                disks.enter_context(disk(place, kind, size=size))
                before.append((used_bytes(place), used_inodes(place)))
                (place / "scratch").mkdir(mode=0o700)
                nodes.append(Node(place, weed.environment()))
            yield nodes
            for node, (was_bytes, was_inodes) in zip(nodes, before, strict=True):
                for path in [node.scratch, *node.root.glob("*.toml")]:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                wait_until(partial(is_back, node.root, was_bytes, was_inodes))
    finally:
        shutil.rmtree(top)


def used_inodes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_files - found.f_ffree


def is_back(place: Path, was_bytes: int, was_inodes: int) -> bool:
    """Whether no more is used than that; xfs gives back in the background, and keeps some for its own trees."""
    return used_inodes(place) == was_inodes and used_bytes(place) <= was_bytes + MIB


def test_whoever_is_done_has_its_data_and_nothing_is_left(
    nodes: list[Node], weed: SeaweedFS, soak: int, seed: int
) -> None:
    it = Soak(nodes, weed, f"soak-{os.getpid()}", seed)
    for number in range(1 if soak == 1 else 100):
        it.round()
        print(f"round {number}: {it.ends}", flush=True)
        if it.draw.random() < 0.5:
            it.change()
    assert it.ends["stage 0"] and it.ends["run 0"], it.ends
    for node in nodes:
        for job in lines(node, "ls"):
            remove(node, str(job["id"]))
    it.stage_all()
    for node in nodes:
        assert not any(kept["in_use"] for kept in lines(node, "cache", "ls"))
        verified = here(node, "cache", "verify")
        assert verified.status == 0, verified.err
        removed = here(node, "cache", "rm", "--all")
        assert removed.status == 0, removed.err
        assert here(node, "cache", "ls").out == here(node, "ls").out == ""
        left = {path.name for path in node.scratch.rglob("*") if path.is_file()}
        tries = {path.name for path in node.scratch.glob("cache/*/.*")}  # of clones and overlays; they go within hours
        assert left - tries <= {"job.json", "settings.json", "launch.json", "receipt.json", "lock"}
