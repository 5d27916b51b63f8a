"""From a file of spectra to a table of quasars, and to the file of that table."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import fitsio
import numpy as np
import pytest
from helpers import (
    LIGHT_SPEED,
    REST,
    TARGETID,
    best_redshifts,
    coadd_hdus,
    gzipped,
    open_files,
    write_coadd,
    write_hdus,
    write_images_by_hand,
)

import qnp_xp
from qnp_xp import SpectraError, Status, classify, cli, load_model
from qnp_xp._classify import classify_source
from qnp_xp._data import EMBEDDED_NETWORK, data_file
from qnp_xp._options import Options
from qnp_xp._xp.backend import to_host
from qnp_xp.grids import wave
from qnp_xp.io import load_desi_coadd
from qnp_xp.io.open import open_spectra
from qnp_xp.io.tables import _version, read_catalog
from qnp_xp.model import QuasarNP

if TYPE_CHECKING:
    from conftest import ArrayBackend

NAMES = ["LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha"]
COLUMNS = [
    ("TARGETID", "<i8"),
    ("TARGET_RA", "<f8"),
    ("TARGET_DEC", "<f8"),
    ("IS_QSO_QN", "<i2"),
    ("Z_QN", "<f4"),
    ("Z_QN_CONF", "<f4"),
    ("N_LINES_QN", "<i2"),
    *((f"C_{name}", "<f4") for name in NAMES),
    *((f"Z_{name}", "<f4") for name in NAMES),
    ("C_BAL_CIV", "<f4"),
    ("Z_BAL_CIV", "<f4"),
    ("QN_STATUS", "<i4"),
]
FLOATS = [name for name, kind in COLUMNS if kind == "<f4"]
INTEGERS = [name for name, kind in COLUMNS if "i" in kind]

# What float32 is to agree with another library's float32 to.
TOLERANCE = 3e-6

# test_coadd.fits: what Keras itself calls quasars, and its row without a good pixel.
QUASAR_ROWS = [3, 4, 6, 8, 9, 18, 23]
BAD_ROW = 11

# Rows of `coadd`.
SOUND, EMPTY, CONSTANT, CLEANED, SKY, LAST = range(6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where outputs go, and nothing else is."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def coadd(tmp_path: Path) -> Path:
    """Six spectra, each of them with something of its own."""
    objtype = ["TGT"] * 6
    objtype[SKY] = "SKY"
    hdus = coadd_hdus(6, objtype=objtype, mask="i4")
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][EMPTY] = 0
        hdus[f"{arm}_FLUX"][CONSTANT] = 2.5
    hdus["R_FLUX"][CLEANED, 100] = np.nan
    hdus["Z_FLUX"][LAST, 100], hdus["Z_IVAR"][LAST, 100] = np.nan, 0
    return write_hdus(tmp_path / "coadd-0-1.fits", hdus)


@pytest.fixture
def real(reference: Path) -> Path:
    return reference / "quasarnp" / "test_coadd.fits"


@pytest.fixture(scope="session")
def real_model(reference: Path) -> QuasarNP:
    return load_model(reference / "quasarnp" / "test_weights_6_layer.h5")


def assert_same_bits(table: np.ndarray, expected: np.ndarray) -> None:
    assert table.dtype == expected.dtype
    assert table.shape == expected.shape
    assert table.tobytes() == expected.tobytes()


def assert_close(table: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for rounding, in the same rows."""
    assert table.dtype == expected.dtype
    assert table.shape == expected.shape
    for name in table.dtype.names or ():
        found, wanted = table[name], expected[name]
        if found.dtype.kind != "f":
            np.testing.assert_array_equal(found, wanted, err_msg=name)
            continue
        # Redshifts are compared as wavelengths are.
        size = np.where(name.startswith("Z_") and "CONF" not in name, 1 + wanted, 1)
        np.testing.assert_allclose(
            found / size, wanted / size, rtol=0, atol=TOLERANCE, err_msg=name
        )


# The numbers.


def test_every_library_gives_what_numpy_gives(
    backend: ArrayBackend, coadd: Path, weights: Path, model: QuasarNP
) -> None:
    on_backend = load_model(weights, **backend.resolve())
    table = classify(coadd, on_backend)
    assert isinstance(table, np.ndarray)
    assert_close(table, classify(coadd, model))


def test_every_library_gives_what_numpy_gives_for_real_spectra(
    backend: ArrayBackend, real: Path, reference: Path, real_model: QuasarNP
) -> None:
    path = reference / "quasarnp" / "test_weights_6_layer.h5"
    rows = [3, 4, BAD_ROW, 18]
    table = classify(real, load_model(path, **backend.resolve()), rows=rows)
    assert_close(table, classify(real, real_model, rows=rows))


