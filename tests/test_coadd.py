"""Spectra of one target added up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import fitsio
import numpy as np
import pytest
from helpers import Hdus, Run, coadd_hdus, write_coadd, write_hdus
from numpy.typing import NDArray

from qnp_xp import SpectraError, Status, classify, load_model
from qnp_xp._binning import add_rows

if TYPE_CHECKING:
    from conftest import ArrayBackend

#: Which target each of seven exposures is of.
OWNERS = [30, 10, 30, 20, 10, 30, 40]
TARGETS = [30, 10, 20, 40]


@pytest.fixture
def hdus() -> Hdus:
    hdus = coadd_hdus(7, objtype=["TGT"] * 6 + ["SKY"], mask="i4")
    hdus["FIBERMAP"]["TARGETID"] = OWNERS
    hdus["R_FLUX"][2, 50] = np.nan  # of the second exposure of target 30
    return hdus


def coadded(hdus: Hdus) -> Hdus:
    """The weighted mean of each pixel over the spectra of a target, arm by arm."""
    owners = hdus["FIBERMAP"]["TARGETID"].tolist()
    targets = list(dict.fromkeys(owners))
    first = [owners.index(target) for target in targets]
    result: Hdus = {"FIBERMAP": hdus["FIBERMAP"][first]}
    for arm in "BRZ":
        flux = hdus[f"{arm}_FLUX"].astype(np.float64)
        ivar = np.where(np.isfinite(flux), hdus[f"{arm}_IVAR"], 0).astype(np.float64)
        flux = np.nan_to_num(flux)
        sums = np.zeros((2, len(targets), flux.shape[1]))
        for row, owner in enumerate(owners):
            sums[0, targets.index(owner)] += flux[row] * ivar[row]
            sums[1, targets.index(owner)] += ivar[row]
        weight = sums[1]
        result[f"{arm}_WAVELENGTH"] = hdus[f"{arm}_WAVELENGTH"]
        result[f"{arm}_FLUX"] = np.divide(
            sums[0], weight, out=np.zeros_like(weight), where=weight > 0
        )
        result[f"{arm}_IVAR"] = weight
    return result


def assert_close(found: NDArray[Any], expected: NDArray[Any]) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    for name in found.dtype.names or ():
        if name != "QN_STATUS":
            np.testing.assert_allclose(
                found[name], expected[name], rtol=3e-6, atol=3e-6, err_msg=name
            )


def test_targets_are_what_their_coadd_gives(
    hdus: Hdus, tmp_path: Path, weights: Path, backend: ArrayBackend
) -> None:
    path = write_hdus(tmp_path / "spectra-1.fits", hdus)
    expected = classify(write_hdus(tmp_path / "coadd-1.fits", coadded(hdus)), weights)
    found = classify(path, load_model(weights, **backend.resolve()), coadd=True)
    assert_close(found, expected)
    assert found["TARGETID"].tolist() == TARGETS
    # A pixel was left out of an exposure of the first; the last is the sky's.
    cleaned, sky = int(Status.PIXELS_CLEANED), int(Status.NOT_TARGET)
    assert found["QN_STATUS"].tolist() == [cleaned, 0, 0, sky]


def test_without_coadding_each_row_is_classified(
    hdus: Hdus, tmp_path: Path, weights: Path
) -> None:
    path = write_hdus(tmp_path / "spectra-1.fits", hdus)
    assert classify(path, weights)["TARGETID"].tolist() == OWNERS


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_bits_do_not_depend_on_the_batch_size(
    hdus: Hdus, tmp_path: Path, weights: Path, batch_size: int
) -> None:
    path = write_hdus(tmp_path / "spectra-1.fits", hdus)
    expected = classify(path, weights, coadd=True)
    found = classify(path, weights, coadd=True, batch_size=batch_size)
    assert found.tobytes() == expected.tobytes()


def test_bits_of_a_target_do_not_depend_on_the_others(
    hdus: Hdus, tmp_path: Path, weights: Path
) -> None:
    path = write_hdus(tmp_path / "spectra-1.fits", hdus)
    whole = classify(path, weights, coadd=True)
    alone = classify(path, weights, coadd=True, targetids=[10])
    assert alone.tobytes() == whole[1:2].tobytes()
    # Exposures that are not selected are not added.
    some = classify(path, weights, coadd=True, rows=[6, 1])
    assert some["TARGETID"].tolist() == [40, 10]
    single = classify(path, weights, rows=[6, 1])
    assert some.tobytes() == single.tobytes()


def test_exposures_without_weight_add_nothing(
    hdus: Hdus, tmp_path: Path, weights: Path
) -> None:
    for arm in "BRZ":
        hdus[f"{arm}_IVAR"][[0, 5, 3]] = 0
    path = write_hdus(tmp_path / "spectra-1.fits", hdus)
    found = classify(path, weights, coadd=True)
    single = classify(path, weights, rows=[2])
    np.testing.assert_allclose(found["Z_QN"][0], single["Z_QN"][0], rtol=1e-6)
    assert found["QN_STATUS"][2] == Status.NO_GOOD_PIXEL


@pytest.mark.parametrize("batch_size", [1, 100])
def test_an_arm_is_missing_where_no_exposure_of_a_target_has_it(
    hdus: Hdus, tmp_path: Path, weights: Path, batch_size: int
) -> None:
    hdus["R_IVAR"][[0, 1, 4]] = 0  # of target 30 once, of target 10 always
    path = write_hdus(tmp_path / "spectra-1.fits", hdus)
    found = classify(path, weights, coadd=True, batch_size=batch_size)
    bit = int(Status.ARM_MISSING)
    assert (found["QN_STATUS"] & bit).tolist() == [0, bit, 0, 0]
    single = classify(path, weights, batch_size=batch_size)
    assert (single["QN_STATUS"] & bit).tolist() == [bit, bit, 0, 0, bit, 0, 0]


def test_rows_of_unknown_targets_stay_apart(
    hdus: Hdus, tmp_path: Path, weights: Path
) -> None:
    hdus["FIBERMAP"]["TARGETID"] = [-1, 5, -1, 5, -1, 6, 6]
    path = write_hdus(tmp_path / "spectra-1.fits", hdus)
    found = classify(path, weights, coadd=True)
    assert found["TARGETID"].tolist() == [-1, 5, -1, -1, 6]


def test_spectra_without_targets_cannot_be_coadded(
    tmp_path: Path, weights: Path
) -> None:
    path = write_coadd(tmp_path / "coadd-1.fits", 2, fibermap=False)
    with pytest.raises(SpectraError, match=r"coadd-1\.fits: .*TARGETIDs"):
        classify(path, weights, coadd=True)


def test_no_rows_give_no_targets(hdus: Hdus, tmp_path: Path, weights: Path) -> None:
    path = write_hdus(tmp_path / "spectra-1.fits", hdus)
    assert classify(path, weights, coadd=True, rows=[]).shape == (0,)


def test_the_command_coadds_and_says_so(
    run: Run, hdus: Hdus, inputs: Path, here: Path, weights: Path
) -> None:
    path = write_hdus(inputs / "spectra-1.fits", hdus)
    status, out, _ = run("classify", path, "--coadd")
    assert status == 0
    assert out.startswith("spectra-1.fits: 4 rows, 4 scored, ")
    table, header = fitsio.read(here / "qn-1.fits", ext="QN", header=True)
    assert header["QNCOADD"]
    expected = classify(path, weights, coadd=True)
    for name in expected.dtype.names or ():
        np.testing.assert_array_equal(table[name], expected[name])


def test_every_row_of_real_files_is_accounted_for(
    reference: Path, tmp_path: Path, weights: Path
) -> None:
    files = sorted((reference / "desi").glob("[cs]*.fits"))
    assert len(files) == 6
    for path in files:
        targets = fitsio.read(path, ext="FIBERMAP", columns="TARGETID")
        found = classify(path, weights)
        np.testing.assert_array_equal(found["TARGETID"], targets)
        unscored = (found["QN_STATUS"] & int(Status.UNSCORED)) != 0
        np.testing.assert_array_equal(np.isnan(found["Z_QN"]), unscored)
        coadded = classify(path, weights, coadd=True)
        assert coadded["TARGETID"].tolist() == list(dict.fromkeys(targets.tolist()))


def test_rows_are_added_in_their_order(backend: ArrayBackend) -> None:
    rows = np.array([[1.0, 2.0], [100.0, 200.0], [1000.0, 2000.0], [10.0, 20.0]])
    total = np.array([[0.5, 0.5], [0.0, 0.0], [7.0, 7.0], [3.0, 3.0]])
    found = add_rows(backend.array(total), backend.array(rows), [0, 0, 0, 2])
    expected = [[1101.5, 2202.5], [0.0, 0.0], [17.0, 27.0], [3.0, 3.0]]
    np.testing.assert_array_equal(backend.host(found, "float64"), expected)
    empty = add_rows(backend.array(total), backend.array(rows[:0]), [])
    np.testing.assert_array_equal(backend.host(empty, "float64"), total)


def test_bits_of_a_sum_are_those_of_one_addition_after_the_other(
    backend: ArrayBackend,
) -> None:
    rng = np.random.default_rng(3)
    rows, total = rng.normal(size=(60, 5)), rng.normal(size=(7, 5))
    owners = sorted(rng.integers(0, 6, 60).tolist())
    expected = total.copy()
    for row, owner in zip(rows, owners, strict=True):
        expected[owner] += row
    found = add_rows(backend.array(total), backend.array(rows), owners)
    np.testing.assert_array_equal(backend.host(found, "float64"), expected)
