"""Spectra from memory: arrays of every library, specutils and sparclclient."""

from __future__ import annotations

import collections
import runpy
import sys
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import (
    ARMS,
    TARGETID,
    Hdus,
    coadd_hdus,
    fibermap_table,
    quantity,
    write_hdus,
)
from numpy.typing import NDArray

from qnp_xp import SpectraError, Status, classify, load_model
from qnp_xp._classify import classify_source
from qnp_xp._options import Options
from qnp_xp.io.memory import open_arrays
from qnp_xp.model import QuasarNP

if TYPE_CHECKING:
    from conftest import ArrayBackend

N = 5
RESULTS = ["IS_QSO_QN", "Z_QN", "Z_QN_CONF", "C_LYA", "Z_CIV", "QN_STATUS"]


@pytest.fixture
def hdus() -> Hdus:
    return coadd_hdus(N)


@pytest.fixture
def table(hdus: Hdus, tmp_path: Path, model: QuasarNP) -> NDArray[Any]:
    """What the same spectra give as a file."""
    return classify(write_hdus(tmp_path / "coadd.fits", hdus), model)


def arm(hdus: Hdus, name: str) -> tuple[Any, Any, Any]:
    return tuple(hdus[f"{name}_{part}"] for part in ("WAVELENGTH", "FLUX", "IVAR"))


def arms(hdus: Hdus) -> list[tuple[Any, Any, Any]]:
    return [arm(hdus, name) for name in ARMS]


def joined(hdus: Hdus) -> tuple[Any, Any, Any]:
    return tuple(
        np.concatenate(parts, axis=-1) for parts in zip(*arms(hdus), strict=True)
    )


def assert_same(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """The same results to the bit, whatever the identifiers are."""
    assert found.shape == expected.shape
    for name in RESULTS:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def assert_close(found: NDArray[Any], expected: NDArray[Any]) -> None:
    assert found.shape == expected.shape
    for name in RESULTS:
        wanted = expected[name]
        np.testing.assert_allclose(found[name], wanted, rtol=3e-6, atol=3e-6)


# Arrays.


def test_arms_give_the_bits_of_the_file(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any]
) -> None:
    found = classify(arms(hdus), model)
    assert_same(found, table)
    assert found["TARGETID"].tolist() == [-1] * N
    assert_same(classify(tuple(arms(hdus)), model), table)


def test_arrays_of_every_library_are_taken(
    hdus: Hdus, weights: Path, table: NDArray[Any], backend: ArrayBackend
) -> None:
    spectra = [
        (w, backend.array(flux), backend.array(ivar)) for w, flux, ivar in arms(hdus)
    ]
    # By a network on the host, and by one where the arrays are.
    assert_same(classify(spectra, load_model(weights)), table)
    assert_close(classify(spectra, load_model(weights, **backend.resolve())), table)
    wave, flux, ivar = joined(hdus)
    whole = (backend.array(wave), backend.array(flux), backend.array(ivar))
    assert_close(classify(whole, load_model(weights)), table)


def test_rows_of_arrays_can_be_chosen_in_any_order(
    hdus: Hdus, weights: Path, table: NDArray[Any], backend: ArrayBackend
) -> None:
    spectra = [tuple(map(backend.array, one)) for one in arms(hdus)]
    model = load_model(weights)
    for rows in ([3, 0], [1, 2, 3], [4], []):
        assert_same(classify(spectra, model, rows=rows), table[rows])


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f8", ">i4"])
def test_arrays_may_be_of_any_byte_order_and_real_dtype(
    hdus: Hdus, model: QuasarNP, dtype: str
) -> None:
    wave, flux, ivar = joined(hdus)
    flux, ivar = np.round(flux * 100), np.round(ivar * 100)
    expected = classify((wave, flux.astype("f8"), ivar.astype("f8")), model)
    spectra = (wave.astype(">f8"), flux.astype(dtype), ivar.astype(dtype))
    assert_same(classify(spectra, model), expected)


