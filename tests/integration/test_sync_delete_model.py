"""Any order of edits on both sides and of syncs with any filter and any --delete, against a model of a few lines."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from integration.sync_driver import SyncHere, tree

PATHS = ["a/x", "a/y", "b/x", "b/deep/z", "c", "ab"]
ODD = ["a", "b", "b/deep", "c/new", "a/x/new"]  # files where others have directories, or the other way round
FILTERS = {
    "everything": ([], lambda path, size: True),
    "--include a/": (["--include", "a/"], lambda path, size: path.startswith("a/")),
    "--exclude x": (["--exclude", "x"], lambda path, size: "x" not in path.split("/")),
    "--max-size 4B": (["--max-size", "4B"], lambda path, size: size <= 4),
    "--exclude b/ !deep/": (["--exclude", "/b/", "--exclude", "!deep/"],
                            lambda path, size: not path.startswith("b/") or path.startswith("b/deep/")),
}  # fmt: skip
CONTENTS = [b"", b"one", b"three", b"longer than that"]
PATH, CONTENT = st.sampled_from(PATHS + ODD), st.sampled_from(CONTENTS)
STEP = st.one_of(
    st.tuples(st.just("source"), PATH, st.one_of(CONTENT, st.none())),
    st.tuples(st.just("here"), PATH, st.one_of(CONTENT, st.none())),
    st.tuples(st.just("sync"), st.sampled_from(sorted(FILTERS)), st.sampled_from(["", "--delete", "--delete=all"])),
)


def parents(path: str) -> list[str]:
    """Every directory above it."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def clashes(one: str, other: str) -> bool:
    """Whether one of them would have to be a directory."""
    return one.startswith(other + "/") or other.startswith(one + "/")


class Model:
    """What lies where, and what a sync brought that nobody has touched since."""

    def __init__(self, directory: Path) -> None:
        self.source_directory, self.sync = directory / "src", SyncHere(f"file://{directory}/src", directory / "dst", {})
        self.times = itertools.count(1_000_000_000, 1_000_000_000)
        self.source: dict[str, bytes] = {}
        self.here: dict[str, bytes] = {}
        self.brought: set[str] = set()
        self.made_here: set[str] = set()  # directories, some of which no sync may remove

    def put(self, side: str, path: str, content: bytes | None) -> None:
        """Write a file, or remove it, with a time that no other write has. At the source, what is in its way goes."""
        held, root = (self.source, self.source_directory) if side == "source" else (self.here, self.sync.destination)
        if side == "here":
            if content is not None and any(clashes(path, other) for other in held):
                return
            self.brought.discard(path)
        elif content is not None:
            for other in [other for other in held if clashes(path, other)]:
                self.put(side, other, None)
        elif path not in held:
            return
        if content is None:
            if held.pop(path, None) is not None:
                (root / path).unlink()
                self.remove_emptied(root, path)
            return
        held[path] = content
        if side == "here":
            self.made_here.update(above for above in parents(path) if not (root / above).is_dir())
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).unlink(missing_ok=True)
        (root / path).write_bytes(content)
        when = next(self.times)
        os.utime(root / path, ns=(when, when))

    def remove_emptied(self, root: Path, path: str) -> None:
        """So that no directory but those above files is there."""
        for above in (root / path).parents:
            if above == root or any(above.iterdir()):
                return
            above.rmdir()
            if root == self.sync.destination:
                self.made_here.discard(str(above.relative_to(root)))

    def clear_the_way(self) -> None:
        """Of all that the source has, as the error asks."""
        for path in [path for path in self.here if any(clashes(path, other) for other in self.source)]:
            self.put("here", path, None)
        for directory, _, _ in os.walk(self.sync.destination, topdown=False):
            if ".stager" not in directory and not os.listdir(directory):
                os.rmdir(directory)

    def run(self, name: str, delete: str) -> None:
        options, wants = FILTERS[name]
        if delete:
            options = [*options, delete, "--max-delete", "100%"]
        chosen = {path: found for path, found in self.source.items() if wants(path, len(found))}
        lost = {path for path, found in self.here.items() if path not in self.source and wants(path, len(found))}
        gone = lost & self.brought if delete == "--delete" else lost if delete else set()
        blocked = {path for path in self.here.keys() - gone if any(clashes(path, other) for other in chosen)}
        own = {path for path in self.made_here if (self.sync.destination / path).is_dir()}
        perhaps = any(other == path or path.startswith(other + "/") for path in own for other in chosen)
        done = self.sync.run(*options)
        if delete and not self.source:
            assert done.code == 2, done
        elif blocked or (perhaps and done.code == 2):
            assert (done.code, "names are taken in the destination" in done.err) == (2, True), done
        else:
            assert done.code == 0, done
            self.here = {path: found for path, found in self.here.items() if path not in gone} | chosen
            self.brought = (self.brought - gone) | chosen.keys()
        assert tree(self.sync.destination) == self.here


SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),  # a failure has few steps as it is, and shrinking it takes minutes
)


@SETTINGS
@given(st.lists(STEP, min_size=4, max_size=14))
def test_every_run_leaves_what_the_model_says(steps: list[tuple[str, str, bytes | str | None]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        model = Model(Path(directory))
        for path in PATHS[:4]:
            model.put("source", path, b"first")
        model.run("everything", "")
        for kind, what, how in steps:
            if kind == "sync":
                model.run(what, how)  # type: ignore[arg-type]
            else:
                model.put(kind, what, how)  # type: ignore[arg-type]
        model.clear_the_way()
        model.run("everything", "")
        again = model.sync.run()
        assert "fetched 0 objects" in again.out
