"""The demo: what ships is found, and the answer is right."""

from __future__ import annotations

import sys
from pathlib import Path

import fitsio
import numpy as np
import pytest
from helpers import Run, names

from qnp_xp._data import DEMO_COADD, data_file

OUTPUT, PICTURE = "qn-demo-coadd.fits", "qn-demo-coadd.png"


def test_quasars_are_found_where_they_were_simulated_and_nowhere_else(
    run: Run, here: Path
) -> None:
    assert run("demo")[0] == 0
    table = fitsio.read(OUTPUT, ext="QN")
    truth = fitsio.read(str(data_file(DEMO_COADD)), ext="FIBERMAP")
    simulated = truth["TRUE_SPECTYPE"].astype("U") == "QSO"
    assert simulated.sum() == 13
    assert table.size == 25
    np.testing.assert_array_equal(table["IS_QSO_QN"] == 1, simulated)
    z = truth["TRUE_Z"][simulated]
    dz = (table["Z_QN"][simulated] - z) / (1 + z)
    assert np.abs(dz).max() < 0.02


def test_a_table_and_a_picture_are_written_and_what_was_simulated_is_told(
    run: Run, here: Path
) -> None:
    status, out, err = run("demo")
    assert (status, err) == (0, "")
    assert names(here) == [OUTPUT, PICTURE]
    assert (here / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert "nan" not in out
    table = fitsio.read(OUTPUT, ext="QN")
    listed = [line for line in out.splitlines() if line.strip().startswith("39627")]
    assert [int(line.split()[0]) for line in listed] == table["TARGETID"].tolist()
    assert all(("QSO" in line) == ("yes" in line) for line in listed)
    quasars = int(table["IS_QSO_QN"].sum())
    assert f"{table.size} spectra, {quasars} quasars -> {OUTPUT}" in out.splitlines()


def test_without_matplotlib_there_is_no_picture_and_a_word(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, out, _ = run("demo")
    assert status == 0
    assert names(here) == [OUTPUT]
    assert "no picture: " in out


def test_an_older_table_is_not_replaced_unasked(run: Run, here: Path) -> None:
    (here / OUTPUT).write_text("mine")
    status, _, err = run("demo")
    assert status == 1
    assert f"{OUTPUT} exists" in err
    assert (here / OUTPUT).read_text() == "mine"
    assert run("demo", "--overwrite", "-o", OUTPUT)[0] == 0
    assert len(fitsio.read(OUTPUT, ext="QN")) == 25


def test_the_coadd_is_kept_where_that_is_asked_for(run: Run, here: Path) -> None:
    (here / "out").mkdir()
    status, out, _ = run("demo", "--keep-coadd", "-o", "out/qn.fits")
    assert status == 0
    assert names(here / "out") == [DEMO_COADD, "qn.fits", "qn.png"]
    assert f"spectra -> out/{DEMO_COADD}" in out
    # It can be classified like any other, to the same results.
    network = data_file("embedded-network.h5")
    command = ["classify", f"out/{DEMO_COADD}", "--c-thresh", "0.8", "-m", network]
    assert run(*command, "-o", "again.fits")[0] == 0
    tables = [fitsio.read(name, ext="QN") for name in ("out/qn.fits", "again.fits")]
    assert tables[0].tobytes() == tables[1].tobytes()  # NaNs included


def test_a_file_in_the_way_of_the_coadd_stays(run: Run, here: Path) -> None:
    (here / DEMO_COADD).write_text("mine")
    status, _, err = run("demo", "--keep-coadd")
    assert status == 1
    assert f"{DEMO_COADD} exists" in err
    assert names(here) == [DEMO_COADD]
    assert (here / DEMO_COADD).read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [["-o", DEMO_COADD, "--keep-coadd"], ["-o", "qn.png"], ["-o", "{here}/qn.png"]],
    ids=["coadd", "picture", "picture by its whole path"],
)
def test_outputs_cannot_share_a_name(
    run: Run, here: Path, arguments: list[str]
) -> None:
    filled = [argument.format(here=here) for argument in arguments]
    status, _, err = run("demo", *filled)
    assert status == 1
    assert f"{filled[1]}: outputs need files of their own" in err
    assert names(here) == []


def test_what_ships_with_the_package_is_never_replaced(run: Run, here: Path) -> None:
    copy = here / DEMO_COADD
    copy.hardlink_to(data_file(DEMO_COADD))
    before = copy.read_bytes()
    status, _, err = run("demo", "--overwrite", "-o", copy)
    assert status == 1
    assert f"{DEMO_COADD} is an input" in err
    assert copy.read_bytes() == before
