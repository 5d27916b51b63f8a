"""From pixels to the input of the network, on every backend."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fitsio
import numpy as np
import pytest
import reference as oracle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qnp_xp import _binning
from qnp_xp._binning import Rebinner
from qnp_xp._xp.backend import resolve
from qnp_xp.grids import desi_wave, linear_wave, wave
from qnp_xp.spectra import (
    average,
    clean,
    combine,
    normalize,
    rebin,
    renormalize,
    sum_arms,
)

if TYPE_CHECKING:
    from conftest import ArrayBackend

# Part of the largest value: the sums are the oracle's, added in another order.
TOLERANCE = 1e-14
# test_coadd.fits: 25 spectra, of which one has no good pixel.
BAD_ROW = 11
GOOD_ROWS = [row for row in range(25) if row != BAD_ROW]

Arm = tuple[NDArray[np.float64], NDArray[Any], NDArray[Any]]


@pytest.fixture(scope="module")
def coadd(reference: Path) -> dict[str, Arm]:
    """Wavelengths, flux and inverse variance of the arms of test_coadd.fits."""
    with fitsio.FITS(reference / "quasarnp" / "test_coadd.fits") as hdus:
        return {
            arm: (
                hdus[f"{arm}_WAVELENGTH"].read(),
                hdus[f"{arm}_FLUX"].read(),
                hdus[f"{arm}_IVAR"].read(),
            )
            for arm in "BRZ"
        }


def draw(
    n: int, pixels: NDArray[np.float64], seed: int = 0, dtype: str = "float32"
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Flux and inverse variance of noisy spectra with some masked pixels."""
    rng = np.random.default_rng(seed)
    ivar = rng.uniform(0.1, 4, (n, pixels.size)) * (rng.random((n, pixels.size)) < 0.9)
    flux = (
        3 + rng.normal(size=(n, pixels.size)) + 8 * np.exp(-((pixels / 5e3 - 1) ** 2))
    )
    return flux.astype(dtype), ivar.astype(dtype)


