"""Fifty runs over twenty files, killed at random moments and resumed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers import kill_and_resume, write_coadd

from qnp_xp.io import embed_grid

TESTS = Path(__file__).parents[1]


def test_killed_runs_can_be_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "network.h5"
    embed_grid(TESTS / "data" / "keras" / "valid_rescaled.h5", weights)
    (tmp_path / "in").mkdir()
    coadds = [write_coadd(tmp_path / "in" / f"coadd-{i}.fits", 60) for i in range(20)]
    halfway = kill_and_resume(coadds, weights, tmp_path, kills=50, seed=1)
    with capsys.disabled():
        sys.stdout.write(f"\n{halfway} of 50 runs were killed between two outputs\n")
    assert halfway  # else nothing was put to the test