def test_arrays_need_not_be_contiguous_or_writeable(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any]
) -> None:
    spectra = []
    for wave, flux, ivar in arms(hdus):
        columns = np.asfortranarray(flux)
        columns.setflags(write=False)
        strided = np.repeat(ivar, 2, axis=1)[:, ::2]
        spectra.append((np.repeat(wave, 3)[::3], columns, strided))
    assert_same(classify(spectra, model), table)


def test_lists_of_numbers_are_arrays(hdus: Hdus, model: QuasarNP) -> None:
    wave, flux, ivar = joined(hdus)
    expected = classify((wave, flux, ivar), model)
    lists = (wave.tolist(), flux.astype("f8").tolist(), ivar.astype("f8").tolist())
    assert_close(classify(lists, model), expected)


def test_one_spectrum_needs_no_second_dimension(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any]
) -> None:
    spectra = [(wave, flux[2], ivar[2]) for wave, flux, ivar in arms(hdus)]
    assert_same(classify(spectra, model), table[2:3])
    wave, flux, ivar = joined(hdus)
    one = classify((wave, flux[2], ivar[2]), model)
    assert_close(one, table[2:3])


def test_each_spectrum_may_have_wavelengths_of_its_own(
    hdus: Hdus, weights: Path, backend: ArrayBackend
) -> None:
    wave, flux, ivar = joined(hdus)
    model = load_model(weights, **backend.resolve())
    shifted = np.stack([wave + 3 * (row % 3) for row in range(N)])
    shifted[4] = shifted[4][::-1]  # in any order
    flux[4], ivar[4] = flux[4][::-1].copy(), ivar[4][::-1].copy()
    found = classify((shifted, backend.array(flux), backend.array(ivar)), model)
    alone = [
        classify((shifted[row], flux[row], ivar[row]), load_model(weights))
        for row in range(N)
    ]
    assert_close(found, np.concatenate(alone))
    same = classify((np.tile(wave, (N, 1)), flux, ivar), load_model(weights))
    assert_same(same, classify((wave, flux, ivar), load_model(weights)))


def test_wavelengths_of_their_own_and_shared_ones_can_be_mixed(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any]
) -> None:
    spectra = arms(hdus)
    wave, flux, ivar = spectra[1]
    spectra[1] = (np.tile(wave, (N, 1)), flux, ivar)
    assert_close(classify(spectra, model), table)


def test_pixels_that_a_masked_array_hides_have_no_weight(
    hdus: Hdus, model: QuasarNP
) -> None:
    wave, flux, ivar = joined(hdus)
    hidden = np.zeros(flux.shape, dtype=bool)
    hidden[:, 200:300] = True
    expected = classify((wave, flux, np.where(hidden, 0, ivar)), model)
    for masked in (
        (wave, np.ma.array(flux, mask=hidden), ivar),
        (wave, flux, np.ma.array(ivar, mask=hidden)),
    ):
        assert_same(classify(masked, model), expected)


def test_bad_spectra_of_arrays_have_their_status(hdus: Hdus, model: QuasarNP) -> None:
    wave, flux, ivar = joined(hdus)
    ivar[0] = 0
    flux[1] = 3.0
    flux[2, 5] = np.nan
    ivar[3, 5] = -1
    status = classify((wave, flux, ivar), model)["QN_STATUS"].tolist()
    cleaned = int(Status.PIXELS_CLEANED)
    assert status == [Status.NO_GOOD_PIXEL, Status.ZERO_VARIANCE, cleaned, cleaned, 0]


def test_wavelengths_that_a_masked_array_hides_have_no_weight(
    hdus: Hdus, model: QuasarNP
) -> None:
    wave, flux, ivar = joined(hdus)
    hidden = np.arange(wave.size) % 7 == 3
    bad = np.ma.array(np.where(hidden, np.nan, wave), mask=hidden)
    found = classify((bad, flux, ivar), model)
    assert_same(found, classify((wave, flux, np.where(hidden, 0, ivar)), model))
    nothing = classify((np.ma.array(wave, mask=True), flux, ivar), model)
    assert set(nothing["QN_STATUS"].tolist()) == {int(Status.NO_GOOD_PIXEL)}