def spoil(
    flux: NDArray[Any], ivar: NDArray[Any], seed: int = 0
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Put in everything that can be wrong with a pixel."""
    rng = np.random.default_rng(seed)
    flux, ivar = flux.copy(), ivar.copy()
    for bad in (np.nan, np.inf, -np.inf):
        flux[rng.random(flux.shape) < 0.05] = bad
        ivar[rng.random(flux.shape) < 0.05] = bad
    ivar[rng.random(flux.shape) < 0.05] = -1.0
    ivar[rng.random(flux.shape) < 0.2] = 0.0
    return flux, ivar


def assert_close(found: NDArray[Any], expected: NDArray[Any]) -> None:
    assert found.shape == expected.shape
    assert np.all(np.isfinite(expected))
    atol = TOLERANCE * np.max(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def network_input(
    backend: ArrayBackend, arms: list[Arm], grid: NDArray[np.float64] = wave
) -> NDArray[Any]:
    """What `combine` and `normalize` make of the arms, on the host."""
    arrays = [(w, backend.array(f), backend.array(i)) for w, f, i in arms]
    flux, ivar, _ = combine(arrays, grid)
    return backend.host(normalize(flux, ivar)[0], "float64")


# --- rebin


@pytest.mark.parametrize(
    ("grid", "file"),
    [(wave, "coadd_rebinned"), (linear_wave, "coadd_rebinned_linear")],
    ids=["log", "linear"],
)
@pytest.mark.parametrize("arm", ["B", "R", "Z"])
def test_rebin_agrees_with_quasarnp(
    backend: ArrayBackend,
    reference: Path,
    coadd: dict[str, Arm],
    grid: NDArray[np.float64],
    file: str,
    arm: str,
) -> None:
    w, flux, ivar = coadd[arm]
    found = rebin(backend.array(flux), backend.array(ivar), w, grid)
    with fitsio.FITS(reference / "quasarnp" / f"{file}.fits") as hdus:
        expected = hdus[f"{arm}_FLUX"].read(), hdus[f"{arm}_IVAR"].read()
    # Of the sum of |flux * ivar| in the bin; only the order of the sum may differ.
    scale = oracle.rebin(np.abs(flux[:3]), ivar[:3], w, grid)
    for ours, theirs, size in zip(found, expected, scale, strict=True):
        values = backend.host(ours, "float64")
        assert values.shape == theirs.shape
        assert np.all(np.abs(values[:3] - theirs[:3]) <= 1e-12 * size)
        np.testing.assert_allclose(values, theirs)


def test_product_has_the_precision_of_the_pixels(backend: ArrayBackend) -> None:
    grid, pixels = np.array([4000.0, 4010.0]), np.array([4001.0, 4002.0])
    # 1 + 2**-12 squared is 1 + 2**-11 + 2**-24: float32 has no room for the last.
    value = np.full((1, 2), 1 + 2.0**-12)
    for dtype, square in (("float32", 1 + 2.0**-11), ("float64", value[0, 0] ** 2)):
        array = backend.array(value.astype(dtype))
        sums = [backend.host(x, "float64") for x in rebin(array, array, pixels, grid)]
        assert sums[0].tolist() == [[2 * square, 0.0]]
        assert sums[1].tolist() == [[2 * value[0, 0], 0.0]]


def test_pixel_whose_product_is_too_large_is_left_out(backend: ArrayBackend) -> None:
    grid, pixels = np.array([4000.0, 4010.0]), np.array([4001.0, 4002.0, 4011.0])
    flux = np.array([[2.0**100, 3.0, 1 + 2.0**-12]], dtype="float32")
    arrays = backend.array(flux), backend.array(flux)
    found = [backend.host(x) for x in sum_arms([(pixels, *arrays)], grid)]
    assert found[0].tolist() == [[9.0, 1 + 2.0**-11]]
    assert found[1].tolist() == [[3.0, 1 + 2.0**-12]]
    assert found[2].tolist() == [True]
    cleaned = [backend.host(x).tolist() for x in clean(*arrays)]
    assert cleaned == [[[0.0, 3.0, 1 + 2.0**-12]]] * 2 + [[True]]


@pytest.mark.float64
def test_integers_are_normalised_as_floats(backend: ArrayBackend) -> None:
    flux, ivar = np.array([[1, 2, 4, 7]]), np.array([[1, 1, 2, 1]])
    found = backend.host(renormalize(backend.array(flux), backend.array(ivar)))
    assert found.dtype == np.float64
    expected = (flux - 3.6) / np.sqrt(4.24)  # by hand: 18 / 5, and 86 / 5 - 3.6**2
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
@pytest.mark.parametrize("case", ["rising", "falling", "shuffled"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rebin_agrees_with_the_oracle(
    backend: ArrayBackend, grid: NDArray[np.float64], case: str, dtype: str
) -> None:
    # Off the grid on both sides, with a gap.
    pixels = np.concatenate([np.arange(3400, 5000, 7.3), np.arange(7777, 10400, 3.1)])
    if case == "falling":
        pixels = pixels[::-1].copy()
    elif case == "shuffled":
        pixels = np.random.default_rng(5).permutation(pixels)
    flux, ivar = spoil(*draw(4, pixels, dtype=dtype))
    found = rebin(backend.array(flux), backend.array(ivar), pixels, grid)
    expected = oracle.rebin(flux, ivar, pixels, grid)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(backend.host(ours, "float64"), theirs)


def test_rebin_bins_on_quasarnet_s_grid_by_default(backend: ArrayBackend) -> None:
    flux, ivar = draw(2, desi_wave[:50])
    arrays = backend.array(flux), backend.array(ivar)
    found, expected = (
        rebin(*arrays, desi_wave[:50]),
        rebin(*arrays, desi_wave[:50], wave),
    )
    assert tuple(found[0].shape) == (2, 443)
    np.testing.assert_array_equal(backend.host(found[0]), backend.host(expected[0]))


@st.composite
def pixel_sets(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """Wavelengths in any order, on the grid or not, with pixels good and bad."""
    n = draw(st.integers(1, 3))
    wavelengths = draw(st.lists(st.floats(3000, 11000), min_size=1, max_size=24))
    bad = st.sampled_from([np.nan, np.inf, -np.inf])
    fluxes = st.one_of(st.floats(-1e6, 1e6), bad)
    ivars = st.one_of(st.floats(0, 1e6), st.just(0.0), st.just(-3.0), bad)
    size = n * len(wavelengths)
    shape = (n, len(wavelengths))
    flux = draw(st.lists(fluxes, min_size=size, max_size=size))
    ivar = draw(st.lists(ivars, min_size=size, max_size=size))
    return (
        np.array(wavelengths),
        np.array(flux, dtype=np.float64).reshape(shape),
        np.array(ivar, dtype=np.float64).reshape(shape),
    )


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(pixels=pixel_sets(), linear=st.booleans())
def test_rebin_conserves_the_sums_over_the_pixels_on_the_grid(
    backend: ArrayBackend, pixels: tuple[Any, Any, Any], linear: bool
) -> None:
    wavelengths, flux, ivar = pixels
    grid = linear_wave if linear else wave
    found = rebin(backend.array(flux), backend.array(ivar), wavelengths, grid)
    flux_sum = backend.host(found[0], "float64")
    ivar_sum = backend.host(found[1], "float64")
    on_grid = [oracle.bin_of(w, grid) is not None for w in wavelengths.tolist()]
    for row in range(len(flux)):
        good = [
            (f, i)
            for f, i, inside in zip(flux[row], ivar[row], on_grid, strict=True)
            if inside and oracle.usable(f, i)
        ]
        total = sum(i for _, i in good)
        weighted = sum(f * i for f, i in good)
        size = sum(abs(f) * i for f, i in good)
        np.testing.assert_allclose(ivar_sum[row].sum(), total, rtol=1e-14, atol=1e-300)
        np.testing.assert_allclose(
            flux_sum[row].sum(), weighted, rtol=0, atol=1e-14 * size + 1e-300
        )
    assert np.all(ivar_sum >= 0)


def test_rebin_of_no_spectra_has_no_rows(backend: ArrayBackend) -> None:
    none = backend.array(np.zeros((0, desi_wave.size)), "float32")
    for found in rebin(none, none, desi_wave, linear_wave):
        assert backend.host(found, "float64").shape == (0, 458)


@pytest.mark.parametrize("pixels", [[], [100.0, 200.0], [2e4, 1e5]])
def test_rebin_without_a_pixel_on_the_grid_is_zero(
    backend: ArrayBackend, pixels: list[float]
) -> None:
    ones = backend.array(np.ones((3, len(pixels))))
    for found in rebin(ones, ones, np.array(pixels)):
        np.testing.assert_array_equal(
            backend.host(found, "float64"), np.zeros((3, 443))
        )


MISFITS = [
    ((3, 50), (3, 49), 50),
    ((3, 50), (2, 50), 50),
    ((3, 50), (1, 50), 50),
    ((3, 50), (3, 50), 49),
    ((3, 50), (3, 50), 51),
    ((50,), (50,), 50),
    ((3, 50, 1), (3, 50, 1), 50),
]


@pytest.mark.parametrize(("flux", "ivar", "npix"), MISFITS)
def test_rebin_refuses_shapes_that_do_not_fit(
    backend: ArrayBackend, flux: tuple[int, ...], ivar: tuple[int, ...], npix: int
) -> None:
    arrays = backend.array(np.ones(flux)), backend.array(np.ones(ivar))
    with pytest.raises(ValueError, match=rf"must both have the shape \(n, {npix}\)"):
        rebin(*arrays, desi_wave[:npix])


def test_rebin_refuses_wavelengths_of_other_spectra(backend: ArrayBackend) -> None:
    ones = backend.array(np.ones((3, 50)))
    pixels = backend.array(np.tile(desi_wave[:50], (2, 1)))
    match = r"wavelengths of shape \(2, 50\) for flux of shape \(3, 50\)"
    with pytest.raises(ValueError, match=match):
        rebin(ones, ones, pixels)


@pytest.mark.parametrize(("flux", "ivar", "npix"), MISFITS)
def test_combine_refuses_shapes_that_do_not_fit(
    backend: ArrayBackend, flux: tuple[int, ...], ivar: tuple[int, ...], npix: int
) -> None:
    arrays = backend.array(np.ones(flux)), backend.array(np.ones(ivar))
    with pytest.raises(ValueError, match=rf"must both have the shape \(n, {npix}\)"):
        combine([(desi_wave[:npix], *arrays)])


def test_combine_refuses_arms_of_different_numbers_of_spectra(
    backend: ArrayBackend,
) -> None:
    three, one = backend.array(np.ones((3, 50))), backend.array(np.ones((1, 50)))
    pixels = desi_wave[:50]
    with pytest.raises(ValueError, match=r"as many spectra as the first, got \[3, 1\]"):
        combine([(pixels, three, three), (pixels, one, one)])


def test_grids_that_are_none_are_refused(backend: ArrayBackend) -> None:
    ones = backend.array(np.ones((2, 443)))
    with pytest.raises(ValueError, match="must have constant spacing"):
        rebin(ones, ones, wave, np.sqrt(linear_wave))
    with pytest.raises(ValueError, match="must have constant spacing"):
        combine([(wave, ones, ones)], np.sqrt(linear_wave))
    with pytest.raises(ValueError, match=r"finite and positive \(Angstrom\)"):
        rebin(ones, ones, -wave)


def test_wavelengths_may_lie_on_the_device(backend: ArrayBackend) -> None:
    flux, ivar = draw(2, desi_wave[:500])
    arrays = backend.array(flux), backend.array(ivar)
    pixels, grid = backend.array(desi_wave[:500]), backend.array(linear_wave)
    found = rebin(*arrays, pixels, grid)
    expected = rebin(*arrays, desi_wave[:500], linear_wave)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(
            backend.host(ours, "float64"), backend.host(theirs, "float64")
        )


def test_rebin_changes_none_of_its_inputs(backend: ArrayBackend) -> None:
    pixels = np.array([5000.0, 4000.0, 3000.0, 4500.0])
    flux, ivar = spoil(*draw(3, pixels))
    arrays = backend.array(flux), backend.array(ivar)
    rebin(*arrays, pixels)
    assert pixels.tolist() == [5000.0, 4000.0, 3000.0, 4500.0]
    np.testing.assert_array_equal(backend.host(arrays[0], "float32"), flux)
    np.testing.assert_array_equal(backend.host(arrays[1], "float32"), ivar)


# --- plans


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of pixels of the plans that were made."""
    made: list[int] = []
    original = _binning.make_plan

    def make_plan(wavelength: NDArray[Any], *args: Any) -> Any:
        made.append(wavelength.size)
        return original(wavelength, *args)

    monkeypatch.setattr(_binning, "make_plan", make_plan)
    return made


def test_a_rebinner_plans_each_arm_once(
    backend: ArrayBackend, plans: list[int]
) -> None:
    rebinner = Rebinner(wave, resolve(**backend.resolve()))
    for seed in range(3):
        arms = [
            (pixels.copy(), *map(backend.array, draw(5, pixels, seed)))
            for pixels in (desi_wave[:100], desi_wave[100:300])
        ]
        found, expected = rebinner(arms), sum_arms(arms, wave)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(backend.host(ours), backend.host(theirs))
    # Once for all batches, and for each call of the function; on a device for all arms.
    host = rebinner.backend.is_host
    assert sorted(plans) == ([100] * 4 + [200] * 4 if host else [300] * 4)


def test_a_rebinner_forgets_the_wavelengths_that_it_saw_first(
    plans: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_binning, "_KEPT", 2)
    rebinner = Rebinner(wave, resolve("cpu"))
    for npix in (10, 20, 10, 30, 10, 20):
        ones = np.ones((1, npix))
        rebinner([(desi_wave[:npix], ones, ones)])
    assert plans == [10, 20, 30, 20]


def test_threads_share_a_rebinner(plans: list[int]) -> None:
    rebinner = Rebinner(wave, resolve("cpu"))
    flux, ivar = draw(70, desi_wave)
    with ThreadPoolExecutor(8) as pool:
        sums = list(pool.map(rebinner, [[(desi_wave, flux, ivar)]] * 16))
    for found in sums[1:]:
        np.testing.assert_array_equal(found[0], sums[0][0])
    assert plans == [7781]


def test_wavelengths_that_change_have_another_plan() -> None:
    rebinner = Rebinner(wave, resolve("cpu"))
    pixels, ones = desi_wave[:50].copy(), np.ones((1, 50))
    before = rebinner([(pixels, ones, ones)])[1]
    pixels += 1000
    found = rebinner([(pixels, ones, ones)])[1]
    np.testing.assert_array_equal(found, rebin(ones, ones, pixels)[1])
    assert not np.array_equal(found, before)


# --- dtypes


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
def test_integers_and_bools_are_floats_like_others(
    backend: ArrayBackend, dtype: str
) -> None:
    rng = np.random.default_rng(1)
    flux, ivar = rng.integers(0, 2, (2, 4, 443))
    ints = backend.array(flux, dtype), backend.array(ivar, dtype)
    floats = backend.array(flux, "float64"), backend.array(ivar, "float64")
    for function in (
        clean,
        normalize,
        lambda f, i: rebin(f, i, wave),
        lambda f, i: combine([(wave, f, i)]),
        lambda f, i: (average(f, i), renormalize(f, i)),
    ):
        for ours, theirs in zip(function(*ints), function(*floats), strict=True):
            expected = backend.host(theirs)
            found = backend.host(ours, expected.dtype.name)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["flux", "ivar"])
