"""The numbers of pictures, against slow and obvious code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qnp_xp.decode import decode
from qnp_xp.grids import linear_wave, wave
from qnp_xp.plot._views import box_edges, remove_spikes, smooth_flux
from qnp_xp.plot._zoom import flux_range, stagger
from qnp_xp.status import Status, status_words


def noise(n: int = 60, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ivar = rng.uniform(0.5, 2, n) * (rng.uniform(size=n) < 0.8)
    return rng.normal(size=n), ivar


def slow_smooth(flux: np.ndarray, ivar: np.ndarray, width: float) -> list[float]:
    means = []
    for i in range(flux.size):
        total = weight = 0.0
        for j in range(flux.size):
            if abs(i - j) <= math.ceil(4 * width):
                part = ivar[j] * math.exp(-0.5 * ((i - j) / width) ** 2)
                total, weight = total + part * flux[j], weight + part
        means.append(total / weight if weight else math.nan)
    return means


@pytest.mark.parametrize("width", [0.5, 1, 3.3, 40])
def test_smoothing_is_a_mean_weighted_by_distance_and_noise(width: float) -> None:
    flux, ivar = noise()
    expected = slow_smooth(flux, ivar, width)
    np.testing.assert_allclose(smooth_flux(flux, ivar, width), expected, rtol=1e-12)


@pytest.mark.parametrize("width", [0, 0.05, 1e-300])
def test_no_smoothing_leaves_the_flux_of_pixels_with_weight(width: float) -> None:
    flux, ivar = noise()
    expected = np.where(ivar > 0, flux, np.nan)
    np.testing.assert_allclose(smooth_flux(flux, ivar, width), expected, rtol=1e-15)


@pytest.mark.parametrize("scale", [1e-310, 1e-100, 1e100])
def test_the_size_of_weights_does_not_matter(scale: float) -> None:
    flux, ivar = noise()
    weight = np.where(ivar > 0, 1.0, 0.0)
    expected = smooth_flux(flux, weight, 3)
    np.testing.assert_allclose(
        smooth_flux(flux, weight * scale, 3), expected, rtol=1e-12
    )


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_pixels_and_none_can_be_smoothed(n: int) -> None:
    flux, ivar = np.arange(n, dtype=float), np.ones(n)
    assert smooth_flux(flux, ivar, 50).shape == (n,)
    np.testing.assert_array_equal(
        smooth_flux(flux, np.zeros(n), 50), np.full(n, np.nan)
    )
    np.testing.assert_array_equal(remove_spikes(flux, ivar > 0), flux)


def test_spikes_of_two_pixels_are_left_out_and_lines_are_not() -> None:
    x = np.arange(200)
    line = 10 * np.exp(-0.5 * ((x - 100) / 8) ** 2)
    flux = line.copy()
    flux[[0, 40, 41, 150, 199]] = 1e6
    used = np.ones(200, dtype=bool)
    despiked = remove_spikes(flux, used)
    assert np.max(np.abs(despiked - line)) < 1
    used[40:42] = False
    np.testing.assert_array_equal(remove_spikes(flux, used)[40:42], flux[40:42])


@pytest.mark.parametrize("grid", [wave, linear_wave], ids=["log", "linear"])
@pytest.mark.parametrize("nboxes", [1, 13, 30])
def test_boxes_begin_and_end_where_decoded_lines_do(
    grid: np.ndarray, nboxes: int
) -> None:
    edges = box_edges(grid, nboxes)
    assert edges.shape == (nboxes + 1,)
    assert edges[0] == grid[0]
    assert np.all(np.diff(edges) > 0)
    for offset, expected in ((0.0, edges[:-1]), (1.0, edges[1:])):
        pred = np.concatenate(
            [np.eye(nboxes), np.full((nboxes, nboxes), offset)], axis=1
        )
        z = decode([pred], ["LYA"], wave=grid).z_line[0]
        np.testing.assert_allclose((1 + z) * 1215.67, expected, rtol=1e-12)


def test_the_range_of_flux_is_that_of_the_grid_and_has_zero() -> None:
    x = np.linspace(3000, 11000, 8001)
    flux = np.where((x < 3600) | (x > 9900), 1e9, 5 + np.sin(x / 100))
    flux[4000] = 1e9  # one of thousands
    flux[1000:1010] = np.nan
    sigma = np.ones(x.size)
    low, high = flux_range(x, flux, sigma, 3600, 9900)
    assert low == 0
    assert 5.9 < high <= 6.0
    low, high = flux_range(x, -flux, sigma, 3600, 9900)
    assert -6.0 <= low < -5.9
    assert high == 0
    assert flux_range(x, flux, sigma, 20, 30)[1] > 1e8  # another unit


def test_the_range_of_flux_has_narrow_lines_and_no_noisy_ends() -> None:
    x = np.linspace(3600, 9800, 7751)
    flux, sigma = np.ones(x.size), np.ones(x.size)
    flux[3000:3020] = 30
    flux[:200], sigma[:200] = 1000, 10
    assert flux_range(x, flux, sigma, 3600, 9800) == (0, 30)


@pytest.mark.parametrize("flux", [[], [np.nan, np.nan], [0.0, 0.0]])
def test_a_spectrum_without_flux_has_a_range(flux: list[float]) -> None:
    values = np.asarray(flux, dtype=float)
    x, sigma = np.full(values.shape, 4000.0), np.ones(values.shape)
    assert flux_range(x, values, sigma, 3600, 9900) == (-1, 1)


def test_labels_that_would_overlap_have_levels_of_their_own() -> None:
    assert stagger([], 1) == []
    assert stagger([10, 20, 30], 5) == [0, 0, 0]
    assert stagger([30, 11, 10, 12, 16], 5) == [0, 1, 0, 2, 0]


@pytest.mark.parametrize("seed", range(5))
def test_no_label_covers_another(seed: int) -> None:
    positions = np.random.default_rng(seed).uniform(0, 50, 30).tolist()
    levels = stagger(positions, 4)
    for i in range(30):
        for j in range(i):
            assert levels[i] != levels[j] or abs(positions[i] - positions[j]) >= 4


def test_a_status_is_said_in_words() -> None:
    assert status_words(0) == "scored"
    assert status_words(int(Status.PIXELS_CLEANED)) == "scored (pixels cleaned)"
    bits = int(Status.NO_GOOD_PIXEL | Status.ARM_MISSING)
    assert status_words(bits) == "not scored (no good pixel, arm missing)"
