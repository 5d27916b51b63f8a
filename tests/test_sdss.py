"""Spectra of SDSS, BOSS and eBOSS through `classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pytest
from helpers import gzipped
from numpy.typing import NDArray
from reference import combine as slow_combine
from reference import normalize as slow_normalize
from sdss_files import (
    CATALOGID,
    PIXELS,
    THING_ID,
    spectra,
    write_sdssv,
    write_spec,
    write_spfield,
    write_spplate,
    write_spspec,
)

from qnp_xp import NoSpectraError, SpectraError, Status, classify, cli
from qnp_xp.grids import wave
from qnp_xp.io.open import open_spectra
from qnp_xp.model import QuasarNP


def expected_confidences(model: QuasarNP, rows: slice, n: int) -> NDArray[Any]:
    """Confidences of the lines by the slow way up to the input of the network."""
    loglam, flux, ivar = spectra(n)
    wavelengths = 10 ** loglam.astype(np.float64)
    mean, weight, _ = slow_combine([(wavelengths, flux[rows], ivar[rows])], wave)
    x = slow_normalize(mean, weight)
    preds = model.predict(x)
    boxes = model.nboxes
    return np.array([pred[:, :boxes].max(axis=1) for pred in preds[:6]])


NAMES = ["LYA", "CIV", "CIII", "MgII", "Hbeta", "Halpha"]


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_a_spectrum_of_sdss_is_classified(
    tmp_path: Path, model: QuasarNP, upper: bool, packed: bool
) -> None:
    path = write_spec(tmp_path / "any-name.fits", upper=upper)
    path = gzipped(path) if packed else path
    table = classify(path, model)
    assert table.shape == (1,)
    expected = expected_confidences(model, slice(0, 1), 1)[:, 0]
    found = [table[f"C_{name}"][0] for name in NAMES]
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)
    row = table[0]
    assert (row["TARGETID"], row["PLATE"], row["MJD"], row["FIBERID"]) == (
        THING_ID,
        3655,
        55240,
        2,
    )
    assert (row["TARGET_RA"], row["TARGET_DEC"]) == (112.05, 39.73)
    assert row["QN_STATUS"] == 0


def test_sky_fibers_of_sdss_are_scored_and_never_quasars(
    tmp_path: Path, model: QuasarNP
) -> None:
    path = write_spec(tmp_path / "spec.fits", objtype="SKY")
    table = classify(path, model, c_thresh=0.0)
    assert table["QN_STATUS"][0] == Status.NOT_TARGET
    assert table["IS_QSO_QN"][0] == 0
    assert np.isfinite(table["Z_QN"][0])


def test_masked_pixels_of_sdss_are_left_out_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    path = write_spec(tmp_path / "spec.fits")
    with open_spectra(path) as source:
        ((_, _, ivar),) = source.read(np.arange(1), use_mask=True)
        ((_, _, plain),) = source.read(np.arange(1))
    assert np.all(ivar[0, :50] == 0)
    np.testing.assert_array_equal(ivar[0, 50:], plain[0, 50:])
    assert np.all(plain > 0)


def test_a_spectrum_without_its_second_table_has_its_header(
    tmp_path: Path, model: QuasarNP
) -> None:
    whole = write_spec(tmp_path / "whole.fits")
    path = tmp_path / "lite.fits"
    with fitsio.FITS(str(whole)) as source, fitsio.FITS(str(path), "rw") as f:
        f.write(None, header={"PLATEID": 3655, "MJD": 55240, "FIBERID": 9})
        f.write(source[1].read())
    row = classify(path, model)[0]
    assert (row["TARGETID"], row["PLATE"], row["FIBERID"]) == (-1, 3655, 9)
    assert "TARGET_RA" not in (row.dtype.names or ())


@pytest.mark.parametrize("zbest", [True, False])
def test_a_plate_is_classified_with_what_lies_beside_it(
    tmp_path: Path, model: QuasarNP, zbest: bool
) -> None:
    path = write_spplate(tmp_path, 4, zbest=zbest)
    table = classify(path, model)
    expected = expected_confidences(model, slice(0, 4), 4)
    found = np.array([table[f"C_{name}"] for name in NAMES])
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)
    assert table["FIBERID"].tolist() == [1, 2, 3, 4]
    assert set(table["PLATE"].tolist()) == {3655}
    things = [1001, 1002, 1003, -1] if zbest else [-1] * 4
    assert table["TARGETID"].tolist() == things
    assert table["TARGET_RA"].tolist() == [112, 113, 114, 115]
    assert table["QN_STATUS"].tolist() == [0, int(Status.NOT_TARGET), 0, 0]


def test_targets_of_a_plate_can_be_chosen(tmp_path: Path, model: QuasarNP) -> None:
    path = write_spplate(tmp_path, 4)
    assert classify(path, model, targetids=[1003])["FIBERID"].tolist() == [3]


def test_a_plate_of_one_wavelength_grid_is_masked_by_its_third_image(
    tmp_path: Path,
) -> None:
    with open_spectra(write_spplate(tmp_path, 4)) as source:
        ((_, _, ivar),) = source.read(np.array([2]), use_mask=True)
    assert np.all(ivar[0, :50] == 0)
    assert np.all(ivar[0, 50:] > 0)


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({"COEFF1": "x"}, r"COEFF0 and COEFF1 must be numbers"),
        ({"COEFF0": 1e6}, r"finite and positive"),
    ],
)
def test_wavelengths_of_a_plate_that_are_none_are_refused(
    tmp_path: Path, model: QuasarNP, cards: dict[str, Any], match: str
) -> None:
    path = write_spplate(tmp_path, 2, **cards)
    with pytest.raises(SpectraError, match=rf"spPlate-3655.*{match}"):
        classify(path, model)


def test_wavelengths_of_a_spectrum_that_are_none_are_refused(
    tmp_path: Path, model: QuasarNP
) -> None:
    path = write_spec(tmp_path / "spec.fits")
    with fitsio.FITS(str(path), "rw") as f:
        f[1].write_column("LOGLAM", np.full(PIXELS, np.nan, dtype="f4"))
    match = r"spec\.fits\[1\], column LOGLAM: wavelengths must be finite"
    with pytest.raises(SpectraError, match=match):
        classify(path, model)


def test_tables_beside_spectra_of_sdss_are_skipped(tmp_path: Path) -> None:
    write_spplate(tmp_path, 2)
    with pytest.raises(NoSpectraError, match=r"spZbest.*holds no spectra"):
        open_spectra(tmp_path / "spZbest-3655-55240.fits")


def confidences(table: NDArray[Any]) -> NDArray[Any]:
    """The confidences of a table, a row for each spectrum."""
    return np.stack([table[f"C_{name}"] for name in NAMES], axis=1)


def test_a_spectrum_of_sdssv_has_the_identifiers_that_it_has(
    tmp_path: Path, model: QuasarNP
) -> None:
    table = classify(write_sdssv(tmp_path / "spec-112360-60000-1.fits"), model)
    names = ["TARGETID", "TARGET_RA", "TARGET_DEC", "MJD", "FIELD", "CATALOGID"]
    assert list(table.dtype.names or ())[:7] == [*names, "SDSS_ID"]
    assert table[[*names, "SDSS_ID"]][0].tolist() == (
        *(-1, 149.0, 1.5, 60000, 112360, CATALOGID, 61731453),
    )
    assert table["CATALOGID"].dtype == table["SDSS_ID"].dtype == np.int64
    expected = classify(write_spec(tmp_path / "spec.fits"), model)
    np.testing.assert_array_equal(confidences(table), confidences(expected))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"CATALOGID": str(CATALOGID)}, CATALOGID),
        ({"CATALOGID": "u4375787361"}, -1),
        ({"CATALOGID": ""}, -1),
        ({"CATALOGID": "6123456789012345678"}, 6123456789012345678),
        ({"CATALOGID": "9999999999999999999"}, -1),
        ({"ICATALOGID": 27021597842639440}, 27021597842639440),
    ],
    ids=["digits", "letters", "blank", "19 digits", "too many", "an integer beside it"],
)
def test_texts_are_read_as_the_integers_that_they_write(
    tmp_path: Path, model: QuasarNP, columns: dict[str, Any], expected: int
) -> None:
    path = write_sdssv(tmp_path / "spec.fits", **columns)
    assert classify(path, model)["CATALOGID"].tolist() == [expected]


def test_a_field_of_sdssv_is_read_as_a_plate_is(
    tmp_path: Path, model: QuasarNP
) -> None:
    path = write_spfield(tmp_path, ["27021597842639438", "", "27021597842639440"])
    table = classify(path, model)
    assert table["CATALOGID"].tolist() == [CATALOGID, -1, CATALOGID + 2]
    assert table["FIELD"].tolist() == [112360] * 3
    assert table["FIBERID"].tolist() == [1, 2, 3]
    assert "PLATE" not in (table.dtype.names or ())
    assert table["QN_STATUS"].tolist() == [0, 0, 0]
    expected = classify(write_spplate(tmp_path, 3), model)
    np.testing.assert_array_equal(confidences(table), confidences(expected))


@pytest.mark.parametrize("name", ["SKY", "sky_boss", "OPS_SKY"])
def test_the_sky_of_sdssv_is_no_target(
    tmp_path: Path, model: QuasarNP, name: str
) -> None:
    objtype = np.array(["science", name, ""])
    path = write_spfield(tmp_path, [1, 2, 3], OBJTYPE=objtype)
    table = classify(path, model, c_thresh=0)
    assert table["QN_STATUS"].tolist() == [0, int(Status.NOT_TARGET), 0]
    assert table["IS_QSO_QN"].tolist() == [1, 0, 1]


@pytest.mark.parametrize("rows", [4, 5])
def test_a_spectrum_of_the_first_releases_is_read_from_the_rows_of_its_image(
    tmp_path: Path, model: QuasarNP, rows: int
) -> None:
    path = write_spspec(tmp_path / "spSpec-51630-0266-046.fit", rows=rows)
    with open_spectra(path) as source:
        ((wavelengths, flux, ivar),) = source.read(np.arange(1))
        ((_, _, masked),) = source.read(np.arange(1), use_mask=True)
    loglam, expected_flux, expected_ivar = spectra(1)
    np.testing.assert_array_equal(flux, expected_flux)
    np.testing.assert_allclose(wavelengths, 10 ** loglam.astype("f8"), rtol=2e-6)
    expected_ivar[0, 7] = 0
    np.testing.assert_allclose(ivar, expected_ivar, rtol=1e-6)
    expected_ivar[0, :50] = 0  # a sky too bright; too many bad columns leave the rest
    np.testing.assert_allclose(masked, expected_ivar, rtol=1e-6)
    (row,) = classify(path, model)
    names = ["TARGETID", "TARGET_RA", "TARGET_DEC", "PLATE", "MJD", "FIBERID"]
    assert [row[name] for name in names] == [-1, 146.25, -0.5, 266, 51630, 46]
    assert row["QN_STATUS"] == 0


def test_the_sky_of_the_first_releases_is_no_target(
    tmp_path: Path, model: QuasarNP
) -> None:
    path = write_spspec(tmp_path / "spSpec.fit", OBJTYPE="SKY")
    assert classify(path, model)["QN_STATUS"].tolist() == [int(Status.NOT_TARGET)]


#: Bits of SPPIXMASK: what is said of a whole fiber, of a pixel that can be used, and of
#: one that cannot.
FIBER, USABLE, BAD = range(16), (16, 17, 19, 20, 21), (18, *range(22, 29))


@pytest.mark.parametrize("bit", range(29))
def test_bits_of_a_mask_remove_a_pixel_only_where_they_call_it_bad(
    tmp_path: Path, bit: int
) -> None:
    path = write_spec(tmp_path / "spec.fits")
    with fitsio.FITS(str(path), "rw") as f:
        f[1].write_column("AND_MASK", np.full(PIXELS, 1 << bit, dtype="i4"))
    with open_spectra(path) as source:
        ((_, _, ivar),) = source.read(np.arange(1), use_mask=True)
        ((_, _, plain),) = source.read(np.arange(1))
    assert (bit in BAD) != (bit in (*FIBER, *USABLE))
    np.testing.assert_array_equal(ivar, 0 * plain if bit in BAD else plain)


@pytest.mark.parametrize("write", [write_spec, write_spspec], ids=["MRS", "LRS"])
def test_spectra_of_other_surveys_are_refused_by_name(
    tmp_path: Path, write: Any
) -> None:
    path = write(tmp_path / "med-58408-X_sp01-015.fits", TELESCOP="LAMOST")
    with pytest.raises(SpectraError, match=r"med-58408.*TELESCOP='LAMOST'"):
        open_spectra(path)
    for name in ("SDSS 2.5-M", "LCO Du Pont", ""):
        path = write(tmp_path / f"spec-{len(name)}.fits", TELESCOP=name)
        with open_spectra(path) as source:
            assert source.n == 1


@pytest.mark.parametrize(
    ("hdu", "columns", "match"),
    [
        (1, {"LOGLAM": np.array(["x"] * PIXELS)}, r"\[1\]: column LOGLAM has [<|]"),
        (
            2,
            {"PLUG_RA": np.array([b"12h"])},
            r"\[2\]: column TARGET_RA .*texts .*numbers",
        ),
        (2, {"CATALOGID": np.zeros((1, 2), "i8")}, r"CATALOGID .*\(1, 2\)"),
        (2, {"SDSS_ID": np.array([6e7])}, r"SDSS_ID has float64.*integers"),
        (2, {"FIELD": np.array([2**31])}, r"FIELD has integers"),
    ],
    ids=["wavelengths", "coordinate", "pair", "float", "too large"],
)
def test_columns_of_another_kind_are_refused_by_name(
    tmp_path: Path, hdu: int, columns: dict[str, Any], match: str
) -> None:
    path = write_sdssv(tmp_path / "spec.fits")
    with fitsio.FITS(str(path)) as f:
        parts = [f[k].read() for k in (1, 2)]
    table = {name: parts[hdu - 1][name] for name in parts[hdu - 1].dtype.names}
    table.update(columns)
    path.unlink()
    with fitsio.FITS(str(path), "rw") as f:
        f.write(None)
        for number, part in enumerate(parts, start=1):
            if number == hdu:
                f.write(list(table.values()), names=list(table))
            else:
                f.write(part)
    with pytest.raises(SpectraError, match=rf"spec\.fits.*{match}"):
        open_spectra(path)


def test_things_of_another_plate_are_refused(tmp_path: Path) -> None:
    path = write_spplate(tmp_path, 2, plate=3656)
    with pytest.raises(SpectraError, match=r"spZbest-.*\[1\]: .*PLATE than 3655"):
        open_spectra(path)


def test_flux_of_sdss_that_is_not_per_wavelength_is_refused(tmp_path: Path) -> None:
    for number, unit in enumerate(("1E-17 erg/cm^2/s/Ang", "1.0E-17 erg/cm/s/Ang")):
        write = (write_spec, write_spspec)[number]
        with open_spectra(write(tmp_path / f"good-{number}.fits", BUNIT=unit)) as sound:
            assert sound.n == 1
        path = write(tmp_path / f"spec-{number}.fits", BUNIT="Jy")
        with pytest.raises(SpectraError, match=rf"spec-{number}\.fits\[.*is in Jy, "):
            open_spectra(path)
    path = write_spec(tmp_path / "spec.fits")
    with fitsio.FITS(str(path), "rw") as f:
        f[1].write_key("BUNIT", "electron")
    with pytest.raises(SpectraError, match=r"spec\.fits\[1\].*is in electron, "):
        open_spectra(path)


def test_things_of_a_plate_that_are_no_integers_are_refused(tmp_path: Path) -> None:
    path = write_spplate(tmp_path, 2)
    beside = tmp_path / "spZbest-3655-55240.fits"
    beside.unlink()
    with fitsio.FITS(str(beside), "rw") as f:
        f.write(None)
        f.write([np.arange(1, 3), np.array([1.5, 2.5])], names=["FIBERID", "THING_ID"])
    with pytest.raises(SpectraError, match=r"spZbest-.*\[1\]: .*float64"):
        open_spectra(path)


def test_all_spectra_of_boss_are_classified_in_one_command(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = reference / "boss"
    spectra = sorted(folder.glob("spec-*.fits"))
    assert len(spectra) == 80
    tables = ["cat_for_clustering_plate3655.fits.gz", "spAll-plate3655.fits"]
    names = [str(path) for path in (*spectra, *(folder / name for name in tables))]
    weights = str(reference / "quasarnp" / "test_weights.h5")
    arguments = ["classify", *names, "-m", weights, "--outdir", str(tmp_path / "out")]
    assert cli.main([*arguments, "--c-thresh", "0.8"]) == 0
    out, err = capsys.readouterr()
    *each, last = out.splitlines()
    assert len(each) == 80
    assert last.startswith("82 files, 80 rows, ")
    assert [line.split("/")[-1].split(":")[0] for line in err.splitlines()] == tables
    better = fitsio.read(folder / tables[0], ext=1, columns=["THING_ID", "Z"])
    redshifts = dict(
        zip(better["THING_ID"].tolist(), better["Z"].tolist(), strict=True)
    )
    quasars = found = good = 0
    for path in spectra:
        (truth,) = fitsio.read(path, ext=2, columns=["THING_ID", "CLASS", "Z"])
        (row,) = fitsio.read(tmp_path / "out" / f"qn-{path.stem}.fits", ext="QN")
        assert row["TARGETID"] == truth["THING_ID"]
        if str(truth["CLASS"].astype("U")).strip() != "QSO":
            continue
        z = redshifts.get(int(truth["THING_ID"]), float(truth["Z"]))
        quasars += 1
        found += row["IS_QSO_QN"]
        good += abs(row["Z_QN"] - z) / (1 + z) < 0.02
    assert quasars == 78
    assert found >= 76
    assert good >= 75