def test_complex_numbers_are_refused_by_name(backend: ArrayBackend, name: str) -> None:
    good = backend.array(np.ones((2, 443)))
    bad = backend.xp.astype(good, backend.xp.complex64)
    args = (bad, good) if name == "flux" else (good, bad)
    match = rf"{name}(_sum)? must hold real numbers, got .*complex64"
    for function in (
        clean,
        average,
        normalize,
        renormalize,
        lambda f, i: rebin(f, i, wave),
        lambda f, i: combine([(wave, f, i)]),
    ):
        with pytest.raises(TypeError, match=match):
            function(*args)


def test_lists_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="flux must be an array, got list"):
        rebin([[1.0]], np.ones((1, 1)), [4000.0])


def test_rebin_can_be_compiled_by_jax() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    jax.config.update("jax_enable_x64", True)
    pixels = desi_wave[::4].copy()
    flux, ivar = spoil(*draw(70, pixels))
    expected = rebin(flux, ivar, pixels, linear_wave)
    compiled = jax.jit(lambda f, i: rebin(f, i, pixels, linear_wave))
    found = compiled(jax.numpy.asarray(flux), jax.numpy.asarray(ivar))
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(np.asarray(ours), theirs)


# --- pixels that cannot be used


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_flux_without_weight_is_harmless(backend: ArrayBackend, bad: float) -> None:
    flux, ivar = draw(2, desi_wave[:100])
    ivar[0, 40:60] = 0
    expected = combine([(desi_wave[:100], backend.array(flux), backend.array(ivar))])
    flux[0, 40:60] = bad
    found = combine([(desi_wave[:100], backend.array(flux), backend.array(ivar))])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(backend.host(ours), backend.host(theirs))
    assert not backend.host(found[2], "bool").any()