def test_redshifts_of_real_quasars_are_those_of_keras(
    real: Path, reference: Path, real_model: QuasarNP
) -> None:
    preds = np.load(reference / "quasarnp" / "qnet_output_6_layer.npy")
    confidence, z = best_redshifts(preds, wave)
    table = classify(real, real_model)
    good = np.delete(np.arange(25), BAD_ROW)
    assert np.flatnonzero(table["IS_QSO_QN"]).tolist() == QUASAR_ROWS
    assert good[confidence > 0.5].tolist() == QUASAR_ROWS
    found = table[good][confidence > 0.5]
    z, confidence = z[confidence > 0.5], confidence[confidence > 0.5]
    velocity = LIGHT_SPEED * np.abs(found["Z_QN"] - z) / (1 + z)
    assert np.max(velocity) < 0.2
    np.testing.assert_allclose(found["Z_QN_CONF"], confidence, rtol=0, atol=TOLERANCE)


def test_rows_that_were_scored_are_judged_by_their_lines(
    real: Path, real_model: QuasarNP
) -> None:
    table = classify(real, real_model, c_thresh=0.3, n_thresh=2)
    assert np.flatnonzero(table["QN_STATUS"]).tolist() == [BAD_ROW]
    scored = np.delete(table, BAD_ROW)
    c = np.stack([scored[f"C_{name}"] for name in NAMES])
    z = np.stack([scored[f"Z_{name}"] for name in NAMES])
    np.testing.assert_array_equal(scored["Z_QN_CONF"], c.max(axis=0))
    best = np.take_along_axis(z, c.argmax(axis=0)[None, :], axis=0)[0]
    np.testing.assert_array_equal(scored["Z_QN"], best)
    np.testing.assert_array_equal(scored["IS_QSO_QN"], (c > 0.3).sum(axis=0) >= 2)
    assert 0 < scored["IS_QSO_QN"].sum() < (c > 0.3).any(axis=0).sum()
    ends = [3600 / rest - 1 for rest in REST], [wave[-1] / rest - 1 for rest in REST]
    assert np.all(z >= np.float32(ends[0])[:, None])
    assert np.all(z <= np.float32(ends[1])[:, None])


def test_float64_agrees_with_float32(coadd: Path, weights: Path) -> None:
    table = classify(coadd, weights, dtype="float64")
    assert_close(table, classify(coadd, str(weights)))


@pytest.mark.parametrize("batch_size", [1, 7, 25])
def test_bits_do_not_depend_on_the_batch_size(
    real: Path, real_model: QuasarNP, batch_size: int
) -> None:
    table = classify(real, real_model, batch_size=batch_size)
    assert_same_bits(table, classify(real, real_model, batch_size=512))


def test_bits_do_not_depend_on_the_batch_size_where_rows_are_left_out(
    coadd: Path, model: QuasarNP
) -> None:
    expected = classify(coadd, model)
    for batch_size in range(1, 7):
        assert_same_bits(classify(coadd, model, batch_size=batch_size), expected)


def test_gzip_gives_the_bits_of_the_plain_file(coadd: Path, model: QuasarNP) -> None:
    assert_same_bits(classify(gzipped(coadd), model), classify(coadd, model))


# The table.


def test_there_is_a_row_for_each_row_of_the_file_in_its_order(
    coadd: Path, model: QuasarNP
) -> None:
    table = classify(coadd, model)
    assert table.dtype == np.dtype(COLUMNS)
    fibermap = fitsio.read(str(coadd), ext="FIBERMAP")
    for name in ("TARGETID", "TARGET_RA", "TARGET_DEC"):
        np.testing.assert_array_equal(table[name], fibermap[name])


def test_status_says_what_happened_to_each_row(coadd: Path, model: QuasarNP) -> None:
    table = classify(coadd, model)
    status = table["QN_STATUS"]
    assert status[SOUND] == 0
    assert status[EMPTY] == Status.NO_GOOD_PIXEL == 1
    assert status[CONSTANT] == Status.ZERO_VARIANCE == 2
    assert status[CLEANED] == Status.PIXELS_CLEANED == 8
    assert status[SKY] == Status.NOT_TARGET == 16
    # NaN where there is no weight is what DESI's pipeline writes.
    assert status[LAST] == 0
    unscored = (status & int(Status.UNSCORED)) != 0
    assert np.flatnonzero(unscored).tolist() == [EMPTY, CONSTANT]
    for name in FLOATS:
        np.testing.assert_array_equal(np.isnan(table[name]), unscored, err_msg=name)
    assert not np.any(table["IS_QSO_QN"][unscored])


def test_what_is_no_target_is_scored_and_never_a_quasar(
    tmp_path: Path, model: QuasarNP
) -> None:
    objtype = ["TGT", "SKY", "BAD", "TGT", "NON", "STD"]
    path = write_coadd(tmp_path / "sky.fits", 6, objtype=objtype)
    table = classify(path, model, c_thresh=0)
    target = np.array([name == "TGT" for name in objtype])
    np.testing.assert_array_equal(table["IS_QSO_QN"], target)
    expected = np.where(target, 0, int(Status.NOT_TARGET))
    np.testing.assert_array_equal(table["QN_STATUS"], expected)
    everything = classify(write_coadd(tmp_path / "all.fits", 6), model, c_thresh=0)
    assert everything["IS_QSO_QN"].tolist() == [1] * 6
    for name in FLOATS:
        np.testing.assert_array_equal(table[name], everything[name], err_msg=name)