# What is an arm, and what is an object.


@pytest.mark.parametrize("shape", [(-1,), (1, -1)], ids=["1-D", "one row"])
def test_spectra_that_share_their_wavelengths_are_objects(
    hdus: Hdus, model: QuasarNP, shape: tuple[int, ...], backend: ArrayBackend
) -> None:
    wave, flux, ivar = joined(hdus)
    objects = [
        (wave, backend.array(f.reshape(shape)), backend.array(i.reshape(shape)))
        for f, i in zip(flux, ivar, strict=True)
    ]
    expected = classify((wave, flux, ivar), model)
    assert_same(classify(objects, model), expected)
    assert_same(classify(objects[:1], model), expected[:1])


def test_objects_may_have_wavelengths_and_lengths_of_their_own(
    hdus: Hdus, model: QuasarNP
) -> None:
    wave, flux, ivar = joined(hdus)
    cuts = [slice(0, None), slice(100, None), slice(0, -90), slice(3, None, 2)]
    objects = [(wave[c], flux[row, c], ivar[row, c]) for row, c in enumerate(cuts)]
    alone = [classify(one, model) for one in objects]
    assert_close(classify(objects, model), np.concatenate(alone))


# Numbers with a unit.

F_LAMBDA = "1e-17 erg / (Angstrom s cm2)"


class Column:
    """A column of a table: no array, but one can be made of it."""

    def __init__(self, values: NDArray[Any], **known: Any) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        vars(self).update(known)

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[Any]:
        return self.values.astype(dtype or self.dtype)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("erg / (s cm2 Angstrom)", 1e-17),
        ("10**-17 erg/s/cm^2/Ang", 1.0),
        ("W / (um m2)", 1e-16),
        ("1e-18 erg s-1 cm-2 nm-1", 100.0),
    ],
)
@pytest.mark.parametrize("of_ivar", [True, False], ids=["ivar too", "ivar without"])
def test_arms_in_several_units_are_converted(
    hdus: Hdus,
    model: QuasarNP,
    table: NDArray[Any],
    unit: str,
    factor: float,
    of_ivar: bool,
) -> None:
    spectra = [
        (wave, quantity(flux, F_LAMBDA), ivar) for wave, flux, ivar in arms(hdus)
    ]
    wave, flux, ivar = arm(hdus, "R")
    flux, ivar = quantity(flux.astype("f8") * factor, unit), ivar / factor**2
    spectra[1] = wave, flux, quantity(ivar, f"({unit})-2") if of_ivar else ivar
    assert_close(classify(spectra, model), table)
    # In whatever unit the first one is.
    reverse = [spectra[1], spectra[0], spectra[2]]
    assert_close(classify(reverse, model), table)


def test_arrays_in_one_unit_give_the_bits_of_those_without(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any]
) -> None:
    spectra = [
        (wave, quantity(flux, F_LAMBDA), quantity(ivar, f"({F_LAMBDA})**-2"))
        for wave, flux, ivar in arms(hdus)
    ]
    assert_same(classify(spectra, model), table)


@pytest.mark.parametrize(
    ("unit", "factor"), [("nm", 0.1), ("micron", 1e-4), ("um", 1e-4), ("m", 1e-10)]
)
def test_wavelengths_are_converted_wherever_their_unit_is_kept(
    hdus: Hdus, model: QuasarNP, unit: str, factor: float
) -> None:
    # In the middles of DESI's pixels, so that rounding moves none to another bin.
    wave, flux, ivar = joined(hdus)
    expected = classify((wave + 0.123, flux, ivar), model)
    given = (wave + 0.123) * factor
    for with_unit in (
        quantity(given, unit),
        Column(given, unit=unit),
        Column(given, unit=None, attrs={"units": unit}),
        Column(given, attrs={"unit": unit}),
        Column(given, units=unit),
    ):
        columns = (with_unit, Column(flux, unit=None), Column(ivar))
        assert_same(classify(columns, model), expected)