@pytest.mark.parametrize(
    ("flux", "ivar"),
    [
        (np.nan, 1.0),
        (np.inf, 1.0),
        (-np.inf, 1.0),
        (1.0, np.nan),
        (1.0, np.inf),
        (1.0, -np.inf),
        (1.0, -1.0),
        (np.nan, np.nan),
        (np.inf, -1.0),
    ],
)
def test_impossible_pixels_have_no_weight_and_are_reported(
    backend: ArrayBackend, flux: float, ivar: float
) -> None:
    good_flux, good_ivar = draw(3, desi_wave[:100])
    bad_flux, bad_ivar = good_flux.copy(), good_ivar.copy()
    good_ivar[1, 30] = 0
    bad_flux[1, 30], bad_ivar[1, 30] = flux, ivar
    arrays = backend.array(good_flux), backend.array(good_ivar)
    expected = combine([(desi_wave[:100], *arrays)])
    arrays = backend.array(bad_flux), backend.array(bad_ivar)
    found = combine([(desi_wave[:100], *arrays)])
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(
            backend.host(ours, "float64"), backend.host(theirs, "float64")
        )
    assert backend.host(found[2], "bool").tolist() == [False, True, False]
    assert backend.host(expected[2], "bool").tolist() == [False, False, False]


def test_pixels_beyond_1e100_count_as_infinite(backend: ArrayBackend) -> None:
    flux = np.ones((4, 3))
    ivar = np.ones((4, 3))
    flux[0, 1], flux[1, 1], ivar[2, 1], ivar[3, 1] = -1.01e100, 1e100, 1.01e100, 1e100
    found = clean(backend.array(flux), backend.array(ivar))
    used = np.ones((4, 3), dtype=bool)
    used[[0, 2], 1] = False
    np.testing.assert_array_equal(backend.host(found[0]), np.where(used, flux, 0))
    np.testing.assert_array_equal(backend.host(found[1]), np.where(used, ivar, 0))
    assert backend.host(found[2]).tolist() == [True, False, True, False]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clean_agrees_with_the_oracle(backend: ArrayBackend, dtype: str) -> None:
    flux, ivar = spoil(*draw(40, desi_wave[:12], dtype=dtype))
    arrays = backend.array(flux), backend.array(ivar)
    found = clean(*arrays)
    good = np.vectorize(oracle.usable)(flux, ivar)
    cleaned = np.vectorize(oracle.suspect)(flux, ivar).any(axis=1)
    np.testing.assert_array_equal(
        backend.host(found[0], dtype), np.where(good, flux, 0)
    )
    np.testing.assert_array_equal(
        backend.host(found[1], dtype), np.where(good, ivar, 0)
    )
    np.testing.assert_array_equal(backend.host(found[2], "bool"), cleaned)
    assert cleaned.any()
    assert not cleaned.all()
    np.testing.assert_array_equal(backend.host(arrays[0], dtype), flux)
    np.testing.assert_array_equal(backend.host(arrays[1], dtype), ivar)