def test_a_blank_objtype_says_nothing_and_vetoes_nothing(
    tmp_path: Path, model: QuasarNP
) -> None:
    # As DESI's mocks have it in all rows.
    expected = classify(write_coadd(tmp_path / "tgt.fits", 3), model, c_thresh=0)
    path = write_coadd(tmp_path / "mock.fits", 3, objtype=["", "", ""])
    assert_same_bits(classify(path, model, c_thresh=0), expected)
    path = write_coadd(tmp_path / "some.fits", 3, objtype=["", "SKY", "TGT"])
    table = classify(path, model, c_thresh=0)
    assert table["IS_QSO_QN"].tolist() == [1, 0, 1]
    assert table["QN_STATUS"].tolist() == [0, int(Status.NOT_TARGET), 0]


@pytest.mark.parametrize("fault", ["ivar 0", "NaN flux", "negative ivar", "mask"])
def test_an_arm_without_a_usable_pixel_is_missing_in_its_row(
    tmp_path: Path, model: QuasarNP, backend: ArrayBackend, fault: str
) -> None:
    hdus = coadd_hdus(4, mask="i4")
    for arm in "BRZ":
        hdus[f"{arm}_MASK"][:] = 0
        hdus[f"{arm}_IVAR"][3] = 0  # nothing is missing where nothing is there
    hdus["R_IVAR"][2, :100] = 0  # a part of an arm is there
    hdus["R_IVAR"][2, 200:] = 0
    values = {"NaN flux": ("FLUX", np.nan), "negative ivar": ("IVAR", -1)}
    part, value = values.get(fault, ("MASK", 1) if fault == "mask" else ("IVAR", 0))
    hdus[f"Z_{part}"][1] = value
    path = write_hdus(tmp_path / "coadd.fits", hdus)
    network = (
        model
        if backend.name == "numpy"
        else load_model(data_file(EMBEDDED_NETWORK), **backend.resolve())
    )
    table = classify(path, network, use_mask=True, batch_size=3)
    cleaned = int(Status.PIXELS_CLEANED) if part == "FLUX" or value == -1 else 0
    expected = [0, int(Status.ARM_MISSING) | cleaned, 0, int(Status.NO_GOOD_PIXEL)]
    assert table["QN_STATUS"].tolist() == expected
    assert np.isfinite(table["Z_QN"]).tolist() == [True, True, True, False]


