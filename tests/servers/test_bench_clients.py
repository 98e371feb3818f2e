"""The bench's own clients and its measuring of others: what they fetch is right, what they report is so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.bench_origin import BenchOrigin, bench_origin, build_bench_program
from servers.certificates import Certificates

pytestmark = pytest.mark.xdist_group("bench_origin")

FORMULA = ("40", "70001", "set/", "--formula")
FOLDER = {"a b/c+d": 70_001, "a b/%41": 0, "caf\u00e9": 5, "x/y/z": 1_000_000}


@pytest.fixture(scope="module")
def programs(origin_program: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("programs")
    return {
        "origin": origin_program,
        "ceiling": build_bench_program(directory, "ceiling", "ceiling.c", "-lssl", "-lcrypto"),
        "measure": build_bench_program(directory, "measure", "measure*.c", "-lpthread"),
    }


@pytest.fixture
def secure(programs: dict[str, str], certificates: Certificates) -> Iterator[BenchOrigin]:
    tls = ("--tls", certificates.chain_file, certificates.key_file)
    with bench_origin(programs["origin"], *FORMULA, *tls) as server:
        yield server


def fetch(program: str, server: BenchOrigin, out: Path, *arguments: str) -> Any:
    out.mkdir()
    argv = [program, str(server.port), "40", "70001", "set/", str(out), *arguments]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={"ASAN_OPTIONS": "detect_leaks=0"})
    return json.loads(done.stdout)


def verify(programs: dict[str, str], out: Path, *content: str) -> None:
    subprocess.run([programs["origin"], "0", *content, "--verify", str(out)], check=True)


def test_ceiling_fetches_every_byte_over_http_and_https(
    programs: dict[str, str], secure: BenchOrigin, certificates: Certificates, tmp_path: Path
) -> None:
    with bench_origin(programs["origin"], *FORMULA) as server:
        plain = fetch(programs["ceiling"], server, tmp_path / "plain")
        parts = fetch(programs["ceiling"], server, tmp_path / "parts", "--part", "20000", "--connections", "3")
    tls = fetch(programs["ceiling"], secure, tmp_path / "tls", "--tls", certificates.ca_file)
    tls_parts = fetch(
        programs["ceiling"], secure, tmp_path / "tls-parts", "--tls", certificates.ca_file, "--part", "20000"
    )
    for out in tmp_path.iterdir():
        verify(programs, out, *FORMULA)
    assert (plain["objects"], plain["bytes"], plain["tls"]) == (40, 40 * 70_001, None)
    assert tls["tls"] == "TLSv1.3 TLS_AES_128_GCM_SHA256"
    assert plain["digest"] == tls["digest"]
    assert parts["digest"] == tls_parts["digest"]


def test_ceiling_trusts_no_other_certificate(
    programs: dict[str, str], secure: BenchOrigin, certificates: Certificates, tmp_path: Path
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        fetch(programs["ceiling"], secure, tmp_path / "out", "--tls", certificates.stranger_ca_file)
    assert "certificate verify failed" in error.value.stderr


def test_ceiling_fetches_a_list(programs: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name, size in FOLDER.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode()[:1] * size)
    (tmp_path / "list").write_text("".join(f"{size} {name}\n" for name, size in FOLDER.items()))
    (tmp_path / "out").mkdir()
    with bench_origin(programs["origin"], "--folder", str(folder)) as server:
        argv = [programs["ceiling"], str(server.port), "0", "0", "", str(tmp_path / "out")]
        argv += ["--list", str(tmp_path / "list"), "--part", "300000"]
        subprocess.run(argv, check=True, env={"ASAN_OPTIONS": "detect_leaks=0"})
    verify(programs, tmp_path / "out", "--folder", str(folder))


def measure(programs: dict[str, str], tmp_path: Path, *argv: str, count: bool = False) -> Any:
    report = tmp_path / "report.json"
    options = ["--count-syscalls"] if count else []
    subprocess.run([programs["measure"], *options, str(report), "any", *argv], check=True)
    return json.loads(report.read_text())


def test_measure_sums_the_memory_of_the_tree(programs: dict[str, str], tmp_path: Path) -> None:
    """Two processes of 50 MB that are both alive until the outer one has heard from the inner."""
    inner = "x = b'x' * 50_000_000; print(); input()"
    outer = (
        "import subprocess, sys; x = b'x' * 50_000_000\n"
        f"child = subprocess.Popen([sys.executable, '-c', {inner!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "import time; time.sleep(0.1)  # some 20 samples\n"
        "child.communicate(b'\\n'); sys.exit(3)"
    )
    report = measure(programs, tmp_path, sys.executable, "-c", outer)
    assert report["status"] == 3
    assert report["peak_rss_anon_kib"] > 100_000_000 / 1024
    assert report["max_rss_kib"] < report["peak_rss_anon_kib"]
    assert report["samples"] > 1
    assert report["syscalls"] is None


def test_measure_counts_the_calls_of_the_tree(programs: dict[str, str], tmp_path: Path) -> None:
    def calls(count: int) -> int | None:
        inner = f"import os\nfor _ in range({count}): os.getppid()"
        outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], check=True)"
        found = measure(programs, tmp_path, sys.executable, "-c", outer, count=True)["syscalls"]
        assert found is None or found > count
        return found

    few, many = calls(1_000), calls(51_000)
    if few is None or many is None:
        pytest.skip("the kernel does not let this user count")
    assert 50_000 - 500 < many - few < 50_000 + 500