def test_clean_of_no_spectra_has_no_rows(backend: ArrayBackend) -> None:
    none = backend.array(np.zeros((0, 7)))
    shapes = [backend.host(x).shape for x in clean(none, none)]
    assert shapes == [(0, 7), (0, 7), (0,)]


# --- combine


@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
def test_combine_agrees_with_the_oracle(
    backend: ArrayBackend, grid: NDArray[np.float64]
) -> None:
    # Arms overlap as DESI's do, and one of them lists its pixels backwards.
    pixels = (
        np.arange(3600, 5800, 9.1),
        np.arange(5760, 7620, 9.3)[::-1].copy(),
        np.arange(7520, 9824, 9.7),
    )
    arms = [(w, *spoil(*draw(3, w, seed=i), seed=i)) for i, w in enumerate(pixels)]
    arms[1][1][0], arms[1][2][0] = draw(1, pixels[1])
    for _, flux, ivar in arms:
        flux[2], ivar[2] = 1.0, 0.5
    arrays = [(w, backend.array(f), backend.array(i)) for w, f, i in arms]
    flux, ivar, cleaned = combine(arrays, grid)
    expected = oracle.combine(arms, grid)
    assert_close(backend.host(flux, "float64"), expected[0])
    assert_close(backend.host(ivar, "float64"), expected[1])
    np.testing.assert_array_equal(backend.host(cleaned, "bool"), expected[2])
    assert expected[2].tolist() == [True, True, False]