def test_every_row_of_a_file_with_a_missing_arm_says_so(
    tmp_path: Path, model: QuasarNP, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_coadd(tmp_path / "part.fits", 3, arms="BZ")
    table = classify(path, model, batch_size=1)
    assert table["QN_STATUS"].tolist() == [int(Status.ARM_MISSING)] * 3 == [4] * 3
    assert np.all(np.isfinite(table["Z_QN"]))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"{path}: no arm R"


@pytest.mark.parametrize(
    ("flux", "ivar"), [(np.inf, 1), (1, np.nan), (1, np.inf), (1, -1), (np.nan, 2)]
)
def test_impossible_pixels_are_left_out_and_reported(
    tmp_path: Path, model: QuasarNP, flux: float, ivar: float
) -> None:
    hdus = coadd_hdus(3)
    hdus["R_IVAR"][1, 50:60] = 0
    clean = classify(write_hdus(tmp_path / "clean.fits", hdus), model)
    hdus["R_FLUX"][1, 50:60], hdus["R_IVAR"][1, 50:60] = flux, ivar
    table = classify(write_hdus(tmp_path / "dirty.fits", hdus), model)
    assert table["QN_STATUS"].tolist() == [0, int(Status.PIXELS_CLEANED), 0]
    assert clean["QN_STATUS"].tolist() == [0, 0, 0]
    table["QN_STATUS"] = 0
    assert_same_bits(table, clean)


class Retrieved(list[Any]):
    """What sparclclient returns."""

    @property
    def records(self) -> list[Any]:
        return list(self)


def sparcl_records(rows: list[int | None]) -> Retrieved:
    """Records of the rows of a coadd; None is one that SPARCL does not have."""
    hdus = coadd_hdus(4)
    parts = {"wavelength": "WAVELENGTH", "flux": "FLUX", "ivar": "IVAR"}
    found = Retrieved()
    for row in rows:
        if row is None:
            found.append({"sparcl_id": None, "specid": None, "_dr": "DESI-DR1"})
            continue
        record: dict[str, Any] = {"sparcl_id": f"uuid-{row}", "specid": TARGETID + row}
        record.update({"_dr": "DESI-DR1", "ra": 10.0 + row, "dec": -2.5})
        for name, part in parts.items():
            arms = [hdus[f"{arm}_{part}"] for arm in "BRZ"]
            record[name] = np.concatenate(
                [arm if arm.ndim == 1 else arm[row] for arm in arms]
            )
        found.append(record)
    return found


def test_records_of_sparcl_keep_their_identifiers_and_their_rows(
    tmp_path: Path, model: QuasarNP
) -> None:
    table = classify(sparcl_records([2, None, 0]), model)
    targets = [TARGETID + 2, -1, TARGETID]
    assert table["TARGETID"].tolist() == table["SPECID"].tolist() == targets
    assert table["SPARCL_ID"].tolist() == [b"uuid-2", b"", b"uuid-0"]
    np.testing.assert_array_equal(table["TARGET_RA"], [12.0, np.nan, 10.0])
    expected = classify(write_coadd(tmp_path / "coadd.fits", 4), model, rows=[2, 0])
    np.testing.assert_allclose(table["Z_QN"][[0, 2]], expected["Z_QN"], rtol=1e-6)
    assert table["QN_STATUS"].tolist() == [0, int(Status.NO_GOOD_PIXEL), 0]
    assert np.isnan(table["Z_QN"][1])


def test_a_specid_of_another_survey_is_no_targetid(model: QuasarNP) -> None:
    records = sparcl_records([0, 1])
    records[0].update(_dr="BOSS-DR16", specid=-6444532452352045056)
    table = classify(records, model)
    assert table["TARGETID"].tolist() == [-1, TARGETID + 1]
    assert table["SPECID"].tolist() == [-6444532452352045056, TARGETID + 1]


def test_no_records_give_no_rows_and_no_warning(
    model: QuasarNP, caplog: pytest.LogCaptureFixture
) -> None:
    assert classify(sparcl_records([]), model).shape == (0,)
    assert classify(sparcl_records([None]), model)["QN_STATUS"].tolist() == [1]
    assert not caplog.records


def test_identifiers_of_records_that_are_no_integers_are_refused(
    model: QuasarNP,
) -> None:
    records = sparcl_records([0])
    records[0]["specid"] = float(TARGETID)
    with pytest.raises(SpectraError, match=r"records: column TARGETID has float64"):
        classify(records, model)


def test_remarks_add_up(tmp_path: Path, model: QuasarNP) -> None:
    hdus = coadd_hdus(1, arms="B", objtype=["SKY"])
    hdus["B_FLUX"][:] = np.nan
    table = classify(write_hdus(tmp_path / "coadd.fits", hdus), model)
    expected = (
        Status.NO_GOOD_PIXEL
        | Status.ARM_MISSING
        | Status.PIXELS_CLEANED
        | Status.NOT_TARGET
    )
    assert table["QN_STATUS"].tolist() == [int(expected)]


def test_masked_pixels_are_left_out_where_that_is_asked_for(
    tmp_path: Path, model: QuasarNP
) -> None:
    hdus = coadd_hdus(3, mask="i4")
    path = write_hdus(tmp_path / "coadd.fits", hdus)
    table = classify(path, model, use_mask=True)
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][hdus[f"{arm}_MASK"] != 0] = 0
    masked = write_hdus(tmp_path / "masked.fits", hdus)
    assert_same_bits(table, classify(masked, model))
    assert table.tobytes() != classify(path, model).tobytes()


def test_files_without_a_fibermap_have_no_targets_and_no_coordinates(
    tmp_path: Path, model: QuasarNP
) -> None:
    path = write_coadd(tmp_path / "coadd.fits", 3, fibermap=False)
    table = classify(path, model)
    names = [column for column in COLUMNS if not column[0].startswith("TARGET_")]
    assert table.dtype == np.dtype(names)
    assert table["TARGETID"].tolist() == [-1, -1, -1]
    assert table["QN_STATUS"].tolist() == [0, 0, 0]


def test_files_with_half_a_position_have_no_coordinates(
    tmp_path: Path, model: QuasarNP
) -> None:
    hdus = coadd_hdus(2)
    smaller = np.zeros(2, dtype=[("TARGETID", "i8"), ("TARGET_RA", "f8")])
    smaller["TARGETID"] = hdus["FIBERMAP"]["TARGETID"]
    hdus["FIBERMAP"] = smaller
    table = classify(write_hdus(tmp_path / "coadd.fits", hdus), model)
    assert "TARGET_RA" not in (table.dtype.names or ())
    assert table["TARGETID"].tolist() == [TARGETID, TARGETID + 1]
    assert table["QN_STATUS"].tolist() == [0, 0]


def test_a_file_without_rows_gives_a_table_without_rows(
    tmp_path: Path, folder: Path, model: QuasarNP
) -> None:
    hdus = coadd_hdus(0, fibermap=False)
    path = write_images_by_hand(tmp_path / "empty.fits", hdus)
    table = classify(path, model, output=folder / "qn.fits")
    assert table.size == 0
    with fitsio.FITS(str(folder / "qn.fits")) as f:
        assert f["QN"].get_nrows() == 0
        assert f["QN"].get_colnames() == list(table.dtype.names or ())


def test_lines_of_a_network_become_its_columns(
    data: Path, tmp_path: Path, folder: Path
) -> None:
    lines, bal = ["LYA", "MgII(2796)", "MgII(2804)"], ["CIV(1548)", "SiIV(1394)"]
    path = data / "keras" / "nine_boxes.h5"
    model = load_model(path, lines=lines, lines_bal=bal)
    coadd = write_coadd(tmp_path / "coadd.fits", 2)
    table = classify(coadd, model, output=folder / "qn.fits")
    names = ["LYA", "MgII_2796", "MgII_2804"]
    wanted = [f"{kind}_{name}" for kind in "CZ" for name in names]
    wanted += ["C_BAL_CIV", "Z_BAL_CIV", "C_BAL_SiIV", "Z_BAL_SiIV"]
    columns = [c for c in table.dtype.names or () if c[:2] in ("C_", "Z_")]
    assert columns == ["Z_QN", "Z_QN_CONF", *wanted]
    assert fitsio.read(str(folder / "qn.fits")).dtype.names == table.dtype.names


