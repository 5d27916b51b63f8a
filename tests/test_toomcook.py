"""The matrices of Toom-Cook convolution."""

from __future__ import annotations

import numpy as np
import pytest

from qnp_xp._network.toomcook import MOST_TAPS, toom_cook

TAPS = range(2, MOST_TAPS + 1)


@pytest.mark.parametrize("taps", TAPS)
def test_products_between_the_transforms_are_a_convolution(taps: int) -> None:
    transform = toom_cook(taps)
    outputs, points = transform.output.shape
    rng = np.random.default_rng(taps)
    kernel, x = rng.normal(size=taps), rng.normal(size=points)
    found = transform.output @ ((transform.kernel @ kernel) * (transform.input @ x))
    expected = [
        sum(kernel[tap] * x[place + tap] for tap in range(taps))
        for place in range(outputs)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("taps", TAPS)
def test_products_are_as_few_as_outputs_and_taps_need(taps: int) -> None:
    transform = toom_cook(taps)
    outputs, points = transform.output.shape
    assert points == outputs + taps - 1
    assert transform.input.shape == (points, points)
    assert transform.kernel.shape == (points, taps)
    assert outputs == min(4, 9 - taps)


@pytest.mark.parametrize("taps", TAPS)
def test_rows_of_the_input_transform_are_scaled_to_one(taps: int) -> None:
    largest = np.abs(toom_cook(taps).input).max(axis=1)
    np.testing.assert_array_equal(largest, 1.0)


@pytest.mark.parametrize("taps", [0, 1, MOST_TAPS + 1])
def test_other_numbers_of_taps_are_refused(taps: int) -> None:
    with pytest.raises(ValueError, match=f"2 to {MOST_TAPS} taps, not {taps}"):
        toom_cook(taps)