def test_combine_weights_overlapping_arms_by_their_inverse_variance(
    backend: ArrayBackend,
) -> None:
    pixels = np.array([4000.0, 4001.0])
    arms = [
        (pixels, backend.array([[2.0, 2.0]]), backend.array([[1.0, 1.0]])),
        (pixels, backend.array([[8.0, 5.0]]), backend.array([[2.0, 0.0]])),
    ]
    flux, ivar, _ = combine(arms)
    place = oracle.bin_of(4000.0, wave)
    assert place == oracle.bin_of(4001.0, wave)
    assert backend.host(flux)[0, place] == 5.0
    assert backend.host(ivar)[0, place] == 4.0
    assert np.count_nonzero(backend.host(flux)) == 1
    assert np.count_nonzero(backend.host(ivar)) == 1


def test_combine_reports_what_was_cleaned_in_any_arm(backend: ArrayBackend) -> None:
    pixels = desi_wave[:5]
    arms = []
    for row in (0, 2):
        flux = np.ones((4, 5))
        flux[row, 1] = np.nan
        arms.append((pixels, backend.array(flux), backend.array(np.ones((4, 5)))))
    cleaned = backend.host(combine(arms)[2], "bool")
    assert cleaned.tolist() == [True, False, True, False]


def test_combine_needs_an_arm() -> None:
    with pytest.raises(ValueError, match="needs one arm or more"):
        combine([])


def test_combine_takes_arms_as_they_come(backend: ArrayBackend) -> None:
    flux, ivar = draw(2, desi_wave[:50])
    arm = desi_wave[:50], backend.array(flux), backend.array(ivar)
    found, expected = combine(iter([arm, arm])), combine([arm, arm])
    np.testing.assert_array_equal(backend.host(found[0]), backend.host(expected[0]))


def test_combine_of_no_spectra_has_no_rows(backend: ArrayBackend) -> None:
    none = backend.array(np.zeros((0, 50)), "float32")
    arms = [(desi_wave[:50], none, none), (desi_wave[50:100], none, none)]
    flux, ivar, cleaned = combine(arms, linear_wave)
    assert backend.host(flux, "float64").shape == (0, 458)
    assert backend.host(ivar, "float64").shape == (0, 458)
    assert backend.host(cleaned, "bool").shape == (0,)


def test_combine_of_weights_that_vanish_is_finite(backend: ArrayBackend) -> None:
    ivar = np.full((1, 50), 1e-300)
    arm = desi_wave[:50], backend.array(np.full((1, 50), 2.0)), backend.array(ivar)
    flux = backend.host(combine([arm])[0], "float64")
    filled = flux[flux != 0]
    assert filled.size > 0
    np.testing.assert_allclose(filled, 2.0, rtol=1e-14)


