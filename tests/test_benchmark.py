"""The short benchmark: what it says, not how fast anything is."""

from __future__ import annotations

from pathlib import Path

import pytest

from qnp_xp._data import EMBEDDED_NETWORK, data_file
from qnp_xp.cli import main
from qnp_xp.cli.benchmark import benchmark
from qnp_xp.io import load_model


def test_it_tells_each_stage_and_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--spectra", "30", "--repeats", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        f"30 spectra of demo-coadd.fits, {EMBEDDED_NETWORK}, cpu"
    )
    rates = {line[:22].strip(): line[22:].split() for line in lines[2:-1]}
    stages = ["read", "rebin", "normalise", "predict", "decode"]
    assert {*stages, "file to table", "predict() alone"} == set(rates)
    for milliseconds, rate in rates.values():
        if float(milliseconds) > 1:
            assert 30e3 / float(milliseconds) == pytest.approx(float(rate), rel=0.1)
    assert float(rates["file to table"][0]) > float(rates["decode"][0]) > 0


@pytest.mark.parametrize("wrong", [{"spectra": 0}, {"repeats": 0}])
def test_nothing_to_measure_is_an_error(wrong: dict[str, int]) -> None:
    model = load_model(data_file(EMBEDDED_NETWORK))
    with pytest.raises(ValueError, match="one spectrum or more"):
        benchmark(model, **wrong)


def test_a_file_that_is_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", str(tmp_path / "absent.fits")]) == 1
    assert "absent.fits" in capsys.readouterr().err