def test_boxes_are_kept_for_pictures_where_that_is_asked_for(
    backend: ArrayBackend, coadd: Path, weights: Path
) -> None:
    model = load_model(weights, **backend.resolve())
    options = Options(batch_size=4)
    with open_spectra(coadd) as source:
        kept = classify_source(source, model, options, keep_boxes=True)
        assert classify_source(source, model, options).boxes is None
    x, good = load_desi_coadd(coadd, **backend.resolve())
    expected = np.full((6, model.nlines, model.nboxes), np.nan)
    for line, outputs in enumerate(model.predict(x)):
        expected[good, line] = to_host(outputs)[:, : model.nboxes]
    assert kept.boxes is not None
    np.testing.assert_allclose(kept.boxes, expected, rtol=0, atol=TOLERANCE)
    c = np.stack([kept.table[f"C_{name}"] for name in NAMES], axis=1)
    np.testing.assert_array_equal(kept.boxes[:, :6].max(axis=2).astype("f4"), c)
    assert (kept.scored, kept.arms) == (4, ("B", "R", "Z"))


# Which rows.


@pytest.mark.parametrize(
    "rows",
    [[4, 0, 2], [3, 3], [-1], [], [True, False, True, True, False, True], [1] * 6],
)
def test_rows_give_the_bits_that_they_have_in_the_whole_table(
    coadd: Path, model: QuasarNP, rows: list[int]
) -> None:
    expected = classify(coadd, model)
    chosen = np.array(rows, dtype=bool if len(rows) == 6 else np.int64)
    assert_same_bits(classify(coadd, model, rows=rows), expected[chosen])


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_targets_are_taken_in_the_order_of_the_file(
    coadd: Path, model: QuasarNP, kind: Callable[[list[int]], Any]
) -> None:
    # As floating-point numbers, neighbouring TARGETIDs would be the same.
    assert float(TARGETID + 4) == float(TARGETID + 5)
    wanted = kind([TARGETID + 4, 17, TARGETID + 1])
    table = classify(coadd, model, targetids=wanted)
    assert_same_bits(table, classify(coadd, model)[[1, 4]])


def test_a_target_of_several_rows_has_them_all(tmp_path: Path, model: QuasarNP) -> None:
    hdus = coadd_hdus(4)
    hdus["FIBERMAP"]["TARGETID"] = [7, 8, 7, 9]
    path = write_hdus(tmp_path / "spectra.fits", hdus)
    table = classify(path, model, targetids=[9, 7])
    assert table["TARGETID"].tolist() == [7, 7, 9]
    assert_same_bits(table, classify(path, model)[[0, 2, 3]])


def test_unknown_targets_give_a_table_without_rows(
    coadd: Path, model: QuasarNP
) -> None:
    table = classify(coadd, model, targetids=[1, 2])
    assert table.shape == (0,)
    assert table.dtype == np.dtype(COLUMNS)


def test_rows_and_targets_cannot_be_given_both(coadd: Path, model: QuasarNP) -> None:
    with pytest.raises(ValueError, match="rows and targetids"):
        classify(coadd, model, rows=[1], targetids=[TARGETID])


@pytest.mark.parametrize("targetids", [[1.0], ["1"], [float(TARGETID)]])
def test_targets_that_are_no_integers_are_refused(
    coadd: Path, model: QuasarNP, targetids: list[Any]
) -> None:
    with pytest.raises(TypeError, match=r"targetids .*integers"):
        classify(coadd, model, targetids=targetids)


def test_targets_of_a_file_without_a_fibermap_are_refused(
    tmp_path: Path, model: QuasarNP
) -> None:
    path = write_coadd(tmp_path / "coadd.fits", 2, fibermap=False)
    with pytest.raises(ValueError, match=r"coadd\.fits: .*TARGETIDs"):
        classify(path, model, targetids=[1])


@pytest.mark.parametrize("rows", [[6], [-7], [True] * 5])
def test_rows_that_do_not_fit_are_refused(
    coadd: Path, model: QuasarNP, rows: list[int]
) -> None:
    with pytest.raises(ValueError, match=r"rows .*6 rows"):
        classify(coadd, model, rows=rows)


