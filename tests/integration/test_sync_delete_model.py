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
FILTERS = {
    "everything": ([], lambda path, size: True),
    "--include a/": (["--include", "a/"], lambda path, size: path.startswith("a/")),
    "--exclude x": (["--exclude", "x"], lambda path, size: not path.endswith("/x")),
    "--max-size 4B": (["--max-size", "4B"], lambda path, size: size <= 4),
    "--exclude b/ !deep/": (["--exclude", "/b/", "--exclude", "!deep/"],
                            lambda path, size: not path.startswith("b/") or path.startswith("b/deep/")),
}  # fmt: skip
CONTENTS = [b"", b"one", b"three", b"longer than that"]
PATH, CONTENT = st.sampled_from(PATHS), st.sampled_from(CONTENTS)
STEP = st.one_of(
    st.tuples(st.just("source"), PATH, st.one_of(CONTENT, st.none())),
    st.tuples(st.just("here"), PATH, st.one_of(CONTENT, st.none())),
    st.tuples(st.just("sync"), st.sampled_from(sorted(FILTERS)), st.sampled_from(["", "--delete", "--delete=all"])),
)


class Model:
    """What lies where, and what a sync brought that nobody has touched since."""

    def __init__(self, directory: Path) -> None:
        self.source_directory, self.sync = directory / "src", SyncHere(f"file://{directory}/src", directory / "dst", {})
        self.times = itertools.count(1_000_000_000, 1_000_000_000)
        self.source: dict[str, bytes] = {}
        self.here: dict[str, bytes] = {}
        self.brought: set[str] = set()

    def put(self, side: str, path: str, content: bytes | None) -> None:
        """Write a file, or remove it, with a time that no other write has."""
        held, root = (self.source, self.source_directory) if side == "source" else (self.here, self.sync.destination)
        if side == "here":
            self.brought.discard(path)
        if content is None:
            held.pop(path, None)
            (root / path).unlink(missing_ok=True)
            return
        held[path] = content
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).unlink(missing_ok=True)
        (root / path).write_bytes(content)
        when = next(self.times)
        os.utime(root / path, ns=(when, when))

    def run(self, name: str, delete: str) -> None:
        options, wants = FILTERS[name]
        if delete:
            options = [*options, delete, "--max-delete", "100%"]
        chosen = {path: found for path, found in self.source.items() if wants(path, len(found))}
        lost = {path for path, found in self.here.items() if path not in self.source and wants(path, len(found))}
        done = self.sync.run(*options)
        if delete and not self.source:
            assert done.code == 2, done
        else:
            assert done.code == 0, done
            gone = lost & self.brought if delete == "--delete" else lost if delete else set()
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
        model.run("everything", "")
        again = model.sync.run()
        assert "fetched 0 objects" in again.out
