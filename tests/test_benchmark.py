"""The short benchmark: what it says, not how fast anything is."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import Run, names


def test_each_stage_and_the_whole_are_told(run: Run, here: Path, weights: Path) -> None:
    status, out, err = run("benchmark", "--spectra", 30, "--repeats", 2)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"30 spectra of demo-coadd.fits, {weights.name}, cpu")
    rates = {line[:22].strip(): line[22:].split() for line in lines[2:-1]}
    stages = ["read", "rebin", "normalise", "predict", "decode"]
    assert list(rates) == [*stages, "file to table", "predict() alone"]
    for milliseconds, rate in rates.values():
        if float(milliseconds) > 1:
            assert 30e3 / float(milliseconds) == pytest.approx(float(rate), rel=0.1)
    assert float(rates["file to table"][0]) > float(rates["decode"][0]) > 0
    assert names(here) == []


@pytest.mark.parametrize("option", ["--spectra", "--repeats"])
def test_nothing_to_measure_is_an_error(run: Run, option: str) -> None:
    status, out, err = run("benchmark", option, "0")
    assert (status, out) == (1, "")
    assert "one spectrum or more" in err


def test_a_file_that_is_none_is_named(run: Run) -> None:
    status, _, err = run("benchmark", "absent.fits")
    assert status == 1
    assert "absent.fits" in err