# Arguments.


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"c_thresh": -0.1}, r"c_thresh .*-0\.1"),
        ({"c_thresh": 1.1}, r"c_thresh .*1\.1"),
        ({"c_thresh": float("nan")}, "c_thresh .*nan"),
        ({"n_thresh": 0}, "n_thresh .*got 0"),
        ({"n_thresh": 1.5}, r"n_thresh .*1\.5"),
        ({"batch_size": 0}, "batch_size .*got 0"),
        ({"batch_size": -5}, "batch_size .*-5"),
        ({"batch_size": 2.5}, r"batch_size .*2\.5"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused_before_anything_is_read(
    options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        classify("absent.fits", "absent.h5", **options)


def test_thresholds_at_their_ends_are_taken(coadd: Path, model: QuasarNP) -> None:
    scored = [SOUND, CLEANED, LAST]
    table = classify(coadd, model, c_thresh=0.0, n_thresh=6)
    assert np.flatnonzero(table["IS_QSO_QN"]).tolist() == scored
    for options in ({"c_thresh": 1.0}, {"c_thresh": 0.0, "n_thresh": 7}):
        assert not np.any(classify(coadd, model, **options)["IS_QSO_QN"])


def test_the_network_may_be_named_by_the_environment(
    coadd: Path, weights: Path, model: QuasarNP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QN_MODEL_FILE", str(weights))
    assert_same_bits(classify(coadd), classify(coadd, model))


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_network_the_one_that_ships_is_used(
    coadd: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("QN_MODEL_FILE", raising=False)
    if value is not None:
        monkeypatch.setenv("QN_MODEL_FILE", value)
    assert_same_bits(classify(coadd), classify(coadd, data_file(EMBEDDED_NETWORK)))
    assert load_model().weights_name == EMBEDDED_NETWORK


def test_missing_files_are_the_usual_error(
    coadd: Path, tmp_path: Path, model: QuasarNP
) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.fits"):
        classify(tmp_path / "absent.fits", model)
    with pytest.raises(FileNotFoundError, match=r"absent\.h5"):
        classify(coadd, tmp_path / "absent.h5")


def test_nothing_is_printed(
    coadd: Path, model: QuasarNP, capsys: pytest.CaptureFixture[str]
) -> None:
    classify(coadd, model)
    assert capsys.readouterr() == ("", "")


# The file of the table.


def test_the_table_is_written_as_it_is_returned(
    coadd: Path, folder: Path, model: QuasarNP
) -> None:
    table = classify(coadd, model, output=str(folder / "qn.fits"))
    assert [path.name for path in folder.iterdir()] == ["qn.fits"]
    with fitsio.FITS(str(folder / "qn.fits")) as f:
        assert [hdu.get_extname() for hdu in f] == ["", "QN"]
        assert f["QN"].get_colnames() == [name for name, _ in COLUMNS]
        written = f["QN"].read()
    # The big-endian numbers of the file, at their own size.
    kinds = [(name, written.dtype[name].str[1:]) for name in written.dtype.names]
    assert kinds == [(name, kind[1:]) for name, kind in COLUMNS]
    for name in table.dtype.names or ():
        np.testing.assert_array_equal(written[name], table[name], err_msg=name)


def cards(path: Path) -> dict[str, tuple[Any, str]]:
    """Value and comment of each keyword."""
    header = fitsio.read_header(str(path), ext="QN")
    return {
        record["name"]: (record["value"], record["comment"])
        for record in header.records()
        if record.get("name")
    }


def test_columns_have_units_and_say_what_they_are(
    coadd: Path, folder: Path, model: QuasarNP
) -> None:
    classify(coadd, model, output=folder / "qn.fits")
    found = cards(folder / "qn.fits")
    for number, (name, _) in enumerate(COLUMNS, start=1):
        value, comment = found[f"TTYPE{number}"]
        assert value == name
        kind, _, line = name.rpartition("_")
        if line in NAMES:
            what = "confidence" if kind[0] == "C" else "redshift"
            assert what in comment, name
            assert line in comment, name
            assert ("absorption" in comment) == ("BAL" in kind), name
        # What cfitsio says of a column that nobody describes.
        assert not comment.startswith("label for field"), name
        unit = found.get(f"TUNIT{number}", ("", ""))[0]
        degrees = name in ("TARGET_RA", "TARGET_DEC")
        assert (unit or "").strip() == ("deg" if degrees else ""), name
    notes = [found[f"TTYPE{i}"][1] for i in range(1, len(COLUMNS) + 1)]
    assert len(set(notes)) == len(notes)


def test_the_header_says_what_the_table_was_made_with(
    coadd: Path, folder: Path, weights: Path, model: QuasarNP
) -> None:
    classify(coadd, model, output=folder / "qn.fits", c_thresh=0.25, n_thresh=2)
    found = {key: value for key, (value, _) in cards(folder / "qn.fits").items()}
    assert found["EXTNAME"] == "QN"
    assert found["QNINPUT"] == coadd.name
    assert found["QNMODEL"] == weights.name
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert found["QNSHA256"] == sha256 == model.weights_sha256
    assert (found["QNDEVICE"], found["QNDTYPE"]) == ("cpu", "float32")
    assert (found["C_THRESH"], found["N_THRESH"]) == (0.25, 2)
    assert found["USEMASK"] in (False, "F")
    assert (found["QNGRID"], found["QNNBINS"]) == ("log", 443)
    assert found["QNWMIN"] == pytest.approx(3600, abs=1e-8)
    assert found["QNWMAX"] == pytest.approx(wave[-1], abs=1e-8)
    assert found["QNARMS"] == "BRZ"
    versions = {}
    for key, value in found.items():
        if key.startswith("DEPNAM"):
            versions[value] = found[f"DEPVER{key[6:]}"]
    assert versions["qnp_xp"] == qnp_xp.__version__
    assert versions["numpy"] == np.__version__
    for name in ("fitsio", "h5py"):
        assert versions[name] == importlib.metadata.version(name)
    every = importlib.metadata.distributions()
    here = {d.name.replace("_", "-"): d.version for d in every}
    assert versions["array-api-compat"] == here.get("array-api-compat", "unknown")
    bits = {value: key for key, value in found.items() if key.startswith("QNBIT")}
    assert bits == {
        "NO_GOOD_PIXEL": "QNBIT00",
        "ZERO_VARIANCE": "QNBIT01",
        "ARM_MISSING": "QNBIT02",
        "PIXELS_CLEANED": "QNBIT03",
        "NOT_TARGET": "QNBIT04",
        "LITTLE_COVERAGE": "QNBIT05",
    }


def test_the_header_knows_linear_grids_and_missing_arms(
    data: Path, tmp_path: Path, folder: Path
) -> None:
    path = data / "keras" / "linear_grid.h5"
    model = load_model(path, dtype="float64", lines=["LYA", "CIV(1548)"])
    coadd = write_coadd(tmp_path / "coadd.fits", 2, arms="BZ", mask="i4")
    output = folder / "qn.fits"
    classify(coadd, model, output=output, use_mask=True)
    found = {key: value for key, (value, _) in cards(output).items()}
    assert (found["QNGRID"], found["QNNBINS"]) == ("linear", 458)
    assert found["QNARMS"] == "BZ"
    assert found["QNDTYPE"] == "float64"
    assert found["USEMASK"] in (True, "T")


def test_the_header_names_the_device_and_what_it_takes_at_once(
    backend: ArrayBackend, coadd: Path, folder: Path, weights: Path
) -> None:
    model = load_model(weights, **backend.resolve())
    classify(coadd, model, output=folder / "qn.fits", rows=backend.array([3, 0]))
    found = {key: value for key, (value, _) in cards(folder / "qn.fits").items()}
    assert found["QNDEVICE"] == model.device
    assert found.get("QNTILE") == (None if backend.name == "numpy" else model.tile)
    classify(coadd, model, output=folder / "same.fits", rows=[3, 0])
    assert cards(folder / "same.fits")["QNSELECT"][0] == found["QNSELECT"] != "all"


def test_cupy_has_a_version_under_any_of_its_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = [SimpleNamespace(name="numpy", version="2.1")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: installed)
    look_up = _version.__wrapped__  # which is kept once it is known
    assert look_up("cupy") == "unknown"
    installed.append(SimpleNamespace(name="cupy-cuda13x", version="14.2"))
    assert look_up("cupy") == "14.2"


def test_long_names_of_files_are_kept_whole(
    coadd: Path, tmp_path: Path, folder: Path, model: QuasarNP
) -> None:
    path = coadd.rename(tmp_path / f"coadd-{'x' * 90}.fits")
    classify(path, model, output=folder / "qn.fits")
    assert cards(folder / "qn.fits")["QNINPUT"][0] == path.name


@pytest.mark.parametrize("name", ["qn.fits.gz", "q n.fits", "qn.fit", "é.fits"])
def test_outputs_may_have_other_names(
    coadd: Path, folder: Path, model: QuasarNP, name: str
) -> None:
    table = classify(coadd, model, output=folder / name)
    assert [path.name for path in folder.iterdir()] == [name]
    written = fitsio.read(str(folder / name), ext="QN")
    np.testing.assert_array_equal(written["Z_QN"], table["Z_QN"])
    assert (
        (folder / name)
        .read_bytes()
        .startswith(b"\x1f\x8b" if name.endswith(".gz") else b"SIMPLE")
    )


@pytest.mark.parametrize("name", ["qn[1].fits", "qn(1).fits", "qn.fits[QN].fits"])
def test_outputs_with_brackets_in_their_names_are_written(
    coadd: Path, folder: Path, model: QuasarNP, name: str
) -> None:
    table = classify(coadd, model, output=folder / name)
    assert [path.name for path in folder.iterdir()] == [name]
    written, _ = read_catalog(folder / name)
    assert written.dtype == table.dtype
    assert written.tobytes() == table.tobytes()


def test_an_output_that_exists_is_refused_before_anything_is_read(
    folder: Path, weights: Path
) -> None:
    output = folder / "qn.fits"
    output.write_text("mine")
    with pytest.raises(FileExistsError, match=r"qn\.fits.*overwrite"):
        classify("absent.fits", weights, output=output)
    assert output.read_text() == "mine"


def test_an_output_without_a_folder_is_refused_before_anything_is_read(
    folder: Path, weights: Path
) -> None:
    with pytest.raises(NotADirectoryError, match=r"nowhere.*qn\.fits"):
        classify("absent.fits", weights, output=folder / "nowhere" / "qn.fits")
    assert not list(folder.iterdir())


def test_an_output_is_replaced_where_that_is_asked_for(
    coadd: Path, folder: Path, model: QuasarNP
) -> None:
    output = folder / "qn.fits"
    classify(coadd, model, output=output)
    classify(coadd, model, output=output, rows=[0, 1, 4], overwrite=True)
    assert fitsio.read(str(output), ext="QN").size == 3
    assert [path.name for path in folder.iterdir()] == ["qn.fits"]


def test_an_input_is_never_the_output(
    coadd: Path, folder: Path, model: QuasarNP
) -> None:
    content = coadd.read_bytes()
    for output in (coadd, str(coadd), folder / ".." / coadd.name):
        with pytest.raises(ValueError, match="input"):
            classify(coadd, model, output=output, overwrite=True)
        assert coadd.read_bytes() == content


FULL = OSError(errno.ENOSPC, "No space left on device", "somewhere")


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()])
@pytest.mark.parametrize("method", ["write_bytes", "replace"])
def test_a_failure_while_writing_leaves_no_file(
    coadd: Path,
    folder: Path,
    model: QuasarNP,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    error: BaseException,
) -> None:
    fail_while_writing(monkeypatch, folder, method, error)
    with pytest.raises(type(error)) as caught:
        classify(coadd, model, output=folder / "qn.fits")
    if isinstance(caught.value, OSError):
        assert caught.value.filename == str(folder / "qn.fits")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()])