UNITS: dict[str, tuple[tuple[str, str, str], str]] = {
    "wavelengths": (("Hz", "", ""), "arm 0: wavelengths are in Hz, .* nm or micron"),
    "flux": (("", "Jy", ""), "arm 0: flux is in Jy, and is needed in erg"),
    "flux for ivar": (("", F_LAMBDA, F_LAMBDA), "arm 0: ivar is in 1e-17 erg"),
    "counts": (("nm", F_LAMBDA, "ct"), r"arm 0: ivar is in ct, expected \(1e-17"),
    "of ivar alone": (("", "", "cm4"), "arm 0: ivar is in cm4, expected no unit"),
}


@pytest.mark.parametrize("case", UNITS)
def test_units_that_do_not_fit_are_refused_by_name(model: QuasarNP, case: str) -> None:
    units, match = UNITS[case]
    with pytest.raises(SpectraError, match=match):
        classify(list(map(quantity, (WAVE, FLUX, FLUX), units)), model)


@pytest.mark.parametrize("first", [0, 1])
def test_flux_with_and_without_a_unit_cannot_be_mixed(
    model: QuasarNP, first: int
) -> None:
    spectra = [(WAVE, quantity(FLUX, F_LAMBDA), FLUX), (WAVE + 6200, FLUX, FLUX)]
    match = r"arm 1: flux (is in 1e-17 .* no unit|has no unit, expected 1e-17)"
    with pytest.raises(SpectraError, match=match):
        classify([spectra[first], spectra[1 - first]], model)


# What the network cannot compute with.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_spectrum_beyond_the_numbers_of_the_network_has_a_status(
    hdus: Hdus, weights: Path, dtype: str, backend: ArrayBackend
) -> None:
    if backend.name.startswith("jax") and dtype == "float32":
        pytest.skip("XLA takes a weight below 1e-38 for none")
    wave, flux, ivar = joined(hdus)
    sound = (wave, flux.copy(), np.full_like(ivar, 1e36))
    # Bins of hardly any weight, 1e40 times the rms away: float64 holds that.
    flux[1, 100:140], ivar = 3e38, sound[2].copy()
    ivar[1, 100:140] = 1e-44
    network = load_model(weights, dtype=dtype, **backend.resolve())
    found = classify((wave, backend.array(flux), backend.array(ivar)), network)
    others = [0, 2, 3, 4]
    assert_close(found[others], classify(sound, network)[others])
    status = Status.ZERO_VARIANCE if dtype == "float32" else 0
    assert found["QN_STATUS"].tolist() == [0, status, 0, 0, 0]
    assert found["IS_QSO_QN"][1] == 0 or dtype == "float64"
    for name in ("Z_QN", "Z_QN_CONF", "C_LYA", "Z_Halpha"):
        assert np.isnan(found[name]).tolist() == [False, status != 0, *3 * [False]]


def test_boxes_of_outputs_that_are_not_finite_are_nan(
    hdus: Hdus, model: QuasarNP
) -> None:
    wave, flux, ivar = joined(hdus)
    flux[1, 100:140], ivar[:] = 3e38, 1e36
    ivar[1, 100:140] = 1e-44
    with open_arrays((wave, flux, ivar)) as source:
        boxes = classify_source(source, model, Options(), keep_boxes=True).boxes
    assert boxes is not None
    lost = np.isnan(boxes).all(axis=(1, 2))
    assert lost.tolist() == [False, True, False, False, False]
    assert np.isfinite(boxes[~lost]).all()