# --- normalize


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normalize_agrees_with_the_oracle(backend: ArrayBackend, dtype: str) -> None:
    flux, ivar = draw(5, wave, dtype=dtype)
    x, weighted, varied = normalize(backend.array(flux), backend.array(ivar))
    expected = oracle.normalize(flux, ivar)
    atol = {"float32": 3e-6, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(backend.host(x, dtype), expected, rtol=0, atol=atol)
    assert backend.host(weighted, "bool").tolist() == [True] * 5
    assert backend.host(varied, "bool").tolist() == [True] * 5


def test_normalized_spectra_have_mean_zero_and_rms_one(backend: ArrayBackend) -> None:
    flux, ivar = draw(6, wave, dtype="float64")
    x = backend.host(normalize(backend.array(flux), backend.array(ivar))[0], "float64")
    for row in range(6):
        mean = np.average(x[row], weights=ivar[row])
        rms = np.sqrt(np.average(x[row] ** 2, weights=ivar[row]))
        assert abs(mean) < 1e-14
        assert abs(rms - 1) < 1e-14


@pytest.mark.float64
def test_bins_without_weight_are_shifted_like_the_others(backend: ArrayBackend) -> None:
    flux = backend.array([[0.0, 5.0, 9.0, 0.0]])
    ivar = backend.array([[0.0, 1.0, 1.0, 0.0]])
    x = backend.host(normalize(flux, ivar)[0], "float64")
    # Mean 7, rms 2.
    assert x.tolist() == [[-3.5, -1.0, 1.0, -3.5]]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1 / 3, 1e-20, 1e20, -1e100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constant_spectra_are_flagged_and_zero(
    backend: ArrayBackend, level: float, dtype: str
) -> None:
    if abs(level) > 1e38 and dtype == "float32":
        level = -1e12
    flux, ivar = draw(3, wave, dtype=dtype)
    flux[1] = level
    x, weighted, varied = normalize(backend.array(flux), backend.array(ivar))
    assert backend.host(weighted, "bool").tolist() == [True, True, True]
    assert backend.host(varied, "bool").tolist() == [True, False, True]
    values = backend.host(x, dtype)
    np.testing.assert_array_equal(values[1], np.zeros(443))
    assert np.all(values[[0, 2]].any(axis=1))


def test_constant_pixels_make_a_constant_spectrum(backend: ArrayBackend) -> None:
    _, ivar = draw(4, desi_wave)
    flux = np.full(ivar.shape, 0.1, dtype="float32")
    arm = desi_wave, backend.array(flux), backend.array(ivar)
    _, weighted, varied = normalize(*combine([arm])[:2])
    assert backend.host(weighted, "bool").all()
    assert not backend.host(varied, "bool").any()


def test_spectra_with_one_good_bin_have_no_variance(backend: ArrayBackend) -> None:
    ivar = np.zeros((1, 443))
    ivar[0, 100] = 3.0
    flux = np.linspace(1, 2, 443).reshape(1, 443)
    x, weighted, varied = normalize(backend.array(flux), backend.array(ivar))
    assert backend.host(weighted).tolist() == [True]
    assert backend.host(varied).tolist() == [False]
    assert not backend.host(x).any()


def test_spectra_without_weight_are_flagged_and_zero(backend: ArrayBackend) -> None:
    flux, ivar = draw(3, wave, dtype="float64")
    ivar[2] = 0
    x, weighted, _ = normalize(backend.array(flux), backend.array(ivar))
    assert backend.host(weighted, "bool").tolist() == [True, True, False]
    values = backend.host(x, "float64")
    np.testing.assert_array_equal(values[2], np.zeros(443))
    assert np.all(values[:2].any(axis=1))


@pytest.mark.parametrize("size", [1e160, 1e300, 1.5e308])
def test_spectra_too_large_for_floats_are_flagged_without_a_warning(
    backend: ArrayBackend, size: float
) -> None:
    flux, ivar = draw(3, wave, dtype="float64")
    flux[1] = np.where(np.arange(443) % 2, size, -size)
    x, weighted, varied = normalize(backend.array(flux), backend.array(ivar))
    assert backend.host(weighted, "bool").tolist() == [True, True, True]
    assert backend.host(varied, "bool").tolist() == [True, False, True]
    values = backend.host(x, "float64")
    assert np.all(np.isfinite(values))
    assert not values[1].any()


@pytest.mark.parametrize(
    ("flux", "ivar"), [(1e300, 1.0), (1e200, 1e200), (1.0, 1.5e308), (1e308, 1e308)]
)
def test_pixels_too_large_for_floats_spoil_their_own_spectrum_only(
    backend: ArrayBackend, flux: float, ivar: float
) -> None:
    pixels = desi_wave[::20].copy()
    fluxes, ivars = draw(3, pixels, dtype="float64")
    expected = network_input(backend, [(pixels, fluxes, ivars)])
    fluxes[1] = np.where(np.arange(pixels.size) % 2, flux, -flux)
    ivars[1] = ivar
    arm = pixels, backend.array(fluxes), backend.array(ivars)
    mean, weight, _ = combine([arm])
    x, weighted, varied = normalize(mean, weight)
    values = backend.host(x, "float64")
    assert np.all(np.isfinite(values))
    np.testing.assert_array_equal(values[[0, 2]], expected[[0, 2]])
    assert not values[1].any()
    usable = backend.host(weighted, "bool") & backend.host(varied, "bool")
    assert usable.tolist() == [True, False, True]


def test_normalize_of_no_spectra_has_no_rows(backend: ArrayBackend) -> None:
    none = backend.array(np.zeros((0, 443)))
    shapes = [backend.host(x).shape for x in normalize(none, none)]
    assert shapes == [(0, 443), (0,), (0,)]
    assert backend.host(renormalize(none, none), "float64").shape == (0, 443)


def test_normalize_changes_none_of_its_inputs(backend: ArrayBackend) -> None:
    flux, ivar = draw(2, wave)
    arrays = backend.array(flux), backend.array(ivar)
    normalize(*arrays)
    np.testing.assert_array_equal(backend.host(arrays[0]), flux)
    np.testing.assert_array_equal(backend.host(arrays[1]), ivar)


def test_renormalize_returns_the_spectra_alone(backend: ArrayBackend) -> None:
    flux, ivar = draw(3, wave)
    flux[1], ivar[2] = 4.0, 0.0
    arrays = backend.array(flux), backend.array(ivar)
    found = backend.host(renormalize(*arrays), "float32")
    np.testing.assert_array_equal(found, backend.host(normalize(*arrays)[0]))
    assert not found[2].any()


def test_input_of_the_network_agrees_with_quasarnp(
    backend: ArrayBackend, reference: Path, coadd: dict[str, Arm]
) -> None:
    arms = [(w, backend.array(f), backend.array(i)) for w, f, i in coadd.values()]
    flux, ivar, _ = combine(arms)
    x, weighted, varied = normalize(flux, ivar)
    usable = backend.host(weighted, "bool") & backend.host(varied, "bool")
    assert np.flatnonzero(usable).tolist() == GOOD_ROWS
    values = backend.host(x, "float64")
    expected = np.load(reference / "quasarnp" / "coadd_x.npy")
    np.testing.assert_allclose(values[GOOD_ROWS], expected, rtol=0, atol=1e-12)
    assert not values[BAD_ROW].any()


# --- the same bits


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 130])
@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
def test_a_spectrum_depends_on_no_other(
    backend: ArrayBackend, n: int, grid: NDArray[np.float64]
) -> None:
    pixels = (desi_wave[:3000:4], desi_wave[2700:5000:4], desi_wave[4900::4])
    arms = [(w, *spoil(*draw(130, w, seed=i), seed=i)) for i, w in enumerate(pixels)]
    everything = network_input(backend, arms, grid)
    assert np.all(everything.any(axis=1))
    rng = np.random.default_rng(n)
    for _ in range(3):
        rows = rng.permutation(130)[:n]
        found = network_input(
            backend, [(w, f[rows], i[rows]) for w, f, i in arms], grid
        )
        # On numpy to the last bit; devices may add in an order of their own.
        atol = 0 if backend.name == "numpy" else 1e-12
        np.testing.assert_allclose(found, everything[rows], rtol=0, atol=atol)


