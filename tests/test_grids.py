"""Wavelength grids and the bins of pixels: numpy on the host."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import reference as oracle
from numpy.typing import ArrayLike, NDArray

from qnp_xp._binning import make_plan
from qnp_xp._xp.backend import resolve
from qnp_xp.grids import Grid, desi_wave, linear_wave, nbins, nbins_linear, regrid, wave


def blocks_of(
    wavelengths: ArrayLike, grid: ArrayLike
) -> tuple[NDArray[np.int64] | None, tuple[tuple[slice, NDArray[np.float64]], ...]]:
    """How pixels are sorted, and the slice and matrix of each 16 bins."""
    plan = make_plan(wavelengths, Grid.from_wave(grid), resolve("cpu"))
    return plan.order, plan.blocks


def bins_of_blocks(
    wavelengths: NDArray[np.float64], grid: NDArray[np.float64]
) -> list[int | None]:
    """Bin of each pixel, as the blocks of the matrix have it; None for no bin."""
    order, blocks = blocks_of(wavelengths, grid)
    matrix = np.zeros((wavelengths.size, 16 * len(blocks)))
    for number, (pixels, ones) in enumerate(blocks):
        matrix[pixels, 16 * number : 16 * (number + 1)] = ones
    assert set(np.unique(matrix)) <= {0.0, 1.0}
    assert np.all(matrix.sum(axis=1) <= 1)
    assert not matrix[:, grid.size :].any()
    if order is not None:
        sorted_matrix, matrix = matrix, np.empty_like(matrix)
        matrix[order] = sorted_matrix
    return [int(row.argmax()) if row.any() else None for row in matrix]


def test_logarithmic_grid_is_the_one_of_quasarnet() -> None:
    assert nbins == 443
    assert wave.shape == (443,)
    assert wave.dtype == np.float64
    np.testing.assert_allclose(wave[0], 3600, rtol=1e-14)
    np.testing.assert_allclose(wave[1:] / wave[:-1], 10**0.001, rtol=1e-13)


def test_linear_grid_is_the_one_of_quasarnet() -> None:
    assert nbins_linear == 458
    assert linear_wave.shape == (458,)
    assert linear_wave[0] == 3600
    assert linear_wave[-1] == 9815.2
    np.testing.assert_allclose(np.diff(linear_wave), 13.6, rtol=1e-12)


def test_desi_pixels_are_those_of_its_spectra() -> None:
    expected = np.round(np.arange(3600, 9824.8, 0.8), 1)
    np.testing.assert_array_equal(desi_wave, expected)
    assert desi_wave[-1] == 9824


@pytest.mark.parametrize(
    "grid", [wave, linear_wave, desi_wave], ids=["log", "lin", "d"]
)
def test_grids_cannot_be_changed(grid: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="read-only"):
        grid[0] = 0.0
    with pytest.raises(ValueError, match="read-only"):
        grid *= 2


@pytest.mark.parametrize(
    ("values", "log", "start", "step", "size"),
    [
        (wave, True, np.log10(3600), 1e-3, 443),
        (linear_wave, False, 3600.0, 13.6, 458),
        (desi_wave, False, 3600.0, 0.8, 7781),
        ([1000, 1010, 1020], False, 1000.0, 10.0, 3),
        ((1e3, 1e4), False, 1e3, 9e3, 2),
        (np.round(wave, 2), True, np.log10(3600), 1e-3, 443),
        (10 ** np.linspace(3, 4, 101), True, 3.0, 0.01, 101),
        (wave.astype(">f8"), True, np.log10(3600), 1e-3, 443),
    ],
    ids=["log", "lin", "desi", "list", "two", "rounded", "linspace", "big-endian"],
)
def test_kind_of_a_grid_is_found_out(
    values: object, log: bool, start: float, step: float, size: int
) -> None:
    grid = Grid.from_wave(values)  # type: ignore[arg-type]
    assert (grid.log, grid.size) == (log, size)
    np.testing.assert_allclose([grid.start, grid.step], [start, step], rtol=1e-6)


def test_a_grid_is_frozen() -> None:
    grid = Grid.from_wave(wave)
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.step = 2e-3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.sqrt(np.arange(1e7, 2e7, 1e5)), "constant spacing"),
        (np.concatenate([wave[:100], wave[101:]]), "constant spacing"),
        (wave[::-1], "constant spacing"),
        (linear_wave[::-1], "constant spacing"),
        (np.full(10, 5000.0), "constant spacing"),
        (np.exp(np.arange(5.0) ** 2), "not so 5 values from 1.00 to"),
        ([3600.0], r"2 or more wavelengths in 1 dimension, got \(1,\)"),
        ([], r"2 or more wavelengths in 1 dimension, got \(0,\)"),
        (np.append(wave, np.nan), "finite and positive"),
        (np.append(wave, np.inf), "finite and positive"),
        (np.arange(0.0, 10.0), "finite and positive"),
        (np.arange(-5.0, 10.0), "finite and positive"),
    ],
)
def test_other_grids_are_refused(values: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        regrid(desi_wave, values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        blocks_of(desi_wave, values)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [regrid, blocks_of])
@pytest.mark.parametrize("grid", [wave.reshape(1, -1), wave.reshape(-1, 1)])
def test_grids_of_two_dimensions_are_refused(
    function: Callable[..., object], grid: NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match=r"in 1 dimension, got \((1, 443|443, 1)\)"):
        function(desi_wave, grid)


def test_a_single_wavelength_is_no_grid() -> None:
    with pytest.raises(ValueError, match=r"in 1 dimension, got \(\)"):
        regrid(desi_wave, 3600.0)


@pytest.mark.parametrize("wavelength", [np.nan, np.inf, -np.inf, -3600.0, 0.0])
@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
def test_impossible_wavelengths_of_pixels_are_refused(
    wavelength: float, grid: NDArray[np.float64]
) -> None:
    pixels = np.array([4000.0, wavelength, 5000.0])
    with pytest.raises(ValueError, match=r"finite and positive \(Angstrom\)"):
        regrid(pixels, grid)
    with pytest.raises(ValueError, match=r"finite and positive \(Angstrom\)"):
        blocks_of(pixels, grid)


def test_bins_of_desi_pixels_agree_with_quasarnp(reference: Path) -> None:
    text = (reference / "quasarnp" / "regrid.txt").read_text()
    pixels = np.round(np.arange(3600, 9824.8, 0.8), 1)
    bins, keep = regrid(pixels)
    assert bins.dtype == np.int64
    assert keep.dtype == np.bool_
    assert bins.tolist() == ast.literal_eval(text)
    assert keep.all()


def test_bins_of_other_pixels_agree_with_quasarnp(reference: Path) -> None:
    expected = np.load(reference / "quasarnp" / "regrid_arbitrary.npy")
    bins, keep = regrid(np.arange(3600, 9800, 10.0))
    np.testing.assert_array_equal(bins, expected)
    assert keep.all()


def test_every_seventeenth_desi_pixel_opens_a_linear_bin() -> None:
    bins, keep = regrid(desi_wave, linear_wave)
    np.testing.assert_array_equal(bins, np.arange(7781) // 17)
    # The last 17 pixels fill bin 457, up to 9828 Angstrom; the spectra end before.
    assert keep.all()


@pytest.mark.parametrize(
    "grid",
    [
        wave,
        linear_wave,
        desi_wave,
        np.round(3500 + 0.1 * np.arange(999), 1),
        10 ** (3.5441 + 1e-4 * np.arange(4800)),
        10 ** np.linspace(np.log10(3600), 4, 444),
    ],
    ids=["log", "linear", "desi", "tenths", "boss", "linspace"],
)
def test_pixels_on_the_edges_of_a_grid_open_their_bins(
    grid: NDArray[np.float64],
) -> None:
    bins, keep = regrid(grid, grid)
    np.testing.assert_array_equal(bins, np.arange(grid.size))
    assert keep.all()


def test_boss_pixels_on_the_edges_open_bins_of_quasarnet_s_grid() -> None:
    # Every tenth of BOSS' pixels of 1e-4 in log10 lies on an edge of 1e-3, where its
    # own start is a whole number of bins from that of the grid.
    pixels = 10 ** (np.log10(3600.0) + 1e-4 * np.arange(4430))
    np.testing.assert_array_equal(regrid(pixels)[0], np.arange(4430) // 10)


@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
def test_pixels_off_the_grid_are_not_kept(grid: NDArray[np.float64]) -> None:
    pixels = np.array([100.0, 3599.9, 3600.1, 9700.0, 9990.0, 1e6])
    bins, keep = regrid(pixels, grid)
    assert keep.tolist() == [False, False, True, True, False, False]
    for place, wavelength in zip(bins[keep], pixels[keep], strict=True):
        assert place == oracle.bin_of(float(wavelength), grid)


def test_last_bin_is_as_wide_as_the_others() -> None:
    grid = np.array([1000.0, 1010.0, 1020.0])
    bins, keep = regrid([1019.9, 1020.0, 1029.9, 1030.0], grid)
    assert bins.tolist() == [1, 2, 2, 3]
    assert keep.tolist() == [True, True, True, False]


def test_regrid_keeps_the_shape_and_leaves_its_input_alone() -> None:
    pixels = np.array([[4000.0, 5000.0], [6000.0, 3000.0]])
    before = pixels.copy()
    bins, keep = regrid(pixels)
    assert bins.shape == keep.shape == (2, 2)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
@pytest.mark.parametrize("seed", range(3))
def test_regrid_agrees_with_the_oracle(grid: NDArray[np.float64], seed: int) -> None:
    pixels = np.random.default_rng(seed).uniform(3000, 11000, 300)
    bins, keep = regrid(pixels, grid)
    found = [
        int(place) if kept else None for place, kept in zip(bins, keep, strict=True)
    ]
    assert found == [oracle.bin_of(float(w), grid) for w in pixels]
    assert None in found


@pytest.mark.parametrize("grid", [wave, linear_wave, wave[:32], wave[100:117]])
@pytest.mark.parametrize("case", ["rising", "falling", "shuffled", "repeated", "gap"])
def test_blocks_put_each_pixel_into_its_bin(
    grid: NDArray[np.float64], case: str
) -> None:
    rng = np.random.default_rng(7)
    pixels = np.sort(rng.uniform(3400, 10400, 200))
    if case == "falling":
        pixels = pixels[::-1]
    elif case == "shuffled":
        pixels = rng.permutation(pixels)
    elif case == "repeated":
        pixels = rng.permutation(np.repeat(pixels[:70], 3))
    elif case == "gap":
        pixels = pixels[(pixels < 4600) | (pixels > 6000)]
    expected = [oracle.bin_of(float(w), grid) for w in pixels]
    assert bins_of_blocks(pixels, grid) == expected
    # Off the grid on either side, and on it.
    assert pixels.min() < grid[0] < pixels.max()
    assert None in expected
    assert set(expected) != {None}


def test_pixels_that_increase_need_no_sorting() -> None:
    assert blocks_of(desi_wave, wave)[0] is None
    assert blocks_of(desi_wave[::-1], wave)[0] is not None


def test_pixels_disordered_within_their_bins_need_no_sorting() -> None:
    order, _ = blocks_of([3601.0, 3600.5, 3601.5, 3700.0], wave)
    assert order is None


@pytest.mark.parametrize("pixels", [[], [100.0, 200.0], [2e4, 3e4], [2e4, 100.0]])
def test_no_pixel_on_the_grid_gives_empty_blocks(pixels: list[float]) -> None:
    _, blocks = blocks_of(pixels, wave)
    assert len(blocks) == 28
    for pixels_of_block, matrix in blocks:
        assert pixels_of_block.start == pixels_of_block.stop
        assert matrix.shape == (0, 16)
        assert matrix.dtype == np.float64


def test_blocks_cover_sixteen_bins_each() -> None:
    _, blocks = blocks_of(desi_wave, wave)
    assert len(blocks) == 28
    stops = [0]
    for pixels, matrix in blocks:
        assert pixels.start == stops[-1]
        assert matrix.shape == (pixels.stop - pixels.start, 16)
        stops.append(pixels.stop)
    assert stops[-1] == desi_wave.size


def test_blocks_are_the_same_for_any_layout_of_the_wavelengths() -> None:
    expected = bins_of_blocks(desi_wave[::3].copy(), wave)
    for pixels in (desi_wave[::3], desi_wave[::3].astype(">f8"), list(desi_wave[::3])):
        order, blocks = blocks_of(pixels, wave)
        assert order is None
        found = [
            16 * number + int(column)
            for number, (_, matrix) in enumerate(blocks)
            for column in matrix.argmax(axis=1)
        ]
        assert found == expected