def test_wavelengths_that_are_not_in_angstrom_are_warned_of(
    hdus: Hdus, model: QuasarNP, caplog: pytest.LogCaptureFixture
) -> None:
    wave, flux, ivar = joined(hdus)
    found = classify((wave / 10, flux, ivar), model)
    assert set(found["QN_STATUS"].tolist()) == {int(Status.NO_GOOD_PIXEL)}
    (record,) = caplog.records
    assert "are they in Angstrom?" in record.getMessage()


WAVE, FLUX = np.linspace(3600, 9800, 50), np.ones((2, 50))
BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "None": (None, TypeError, "NoneType: expected a file"),
    "a number": (3.0, TypeError, "float: expected a file"),
    "nothing": ([], TypeError, "list: expected a file"),
    "an array": (FLUX, TypeError, "ndarray: expected a file"),
    "two arrays": ((WAVE, FLUX), TypeError, "tuple of ndarray: expected"),
    "strings": ((["a"], ["b"], ["c"]), TypeError, "tuple of list: expected"),
    "mixed": ([(WAVE, FLUX, FLUX), "x"], TypeError, "list of str, tuple: expected"),
    "lengths": ((WAVE[:-1], FLUX, FLUX), SpectraError, r"arm 0: flux: \(49,\) wave"),
    "ivar": ((WAVE, FLUX, FLUX[:1]), SpectraError, r"arm 0: ivar: has shape \(1, 50\)"),
    "cube": ((WAVE, FLUX[None], FLUX[None]), SpectraError, "needs 2 dimensions"),
    "spectra of arms": (
        [(WAVE, FLUX, FLUX), (WAVE, FLUX[:1], FLUX[:1])],
        SpectraError,
        "arm 1: flux: has 1 spectra, and arm 0 has 2",
    ),
    "NaN wavelength": (
        (np.where(WAVE > 9000, np.nan, WAVE), FLUX, FLUX),
        SpectraError,
        "arm 0: flux: wavelengths must be finite",
    ),
    "negative wavelength": ((-WAVE, FLUX, FLUX), SpectraError, "finite and positive"),
    "complex": ((WAVE, FLUX * 1j, FLUX), TypeError, "arm 0: flux: real numbers"),
    "boolean": ((WAVE, FLUX > 0, FLUX), TypeError, "arm 0: flux: real numbers"),
    "objects": ((WAVE, FLUX.astype(object), FLUX), TypeError, "real numbers"),
    "words": ((WAVE.astype(str), FLUX, FLUX), TypeError, "arm 0: wavelengths: real"),
    "complex wavelengths": ((WAVE + 0j, FLUX, FLUX), TypeError, "got complex128"),
    "boolean wavelengths": ((WAVE > 0, FLUX, FLUX), TypeError, "got bool"),
    "rows of two lengths": (
        (WAVE, [[1.0, 2.0], [1.0]], FLUX),
        TypeError,
        "arm 0: flux: (expected numbers in rows of one length|.* got object)",
    ),
    "no dimension": ((WAVE, np.array(1.0), np.array(1.0)), SpectraError, r"shape \(\)"),
    "dates": ((WAVE, FLUX.astype("M8[s]"), FLUX), TypeError, "real numbers"),
    "a record without ivar": (
        [{"wavelength": WAVE, "flux": WAVE, "ivar": None}],
        SpectraError,
        "record 0: has no ivar; name it in retrieve",
    ),
    "a record of other lengths": (
        [{"wavelength": WAVE, "flux": WAVE[1:], "ivar": WAVE}],
        SpectraError,
        r"record 0: ivar: has shape \(1, 50\), and the flux \(1, 49\)",
    ),
    "a record of two spectra": (
        [{"wavelength": WAVE, "flux": FLUX, "ivar": FLUX}],
        SpectraError,
        r"record 0: flux: needs one spectrum, has shape \(2, 50\)",
    ),
    "exposures": (
        [(WAVE, FLUX, FLUX), (WAVE + 1, FLUX, FLUX)],
        SpectraError,
        "2 arms cover the same wavelengths.* numpy.concatenate",
    ),
    "arms of two objects": (
        [(WAVE + start, FLUX[0], FLUX[0]) for start in (0, 6000, 0, 6000)],
        SpectraError,
        r"4 arms cover the same wavelengths.* flux of shape \(n, npix\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_holds_no_spectra_is_an_error_that_says_what_is_expected(
    model: QuasarNP, case: str
) -> None:
    spectra, error, match = BAD[case]
    with pytest.raises(error, match=match):
        classify(spectra, model)