def test_many_spectra_are_summed_in_parts_on_a_device(
    backend: ArrayBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = desi_wave[:300]
    flux, ivar = spoil(*draw(7, pixels))
    arrays = backend.array(flux), backend.array(ivar)
    whole = sum_arms([(pixels, *arrays)])
    monkeypatch.setattr(_binning, "_ROWS_ON_DEVICE", 3)
    for ours, theirs in zip(sum_arms([(pixels, *arrays)]), whole, strict=True):
        found, expected = backend.host(ours), backend.host(theirs)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("layout", ["big-endian", "fortran", "strided", "reversed"])
@pytest.mark.parametrize("n", [3, 70])
def test_layout_of_host_arrays_does_not_change_a_bit(n: int, layout: str) -> None:
    pixels = desi_wave[::4].copy()
    flux, ivar = draw(n, pixels)
    expected = combine([(pixels, flux, ivar)])
    if layout == "big-endian":
        arm = tuple(x.astype(x.dtype.newbyteorder(">")) for x in (pixels, flux, ivar))
    elif layout == "fortran":
        arm = pixels, np.asfortranarray(flux), np.asfortranarray(ivar)
    elif layout == "strided":
        arm = pixels, np.repeat(flux, 2, axis=1)[:, ::2], np.repeat(ivar, 2, 0)[::2]
    else:
        arm = pixels, flux[::-1].copy()[::-1], ivar[:, ::-1].copy()[:, ::-1]
    found = combine([arm])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(normalize(*found[:2])[0], normalize(*expected[:2])[0])
