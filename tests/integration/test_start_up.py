"""What a start does not import: the time of a run belongs to the data."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import stager
from integration.sync_driver import tree
from servers.seaweedfs import SeaweedFS

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; from stager.cli import main; code = main(sys.argv[1:]); print(*sys.modules); sys.exit(code)"


def imported_by(*arguments: str, environment: dict[str, str] | None = None) -> tuple[str, set[str]]:
    """What a command prints before the names of all modules it imported, and the packages and modules of these."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    said, modules = done.stdout.removesuffix("\n").rpartition("\n")[::2]
    return said, packages(modules) - packages(bare_start())


def bare_start() -> str:
    """What Python itself imports, and the hooks of this environment: an editable installation has one."""
    return subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout


def packages(modules: str) -> set[str]:
    return {name for module in modules.split() for name in (module, module.partition(".")[0])}


def test_version_is_said_without_what_a_command_needs() -> None:
    said, modules = imported_by("--version")
    assert said == f"stager {stager.__version__}"
    assert modules.isdisjoint({"click", "typing", "re", "dataclasses", "asyncio", "uvloop", "msgspec", "botocore"})
    own = {"cli", "paths", "shim", "shim.clusterone", "version"}
    assert {name for name in modules if name.startswith("stager.")} == {f"stager.{name}" for name in own}


def test_version_stands_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "stager.version.__version__"}


def test_sync_with_static_credentials_imports_no_botocore(
    weed: SeaweedFS, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, {"a": b"alpha"})
    argv = ("sync", f"s3://{bucket}", str(tmp_path / "out"), "-q")
    _, modules = imported_by(*argv, environment=weed.environment())
    assert tree(tmp_path / "out") == {"a": b"alpha"}
    assert modules.isdisjoint({"botocore", "aiobotocore", "aiohttp", "configparser", "rich"})
    assert "stager._native" in modules
