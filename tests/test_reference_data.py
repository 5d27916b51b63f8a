"""Tests that need the reference data say so where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_TESTS = """
def test_spectra(reference):
    assert reference.is_dir()


def test_networks(reference):
    assert reference.is_dir()


def test_other():
    pass
"""


def run_pytest(folder: Path, *arguments: str, **env: str) -> tuple[int, list[str]]:
    """Run two tests that need reference data and one that does not."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    (folder / "test_it.py").write_text(_TESTS)
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "QNP"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", *arguments],
        cwd=folder,
        env={**ours, "PYTHONPATH": os.pathsep.join(paths), **env},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["alone", "workers"])
def test_one_line_at_the_end_says_how_many_were_skipped_and_why(
    tmp_path: Path, workers: list[str]
) -> None:
    missing = str(tmp_path / "none")
    status, lines = run_pytest(tmp_path, *workers, QNP_XP_REFERENCE_DATA=missing)
    assert status == 0
    reason = f"no reference data in {missing} ($QNP_XP_REFERENCE_DATA)"
    assert [line for line in lines if reason in line] == lines[-2:-1]
    assert lines[-2] == f"2 tests skipped: {reason}"
    assert "1 passed, 2 skipped" in lines[-1]


def test_missing_data_is_a_failure_where_it_is_required(tmp_path: Path) -> None:
    missing = str(tmp_path / "none")
    env = {"QNP_XP_REFERENCE_DATA": missing, "QNP_XP_REQUIRE_REFERENCE_DATA": "1"}
    status, lines = run_pytest(tmp_path, **env)
    assert status == 1
    assert "1 passed, 2 errors" in lines[-1]
    assert not any("tests skipped" in line for line in lines)


def test_nothing_is_said_where_there_is_data(tmp_path: Path) -> None:
    status, lines = run_pytest(tmp_path, QNP_XP_REFERENCE_DATA=str(tmp_path))
    assert status == 0
    assert "3 passed" in lines[-1]
    assert not any("skipped" in line for line in lines)
