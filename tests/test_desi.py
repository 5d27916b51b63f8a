"""Spectra of DESI as input for the network: coadds, exposures, and damaged files."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fitsio
import numpy as np
import pytest
from helpers import (
    Hdus,
    coadd_hdus,
    demand_unsigned,
    expected_input,
    fibermap_table,
    gzipped,
    join_arms,
    open_files,
    read_hdus,
    write_cframes,
    write_coadd,
    write_hdus,
    write_images_by_hand,
)

from qnp_xp import NoSpectraError, SpectraError
from qnp_xp.grids import linear_wave, wave
from qnp_xp.io import load_desi_coadd, load_desi_daily, load_desi_exposure
from qnp_xp.io.open import open_spectra

if TYPE_CHECKING:
    from conftest import ArrayBackend

NIGHT, EXPID = 20210205, "00075413"

# test_coadd.fits has one spectrum without a good pixel.
BAD_ROW = 11
GOOD_ROWS = [row for row in range(25) if row != BAD_ROW]


@pytest.fixture
def real(reference: Path) -> Path:
    return reference / "quasarnp" / "test_coadd.fits"


@pytest.fixture
def coadd(tmp_path: Path) -> Path:
    """Six spectra, the third of which has no good pixel."""
    hdus = coadd_hdus(6, mask="i4")
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][2] = 0
    return write_hdus(tmp_path / "coadd.fits", hdus)


def changed(tmp_path: Path, edit: Callable[[Hdus], Any], **options: Any) -> Path:
    """A coadd after an edit of its HDUs."""
    hdus = coadd_hdus(6, **options)
    edit(hdus)
    return write_hdus(tmp_path / "changed.fits", hdus)


# The numbers.


def test_a_real_coadd_gives_what_quasarnp_makes_of_it(
    real: Path, reference: Path
) -> None:
    x, w = load_desi_coadd(real)
    assert (x.dtype, x.shape) == (np.float64, (24, 443))
    assert w.dtype == np.int64
    np.testing.assert_array_equal(w, GOOD_ROWS)
    expected = np.load(reference / "quasarnp" / "coadd_x.npy")
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("linear", [False, True])
def test_a_real_coadd_gives_what_the_formulas_say(real: Path, linear: bool) -> None:
    expected, kept = expected_input(read_hdus(real), linear=linear)
    x, w = load_desi_coadd(real, out_grid=linear_wave if linear else None)
    np.testing.assert_array_equal(w, kept)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "name",
    [
        "coadd-4-80613-thru20210324.fits",
        "coadd-5-169-thru20210419.fits",
        "coadd-special-dark-27247.fits",
        "coadd-sv3-dark-26065.fits",
        "spectra-5-169-thru20210419.fits",
        "spectra-sv3-dark-26065.fits",
    ],
)
def test_files_of_desi_s_first_release_are_read(reference: Path, name: str) -> None:
    path = reference / "desi" / name
    expected, kept = expected_input(read_hdus(path))
    x, w = load_desi_coadd(path)
    np.testing.assert_array_equal(w, kept)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)


def test_tables_without_spectra_are_told_from_broken_files(reference: Path) -> None:
    path = reference / "desi" / "redrock-4-80613-thru20210324.fits"
    with pytest.raises(NoSpectraError, match=r"redrock-.*holds no spectra.*REDSHIFTS"):
        load_desi_coadd(path)


def test_a_grid_may_be_any_of_constant_spacing(coadd: Path) -> None:
    grid = 3800 + 20.0 * np.arange(100)
    x, w = load_desi_coadd(coadd, out_grid=grid)
    assert x.shape == (5, 100)
    np.testing.assert_array_equal(w, [0, 1, 3, 4, 5])
    same, _ = load_desi_coadd(coadd, None, grid.tolist())
    np.testing.assert_array_equal(x, same)


@pytest.mark.parametrize("rows", [None, []])
def test_a_grid_of_no_constant_spacing_is_refused(
    coadd: Path, rows: list[int] | None
) -> None:
    with pytest.raises(ValueError, match="constant spacing"):
        load_desi_coadd(coadd, rows, np.sqrt(np.linspace(1e7, 9e7, 443)))


def test_nothing_is_printed_or_logged_for_a_sound_file(
    coadd: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        load_desi_coadd(coadd)
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def _atol(backend: ArrayBackend) -> float:
    """How far normalised spectra may be from those of numpy."""
    return 1e-11 if backend.has_float64 else 2e-6


def test_input_of_every_library_is_that_of_numpy(
    backend: ArrayBackend, coadd: Path
) -> None:
    x, w = load_desi_coadd(coadd, rows=[5, 2, 1], **backend.resolve())
    host = backend.host(x, backend.widest)
    assert isinstance(w, np.ndarray)
    expected, kept = load_desi_coadd(coadd, rows=[5, 2, 1])
    np.testing.assert_array_equal(w, kept)
    np.testing.assert_allclose(host, expected, rtol=0, atol=_atol(backend))


def test_a_grid_and_rows_may_lie_on_the_device(
    backend: ArrayBackend, coadd: Path
) -> None:
    rows = backend.array([5, 1], "int64")
    grid = backend.array(linear_wave, "float64")
    x, _ = load_desi_coadd(coadd, rows, grid, **backend.resolve())
    expected, _ = load_desi_coadd(coadd, [5, 1], linear_wave)
    np.testing.assert_allclose(backend.host(x), expected, rtol=0, atol=1e-11)


def test_bits_do_not_depend_on_how_many_rows_are_read(tmp_path: Path) -> None:
    # More rows than are in memory at a time.
    path = write_coadd(tmp_path / "many.fits", 530, step=40.0)
    x, w = load_desi_coadd(path)
    np.testing.assert_array_equal(w, np.arange(530))
    rows = [529, 3, 513, 511, 512]
    part, w = load_desi_coadd(path, rows)
    np.testing.assert_array_equal(w, np.arange(5))
    np.testing.assert_array_equal(part, x[rows])


# Which rows.


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        ([True, False, True, True, False, True], [0, 2, 3, 5]),
        ([1, 0, 1, 1, 0, 1], [0, 2, 3, 5]),
        (np.array([1, 0, 1, 1, 0, 1], dtype=np.uint8), [0, 2, 3, 5]),
        (np.array([1, 0, 1, 1, 0, 1], dtype=np.int64), [0, 2, 3, 5]),
        ([0, 0, 0, 0, 0, 0], []),
        ([False] * 6, []),
        ([], []),
        ([4], [4]),
        ([1], [1]),
        ([0, 1], [0, 1]),
        ([1, 0], [1, 0]),
        ([5, 0, 3], [5, 0, 3]),
        ([5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1, 0]),
        ((3, 3, 1), [3, 3, 1]),
        ([-1, -6], [5, 0]),
        (np.array([4, 1], dtype=">i2"), [4, 1]),
    ],
)
def test_rows_are_a_mask_or_numbers_in_their_order(
    coadd: Path, rows: Any, chosen: list[int]
) -> None:
    everything, kept = load_desi_coadd(coadd)
    x, w = load_desi_coadd(coadd, rows)
    good = [place for place, row in enumerate(chosen) if row in kept]
    np.testing.assert_array_equal(w, good)
    expected = [kept.tolist().index(chosen[place]) for place in good]
    np.testing.assert_array_equal(x, everything[expected])
    assert (x.dtype, w.dtype) == (np.float64, np.int64)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([6], "rows has numbers from 6 to 6 of 6 rows"),
        ([0, -7], "rows has numbers from -7 to 0 of 6 rows"),
        ([0, 1, 2, 3, 4, 5, 6], "rows has numbers from 0 to 6"),
        ([True] * 5, "rows is a mask of length 5, and there are 6 rows"),
        ([True] * 7, "rows is a mask of length 7"),
        (np.ones((6, 1), dtype=bool), r"rows must have 1 dimension.*\(6, 1\)"),
        (3, r"rows must have 1 dimension.*\(\)"),
    ],
)
def test_rows_that_do_not_fit_are_refused(coadd: Path, rows: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_desi_coadd(coadd, rows)


@pytest.mark.parametrize("rows", [[0.0, 1.0], np.ones(6), ["1"], [None, 1]])
def test_rows_that_are_no_integers_are_refused(coadd: Path, rows: Any) -> None:
    with pytest.raises(TypeError, match="rows must be boolean or integer, got"):
        load_desi_coadd(coadd, rows)


@pytest.mark.parametrize(("n", "rows"), [(1, [0]), (2, [0, 1]), (2, [1, 0])])
def test_rows_that_could_be_mask_or_numbers_are_refused(
    tmp_path: Path, n: int, rows: list[int]
) -> None:
    path = write_coadd(tmp_path / "coadd.fits", n)
    with pytest.raises(ValueError, match=r"could be a mask or row numbers; pass a boo"):
        load_desi_coadd(path, rows)
    _, w = load_desi_coadd(path, np.array(rows, dtype=bool))
    assert w.size == sum(rows)


# Masks, arms and pixels that cannot be used.


@pytest.mark.parametrize("dtype", ["i2", "i4", "u4", "i8", "u1"])
def test_masked_pixels_count_for_nothing_where_that_is_asked_for(
    tmp_path: Path, dtype: str
) -> None:
    hdus = coadd_hdus(4, mask=dtype)
    path = write_hdus(tmp_path / "coadd.fits", hdus)
    plain, _ = expected_input(hdus)
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][hdus[f"{arm}_MASK"] != 0] = 0
    masked, _ = expected_input(hdus)
    x, _ = load_desi_coadd(path, use_mask=True)
    np.testing.assert_allclose(x, masked, rtol=0, atol=1e-10)
    x, _ = load_desi_coadd(path)
    np.testing.assert_allclose(x, plain, rtol=0, atol=1e-10)
    assert np.max(np.abs(plain - masked)) > 0.01


def test_a_mask_that_is_asked_for_and_missing_is_an_error(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda hdus: hdus.pop("R_MASK"), mask="i4")
    with pytest.raises(SpectraError, match=r"changed\.fits\[R_FLUX\]: has no mask"):
        load_desi_coadd(path, use_mask=True)
    load_desi_coadd(path)


@pytest.mark.parametrize(("arms", "missing"), [("BZ", "R"), ("R", "B, Z")])
def test_missing_arms_are_logged_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, arms: str, missing: str
) -> None:
    hdus = coadd_hdus(3, arms=arms)
    x, w = load_desi_coadd(write_hdus(tmp_path / "part.fits", hdus))
    expected, kept = expected_input(hdus)
    np.testing.assert_array_equal(w, kept)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"{tmp_path}/part.fits: no arm {missing}"


@pytest.mark.parametrize("fibermap", [True, False])
def test_a_file_without_any_arm_is_an_error(tmp_path: Path, fibermap: bool) -> None:
    hdus = {"SCORES": fibermap_table(3)}
    if fibermap:
        hdus["FIBERMAP"] = fibermap_table(3)
    path = write_hdus(tmp_path / "tables.fits", hdus)
    with pytest.raises(SpectraError, match=r"tables\.fits: holds no spectra.*SCORES"):
        load_desi_coadd(path)


def test_arms_coadded_together_are_one_arm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hdus = coadd_hdus(3)
    x, w = load_desi_coadd(write_hdus(tmp_path / "brz.fits", join_arms(hdus)))
    expected, kept = expected_input(hdus)
    np.testing.assert_array_equal(w, kept)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)
    assert not caplog.records


@pytest.mark.parametrize(("bands", "missing"), [("BR", "Z"), ("BZ", "R"), ("RZ", "B")])
def test_arms_coadded_together_are_named_for_those_that_there_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bands: str, missing: str
) -> None:
    hdus = coadd_hdus(3, arms=bands)
    joined = {
        f"{bands}_{part}": np.concatenate([hdus[f"{a}_{part}"] for a in bands], axis=-1)
        for part in ("WAVELENGTH", "FLUX", "IVAR")
    }
    x, w = load_desi_coadd(write_hdus(tmp_path / "two.fits", joined))
    expected, kept = expected_input(hdus)
    np.testing.assert_array_equal(w, kept)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path}/two.fits: no arm {missing}"


def test_the_fibermap_of_old_coadds_has_another_name(tmp_path: Path) -> None:
    hdus = coadd_hdus(3, objtype=["TGT", "SKY", "TGT"])
    old = {k.replace("FIBERMAP", "COADD_FIBERMAP"): v for k, v in hdus.items()}
    with open_spectra(write_hdus(tmp_path / "coadd.fits", old)) as source:
        expected = hdus["FIBERMAP"]["TARGETID"]
        np.testing.assert_array_equal(source.identifiers["TARGETID"], expected)
        assert source.target is not None
        assert source.target.tolist() == [True, False, True]
        assert source.columns(["FIBER"])["FIBER"].tolist() == [0, 1, 2]
    both = {**hdus, "COADD_FIBERMAP": fibermap_table(3)}
    both["COADD_FIBERMAP"]["TARGETID"] += 100
    with open_spectra(write_hdus(tmp_path / "both.fits", both)) as source:
        np.testing.assert_array_equal(source.identifiers["TARGETID"], expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("flux", "ivar"),
    [
        (np.nan, 0),
        (np.nan, 1),
        (np.inf, 1),
        (-np.inf, 0),
        (1, np.nan),
        (1, np.inf),
        (1, -1),
        (np.nan, np.nan),
    ],
)
def test_impossible_pixels_count_for_nothing(
    tmp_path: Path, flux: float, ivar: float, dtype: str
) -> None:
    hdus = coadd_hdus(3, dtype=dtype)
    hdus["R_FLUX"][1, 50:60] = flux
    hdus["R_IVAR"][1, 50:60] = ivar
    x, w = load_desi_coadd(write_hdus(tmp_path / "coadd.fits", hdus))
    hdus["R_FLUX"][1, 50:60] = 0
    hdus["R_IVAR"][1, 50:60] = 0
    expected, _ = expected_input(hdus)
    np.testing.assert_array_equal(w, [0, 1, 2])
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)


def test_constant_spectra_are_dropped(tmp_path: Path) -> None:
    def edit(hdus: Hdus) -> None:
        for arm in "BRZ":
            hdus[f"{arm}_FLUX"][3] = 7
            hdus[f"{arm}_FLUX"][4] = 0

    x, w = load_desi_coadd(changed(tmp_path, edit))
    np.testing.assert_array_equal(w, [0, 1, 2, 5])
    assert np.all(np.isfinite(x))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_without_rows_gives_arrays_without_rows(
    tmp_path: Path, suffix: str
) -> None:
    hdus = coadd_hdus(0, fibermap=False)
    path = write_images_by_hand(tmp_path / "empty.fits", hdus)
    if suffix:
        path = gzipped(path)
    for rows in (None, []):
        x, w = load_desi_coadd(path, rows)
        assert (x.shape, w.shape) == ((0, 443), (0,))
        assert (x.dtype, w.dtype) == (np.float64, np.int64)


# How the numbers are stored.


def test_gzip_gives_the_bits_of_the_plain_file(coadd: Path) -> None:
    packed = gzipped(coadd)
    for options in ({}, {"rows": [5, 1, 0]}, {"use_mask": True}):
        x, w = load_desi_coadd(coadd, **options)
        other, other_w = load_desi_coadd(packed, **options)
        np.testing.assert_array_equal(x, other)
        np.testing.assert_array_equal(w, other_w)


@pytest.mark.parametrize("missing", ["isal", "memfd_create"])
def test_gzip_is_unpacked_by_python_and_into_a_file_where_that_is_all_there_is(
    coadd: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = load_desi_coadd(coadd)
    if missing == "isal":
        monkeypatch.setitem(sys.modules, "isal", None)
    else:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    data, _ = load_desi_coadd(gzipped(coadd))
    np.testing.assert_array_equal(data, expected)


def test_gzip_is_told_by_its_bytes_and_not_by_the_name(coadd: Path) -> None:
    packed = gzipped(coadd).rename(coadd.with_name("packed.fits"))
    x, _ = load_desi_coadd(coadd)
    other, _ = load_desi_coadd(packed)
    np.testing.assert_array_equal(x, other)


@pytest.mark.parametrize("dtype", ["f8", "i2", "i4", "i8", "u1"])
def test_images_of_any_type_are_read(tmp_path: Path, dtype: str) -> None:
    hdus = coadd_hdus(3)
    for arm in "BRZ":
        flux = np.clip(np.round(100 + 5 * hdus[f"{arm}_FLUX"]), 0, 255)
        hdus[f"{arm}_FLUX"] = flux.astype(dtype)
    expected, _ = expected_input(hdus)
    path = write_hdus(tmp_path / "coadd.fits", hdus)
    for name in (path, gzipped(path)):
        x, _ = load_desi_coadd(name)
        np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)


@pytest.fixture
def scaled(tmp_path: Path) -> tuple[Path, Hdus]:
    """A coadd whose b flux is stored in hundredths, and what it stands for."""
    hdus = coadd_hdus(3)
    hundredths = np.round(hdus["B_FLUX"] * 100).astype("i2")
    path = write_hdus(tmp_path / "scaled.fits", {**hdus, "B_FLUX": hundredths})
    with fitsio.FITS(str(path), "rw") as f:
        f["B_FLUX"].write_key("BSCALE", 0.01)
        f["B_FLUX"].write_key("BZERO", 3.0)
    hdus["B_FLUX"] = 3 + hundredths * 0.01
    return path, hdus


def test_scaled_integers_are_scaled(scaled: tuple[Path, Hdus]) -> None:
    path, hdus = scaled
    expected, _ = expected_input(hdus)
    for rows in (None, [2, 0]):
        x, _ = load_desi_coadd(path, rows)
        chosen = slice(None) if rows is None else rows
        # The scaled numbers may come in float32.
        np.testing.assert_allclose(x, expected[chosen], rtol=0, atol=1e-5)


def test_blank_integers_are_refused(scaled: tuple[Path, Hdus]) -> None:
    path, _ = scaled
    with fitsio.FITS(str(path), "rw") as f:
        f["B_FLUX"].write_key("BLANK", 7)
    with pytest.raises(SpectraError, match=r"scaled\.fits\[B_FLUX\]: .*BLANK"):
        load_desi_coadd(path)


@pytest.mark.parametrize("method", ["gzip", "gzip_2"])
def test_compressed_images_give_the_bits_of_plain_ones(
    tmp_path: Path, method: str
) -> None:
    hdus = coadd_hdus(6)
    plain = write_hdus(tmp_path / "plain.fits", hdus)
    tiled = write_hdus(tmp_path / "tiled.fits", hdus, compress=method, qlevel=None)
    assert tiled.read_bytes() != plain.read_bytes()
    with fitsio.FITS(str(tiled)) as f:
        assert f["B_FLUX"].is_compressed()
    for rows in (None, [4, 0, 1]):
        x, w = load_desi_coadd(plain, rows)
        other, other_w = load_desi_coadd(tiled, rows)
        np.testing.assert_array_equal(x, other)
        np.testing.assert_array_equal(w, other_w)


def test_names_of_hdus_may_be_lower_case_and_in_another_order(tmp_path: Path) -> None:
    hdus = coadd_hdus(3)
    shuffled = {name.lower(): hdus[name] for name in sorted(hdus)}
    x, _ = load_desi_coadd(write_hdus(tmp_path / "lower.fits", shuffled))
    expected, _ = expected_input(hdus)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)


# Files that are damaged, or contradict themselves.


def test_a_missing_file_is_the_usual_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.fits"):
        load_desi_coadd(tmp_path / "absent.fits")


def test_a_folder_is_the_usual_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        load_desi_coadd(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"S",
        b"hello\n" * 1000,
        b"\x89HDF\r\n\x1a\n" + bytes(5000),
        b"\x1f\x8b" + bytes(5000),
        bytes(5760),
        gzip.compress(b"hello\n" * 1000, mtime=0),
    ],
)
@pytest.mark.parametrize("name", ["coadd.fits", "coadd.fits.gz"])
def test_a_file_that_is_no_fits_is_refused(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SpectraError, match=rf"{name}: not a FITS file") as caught:
        load_desi_coadd(path)
    assert str(path) in str(caught.value)


#: Columns of a FIBERMAP of three rows, and what is said of them.
ODD_COLUMNS = {
    "float": ("TARGETID", np.full(3, 39627.0), r"float64 .*integers"),
    "text": ("TARGETID", np.array([b"39627"] * 3), r"texts .*integers"),
    "pairs": ("TARGETID", np.zeros((3, 2), "i8"), r"\(3, 2\).*3 integers"),
    "beyond": ("TARGETID", np.full(3, 2**63, "u8"), "none of int64"),
    "coordinate": ("TARGET_RA", np.array([b"12h"] * 3), r"texts .*numbers"),
    "coordinates": ("TARGET_DEC", np.zeros((3, 2)), r"\(3, 2\).*numbers"),
    "types": ("OBJTYPE", np.array([[b"TGT", b"SKY"]] * 3), r"\(3, 2\).*texts"),
    "numbers": ("OBJTYPE", np.zeros(3, "i4"), r"int32.*texts"),
}


def with_column(path: Path, column: str, values: Any) -> Path:
    """A coadd of three spectra with a column of another kind in its FIBERMAP."""
    hdus = coadd_hdus(3)
    table = hdus.pop("FIBERMAP")
    columns = {name: table[name] for name in table.dtype.names}
    columns[column] = values
    write_hdus(path, hdus)
    with fitsio.FITS(str(path), "rw") as f:
        f.write(list(columns.values()), names=list(columns), extname="FIBERMAP")
    return path


@pytest.mark.parametrize(
    ("column", "values", "match"), ODD_COLUMNS.values(), ids=[*ODD_COLUMNS]
)
def test_columns_of_the_fibermap_of_another_kind_are_refused_by_name(
    tmp_path: Path, column: str, values: Any, match: str
) -> None:
    if values.dtype == np.uint64:
        demand_unsigned()
    path = with_column(tmp_path / "odd.fits", column, values)
    with pytest.raises(
        SpectraError, match=rf"odd\.fits\[FIBERMAP\]: .*{column}.*{match}"
    ):
        open_spectra(path)


@pytest.mark.parametrize("dtype", ["u8", "i4", "i2"])
def test_targetids_of_any_integer_type_are_those_of_64_bits(
    tmp_path: Path, dtype: str
) -> None:
    if dtype == "u8":
        demand_unsigned()
    targets = np.array([3, 1, 2]) + (39633140000000000 if dtype == "u8" else 0)
    path = with_column(tmp_path / "coadd.fits", "TARGETID", targets.astype(dtype))
    with open_spectra(path) as source:
        found = source.identifiers["TARGETID"]
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, targets)


#: HDUs that tell what pipelines write beside spectra, and what they may not be.
PRODUCTS = {
    "rrmodel": ["B_WAVELENGTH", "B_MODEL"],
    "two-arm rrmodel": ["BR_WAVELENGTH", "BR_MODEL"],
    "fastspec": ["FASTSPEC", "MODELS"],
    "sky": ["SKY", "IVAR", "WAVELENGTH"],
    "fluxcalib": ["FLUXCALIB", "IVAR", "WAVELENGTH"],
    "stdstars": ["FLUX", "WAVELENGTH", "COEFF"],
    "psf": ["XTRACE", "YTRACE"],
}


@pytest.mark.parametrize("hdus", PRODUCTS.values(), ids=[*PRODUCTS])
def test_images_that_lie_beside_spectra_are_told_from_broken_files(
    tmp_path: Path, hdus: list[str]
) -> None:
    path = write_hdus(tmp_path / "product.fits", {h: np.zeros((2, 3)) for h in hdus})
    with pytest.raises(NoSpectraError, match=rf"product\.fits.*{hdus[-1]}"):
        open_spectra(path)
    path = write_hdus(tmp_path / "broken.fits", {"B_WAVELENGTH": np.zeros(3)})
    with pytest.raises(SpectraError, match=r"broken\.fits.*B_WAVELENGTH") as caught:
        open_spectra(path)
    assert not isinstance(caught.value, NoSpectraError)


def refusal(path: Path) -> str:
    """What is said of a file; nothing where it is taken."""
    try:
        load_desi_coadd(path)
    except SpectraError as err:
        return str(err)
    return ""


def places(path: Path, key: str) -> dict[str, int]:
    """Where something of each HDU is in a file."""
    with fitsio.FITS(str(path)) as f:
        return {hdu.get_extname(): int(hdu.get_offsets()[key]) for hdu in f}


def test_a_file_cut_short_within_an_hdu_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    hdus = coadd_hdus(3, step=16.0, mask="i4")
    whole = write_hdus(tmp_path / "whole.fits", hdus)
    content = whole.read_bytes()
    path = tmp_path / "cut.fits"
    # What is lost at the very end may be the zeros that fill up the last block.
    end = places(whole, "data_start")["Z_MASK"] + hdus["Z_MASK"].nbytes
    cuts = {*range(1, end, 480), *places(whole, "data_start").values()}
    # At these the file is a sound one without its last HDUs.
    cuts -= {0, *places(whole, "data_end").values()}
    taken = []
    for length in sorted(cuts):
        path.write_bytes(content[:length])
        if str(path) not in refusal(path):
            taken.append(length)
    assert taken == []


def test_a_file_cut_short_within_its_numbers_is_refused(tmp_path: Path) -> None:
    hdus = coadd_hdus(3)
    whole = write_hdus(tmp_path / "whole.fits", hdus)
    content = whole.read_bytes()
    path = tmp_path / "cut.fits"
    for name in ("B_FLUX", "R_IVAR", "Z_FLUX", "Z_IVAR"):
        start = places(whole, "data_start")[name]
        for length in range(start, start + hdus[name].nbytes, 997):
            path.write_bytes(content[:length])
            with pytest.raises(SpectraError, match=r"cut\.fits"):
                load_desi_coadd(path)


def test_a_file_that_is_cut_short_while_it_is_open_is_refused(coadd: Path) -> None:
    with open_spectra(coadd) as source:
        os.truncate(coadd, 20000)
        with pytest.raises(SpectraError, match=r"coadd\.fits\[B_FLUX\]: the file ends"):
            list(source.read(np.arange(source.n)))


def test_a_gzipped_file_cut_short_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    content = gzipped(write_coadd(tmp_path / "whole.fits", 3, step=16.0)).read_bytes()
    path = tmp_path / "cut.fits.gz"
    taken = []
    for length in range(2, len(content), 101):
        path.write_bytes(content[:length])
        if str(path) not in refusal(path):
            taken.append(length)
    assert taken == []


def shorten(name: str, axis: int) -> Callable[[Hdus], None]:
    def edit(hdus: Hdus) -> None:
        cut = [slice(None), slice(None)][: hdus[name].ndim]
        cut[axis] = slice(0, -1)
        hdus[name] = np.ascontiguousarray(hdus[name][tuple(cut)])

    return edit


def set_wavelength(value: float) -> Callable[[Hdus], None]:
    def edit(hdus: Hdus) -> None:
        hdus["R_WAVELENGTH"][7] = value

    return edit


def three_dimensions(hdus: Hdus) -> None:
    hdus["Z_FLUX"] = hdus["Z_FLUX"][:, None, :]


def one_dimension(hdus: Hdus) -> None:
    hdus["Z_FLUX"] = hdus["Z_FLUX"][0]


def arm_of_five(hdus: Hdus) -> None:
    for part in ("FLUX", "IVAR", "MASK"):
        hdus[f"R_{part}"] = hdus[f"R_{part}"][:5]


def table_for_an_image(hdus: Hdus) -> None:
    hdus["B_IVAR"] = fibermap_table(6)


def image_for_a_table(hdus: Hdus) -> None:
    hdus["FIBERMAP"] = hdus["B_FLUX"]


def fibermap_of_five(hdus: Hdus) -> None:
    hdus["FIBERMAP"] = fibermap_table(5)


CONTRADICTIONS: dict[str, tuple[Callable[[Hdus], Any], str]] = {
    "no ivar": (lambda h: h.pop("B_IVAR"), r"changed\.fits: has no HDU B_IVAR"),
    "no wavelength": (lambda h: h.pop("Z_WAVELENGTH"), "has no HDU Z_WAVELENGTH"),
    "rows of ivar": (
        shorten("B_IVAR", 0),
        r"changed\.fits\[B_IVAR\]: has shape \(5, 551\), and the flux \(6, 551\)",
    ),
    "columns of ivar": (shorten("Z_IVAR", 1), r"\[Z_IVAR\]: has shape \(6, 576\)"),
    "columns of mask": (shorten("R_MASK", 1), r"\[R_MASK\]: has shape \(6, 465\)"),
    "wavelengths": (shorten("R_WAVELENGTH", 0), r"\[R_WAVELENGTH\]: \(465,\) wave"),
    "NaN wavelength": (set_wavelength(np.nan), r"\[R_WAVELENGTH\]: wavelengths"),
    "infinite wavelength": (set_wavelength(np.inf), r"\[R_WAVELENGTH\]: wavelengths"),
    "negative wavelength": (set_wavelength(-1), r"\[R_WAVELENGTH\]: wavelengths"),
    "flux of 3 dimensions": (three_dimensions, r"\[Z_FLUX\]: needs 2 dimensions"),
    "flux of 1 dimension": (one_dimension, r"\[Z_FLUX\]: needs 2 dimensions"),
    "rows of an arm": (arm_of_five, r"\[R_FLUX\]: has 5 spectra, and arm B has 6"),
    "table for an image": (table_for_an_image, r"\[B_IVAR\]: an image is expected"),
    "image for a table": (image_for_a_table, r"\[FIBERMAP\]: a table is expected"),
    "rows of the fibermap": (
        fibermap_of_five,
        r"\[FIBERMAP\]: has 5 rows for 6 spectra",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_errors_that_name_file_and_hdu(
    tmp_path: Path, case: str
) -> None:
    edit, match = CONTRADICTIONS[case]
    path = changed(tmp_path, edit, mask="i4")
    with pytest.raises(SpectraError, match=match) as caught:
        load_desi_coadd(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("co add.fits", "coadd{1}.fits", "é.fits", "coadd[1].fits", "coadd(1).fits"),
        *("[1]/coadd.fits", "coadd.fits+1", "+1", " coadd.fits ", "coadd.fits.gz"),
        *("!coadd.fits", "~coadd.fits", "$HOME", "-", "stdin", "mem:", "shmem:h1"),
    ],
)
def test_names_are_nothing_but_names(
    coadd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    shutil.copyfile(coadd, name)
    x, _ = load_desi_coadd(name)
    expected, _ = load_desi_coadd(coadd)
    np.testing.assert_array_equal(x, expected)


# Exposures.


@pytest.fixture
def nights(real: Path, tmp_path: Path) -> Path:
    """A folder of nights, with petal 3 of one exposure: the real coadd, arm by arm."""
    root = tmp_path / "daily" / "exposures"
    write_cframes(
        root / str(NIGHT), read_hdus(real), expid=EXPID, spec_number=3, compressed="R"
    )
    names = {path.name for path in (root / str(NIGHT) / EXPID).iterdir()}
    assert names == {
        f"cframe-b3-{EXPID}.fits",
        f"cframe-r3-{EXPID}.fits.gz",
        f"cframe-z3-{EXPID}.fits",
    }
    return root


@pytest.fixture
def exposure(nights: Path) -> Path:
    return nights / str(NIGHT) / EXPID


@pytest.mark.parametrize("grid", [None, linear_wave, wave])
def test_an_exposure_gives_the_bits_of_the_coadd(
    real: Path, nights: Path, exposure: Path, grid: np.ndarray | None
) -> None:
    expected, kept = load_desi_coadd(real, out_grid=grid)
    for x, w in (
        load_desi_exposure(exposure, 3, out_grid=grid),
        load_desi_exposure(str(exposure), 3, None, grid),
        load_desi_daily(NIGHT, int(EXPID), 3, out_grid=grid, root=nights),
        load_desi_daily(str(NIGHT), EXPID, 3, None, grid, str(nights)),
    ):
        np.testing.assert_array_equal(x, expected)
        np.testing.assert_array_equal(w, kept)


@pytest.mark.parametrize("exp_id", [int(EXPID), str(int(EXPID)), EXPID])
@pytest.mark.parametrize("night", [NIGHT, str(NIGHT)])
def test_nights_and_exposures_may_be_numbers_or_text(
    nights: Path, night: int | str, exp_id: int | str
) -> None:
    _, w = load_desi_daily(night, exp_id, 3, fibers=[3, 11, 4], root=nights)
    np.testing.assert_array_equal(w, [0, 2])


def test_daily_reductions_are_found_by_the_environment(
    nights: Path, exposure: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESI_SPECTRO_REDUX", str(nights.parents[1]))
    x, w = load_desi_daily(NIGHT, EXPID, 3)
    expected, kept = load_desi_exposure(exposure, 3)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(w, kept)


def test_without_the_environment_the_place_at_nersc_is_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DESI_SPECTRO_REDUX", raising=False)
    match = f"/global/cfs/cdirs/desi/spectro/redux/daily/exposures/{NIGHT}/{EXPID}"
    with pytest.raises(FileNotFoundError, match=match):
        load_desi_daily(NIGHT, EXPID, 0)


def test_fibers_are_selected_as_rows_are(real: Path, exposure: Path) -> None:
    mask = np.zeros(25, dtype=int)
    mask[[4, 11, 20]] = 1
    for fibers, rows in (
        (mask, [4, 11, 20]),
        (mask == 1, [4, 11, 20]),
        ([20, 4], [20, 4]),
        ([-1], [24]),
    ):
        x, w = load_desi_exposure(exposure, 3, fibers)
        expected, kept = load_desi_coadd(real, rows)
        np.testing.assert_array_equal(x, expected)
        np.testing.assert_array_equal(w, kept)
    with pytest.raises(ValueError, match="fibers is a mask of length 500"):
        load_desi_exposure(exposure, 3, np.ones(500, dtype=bool))
    with pytest.raises(TypeError, match="fibers must be boolean or integer"):
        load_desi_exposure(exposure, 3, np.ones(25))


def test_exposures_go_to_every_library(
    backend: ArrayBackend, nights: Path, exposure: Path
) -> None:
    expected, kept = load_desi_exposure(exposure, 3, [20, 11, 4])
    for x, w in (
        load_desi_exposure(exposure, 3, [20, 11, 4], **backend.resolve()),
        load_desi_daily(
            NIGHT, EXPID, 3, [20, 11, 4], None, nights, **backend.resolve()
        ),
    ):
        host = backend.host(x, backend.widest)
        np.testing.assert_allclose(host, expected, rtol=0, atol=_atol(backend))
        np.testing.assert_array_equal(w, kept)


def test_masks_of_exposures_are_used(tmp_path: Path) -> None:
    hdus = coadd_hdus(4, mask="i4")
    folder = write_cframes(tmp_path, hdus, spec_number=0)
    path = write_hdus(tmp_path / "coadd.fits", hdus)
    x, _ = load_desi_exposure(folder, 0, use_mask=True)
    expected, _ = load_desi_coadd(path, use_mask=True)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("name", "cards", "match"),
    [
        ("results.fits", {}, "CAMERA=''"),
        ("cframe-r0-00000001.fits", {"CAMERA": "blue"}, "CAMERA='blue'"),
        ("cframe-r0-00000001.fits", {"INSTRUME": "PFS"}, "INSTRUME='PFS'"),
        ("cframe-r0-00000001.fits", {"TELESCOP": "WHT"}, "TELESCOP='WHT'"),
    ],
    ids=["name", "camera", "instrument", "telescope"],
)
def test_an_arm_of_another_instrument_is_no_cframe(
    tmp_path: Path, name: str, cards: dict[str, str], match: str
) -> None:
    hdus = {k[2:]: v for k, v in coadd_hdus(2, arms="R").items() if k[:2] == "R_"}
    path = write_hdus(tmp_path / name, hdus)
    with fitsio.FITS(str(path), "rw") as f:
        for key, value in cards.items():
            f["FLUX"].write_key(key, value)
    with pytest.raises(SpectraError, match=rf"{name}\[FLUX\]: {match}"):
        open_spectra(path)


def test_a_cframe_is_read_by_its_camera_or_its_name(tmp_path: Path) -> None:
    hdus = {k[2:]: v for k, v in coadd_hdus(2, arms="R").items() if k[:2] == "R_"}
    renamed = write_hdus(tmp_path / "other.fits", hdus)
    with fitsio.FITS(str(renamed), "rw") as f:
        f["FLUX"].write_key("CAMERA", "r0")
        f["FLUX"].write_key("TELESCOP", "KPNO 4.0-m telescope")
    for path in (renamed, write_hdus(tmp_path / "cframe-r0-00000001.fits", hdus)):
        with open_spectra(path) as source:
            assert [arm.name for arm in source.arms] == ["R"]


def test_a_missing_arm_of_an_exposure_is_logged_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hdus = coadd_hdus(3)
    folder = write_cframes(tmp_path, hdus, arms="BZ", spec_number=9)
    x, _ = load_desi_exposure(folder, 9)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    name = folder / f"cframe-[bz]9-{folder.name}.fits"
    assert record.getMessage() == f"{name}: no arm R"
    expected, _ = expected_input(coadd_hdus(3, arms="BZ"))
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-10)


def test_an_exposure_without_any_arm_is_a_missing_file(exposure: Path) -> None:
    match = rf"{EXPID}: no cframe-\[brz\]4-{EXPID}"
    with pytest.raises(FileNotFoundError, match=match):
        load_desi_exposure(exposure, 4)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_desi_exposure(exposure / "nowhere", 3)


@pytest.mark.parametrize("spec_number", [-1, 10, 3.5, "3", None])
def test_spectrographs_that_desi_has_not_are_refused(
    exposure: Path, nights: Path, spec_number: Any
) -> None:
    match = r"spec_number must be 0 to 9, got"
    with pytest.raises(ValueError, match=match):
        load_desi_exposure(exposure, spec_number)
    with pytest.raises(ValueError, match=match):
        load_desi_daily(NIGHT, EXPID, spec_number, root=nights)


def test_the_folder_of_an_exposure_may_be_the_current_one(
    exposure: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(exposure)
    x, _ = load_desi_exposure(".", 3)
    np.testing.assert_array_equal(x, load_desi_exposure(exposure, 3)[0])


def test_arms_of_an_exposure_that_contradict_each_other_are_refused(
    tmp_path: Path,
) -> None:
    folder = write_cframes(tmp_path, coadd_hdus(6), arms="BZ")
    write_cframes(tmp_path, coadd_hdus(5), arms="R")
    match = r"cframe-r0-.*\[FLUX\]: has 5 spectra, and arm B has 6"
    with pytest.raises(SpectraError, match=match):
        load_desi_exposure(folder, 0)


def test_a_damaged_arm_of_an_exposure_is_refused(exposure: Path) -> None:
    path = exposure / f"cframe-z3-{EXPID}.fits"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(SpectraError, match=rf"cframe-z3-{EXPID}\.fits"):
        load_desi_exposure(exposure, 3)


# Whether files are closed again.


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="needs Linux' /proc/self/fd"
)


@needs_proc
def test_files_are_closed_after_reading(
    coadd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cframes(tmp_path, coadd_hdus(3), compressed="B")
    packed = gzipped(coadd)
    load_desi_coadd(coadd)
    load_desi_coadd(packed)
    load_desi_exposure(folder, 0)
    assert open_files(tmp_path) == []

    # The check sees a file that is left open.
    with coadd.open("rb"):
        assert open_files(tmp_path) == [str(coadd)]


@needs_proc
def test_files_are_closed_after_errors(coadd: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of 6 rows"):
        load_desi_coadd(coadd, [99])
    with pytest.raises(ValueError, match="constant spacing"):
        load_desi_coadd(coadd, out_grid=[1.0, 2.0, 4.0, 9.0])
    path = changed(tmp_path, fibermap_of_five)
    with pytest.raises(SpectraError, match="FIBERMAP"):
        load_desi_coadd(path)
    path = changed(tmp_path, lambda hdus: hdus.pop("B_IVAR"))
    with pytest.raises(SpectraError, match="B_IVAR"):
        load_desi_coadd(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SpectraError, match=r"changed\.fits"):
        load_desi_coadd(path)
    folder = write_cframes(tmp_path, coadd_hdus(6), arms="BZ")
    write_cframes(tmp_path, coadd_hdus(5), arms="R")
    with pytest.raises(SpectraError, match="5 spectra"):
        load_desi_exposure(folder, 0)
    assert open_files(tmp_path) == []
