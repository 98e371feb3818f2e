"""Imports point down only, stages and sources know nothing of each other, and a job script's import stays light.

Read from the source text, so imports inside functions and under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "stager"

LAYERS = (
    (
        "values",
        {
            "amounts",
            "bottleneck",
            "config",
            "deletion",
            "distributed",
            "errors",
            "events",
            "filters",
            "git_options",
            "globs",
            "hostlist",
            "instances",
            "keeping",
            "launches",
            "manifest",
            "model",
            "names",
            "paths",
            "placement",
            "retry",
            "scheduler",
            "strict_environment",
            "time_limits",
            "shim",
            "tasks",
            "urls",
            "variables",
            "version",
            "view_paths",
        },
    ),
    ("_native", {"_native"}),
    ("host", {"host"}),
    ("transfer", {"pacing", "sharing", "steering", "transfer"}),
    ("sources", {"sources"}),
    ("stages", {"stages"}),
    (
        "pipeline",
        {
            "caching",
            "decision",
            "eviction",
            "history",
            "leftovers",
            "moving",
            "opening",
            "pipeline",
            "progress",
            "repair",
            "reserving",
            "sync_options",
            "telling",
            "verify",
        },
    ),
    ("job", {"job"}),
    ("cli", {"cli"}),
    ("the package itself", {""}),
)
"""From the bottom up; each names the modules and packages of stager that live in it."""

RANKS = {room: rank for rank, (_, rooms) in enumerate(LAYERS) for room in rooms}

HEAVY = ("aiobotocore", "botocore", "asyncio", "msgspec", "click", "rich", "uvloop", "ssl", "stager._native", "ctypes")
"""What a job script that asks for two paths does not pay for."""


def modules() -> dict[str, Path]:
    """Dotted name below stager ("" for the package itself) and file of every module."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[tuple[str, int]]:
    """(module of stager, line) for every import in module ``name``."""
    for node in ast.walk(ast.parse(MODULES[name].read_bytes())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{MODULES[name]}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for dotted in names:
            if (target := _module_of(dotted)) is not None:
                yield target, node.lineno


def _module_of(dotted: str) -> str | None:
    """The module of stager that ``dotted`` names, or that holds the name; None outside stager."""
    root, _, rest = dotted.partition(".")
    if root != "stager":
        return None
    while rest not in MODULES and rest != "_native":
        rest = rest.rpartition(".")[0]
    return rest


def room(name: str) -> str:
    return name.partition(".")[0]


def violations(allowed: object) -> list[str]:
    assert callable(allowed)
    return [
        f"{MODULES[name].relative_to(ROOT)}:{line} imports stager.{target}"
        for name in MODULES
        for target, line in imports(name)
        if not allowed(name, target)
    ]


def test_every_module_has_a_room() -> None:
    assert {room(name) for name in MODULES} <= set(RANKS)


def test_imports_point_down_only() -> None:
    assert violations(lambda name, target: RANKS[room(target)] <= RANKS[room(name)]) == []


@pytest.mark.parametrize(("layer", "shared"), [("stages", set()), ("sources", {"base", "large", "verify"})])
def test_no_stage_and_no_source_imports_another(layer: str, shared: set[str]) -> None:
    """Its own parts it may import: ``s3`` and ``s3_list`` are one source in two files, and ``lfs`` is a part of git."""
    parts = {"lfs": "git"}

    def family(module: str) -> str:
        first = module.split("_")[0]
        return parts.get(first, first)

    def allowed(name: str, target: str) -> bool:
        if room(name) != layer or room(target) != layer or target == layer:
            return True
        own, other = name.rpartition(".")[2], target.rpartition(".")[2]
        return other in shared or family(own) == family(other)

    assert violations(allowed) == []


def test_no_import_goes_round_in_a_circle() -> None:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name in done or name not in MODULES:
            return
        for target, _ in imports(name):
            if target != name and target != "":
                visit(target, (*path, name))
        done.add(name)

    for name in MODULES:
        visit(name, ())


def test_imports_stand_at_the_top_except_in_the_command_line() -> None:
    """The command line imports a command when it is asked for, which keeps --help quick."""
    inside = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for name, path in MODULES.items()
        if room(name) != "cli"
        for function in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert inside == []


def test_job_script_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from stager import get_data_path, get_logs_path\n"
        f"print(*sorted(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