# Files and folders in one argument.


def test_several_files_none_of_which_is_there_are_refused(model: QuasarNP) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.fits"):
        classify(["a.fits", Path("b.fits")], model)


# specutils, by what its objects look like.


def spectrum(
    wave: Any,
    flux: Any,
    ivar: Any,
    *,
    kind: str = "ivar",
    unit: str = F_LAMBDA,
    mask: Any = None,
    meta: Any = None,
    of_uncertainty: str | None = None,
) -> Any:
    power = {"ivar": 1, "var": -1, "std": -0.5, "unknown": 1}[kind]
    return SimpleNamespace(
        wavelength=quantity(wave / 10, "nm"),
        flux=quantity(flux, unit),
        uncertainty=SimpleNamespace(
            array=ivar**power, uncertainty_type=kind, unit=of_uncertainty
        ),
        mask=mask,
        meta=meta,
    )


@pytest.mark.parametrize("kind", ["ivar", "var", "std"])
def test_spectra_of_two_dimensions_are_arms(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any], kind: str
) -> None:
    spectra = [spectrum(*one, kind=kind) for one in arms(hdus)]
    spectra[0].meta = {"fibermap": fibermap_table(N)}
    found = classify(spectra, model)
    assert_close(found, table)
    assert found["TARGETID"].tolist() == [TARGETID + row for row in range(N)]
    np.testing.assert_array_equal(found["TARGET_RA"], table["TARGET_RA"])


def test_spectra_of_one_dimension_are_rows_of_any_length(
    hdus: Hdus, model: QuasarNP
) -> None:
    wave, flux, ivar = joined(hdus)
    cuts = [slice(0, None), slice(100, 900), slice(50, 1200)]
    rows = [(wave[cut], flux[row, cut], ivar[row, cut]) for row, cut in enumerate(cuts)]
    found = classify([spectrum(*row) for row in rows], model)
    alone = np.concatenate([classify(row, model) for row in rows])
    assert_close(found, alone)
    assert_close(classify(spectrum(*rows[1]), model), alone[1:2])


def test_a_mask_of_a_spectrum_counts_only_where_it_is_asked_for(
    hdus: Hdus, model: QuasarNP
) -> None:
    wave, flux, ivar = joined(hdus)
    hidden = np.zeros(flux.shape, dtype=bool)
    hidden[:, 200:300] = True
    masked = spectrum(wave, flux, ivar, mask=hidden)
    assert_close(classify(masked, model), classify((wave, flux, ivar), model))
    expected = classify((wave, flux, np.where(hidden, 0, ivar)), model)
    assert_close(classify(masked, model, use_mask=True), expected)
    rows = [spectrum(wave, flux[row], ivar[row]) for row in range(N)]
    with pytest.raises(SpectraError, match="spectra: flux: has no mask"):
        classify(rows, model, use_mask=True)
    rows[3].mask = hidden[3]  # the others have none
    found = classify(rows, model, use_mask=True)
    assert_close(found[3:4], expected[3:4])
    assert_close(found[:3], classify((wave, flux[:3], ivar[:3]), model))
    with pytest.raises(SpectraError, match=r"spectrum 0: mask: has shape \(1, 5\)"):
        classify(spectrum(wave, flux, ivar, mask=hidden[0, :5]), model)


