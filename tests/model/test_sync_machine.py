"""A state machine drives `stager sync` against a reference in memory: edits on both sides, damage, faults and kills.

After a run that succeeds the destination is what `reference.expect` says, and the receipt tells of it. After one that
failed or was killed each file is what it was or what the source has, never a part of it; what the source does not name
is untouched. The next run then completes: every game ends with one.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from model.launcher import Run
from model.reference import (
    DONE,
    WRONG_NAMES,
    Expected,
    Tree,
    check_deletion,
    expect,
    looks,
    obstacles,
    parents,
    source_files,
    without,
)
from model.world import Source, World, world_in
from servers.fault_proxy import Fault
from servers.s3 import object_bytes
from servers.strict_s3 import Reply, StrictS3

T = TypeVar("T")

GIVEN_UP, DENIED, CHANGED = 7, 3, 4
FOR_EVER = 1 << 30
LARGE = (16 << 20) + 12_345  # two parts

GOOD = [
    "a", "a-b", "a.b", "b/c", "b/d/e", "b/d/f", "b-d", "B/c", "z/z/z/z", "-rf", "new\nline", "sp ace+%41&",
    "\u00e9", "e\u0301", "\u4e2d/\U0001f600", "n" * 255, "b/" + "\u00e9" * 127, "...", ".hidden", "x/.stager/y",
]  # fmt: skip
CLASHING = ["b/d", "a/b", "z/z"]  # files where others have directories
MARKERS = ["", "b/", "empty/"]
BAD = ["../up", "a//b", "/root", "b/./c", ".stager/manifest.jsonl", ".STAGER", "n" * 256, "tail/"]



def _everything(_path: str, _size: int) -> bool:
    return True


PARTS: dict[str, Callable[[str, int], bool]] = {
    "--exclude=/b/": lambda path, size: not path.startswith("b/"),
    "--include=/z/**": lambda path, size: path.startswith("z/"),
    "--max-size=2K": lambda path, size: size <= 2048,
    "--min-size=1K": lambda path, size: size >= 1024,
}
"""Options that choose files, and which."""

names = st.sampled_from(GOOD)
WAYS = ["--verify", "--fsync", "--preserve", "--on-bad-key=skip"]
TAMPERING = ["same size", "truncate", "append", "unlink", "link", "fifo", "directory"]

contents = st.builds(
    functools.lru_cache(maxsize=64)(object_bytes), st.sampled_from([0, 1, 2000, 70_000, 300_000]), st.integers(0, 3)
)
fractions = st.floats(0, 1, exclude_max=True)
requests = st.integers(1, 12)
numbers = st.integers(0, 99)


class SyncMachine(RuleBasedStateMachine):
    def __init__(self, world: World, large: bool) -> None:
        super().__init__()
        self.world = world
        self.has_large = large
        self.home = world.root / f"game-{next(world.numbers)}"
        self.destination = self.home / "dst"
        self.outside = self.home / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "victim").write_bytes(b"precious")
        self.settled = False  # the last run succeeded, and nothing was touched since
        self.recorded = False  # ... or at least no record of it was
        self.brought: set[str] = set()  # what syncs put there and nobody touched, as their records say for sure
        self.perhaps: set[str] = set()  # or may say

    @initialize(
        prefix=st.sampled_from(["", "set/"]),
        algorithm=st.sampled_from(["", "crc32c", "crc64nvme"]),
        objects=st.dictionaries(names, contents, max_size=8),
    )
    def begin(self, prefix: str, algorithm: str, objects: dict[str, bytes]) -> None:
        self._end_of_faults()
        self.world.s3.algorithm = algorithm
        self.source = Source(self.world.s3, self.home.name, prefix)
        self.source.put(objects)

    # ---- the source's side

    def _put(self, objects: dict[str, bytes | None]) -> None:
        self.source.put(objects)
        self.settled = False

    @rule(name=names, content=contents)
    def put(self, name: str, content: bytes) -> None:
        self._put({name: content})

    @rule(name=st.sampled_from(CLASHING + MARKERS + BAD), content=contents)
    def put_odd(self, name: str, content: bytes) -> None:
        self._put({name: b"" if name in MARKERS else content or b"1"})

    @precondition(lambda self: self.has_large)
    @rule(seed=st.integers(0, 1))
    def put_large(self, seed: int) -> None:
        self._put({"large": _large(seed)})

    @precondition(lambda self: self.source.objects)
    @rule(data=st.data(), bit=st.integers(0, 7))
    def overwrite_with_the_same_size(self, data: st.DataObject, bit: int) -> None:
        name = self._some_object(data)
        content = bytearray(self.source.objects[name])
        if content:
            content[len(content) // 2] ^= 1 << bit
        self._put({name: bytes(content)})

    @precondition(lambda self: self.source.objects)
    @rule(data=st.data(), to=names)
    def rename(self, data: st.DataObject, to: str) -> None:
        name = self._some_object(data)
        self._put({to: self.source.objects[name]} if name == to else {to: self.source.objects[name], name: None})

    @precondition(lambda self: self.source.objects)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self._put({self._some_object(data): None})

    @precondition(lambda self: source_files(self.source.objects)[1])
    @rule()
    def remove_what_is_no_file(self) -> None:
        files, _ = source_files(self.source.objects)
        self._put({name: None for name in self.source.objects if name not in files})

    # ---- the destination's side

    def _touched(self, path: str) -> None:
        self.settled = False
        self.brought.discard(path)
        self.perhaps.discard(path)

    def _unsure(self) -> None:
        """The records may have been lost."""
        self.settled = self.recorded = False
        self.perhaps |= self.brought
        self.brought = set()

    def _here(self) -> Tree:
        return looks(self.destination) if self.destination.exists() else {}

    def _files_here(self) -> list[str]:
        return sorted(path for path, (kind, _) in self._here().items() if kind == "file")

    @rule(which=numbers, what=st.sampled_from(TAMPERING))
    def tamper(self, which: int, what: str) -> None:
        name = _one_of(self._files_here(), which)
        if name is None:
            return
        path = self.destination / name
        self._touched(name)
        match what:
            case "same size":
                _flip_in_the_middle(path)
            case "truncate":
                os.truncate(path, path.stat().st_size // 2)
            case "append":
                with path.open("ab") as file:
                    file.write(b"more")
            case _:
                path.unlink()
        match what:
            case "link":
                path.symlink_to(self.outside / "victim")
            case "fifo":
                os.mkfifo(path)
            case "directory":
                path.mkdir()

    @rule(name=st.one_of(names, st.sampled_from(["mine", "b/mine", "b/d/mine"])), content=contents)
    def write_a_file_of_ones_own(self, name: str, content: bytes) -> None:
        path = self.destination / name
        if any((self.destination / above).is_symlink() for above in parents(name)):
            return
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_symlink() and not path.is_fifo():
                path.write_bytes(content)
                self._touched(name)

    @rule(what=st.sampled_from(["link", "file"]))
    def put_something_in_place_of_a_directory(self, what: str) -> None:
        if not (self.destination / "b").is_dir() or (self.destination / "b").is_symlink():
            return
        shutil.rmtree(self.destination / "b")
        self._touched("b")
        if what == "link":
            (self.destination / "b").symlink_to(self.outside)
        else:
            (self.destination / "b").write_bytes(b"no directory")

    @rule()
    def clear_the_way(self) -> None:
        """What stands where directories or files must go is moved off, as the error asks."""
        files, _ = source_files(self.source.objects)
        for path in sorted(files):
            for step in (*parents(path), path):
                here = self.destination / step
                if step != path and (here.is_symlink() or (here.exists() and not here.is_dir())):
                    here.unlink()
                elif step == path and here.is_dir() and not here.is_symlink():
                    shutil.rmtree(here)
        self.settled = False

    @rule(which=numbers, what=st.sampled_from(["cut", "flip", "unlink", "garbage"]), at=fractions)
    def damage_a_record(self, which: int, what: str, at: float) -> None:
        path = _one_of(self._records(), which)
        if path is None:
            return
        held = bytearray(path.read_bytes())
        if what == "flip" and held:
            held[int(at * len(held))] ^= 0x10
        elif what == "cut":
            del held[int(at * len(held)) :]
        elif what == "garbage":
            held = bytearray(object_bytes(500, int(at * 100)))
        path.write_bytes(held) if what != "unlink" else path.unlink()
        self._unsure()

    def _records(self) -> list[Path]:
        """Whatever a run left for the next one."""
        state = self.destination / ".stager"
        return sorted(path for path in state.rglob("*") if path.is_file() and path.name not in ("lock", "receipt.json"))

    # ---- runs

    @rule(options=st.sets(st.sampled_from(WAYS)), again=st.booleans())
    def sync(self, options: set[str], again: bool) -> None:
        skip_bad = "--on-bad-key=skip" in options
        self._sync(*sorted(options))
        if again and self.settled:
            asked = len(self.world.s3.requests)
            receipt = self._sync(*["--on-bad-key=skip"] * skip_bad)
            assert receipt["moved"]["objects"] == 0
            assert all("list-type=2" in target for _, target in self.world.s3.requests[asked:])

    @rule(option=st.sampled_from(list(PARTS)))
    def sync_a_part(self, option: str) -> None:
        self._sync(option)

    @rule(option=st.sampled_from(["", *PARTS]), everything=st.booleans(), die_at_step=st.just(0) | st.integers(1, 80))
    def sync_and_delete(self, option: str, everything: bool, die_at_step: int) -> None:
        """What the source or the filter has not goes if a sync brought it, or with =all."""
        options = [*[option] * bool(option), "--delete=all" if everything else "--delete", "--max-delete=100%"]
        before = self._here()
        refusable = not self.recorded or not source_files(self.source.objects)[0]
        chosen = PARTS.get(option, _everything)
        rest = {
            path for path, (kind, content) in before.items()
            if kind != "directory" and path not in self.source.objects and chosen(path, len(content))
        }  # fmt: skip
        goes = rest if everything else rest & self.brought
        may_go = rest & (self.brought | self.perhaps)
        wanted = self._expect(without(before, goes | may_go), (option,))
        in_the_way = obstacles(before, wanted.files)
        sure_to_go = all(path in goes and before[path][0] != "directory" for path in in_the_way)
        done = self._run(*options, die_at_step=die_at_step)
        after = self._here()
        if done.code == -signal.SIGKILL:
            for path in before.keys() - after.keys():
                assert path in goes | may_go or before[path][0] == "directory", path
            self._check_every_file(before, {**before, **after}, [wanted.files])
            self._unsure()
        elif done.code == WRONG_NAMES and (refusable or wanted.code == WRONG_NAMES or not sure_to_go):
            assert (after, len(done.err) > 0) == (before, True)
        else:
            assert done.code == wanted.code, done
            check_deletion(before, after, wanted.files, goes if done.code == DONE else set(), may_go)
            assert all(after[path] == ("file", content) for path, content in wanted.files.items())
            self._succeeded(wanted)

    @rule(
        fault=st.sampled_from(["cut", "reset", "slow down", "internal error"]),
        at=st.integers(0, 3000),
        name=st.one_of(st.none(), names),
    )
    def sync_through_a_fault(self, fault: str, at: int, name: str | None) -> None:
        target = self.source.target(name) if name else self.source.bucket
        match fault:
            case "cut":
                self.world.proxy.add(Fault(path=target, cut_at=at))
            case "reset":
                self.world.proxy.add(Fault(path=target, reset_at=at))
            case "slow down":
                self.world.s3.reply(Reply(path=target, method="GET", status=503, code="SlowDown"))
            case _:
                self.world.s3.reply(Reply(path=target, method="GET", status=500, code="InternalError"))
        self._sync()
        self._end_of_faults()

    @precondition(lambda self: self.world.s3.algorithm)
    @rule(name=names, at=st.integers(0, 2000))
    def sync_past_a_byte_that_changes_on_the_way(self, name: str, at: int) -> None:
        self.world.proxy.add(Fault(path=self.source.target(name), corrupt_at=at))
        self._sync()
        self._end_of_faults()

    @rule(name=names, kind=st.sampled_from(["denied", "down"]))
    def sync_that_a_server_fails(self, name: str, kind: str) -> None:
        reply = (
            Reply(path=self.source.target(name), status=403, code="AccessDenied", times=FOR_EVER)
            if kind == "denied"
            else Reply(path=self.source.target(name), status=500, code="InternalError", times=FOR_EVER)
        )
        self.world.s3.reply(reply)
        self._disturbed({DENIED if kind == "denied" else GIVEN_UP}, "--retries=2")
        self._end_of_faults()

    @rule(number=requests, how=st.sampled_from([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]))
    def sync_ended_at_a_request(self, number: int, how: signal.Signals) -> None:
        with self.world.at_request(number, lambda: self.world.launcher.signal(how)):
            self._disturbed({-how} if how == signal.SIGKILL else {128 + how})

    @rule(number=st.integers(1, 60))
    def sync_killed_at_a_step(self, number: int) -> None:
        self._disturbed({-signal.SIGKILL}, die_at_step=number)

    @precondition(lambda self: self.source.objects)
    @rule(number=requests, data=st.data(), content=st.one_of(st.none(), contents), again=st.booleans())
    def sync_while_the_source_changes(
        self, number: int, data: st.DataObject, content: bytes | None, again: bool
    ) -> None:
        name = self._some_object(data)
        old = dict(self.source.objects)
        with self.world.at_request(number, lambda: self.source.put({name: content})):
            if again:
                self._disturbed(set(), "--on-change=retry", old=old)
            else:
                self._disturbed({CHANGED}, old=old)
        self._put({name: content})  # where fewer requests were sent than that

    def teardown(self) -> None:
        if hasattr(self, "source"):
            self.remove_what_is_no_file()
            self.source.put({"last": b"one more"})
            self.clear_the_way()
            self._sync()
            assert self.settled
            self.source.s3.buckets.pop(self.source.bucket)
        shutil.rmtree(self.home)

    @invariant()
    def nothing_outside_was_touched(self) -> None:
        assert looks(self.outside) == {"victim": ("file", b"precious")}

    # ---- how runs are judged

    def _some_object(self, data: st.DataObject) -> str:
        return str(data.draw(st.sampled_from(sorted(self.source.objects))))

    def _end_of_faults(self) -> None:
        self.world.proxy.clear()
        self.world.s3.forget_replies()

    def _run(self, *options: str, die_at_step: int = 0) -> Run:
        self.settled = False
        return self.world.sync(self.source, self.destination, *options, die_at_step=die_at_step)

    def _expect(self, before: Tree, options: tuple[str, ...], objects: dict[str, bytes] | None = None) -> Expected:
        found = self.source.objects if objects is None else objects
        chosen = next((PARTS[option] for option in options if option in PARTS), _everything)
        skip_bad = "--on-bad-key=skip" in options
        return expect(found, before, may_be_empty=not self.source.prefix, skip_bad=skip_bad, chosen=chosen)

    def _sync(self, *options: str) -> Any:
        """A run that has to end as the reference says; its receipt."""
        before = self._here()
        wanted = self._expect(before, options)
        return self._check_end(self._run(*options), wanted)

    def _check_end(self, done: Run, *allowed: Expected) -> Any:
        """It ended as one of these would; its receipt."""
        here = self._here()
        assert not self._temporaries()
        assert done.code in {end.code for end in allowed}, done
        fitting = [end for end in allowed if (end.code, end.tree) == (done.code, here)]
        assert fitting, [(path, here.get(path), thing) for path, thing in allowed[-1].tree.items()]
        if done.code != DONE:
            return None
        self._succeeded(fitting[0])
        receipt = json.loads(self._receipt())
        told = receipt["total"]["objects"], receipt["total"]["bytes"], receipt["skipped"]
        assert told in [(len(end.files), sum(map(len, end.files.values())), end.skipped) for end in fitting]
        assert sum(receipt["grades"].values()) == receipt["total"]["objects"]
        return receipt

    def _succeeded(self, end: Expected) -> None:
        if end.code == DONE:
            self.settled = self.recorded = True
            self.brought |= end.files.keys()
            self.perhaps -= end.files.keys()

    def _disturbed(
        self, codes: set[int], *options: str, die_at_step: int = 0, old: dict[str, bytes] | None = None
    ) -> None:
        """A run that may end with one of ``codes``, or as the reference says. ``old``: the source as it began."""
        before, receipt = self._here(), self._receipt()
        done = self._run(*options, die_at_step=die_at_step)
        versions = [self.source.objects] if old is None else [old, self.source.objects]
        ends = [self._expect(before, options, objects) for objects in versions]
        if done.code in codes and done.code not in {end.code for end in ends if end.code != DONE}:
            after = self._here()
            self._check_every_file(before, after, [end.files for end in ends])
            if (now := self._receipt()) and (now != receipt or after != before):
                assert after in [end.tree for end in ends], "a tree with a receipt is whole"
            assert done.code == -signal.SIGKILL or not self._temporaries()
            self.recorded = False
            for end in ends:
                self.perhaps |= end.files.keys()
                self.brought -= end.files.keys()
            return
        self._check_end(done, *ends)

    def _check_every_file(self, before: Tree, after: Tree, versions: list[Any]) -> None:
        assert before.keys() <= after.keys()
        above = {directory for files in versions for path in files for directory in parents(path)}
        for path, thing in after.items():
            may_be = [("file", files[path]) for files in versions if path in files]
            if path in above:
                may_be.append(("directory", b""))
            assert thing == before.get(path) or thing in may_be, path

    def _receipt(self) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return (self.destination / ".stager" / "receipt.json").read_bytes()
        return b""

    def _temporaries(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [name for name in os.listdir(self.destination / ".stager") if name.startswith(("tmp.", "."))]
        return []


def _one_of(things: Sequence[T], which: int) -> T | None:
    """A choice among what a run left: another at each repetition, as choices of hypothesis itself must not be."""
    return things[which % len(things)] if things else None


@functools.lru_cache(maxsize=2)
def _large(seed: int) -> bytes:
    return object_bytes(LARGE, seed)


def _flip_in_the_middle(path: Path) -> None:
    """Another content of the same size and the same time of change, as far as utimensat(2) can pretend."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    if content:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture
def world(strict: StrictS3, tmp_path: Path) -> Iterator[World]:
    with world_in(strict, tmp_path) as made:
        yield made


def play(world: World, *, games: int, steps: int, random: bool, large: bool) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: SyncMachine(world, large),
        settings=settings(
            max_examples=games,
            stateful_step_count=steps,
            derandomize=not random,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink) if random else (Phase.generate,),  # shrinking takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(7200)
def test_whatever_happens_a_sync_ends_with_what_the_source_has(world: World, soak: int) -> None:
    play(world, games=10 * soak * soak, steps=16, random=soak > 1, large=soak > 1)