def test_a_failure_while_writing_leaves_an_older_file_as_it_was(
    coadd: Path,
    folder: Path,
    model: QuasarNP,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    output = folder / "qn.fits"
    classify(coadd, model, output=output)
    content = output.read_bytes()
    fail_while_writing(monkeypatch, folder, "write_bytes", error)
    with pytest.raises(type(error)):
        classify(coadd, model, output=output, rows=[0], overwrite=True)
    assert output.read_bytes() == content
    assert [path.name for path in folder.iterdir()] == ["qn.fits"]


def fail_while_writing(
    monkeypatch: pytest.MonkeyPatch, folder: Path, method: str, error: BaseException
) -> None:
    """Make a method of paths raise when there is a temporary file in a folder."""
    original = getattr(Path, method)

    def failing(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.parent.parent == folder and self.parent.name.startswith(".qnp-"):
            self.touch()
            raise error
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Path, method, failing)


def test_a_failure_while_classifying_leaves_no_file(
    coadd: Path, folder: Path, model: QuasarNP
) -> None:
    shutil.copyfile(coadd, folder / "coadd.fits")
    content = (folder / "coadd.fits").read_bytes()
    (folder / "coadd.fits").write_bytes(content[:30000])
    with pytest.raises(SpectraError, match=r"coadd\.fits"):
        classify(folder / "coadd.fits", model, output=folder / "qn.fits")
    assert [path.name for path in folder.iterdir()] == ["coadd.fits"]


@pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="needs Linux' /proc/self/fd"
)
def test_files_are_closed_afterwards(
    coadd: Path, tmp_path: Path, folder: Path, model: QuasarNP
) -> None:
    classify(coadd, model, output=folder / "qn.fits")
    with pytest.raises(ValueError, match="of 6 rows"):
        classify(coadd, model, rows=[77])
    assert open_files(tmp_path) == []