@pytest.mark.parametrize(
    ("kind", "unit"),
    [
        ("ivar", "1 / (erg / (s cm2 Angstrom))2"),
        ("var", "(erg / (s cm2 Angstrom))2"),
        ("std", "erg / (s cm2 Angstrom)"),
    ],
)
def test_the_unit_of_an_uncertainty_is_converted(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any], kind: str, unit: str
) -> None:
    spectra = [spectrum(*one) for one in arms(hdus)]
    wave, flux, ivar = arm(hdus, "R")
    ivar = ivar.astype("f8") * 1e34
    spectra[1] = spectrum(wave, flux, ivar, kind=kind, of_uncertainty=unit)
    assert_close(classify(spectra, model), table)
    spectra[1].uncertainty.unit = "ct"
    with pytest.raises(SpectraError, match=r"spectrum 1: ivar is in \(ct\)"):
        classify(spectra, model)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "unknown"}, "spectrum 0: its uncertainty is unknown"),
        ({"unit": "Jy"}, "spectrum 0: flux is in Jy, and is needed in erg"),
        ({"unit": "electron"}, "spectrum 0: flux is in electron"),
    ],
)
def test_spectra_of_another_unit_or_uncertainty_are_refused(
    hdus: Hdus, model: QuasarNP, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(SpectraError, match=match):
        classify(spectrum(*joined(hdus), **options), model)


def test_flux_without_a_unit_is_taken_as_it_is(hdus: Hdus, model: QuasarNP) -> None:
    wave, flux, ivar = joined(hdus)
    found = classify(spectrum(wave, flux, ivar, unit=""), model)
    assert_close(found, classify((wave, flux, ivar), model))


def test_spectra_of_one_and_of_two_dimensions_cannot_be_mixed(
    hdus: Hdus, model: QuasarNP
) -> None:
    wave, flux, ivar = joined(hdus)
    mixed = [spectrum(wave, flux, ivar), spectrum(wave, flux[0], ivar[0])]
    with pytest.raises(SpectraError, match=r"of 1 or of 2 dimensions"):
        classify(mixed, model)


# sparclclient, by what its records look like.


def records(hdus: Hdus) -> list[dict[str, Any]]:
    wave, flux, ivar = joined(hdus)
    return [
        {
            "sparcl_id": f"id-{row}",
            "targetid": TARGETID + row,
            "ra": 150.0 + row,
            "dec": -2.0,
            "wavelength": wave,
            "flux": flux[row],
            "ivar": ivar[row],
        }
        for row in range(N)
    ]


def test_records_are_rows_with_their_targets(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any]
) -> None:
    found = classify(records(hdus), model)
    assert_close(found, table)
    assert found["TARGETID"].tolist() == [TARGETID + row for row in range(N)]
    assert found["TARGET_RA"].tolist() == [150.0 + row for row in range(N)]
    assert_same(classify(SimpleNamespace(records=records(hdus)), model), found)
    assert_same(classify(records(hdus)[1], model), found[1:2])
    assert_same(classify(records(hdus), model, targetids=[TARGETID + 3]), found[3:4])


def test_records_without_targets_are_rows_all_the_same(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any]
) -> None:
    plain = [
        {name: record[name] for name in ("wavelength", "flux", "ivar")}
        for record in records(hdus)
    ]
    found = classify(plain, model)
    assert_close(found, table)
    assert found["TARGETID"].tolist() == [-1] * N


# The real ones, where they are installed: the session `interop` of nox.


@pytest.mark.filterwarnings("ignore")  # astropy's, of units in the files
def test_specutils_reads_what_the_package_takes(
    reference: Path, tmp_path: Path, model: QuasarNP
) -> None:
    specutils = pytest.importorskip("specutils")
    path = reference / "desi" / "coadd-5-169-thru20210419.fits"
    expected = classify(path, model)
    found = classify(specutils.SpectrumList.read(path), model)
    assert_close(found, expected)
    np.testing.assert_array_equal(found["TARGETID"], expected["TARGETID"])
    # Of SDSS it has wavelengths in float32: pixels at an edge change their bins.
    spec = reference / "boss" / "spec-3655-55240-0002.fits"
    found = classify(specutils.SpectrumList.read(spec), model)
    np.testing.assert_allclose(
        found["C_LYA"], classify(spec, model)["C_LYA"], atol=0.01
    )


