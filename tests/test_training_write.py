"""QuasarNET's tables as they are written, read by its readers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import TARGETID, coadd_hdus, expected_input, names, write_coadd, write_hdus

from qnp_xp import SpectraError
from qnp_xp.io import read_data, read_truth, write_data, write_truth
from qnp_xp.io._truth import open_truth


def test_spectra_come_back_as_the_network_gets_them(tmp_path: Path) -> None:
    hdus = coadd_hdus(4)
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][2] = 0
    coadd = write_hdus(tmp_path / "coadd-1.fits", hdus)
    path = tmp_path / "data.fits"
    assert write_data(path, coadd) == 4
    tids, x, plate, mjd, fiber = read_data([path], return_pmf=True)
    expected, kept = expected_input(hdus)
    assert kept.tolist() == [0, 1, 3]
    assert tids.tolist() == (TARGETID + kept).tolist()
    np.testing.assert_allclose(x, expected, rtol=0, atol=2e-6)
    for values in (plate, mjd, fiber):
        assert values.tolist() == [-1, -1, -1]


def test_the_layout_is_quasarnets(tmp_path: Path) -> None:
    coadd = write_coadd(tmp_path / "coadd-1.fits", 3)
    path = tmp_path / "data.fits"
    write_data(path, coadd)
    with fitsio.FITS(str(path)) as f:
        assert len(f) == 2
        assert f[0].get_dims() == [3, 886]
        assert f[1].get_colnames() == ["TARGETID", "PLATE", "MJD", "FIBERID"]
        image = f[0].read()
    # Flux, then inverse variance.
    assert (image[:, 443:] >= 0).all()
    assert (image[:, :443] < 0).any()


def test_several_files_and_some_rows(tmp_path: Path) -> None:
    coadds = [write_coadd(tmp_path / f"coadd-{i}.fits", 3, seed=i) for i in range(2)]
    one, both, some = (tmp_path / f"{name}.fits" for name in ("one", "both", "some"))
    assert write_data(both, coadds) == 6
    parts = []
    for coadd in coadds:
        write_data(one, str(coadd), overwrite=True)
        parts.append(fitsio.read(one))
    np.testing.assert_array_equal(fitsio.read(both), np.concatenate(parts))
    assert write_data(some, coadds[1], rows=[2, 0]) == 2
    np.testing.assert_array_equal(fitsio.read(some), parts[1][[2, 0]])
    with pytest.raises(ValueError, match="rows are of one file"):
        write_data(one, coadds, rows=[0])


def test_masked_pixels_may_be_left_out(tmp_path: Path) -> None:
    hdus = coadd_hdus(2, mask="i4")
    coadd = write_hdus(tmp_path / "coadd-1.fits", hdus)
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][hdus[f"{arm}_MASK"] != 0] = 0
    path = tmp_path / "data.fits"
    write_data(path, coadd, use_mask=True)
    expected, _ = expected_input(hdus)
    np.testing.assert_allclose(read_data([path])[1], expected, rtol=0, atol=2e-6)


def test_spectra_without_a_target_are_refused(tmp_path: Path) -> None:
    wave, flux = np.arange(3600.0, 9800.0, 2.0), np.ones((2, 3100))
    with pytest.raises(SpectraError, match="no spectrum has a TARGETID"):
        write_data(tmp_path / "data.fits", (wave, flux, flux))
    assert names(tmp_path) == []


def test_some_spectra_without_a_target_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hdus = coadd_hdus(3)
    hdus["FIBERMAP"]["TARGETID"][1] = -1
    coadd = write_hdus(tmp_path / "coadd-1.fits", hdus)
    with caplog.at_level(logging.WARNING):
        assert write_data(tmp_path / "data.fits", coadd) == 3
    assert "1 of 3 spectra have no TARGETID" in caplog.text
    assert read_data([tmp_path / "data.fits"])[0].size == 2


def test_real_spectra_with_their_truth(reference: Path, tmp_path: Path) -> None:
    files = sorted((reference / "boss").glob("spec-3655-*.fits"))
    assert write_data(tmp_path / "data.fits", files) == len(files) == 68
    catalog = reference / "boss" / "cat_for_clustering_plate3655.fits.gz"
    rows = fitsio.read(catalog, ext=1)
    assert write_truth(tmp_path / "truth.fits", catalog) == rows.size
    truth = read_truth([tmp_path / "truth.fits"])
    data = read_data([tmp_path / "data.fits"], truth, return_pmf=True)
    tids, _, labels, z, bal, plate, _, fiber = data
    known = {int(row["THING_ID"]): row for row in rows}
    assert tids.size > 60
    assert set(plate.tolist()) == {3655}
    for tid, label, redshift, is_bal, number in zip(
        tids, labels, z, bal, fiber, strict=True
    ):
        row = known[int(tid)]
        assert number == row["FIBERID"]
        assert redshift == row["Z"]
        assert label.tolist() == [0, 0, row["Z"] < 2.1, row["Z"] >= 2.1, 0]
        assert is_bal == (1 if row["BI_CIV"] > 0 else -1)


TRUTH = {
    "TARGETID": TARGETID + np.asarray([5, 1, 2, 3, 4, 6]),
    "SPECTYPE": ["QSO", "QSO", "STAR", "GALAXY", "", "QSO"],
    "Z": [2.5, 1.5, 0.0, 0.3, 1.0, np.nan],
    "ZWARN": [0, 4, 0, 0, 0, 0],
    "BI_CIV": [10.0, 0.0, 0.0, 0.0, 0.0, -1.0],
}


def test_truth_of_all_kinds(tmp_path: Path) -> None:
    path = tmp_path / "truth.fits"
    assert write_truth(path, TRUTH) == 6
    found = read_truth([path])
    facts = {
        key - TARGETID: (
            x.class_person,
            x.z_conf_person,
            x.z_vi,
            x.bal_flag_vi,
            x.bi_civ,
        )
        for key, x in found.items()
    }
    assert facts == {
        1: (3, 1, 1.5, 0, 0),
        2: (1, 3, 0.0, 0, -1),
        3: (4, 3, 0.3, 0, -1),
        4: (0, 0, 1.0, 0, -1),
        5: (30, 3, 2.5, 1, 1),
        6: (3, 1, -1.0, 0, -1),
    }


def test_labels_come_back_from_data_and_truth(tmp_path: Path) -> None:
    coadd = write_coadd(tmp_path / "coadd-1.fits", 6)
    write_data(tmp_path / "data.fits", coadd)
    write_truth(tmp_path / "truth.fits", TRUTH)
    truth = read_truth([tmp_path / "truth.fits"])
    tids, _, labels, z, bal = read_data([tmp_path / "data.fits"], truth)
    # The first has no truth, and nobody has said what the fifth is.
    assert (tids - TARGETID).tolist() == [1, 2, 3, 5]
    assert labels.argmax(axis=1).tolist() == [4, 0, 1, 3]
    assert z.tolist() == [1.5, 0.0, 0.3, 2.5]
    assert bal.tolist() == [-1, 0, 0, 1]


def test_written_truth_is_read_as_it_was(tmp_path: Path) -> None:
    one = open_truth(TRUTH)
    write_truth(tmp_path / "truth.fits", one)
    two = open_truth(tmp_path / "truth.fits")
    order = np.argsort(one.identifiers["TARGETID"])
    ids = one.identifiers["TARGETID"][order].tolist()
    assert two.identifiers["THING_ID"].tolist() == ids
    for name in ("kind", "bal"):
        assert getattr(two, name).tolist() == getattr(one, name)[order].tolist()
    np.testing.assert_array_equal(two.z, one.z[order])
    # Nothing is sure without a redshift.
    assert two.sure.tolist() == (one.sure & np.isfinite(one.z))[order].tolist()


def test_targets_are_written_once_and_contradictions_not_at_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = {
        "THING_ID": [7, 8, 7, 8, -1, 9],
        "Z": [1.0, 1.0, 1.001, 2.0, 1.0, 3.0],
        "SPECTYPE": ["QSO"] * 6,
    }
    path = tmp_path / "truth.fits"
    with caplog.at_level(logging.WARNING):
        assert write_truth(path, rows) == 2
    assert sorted(read_truth([path])) == [7, 9]
    unnamed, contradicting = caplog.messages
    assert "1 of 6 rows have no THING_ID" in unnamed
    assert "1 of 3 rows" in contradicting


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"RA": [1.0], "DEC": [1.0]}, "neither TARGETID nor THING_ID"),
        ({"THING_ID": [-1]}, "no object has a THING_ID"),
    ],
)
def test_truth_without_targets_is_refused(
    tmp_path: Path, columns: dict[str, Any], words: str
) -> None:
    truth = {"Z": [1.0], "SPECTYPE": ["QSO"], **columns}
    with pytest.raises(SpectraError, match=words):
        write_truth(tmp_path / "truth.fits", truth)
    assert names(tmp_path) == []


def test_files_are_replaced_only_where_that_is_asked_for(tmp_path: Path) -> None:
    coadd = write_coadd(tmp_path / "coadd-1.fits", 2)
    mine = tmp_path / "mine.fits"
    mine.write_text("mine")
    for write, source in ((write_data, coadd), (write_truth, TRUTH)):
        with pytest.raises(FileExistsError, match=r"mine\.fits"):
            write(mine, source)
        assert mine.read_text() == "mine"
    text = tmp_path / "truth.csv"
    text.write_text("TARGETID,Z,SPECTYPE\n1,2.0,QSO\n")
    for write, source in ((write_data, coadd), (write_truth, text)):
        with pytest.raises(ValueError, match="is an input"):
            write(source, source, overwrite=True)
    assert write_truth(mine, text, overwrite=True) == 1
    with pytest.raises(TypeError, match="filename"):
        write_truth(3, text)
