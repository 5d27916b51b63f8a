"""The demo: what ships is found, and the answer is right."""

from __future__ import annotations

import sys
from pathlib import Path

import fitsio
import numpy as np
import pytest
from helpers import names

from qnp_xp.cli import main
from qnp_xp.cli.demo import DEMO_OUTPUT, classify_demo


def test_quasars_are_found_where_they_were_simulated_and_nowhere_else(
    tmp_path: Path,
) -> None:
    _, table, truth = classify_demo(tmp_path / "qn.fits")
    simulated = truth["TRUE_SPECTYPE"] == "QSO"
    assert simulated.sum() == 13
    assert table.size == 25
    np.testing.assert_array_equal(table["IS_QSO_QN"] == 1, simulated)
    z = truth["TRUE_Z"][simulated]
    dz = (table["Z_QN"][simulated] - z) / (1 + z)
    assert np.abs(dz).max() < 0.02
    written = fitsio.read(str(tmp_path / "qn.fits"), ext="QN")
    np.testing.assert_array_equal(written["Z_QN"], table["Z_QN"])


def test_the_command_writes_a_table_and_tells_what_was_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    picture = Path(DEMO_OUTPUT).with_suffix(".png")
    assert names(tmp_path) == [DEMO_OUTPUT, str(picture)]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"quasars -> {DEMO_OUTPUT}" in out
    assert "nan" not in out
    rows = [line for line in out.splitlines() if line.strip().startswith("39627")]
    found = [("QSO" in row, "yes" in row) for row in rows]
    assert len(found) == len(fitsio.read(DEMO_OUTPUT, ext="QN"))
    assert all(quasar == yes for quasar, yes in found)


def test_without_matplotlib_there_is_no_picture_and_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["demo"]) == 0
    assert names(tmp_path) == [DEMO_OUTPUT]
    assert "no picture: " in capsys.readouterr().out


def test_an_older_table_is_not_replaced_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEMO_OUTPUT).write_text("mine")
    assert main(["demo"]) == 1
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / DEMO_OUTPUT).read_text() == "mine"
    assert main(["demo", "--overwrite"]) == 0


def test_the_coadd_is_kept_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--keep-coadd", "-o", "out/qn.fits"]) == 0
    assert names(tmp_path / "out") == ["demo-coadd.fits", "qn.fits", "qn.png"]
    assert "spectra -> out/demo-coadd.fits" in capsys.readouterr().out
    # It can be classified like any other, to the same results.
    kept = "out/demo-coadd.fits"
    assert main(["classify", kept, "--c-thresh", "0.8", "-o", "again.fits"]) == 0
    tables = [fitsio.read(name, ext="QN") for name in ("out/qn.fits", "again.fits")]
    assert tables[0].tobytes() == tables[1].tobytes()  # NaNs included


def test_a_file_in_the_way_of_the_coadd_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo-coadd.fits").write_text("mine")
    assert main(["demo", "--keep-coadd"]) == 1
    assert "demo-coadd.fits exists" in capsys.readouterr().err
    assert names(tmp_path) == ["demo-coadd.fits"]
    assert (tmp_path / "demo-coadd.fits").read_text() == "mine"


def test_table_and_coadd_cannot_share_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--keep-coadd", "-o", "demo-coadd.fits"]) == 1
    assert "names of their own" in capsys.readouterr().err
    assert names(tmp_path) == []