def test_columns_and_series_are_taken_with_their_units(
    hdus: Hdus, model: QuasarNP
) -> None:
    astropy = pytest.importorskip("astropy.table", reason="astropy is not installed")
    units = pytest.importorskip("astropy.units", reason="astropy is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    wave, flux, ivar = joined(hdus)
    wave, flux, ivar = wave + 0.123, flux[2].astype("f8"), ivar[2].astype("f8")
    expected = classify((wave, flux, ivar), model)
    of = {"wave": "nm", "flux": F_LAMBDA, "ivar": units.Unit(F_LAMBDA) ** -2}
    columns = {"wave": wave / 10, "flux": flux, "ivar": ivar}
    for kind, masked in (
        (astropy.Table, False),
        (astropy.Table, True),
        (astropy.QTable, False),
    ):
        table = kind(columns, units=of, masked=masked)
        found = classify((table["wave"], table["flux"], table["ivar"]), model)
        assert_same(found, expected)
    table["wave"] = table["wave"].to("micron")
    table["flux"] = table["flux"].to("W / (m2 um)")
    found = classify((table["wave"], table["flux"], table["ivar"]), model)
    assert_close(found, expected)
    frame = pandas.DataFrame(columns)
    nanometres = frame["wave"]
    assert_same(
        classify((10 * nanometres, frame["flux"], frame["ivar"]), model), expected
    )
    nanometres.attrs["units"] = "nm"
    assert_same(classify((nanometres, frame["flux"], frame["ivar"]), model), expected)


def test_records_of_sparclclient_are_taken(
    hdus: Hdus, model: QuasarNP, table: NDArray[Any]
) -> None:
    results = pytest.importorskip("sparcl.Results")
    client = SimpleNamespace(fields=None)
    retrieved = object.__new__(results.Retrieved)
    collections.UserList.__init__(retrieved, [{"status": {}}, *records(hdus)])
    retrieved.hdr, retrieved.client = {}, client
    retrieved.recs = [results._AttrDict(record) for record in records(hdus)]
    assert_close(classify(retrieved, model), table)


def test_the_client_that_pages_are_run_with_has_the_names_of_the_real_one() -> None:
    real = pytest.importorskip("sparcl.client", reason="sparclclient is not installed")
    path = Path(__file__).parent / "docs" / "stand_in" / "sparcl" / "client.py"
    stand_in = runpy.run_path(str(path))["SparclClient"]
    for name in ("__init__", "find", "retrieve", "retrieve_by_specid"):
        ours, theirs = (
            {n: p.kind for n, p in signature(getattr(c, name)).parameters.items()}
            for c in (stand_in, real.SparclClient)
        )
        assert ours.items() <= theirs.items()
    fields = {"sparcl_id": "a", "specid": 1, "_dr": "DESI-DR1"}
    client = SimpleNamespace(fields=SimpleNamespace(_science_name=lambda name, _: name))
    found = sys.modules["sparcl.Results"].Found([{"status": {}}, fields], client)
    ours = runpy.run_path(str(path))["answer"]([fields], ["specid"], ["DESI-DR1"])
    assert (found.count, found.ids, found.records) == (1, ours.ids, ours.records)


def test_results_go_straight_into_a_table_of_astropy(table: NDArray[Any]) -> None:
    astropy = pytest.importorskip("astropy.table", reason="astropy is not installed")
    found = astropy.Table(table)
    assert found.colnames == list(table.dtype.names or ())
    for name in found.colnames:
        assert found[name].dtype == table.dtype[name]
        np.testing.assert_array_equal(found[name], table[name])
    assert len(found[found["IS_QSO_QN"] == 1]) == table["IS_QSO_QN"].sum()
    assert np.asarray(found).tobytes() == table.tobytes()