# Priors for redrock.


def test_priors_are_boxes_around_the_quasars(
    coadd: Path, folder: Path, weights: Path, model: QuasarNP
) -> None:
    output, priors = folder / "qn.fits", folder / "priors.fits"
    arguments = ["-m", str(weights), "-o", str(output), "--priors", str(priors)]
    assert cli.main(["classify", str(coadd), *arguments, "--c-thresh", "0.2"]) == 0
    table = classify(coadd, model, c_thresh=0.2)
    quasars = table[table["IS_QSO_QN"] == 1]
    assert quasars.size > 0
    with fitsio.FITS(str(priors)) as f:
        assert [hdu.get_extname() for hdu in f] == ["", "PRIORS"]
        found = f["PRIORS"].read()
    assert found.dtype.names == ("TARGETID", "FUNCTION", "Z", "SIGMA")
    np.testing.assert_array_equal(found["TARGETID"], quasars["TARGETID"])
    np.testing.assert_array_equal(found["Z"], quasars["Z_QN"].astype(np.float64))
    functions = found["FUNCTION"].astype("U6")  # bytes by older versions of fitsio
    assert set(functions.tolist()) == {"tophat"}
    box = (np.log10(wave[-1]) - np.log10(wave[0])) / 13
    expected = 2 * (10**box - 1) * (1 + found["Z"])
    np.testing.assert_allclose(found["SIGMA"], expected, rtol=1e-12)


def test_without_quasars_there_are_no_priors(
    coadd: Path, folder: Path, weights: Path
) -> None:
    output, priors = folder / "qn.fits", folder / "priors.fits"
    arguments = ["-m", str(weights), "-o", str(output), "--priors", str(priors)]
    assert cli.main(["classify", str(coadd), *arguments, "--c-thresh", "1"]) == 0
    assert [path.name for path in folder.iterdir()] == ["qn.fits"]
