"""The script that proves and measures the GPU path, with numpy in CuPy's place."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
CHECKS = "environment agreement bits launches memory tiles stages processes tests torch"

if not FOLDER.is_dir():
    pytest.skip("no benchmarks/ beside the tests", allow_module_level=True)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run python on the script; BLAS has one thread, since cores may be busy."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=FOLDER,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def outcomes(table: str) -> dict[str, str]:
    return dict(re.findall(r"^\| \*\*(\w+)\*\* \|  \| (.*) \|$", table, re.MULTILINE))


def test_every_check_passes_or_says_why_it_is_skipped() -> None:
    done = run("gpu_check.py", "--dry", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    found = outcomes(done.stdout)
    assert list(found) == CHECKS.split()
    reasons = {
        "memory": "numpy has no pool",
        "launches": "No module named 'array_api_strict'",
        "torch": "No module named 'torch'",
        "tests": "no hypothesis",
    }
    for name, outcome in found.items():
        skipped = name in reasons and outcome.startswith(f"skipped: {reasons[name]}")
        assert outcome == "passed" or skipped, f"{name}: {outcome}"
    # A table of Markdown, and nothing else.
    assert {line.count("|") for line in done.stdout.splitlines()} == {4}
    assert "FAILED" not in done.stdout
    assert re.search(r"\| versions \| python 3.*, numpy \d", done.stdout)


def test_a_result_that_differs_is_a_failure() -> None:
    code = "import gpu_check; gpu_check.MOST = 1e-12; gpu_check.main()"
    done = run("-c", code, "--dry", "--quick", "--only", "agreement")
    assert done.returncode == 1
    assert outcomes(done.stdout) == {"agreement": "failed"}
    assert re.search(r"\| predict in float64.* \| \d\.\de-1\d \|", done.stdout)
    assert re.search(r"\| predict in float32.* \| FAILED: \d.\de-0\d \|", done.stdout)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is here")
def test_a_machine_without_cupy_is_a_failure() -> None:
    done = run("gpu_check.py")
    assert done.returncode == 1
    assert "CuPy, which is not installed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    path = FOLDER / "gpu_check.py"
    spec = importlib.util.spec_from_file_location("gpu_check", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("kind", "left", "outcome"),
    [
        ("good", 60, "passed"),
        ("bad", 60, "failed"),
        ("error", 60, "failed: OSError: a / b"),
        ("skip", 60, "skipped: no card"),
        ("bad, then skip", 60, "failed"),
        ("good", -1, "skipped: the time is over (--seconds)"),
    ],
)
def test_a_check_ends_with_what_became_of_it(
    script: ModuleType,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    left: float,
    outcome: str,
) -> None:
    released = []
    backend = SimpleNamespace(release=lambda: released.append(True))
    job = SimpleNamespace(
        end=time.perf_counter() + left, model=SimpleNamespace(backend=backend)
    )

    def check(_: Any) -> Iterator[Any]:
        reason = "no card" if kind.endswith("skip") else "a | b"
        yield script.Row("a fact", 1, good=not kind.startswith("bad"))
        if kind == "error":
            raise OSError(reason)
        if kind.endswith("skip"):
            raise script.Skipped(reason)

    failed = script.run(check, job)
    assert failed == outcome.startswith("failed")
    *rows, last = capsys.readouterr().out.splitlines()
    assert last == f"| **check** |  | {outcome} |"
    value = "FAILED: 1" if kind.startswith("bad") else "1"
    assert rows == ([] if left < 0 else [f"| check | a fact | {value} |"])
    assert released == [True]
